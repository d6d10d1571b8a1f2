"""Kinds of textures by name: those of the plain world, those of richer ones, and those kept for held-out worlds."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic import textures
from pomato_ros.synthetic.draw import Draw, Range
from pomato_ros.synthetic.textures import TABLE_SIZE, Plain, Texture, draw_colours, draw_texture, weathered

GLYPH_WH = (5, 7)  # blocks of a letter with the gaps to its right and below
MEAN_INK, MEAN_DISC = 0.24, 0.26  # share of the surface, which is what is left of them from afar
_CELLS = tuple((x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Worley:
    """Cells around scattered points: each cell has a tone of its own, and a seam at its border."""

    rgb: Tensor  # (3, 3): a ramp for the tones
    seam_rgb: Tensor  # (3,)
    cell_m: float
    seam: float  # width of a seam, share of a cell; 0 for none
    table: Tensor  # (TABLE_SIZE,) in [0, 1)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.textures.Texture`."""
        place = points / self.cell_m
        home = torch.floor(place)
        first = torch.full_like(footprint, torch.inf)
        second, tone = first, torch.zeros_like(footprint)
        for offset in _CELLS:
            cell = home + place.new_tensor(offset)
            jitter = [textures.lookup(self.table, cell + 31.0 * axis) for axis in (1, 2, 3)]
            distance = (cell + torch.stack(jitter, dim=1) - place).norm(dim=1)
            nearer = distance < first
            second = torch.where(nearer, first, torch.minimum(second, distance))
            tone = torch.where(nearer, jitter[0], tone)
            first = torch.where(nearer, distance, first)
        fade = textures.fade(footprint / self.cell_m)
        colour = textures.ramp(self.rgb, 0.5 + fade * (tone - 0.5))
        soft = torch.clamp(footprint / self.cell_m, min=1e-3)
        in_seam = fade * torch.clamp((self.seam - (second - first)) / soft + 0.5, 0.0, 1.0) * (self.seam > 0.0)
        return torch.lerp(colour, self.seam_rgb.expand_as(colour), in_seam[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Letters:
    """Lines of made-up letters on paper, in words with gaps; every letter is 4 x 6 blocks, mirrored at times."""

    rgb: Tensor  # (2, 3): paper, ink
    block_m: float  # one of a letter's blocks
    table: Tensor  # (TABLE_SIZE,) in [0, 1)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.textures.Texture`."""
        wide, high = GLYPH_WH
        block = torch.floor(uv / self.block_m)
        letter = torch.floor(block / block.new_tensor([wide, 1.5 * high]))
        column = block[:, 0] - wide * letter[:, 0]
        row = block[:, 1] - torch.floor(1.5 * high * letter[:, 1])
        written = textures.lookup(self.table, letter) > 0.2
        seed = torch.floor(23.0 * textures.lookup(self.table, letter + 5.0))
        ink = textures.lookup(self.table, torch.stack((seed, column, row), dim=1)) > 0.45
        inside = (column < wide - 1) & (row >= 0.0) & (row < high - 1)
        weight = textures.fade(0.7 * footprint / self.block_m)
        mean = torch.full_like(footprint, MEAN_INK)
        return textures.mix(self.rgb, torch.lerp(mean, (ink & inside & written).to(footprint.dtype), weight))


@dataclass(frozen=True, slots=True, eq=False)
class Dots:
    """Discs of many sizes, one in every square, colour by colour."""

    rgb: Tensor  # (3, 3): ground, and a ramp's other two for the discs
    cell_m: float
    table: Tensor  # (TABLE_SIZE,) in [0, 1)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.textures.Texture`."""
        place = uv / self.cell_m
        cell = torch.floor(place)
        size = 0.12 + 0.33 * textures.lookup(self.table, cell)
        away = (place - cell - 0.5).norm(dim=1)
        soft = torch.clamp(footprint / self.cell_m, min=1e-3)
        inside = torch.clamp((size - away) / soft + 0.5, 0.0, 1.0)
        seen = textures.fade(0.5 * soft)
        tone = 0.5 + seen * (textures.lookup(self.table, cell + 7.0) - 0.5)
        disc = torch.lerp(self.rgb[1], self.rgb[2], tone[:, None])
        weight = torch.lerp(torch.full_like(inside, MEAN_DISC), inside, seen)
        return torch.lerp(self.rgb[0].expand_as(disc), disc, weight[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """Grain of a trunk: rings about a crooked axis."""

    rgb: Tensor  # (3, 3)
    period_m: float
    axis: Tensor  # (3,) unit
    crook: float  # how far noise bends the rings, periods
    table: Tensor  # (TABLE_SIZE,) in [0, 1)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.textures.Texture`."""
        away = (points - (points @ self.axis)[:, None] * self.axis).norm(dim=1) / self.period_m
        bend = textures.fractal(points / (3.0 * self.period_m), footprint / (3.0 * self.period_m), 2, self.table)
        wave = torch.sin(2.0 * math.pi * (away + self.crook * bend))
        return textures.ramp(self.rgb, 0.5 + 0.5 * wave * textures.fade(footprint * (1.0 + self.crook) / self.period_m))


@dataclass(frozen=True, slots=True, eq=False)
class Plaid:
    """Woven bands of several widths along both surface coordinates."""

    rgb: Tensor  # (3, 3)
    period_m: float
    weights: Tensor  # (2, 3) of three harmonics along each coordinate
    phases: Tensor  # (2, 3)

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.textures.Texture`."""
        value = torch.zeros_like(footprint)
        for axis in (0, 1):
            for harmonic, rate in enumerate((1.0, 2.0, 5.0)):
                wave = torch.sin(2.0 * math.pi * rate * uv[:, axis] / self.period_m + self.phases[axis, harmonic])
                value = value + self.weights[axis, harmonic] * wave * textures.fade(rate * footprint / self.period_m)
        return textures.ramp(self.rgb, torch.clamp(0.5 + 0.4 * value, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Shifted:
    """A piece of another texture, cut out elsewhere: neighbouring pieces of one object carry one pattern."""

    base: Texture
    offset_m: Tensor  # (3,) from this piece's frame to the pattern's
    uv_offset_m: Tensor  # (2,) the same in surface coordinates

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.textures.Texture`."""
        return self.base.colour(points + self.offset_m, uv + self.uv_offset_m, footprint)


@dataclass(frozen=True, slots=True, eq=False)
class Dimmed:
    """Another texture, much darker."""

    base: Texture
    factor: float

    def colour(self, points: Tensor, uv: Tensor, footprint: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.textures.Texture`."""
        return self.factor * self.base.colour(points, uv, footprint)


def draw_texture_of(draw: Draw, kinds: tuple[str, ...], scale_m: Range, plain_probability: float) -> Texture:
    """A random texture of one of ``kinds``, of the plain world's where there are none named.

    Raises:
        KeyError: no such kind.
    """
    if not kinds:
        return draw_texture(draw, scale_m, plain_probability)
    if draw.chance(plain_probability):
        return Plain(draw_colours(draw, 1)[0])
    base = TEXTURE_KINDS[draw.choice(kinds)](draw, draw.log_uniform(scale_m))
    if draw.chance(0.5):
        return weathered(draw, base, draw.log_uniform(scale_m), draw.uniform((0.2, 0.8)))
    return base


def _draw_worley(draw: Draw, scale_m: float) -> Texture:
    seam = draw.choice((0.0, draw.uniform((0.04, 0.15))))
    return Worley(draw_colours(draw, 3), draw_colours(draw, 1)[0], scale_m, seam, draw.values(TABLE_SIZE))


def _draw_letters(draw: Draw, scale_m: float) -> Texture:
    bright = 0.6 + 0.35 * draw.values(3)
    dark = 0.12 * draw.values(3)
    pair = torch.stack((bright, dark) if draw.chance(0.75) else (dark, bright))
    return Letters(pair, scale_m * draw.uniform((0.06, 0.2)), draw.values(TABLE_SIZE))


def _draw_dots(draw: Draw, scale_m: float) -> Texture:
    return Dots(draw_colours(draw, 3), scale_m * draw.uniform((0.4, 1.0)), draw.values(TABLE_SIZE))


def _draw_rings(draw: Draw, scale_m: float) -> Texture:
    crook = draw.uniform((0.3, 2.5))
    return Rings(draw_colours(draw, 3), 0.6 * scale_m, draw.direction().float(), crook, draw.values(TABLE_SIZE))


def _draw_plaid(draw: Draw, scale_m: float) -> Texture:
    return Plaid(draw_colours(draw, 3), 2.0 * scale_m, draw.normals(2, 3), 2.0 * math.pi * draw.values(2, 3))


TEXTURE_KINDS: dict[str, Callable[[Draw, float], Texture]] = {
    **textures.PLAIN_KINDS,
    "worley": _draw_worley,
    "letters": _draw_letters,
    "dots": _draw_dots,
    "rings": _draw_rings,
    "plaid": _draw_plaid,
}
RICH_TEXTURES = (*textures.PLAIN_KINDS, "noise", "worley", "worley", "letters")
KEPT_BACK_TEXTURES = ("dots", "rings", "plaid")
