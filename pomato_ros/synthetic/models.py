"""Objects made of shapes: balls, crates, pillars, tables, figures; each drawn with its own textures.

An object's origin is the centre of its height; its z axis points up when it stands on the floor.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw, Range
from pomato_ros.synthetic.scene import Part
from pomato_ros.synthetic.shapes import Box, Cone, Ellipsoid, Shape
from pomato_ros.synthetic.texture_kinds import draw_texture_of
from pomato_ros.synthetic.textures import Texture


@dataclass(frozen=True, slots=True)
class Model:
    """Shapes of one object before it has a place."""

    shapes: tuple[tuple[Shape, float], ...]  # each with the height of its centre above the object's origin, metres
    half_height_m: float
    object_from_part: tuple[Tensor, ...] = ()  # (4, 4) float64 for each shape, where heights alone do not say it

    @property
    def radius_m(self) -> float:
        """Radius of a sphere around the origin that holds the object."""
        if self.object_from_part:
            centres = [float(matrix[:3, 3].norm()) for matrix in self.object_from_part]
            return max(gap + shape.radius_m for gap, (shape, _) in zip(centres, self.shapes, strict=True))
        return max(abs(height) + shape.radius_m for shape, height in self.shapes)

    def parts(self, instance: int, textures: list[Texture], gloss: float = 0.0, sharpness: float = 1.0) -> list[Part]:
        """The object as parts of a scene, one texture for each shape, all with the same highlights."""
        poses = self.object_from_part or tuple(_lifted(height) for _, height in self.shapes)
        return [
            Part(shape, texture, instance, matrix, gloss=gloss, sharpness=sharpness)
            for (shape, _), texture, matrix in zip(self.shapes, textures, poses, strict=True)
        ]


def draw_model(draw: Draw, size_m: float) -> Model:
    """A random object whose larger half extent is about ``size_m``, of the plain world's kinds."""
    return draw.choice(MODELS)(draw, size_m)


def draw_textures(
    draw: Draw, model: Model, relative_scale: Range, plain_probability: float, kinds: tuple[str, ...] = ()
) -> list[Texture]:
    """One texture for each shape of ``model``, patterned at ``relative_scale`` times the object's radius."""
    scale = (relative_scale[0] * model.radius_m, relative_scale[1] * model.radius_m)
    return [draw_texture_of(draw, kinds, scale, plain_probability) for _ in model.shapes]


def _ball(draw: Draw, size_m: float) -> Model:
    return Model(((Ellipsoid((size_m, size_m, size_m)), 0.0),), size_m)


def _ellipsoid(draw: Draw, size_m: float) -> Model:
    a, b, c = (size_m * draw.uniform((0.45, 1.0)) for _ in range(3))
    return Model(((Ellipsoid((a, b, c)), 0.0),), c)


def _crate(draw: Draw, size_m: float) -> Model:
    a, b, c = (size_m * draw.uniform((0.35, 1.0)) for _ in range(3))
    return Model(((Box((a, b, c)), 0.0),), c)


def _board(draw: Draw, size_m: float) -> Model:
    height = size_m * draw.uniform((0.6, 1.3))
    return Model(((Box((size_m, size_m * draw.uniform((0.05, 0.2)), height)), 0.0),), height)


def _drum(draw: Draw, size_m: float) -> Model:
    radius, half_height = size_m * draw.uniform((0.35, 0.8)), size_m * draw.uniform((0.4, 1.0))
    return Model(((Cone(radius, radius, half_height), 0.0),), half_height)


def _frustum(draw: Draw, size_m: float) -> Model:
    bottom, half_height = size_m * draw.uniform((0.5, 0.9)), size_m * draw.uniform((0.5, 1.0))
    return Model(((Cone(bottom, bottom * draw.uniform((0.0, 0.6)), half_height), 0.0),), half_height)


def _pillar(draw: Draw, size_m: float) -> Model:
    radius, half_height = size_m * draw.uniform((0.08, 0.25)), size_m * draw.uniform((1.0, 1.6))
    return Model(((Cone(radius, radius, half_height), 0.0),), half_height)


def _table(draw: Draw, size_m: float) -> Model:
    half_height, thickness = size_m * draw.uniform((0.5, 0.9)), 0.05 * size_m
    top = Box((size_m, size_m * draw.uniform((0.5, 1.0)), thickness))
    leg_height = half_height - thickness
    leg = Cone(size_m * draw.uniform((0.2, 0.6)), size_m * draw.uniform((0.06, 0.2)), leg_height)
    return Model(((top, half_height - thickness), (leg, -thickness)), half_height)


def _figure(draw: Draw, size_m: float) -> Model:
    head = 0.25 * size_m * draw.uniform((0.8, 1.3))
    body = size_m - head
    trunk = Cone(body * draw.uniform((0.3, 0.6)), body * draw.uniform((0.15, 0.35)), body)
    return Model(((trunk, -head), (Ellipsoid((head, head, head)), size_m - head)), size_m)


def _snowman(draw: Draw, size_m: float) -> Model:
    low, high = 0.6 * size_m, 0.4 * size_m
    return Model(((Ellipsoid((low, low, low)), low - size_m), (Ellipsoid((high, high, high)), size_m - high)), size_m)


MODELS: tuple[Callable[[Draw, float], Model], ...] = (
    _ball,
    _ellipsoid,
    _crate,
    _crate,
    _board,
    _drum,
    _frustum,
    _pillar,
    _table,
    _figure,
    _snowman,
)


def _lifted(height_m: float) -> Tensor:
    """(4, 4) float64 pose of a part above its object's origin."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = height_m
    return pose
