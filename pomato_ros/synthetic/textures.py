"""Procedural colours bound to a surface: functions of object-local position, so that they move with the object.

``colour`` takes local ``points`` (m, 3) and surface coordinates ``uv`` (m, 2), both in metres, and ``footprint`` (m,),
the width of a pixel on the surface in metres; it returns linear RGB (m, 3) in [0, 1]. Detail finer than the footprint
fades to its mean, which keeps far surfaces free of aliasing.
"""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw, Range

TABLE_SIZE = 4096  # random values behind the noise lattice, a power of two
HASH = (73856093, 19349663, 83492791)  # large primes that spread a lattice cell over the table


class Texture(Protocol):
    """Colour of a surface."""

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """Linear RGB (m, 3); see the module's docstring."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """One colour."""

    rgb: Tensor  # (3,)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`Texture`."""
        return self.rgb.expand_as(points)


@dataclass(frozen=True, slots=True, eq=False)
class Checker:
    """Squares of two colours."""

    rgb: Tensor  # (2, 3)
    cell_m: float

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`Texture`."""
        square = _square_wave(uv / (2.0 * self.cell_m), footprint[:, None] / (2.0 * self.cell_m))
        return mix(self.rgb, 0.5 + 0.5 * square[:, 0] * square[:, 1])


@dataclass(frozen=True, slots=True, eq=False)
class Stripes:
    """Parallel bands of two colours at an angle."""

    rgb: Tensor  # (2, 3)
    period_m: float
    angle_rad: float

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`Texture`."""
        along = uv[:, 0] * math.cos(self.angle_rad) + uv[:, 1] * math.sin(self.angle_rad)
        return mix(self.rgb, 0.5 + 0.5 * _square_wave(along / self.period_m, footprint / self.period_m))


@dataclass(frozen=True, slots=True, eq=False)
class Bricks:
    """Rows of bricks or tiles in mortar, each brick a little lighter or darker."""

    rgb: Tensor  # (2, 3): brick, mortar
    brick_m: tuple[float, float]
    mortar: float  # width of a joint, share of the brick's height
    shift: float  # offset of every other row, share of the brick's width
    spread: float  # range of brightness among bricks
    table: Tensor  # (TABLE_SIZE,) in [0, 1)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`Texture`."""
        width, height = self.brick_m
        v = uv[:, 1] / height
        row = torch.floor(v)
        u = uv[:, 0] / width + self.shift * torch.remainder(row, 2.0)
        column = torch.floor(u)
        joint = torch.minimum(_edge_distance(u) * width, _edge_distance(v) * height)
        soft = torch.clamp(footprint, min=1e-4)
        inside = torch.clamp((joint - 0.5 * self.mortar * height) / soft + 0.5, 0.0, 1.0)
        tone = lookup(self.table, torch.stack((column, row), dim=1))
        seen = fade(footprint / height)
        brick = self.rgb[0] * (1.0 + self.spread * seen * (tone - 0.5))[:, None]
        return torch.lerp(self.rgb[1].expand_as(brick), brick, inside[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Several octaves of smooth value noise, mapped to a ramp of three colours."""

    rgb: Tensor  # (3, 3)
    scale_m: float
    octaves: int
    sharpness: float  # contrast about the mean; large values make patches
    stretch: Tensor  # (3,) factor on each axis: unequal values give grain
    table: Tensor  # (TABLE_SIZE,) in [0, 1)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`Texture`."""
        value = fractal(points * self.stretch / self.scale_m, footprint / self.scale_m, self.octaves, self.table)
        return ramp(self.rgb, torch.clamp(0.5 + self.sharpness * value, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Waves:
    """A sum of random plane waves of many lengths."""

    rgb: Tensor  # (3, 3)
    wave_vectors: Tensor  # (k, 3) rad/m
    phases: Tensor  # (k,)
    sharpness: float

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`Texture`."""
        lengths = 2.0 * math.pi / self.wave_vectors.norm(dim=1)
        waves = torch.sin(torch.addmm(self.phases, points, self.wave_vectors.T))
        value = (waves * fade(footprint[:, None] / lengths)).sum(1) / math.sqrt(len(self.phases))
        return ramp(self.rgb, torch.clamp(0.5 + self.sharpness * value, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Weathered:
    """Another texture, lightened and darkened by noise."""

    base: Texture
    scale_m: float
    octaves: int
    strength: float
    table: Tensor  # (TABLE_SIZE,) in [0, 1)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`Texture`."""
        value = fractal(points / self.scale_m, footprint / self.scale_m, self.octaves, self.table)
        tinted = self.base.colour(points, uv, footprint) * (1.0 + self.strength * value)[:, None]
        return tinted.clamp_(0.0, 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Drawing a texture


def draw_texture(draw: Draw, scale_m: Range, plain_probability: float) -> Texture:
    """A random texture whose pattern repeats at a scale drawn from ``scale_m``."""
    if draw.chance(plain_probability):
        return Plain(draw_colours(draw, 1)[0])
    base = draw.choice((_draw_checker, _draw_stripes, _draw_bricks, _draw_noise, _draw_noise, _draw_waves))(
        draw, draw.log_uniform(scale_m)
    )
    if draw.chance(0.6):
        return weathered(draw, base, draw.log_uniform(scale_m), draw.uniform((0.3, 1.0)))
    return base


def weathered(draw: Draw, base: Texture, scale_m: float, strength: float) -> Texture:
    """``base`` under noise of three octaves from ``scale_m`` down."""
    return Weathered(base, scale_m, 3, strength, draw.values(TABLE_SIZE))


def draw_colours(draw: Draw, count: int) -> Tensor:
    """(count, 3) linear RGB, mostly muted and related in hue, apart in brightness."""
    hue, saturation = draw.unit(), 0.85 * draw.unit() ** 1.5
    contrast = draw.uniform((0.25, 0.85))
    darkest = draw.uniform((0.1, 0.97 - contrast))
    colours = []
    for index in range(count):
        value = darkest + contrast * (index + draw.unit()) / count
        shade = (hue + draw.uniform((-0.12, 0.12))) if draw.chance(0.75) else draw.unit()
        colours.append(colorsys.hsv_to_rgb(shade % 1.0, saturation, value))
    order = torch.randperm(count, generator=draw.generator)
    return torch.tensor(colours)[order] ** 2.0


def _draw_checker(draw: Draw, scale_m: float) -> Texture:
    return Checker(draw_colours(draw, 2), scale_m)


def _draw_stripes(draw: Draw, scale_m: float) -> Texture:
    return Stripes(draw_colours(draw, 2), scale_m, draw.choice((0.0, 0.5 * math.pi, draw.uniform((0.0, math.pi)))))


def _draw_bricks(draw: Draw, scale_m: float) -> Texture:
    size = (scale_m, scale_m * draw.uniform((0.25, 1.0)))
    shift = draw.choice((0.0, 0.5))
    return Bricks(draw_colours(draw, 2), size, draw.uniform((0.04, 0.15)), shift, 0.8, draw.values(TABLE_SIZE))


def _draw_noise(draw: Draw, scale_m: float) -> Texture:
    stretch = torch.ones(3)
    if draw.chance(0.4):
        stretch[draw.integer((0, 2))] = draw.uniform((0.1, 0.4))
    octaves = draw.integer((2, 4))
    return Noise(draw_colours(draw, 3), scale_m, octaves, draw.uniform((0.8, 4.0)), stretch, draw.values(TABLE_SIZE))


def _draw_waves(draw: Draw, scale_m: float) -> Texture:
    count = 10
    lengths = scale_m * torch.exp(draw.values(count) * math.log(8.0)) / 2.0
    directions = torch.nn.functional.normalize(draw.normals(count, 3), dim=1)
    vectors = directions * (2.0 * math.pi / lengths)[:, None]
    return Waves(draw_colours(draw, 3), vectors, draw.values(count) * 2.0 * math.pi, draw.uniform((0.3, 1.5)))


PLAIN_KINDS: dict[str, Callable[[Draw, float], Texture]] = {
    "checker": _draw_checker,
    "stripes": _draw_stripes,
    "bricks": _draw_bricks,
    "noise": _draw_noise,
    "waves": _draw_waves,
}


# ---------------------------------------------------------------------------------------------------------------------
# Patterns


def mix(rgb: Tensor, weight: Tensor) -> Tensor:
    """Blend rgb[0] to rgb[1] by ``weight`` (m,) in [0, 1]."""
    return torch.lerp(rgb[0], rgb[1], weight[:, None])


def ramp(rgb: Tensor, value: Tensor) -> Tensor:
    """Colours rgb (3, 3) at 0, 1/2 and 1, linear between, for ``value`` (m,) in [0, 1]."""
    low = torch.clamp(2.0 * value, max=1.0)[:, None]
    high = torch.clamp(2.0 * value - 1.0, min=0.0)[:, None]
    return rgb[0] + low * (rgb[1] - rgb[0]) + high * (rgb[2] - rgb[1])


def fade(cycles: Tensor) -> Tensor:
    """Weight of a detail that completes ``cycles`` periods within a pixel: 1 when coarse, 0 from half a period on."""
    return torch.clamp(1.5 - 3.0 * cycles, 0.0, 1.0)


def _square_wave(phase: Tensor, footprint: Tensor) -> Tensor:
    """Square wave of period 1 between -1 and 1, its edges as soft as ``footprint`` (periods), fading when finer."""
    distance = 0.25 - (phase - torch.floor(phase) - 0.5).abs()
    soft = torch.clamp(footprint, min=1e-4)
    return torch.clamp(2.0 * distance / soft, -1.0, 1.0) * fade(0.5 * footprint)


def _edge_distance(value: Tensor) -> Tensor:
    """Distance to the nearest integer."""
    return 0.5 - (value - torch.floor(value) - 0.5).abs()


def lookup(table: Tensor, cell: Tensor) -> Tensor:
    """Random value (m,) in [0, 1) of each lattice ``cell`` (m, d)."""
    index = cell.to(torch.int32)
    key = index[:, 0] * HASH[0]
    for axis in range(1, cell.shape[1]):
        key = key ^ (index[:, axis] * HASH[axis])
    return table[((key >> 7) ^ key) & (TABLE_SIZE - 1)]


def fractal(points: Tensor, footprint: Tensor, octaves: int, table: Tensor) -> Tensor:
    """Noise (m,) about zero, mostly within 0.7; ``points`` (m, 3) and ``footprint`` (m,) in units of a cell."""
    total = torch.zeros_like(footprint)
    for octave in range(octaves):
        frequency = 2.0**octave
        value = _value_noise(points * frequency + 17.3 * octave, table)
        total += fade(0.5 * footprint * frequency) * (value - 0.5) * 0.6**octave
    return total


def _value_noise(points: Tensor, table: Tensor) -> Tensor:
    """Smooth noise (m,) in [0, 1) that takes a random value at every integer point."""
    cell = torch.floor(points)
    fraction = points - cell
    x, y, z = (fraction * fraction * (3.0 - 2.0 * fraction)).unbind(1)
    low = [cell[:, axis].to(torch.int32) * HASH[axis] for axis in range(3)]
    keys = [(key, key + HASH[axis]) for axis, key in enumerate(low)]

    def corner(i: int, j: int, k: int) -> Tensor:
        key = keys[0][i] ^ keys[1][j] ^ keys[2][k]
        return table[((key >> 7) ^ key) & (TABLE_SIZE - 1)]

    rows = [torch.lerp(corner(0, j, k), corner(1, j, k), x) for k in (0, 1) for j in (0, 1)]
    return torch.lerp(torch.lerp(rows[0], rows[1], y), torch.lerp(rows[2], rows[3], y), z)
