"""People-like walkers: rigid limbs on joints that swing with the stride.

The body's frame has x forwards, y to the left, z up, and its origin at half the height. Each limb is an instance of its
own, so that its points move rigidly and their truth stays exact.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.models import Model
from pomato_ros.synthetic.poses import pose, rotation_about
from pomato_ros.synthetic.shapes import Cone, Ellipsoid, Shape
from pomato_ros.synthetic.stage import Placed
from pomato_ros.synthetic.textures import Texture

ACROSS = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Gait:
    """How a walker moves its limbs; angles in radians."""

    stride_rad_s: float  # of the swing's phase
    phase: float
    leg_swing: float
    knee_bend: float
    arm_swing: float
    elbow_bend: float
    nod: float


def draw_gait(draw: Draw, speed_m_s: float, height_m: float) -> Gait:
    """A gait that suits a speed: longer and quicker steps when fast, arms only when standing."""
    pace = speed_m_s / height_m
    return Gait(
        stride_rad_s=2.0 * math.pi * min(0.5 + 0.8 * pace, 2.5) * draw.uniform((0.85, 1.15)),
        phase=draw.uniform((0.0, 2.0 * math.pi)),
        leg_swing=min(0.75 * pace, 0.9) * draw.uniform((0.8, 1.2)),
        knee_bend=min(1.0 * pace, 1.3) * draw.uniform((0.7, 1.1)),
        arm_swing=draw.uniform((0.2, 1.0)),
        elbow_bend=draw.uniform((0.2, 1.6)),
        nod=draw.uniform((0.0, 0.25)),
    )


def body(height_m: float) -> Model:
    """The bound of a walker: what holds all its limbs at any time."""
    half = 0.5 * height_m
    return Model(((Ellipsoid((half, half, half)), 0.0),), half)


def walker(height_m: float, gait: Gait, world_from_body: Tensor, times_s: Tensor, looks: tuple[Texture, ...]) -> Placed:
    """The limbs of a walker whose body goes along ``world_from_body`` (t, 4, 4).

    Args:
        height_m: from sole to crown.
        gait: how the limbs swing.
        world_from_body: (t, 4, 4) float64.
        times_s: (t,) seconds, of the swing.
        looks: textures of skin, shirt and trousers.
    """
    skin, shirt, trousers = looks
    limbs = [
        Placed(_piece(shape, height_m), world_from_body @ body_from_limb, looks=(look,))
        for shape, body_from_limb, look in _limbs(height_m, gait, times_s, skin, shirt, trousers)
    ]
    return Placed(body(height_m), world_from_body, tuple(limbs))


def _limbs(
    height_m: float, gait: Gait, times_s: Tensor, skin: Texture, shirt: Texture, trousers: Texture
) -> list[tuple[Shape, Tensor, Texture]]:
    """Shape, ``body_from_limb`` (t, 4, 4) and texture of the trunk, the head, and both halves of arms and legs."""
    h = height_m
    phase = gait.stride_rad_s * times_s + gait.phase
    level = torch.zeros_like(times_s)
    trunk = _joint((0.0, 0.0, -0.01 * h), 0.04 * torch.sin(2.0 * phase))
    head = trunk @ _joint((0.0, 0.0, 0.32 * h), gait.nod * torch.sin(0.5 * phase))
    limbs: list[tuple[Shape, Tensor, Texture]] = [
        (Ellipsoid((0.085 * h, 0.13 * h, 0.2 * h)), trunk @ _joint((0.0, 0.0, 0.16 * h), level), shirt),
        (Ellipsoid((0.065 * h, 0.06 * h, 0.085 * h)), head @ _joint((0.0, 0.0, 0.09 * h), level), skin),
    ]
    for side in (-1.0, 1.0):
        swing = side * torch.sin(phase)
        lagging = 0.5 - 0.5 * torch.cos(phase + (0.0 if side > 0.0 else math.pi) - 0.6)
        thigh = _joint((0.0, side * 0.075 * h, 0.0), -gait.leg_swing * swing)
        shin = thigh @ _joint((0.0, 0.0, -0.25 * h), gait.knee_bend * lagging)
        upper = trunk @ _joint((0.0, side * 0.155 * h, 0.3 * h), gait.arm_swing * swing)
        lower = upper @ _joint((0.0, 0.0, -0.17 * h), -gait.elbow_bend * (0.6 + 0.4 * swing))
        limbs += [
            (Cone(0.038 * h, 0.06 * h, 0.13 * h), thigh @ _joint((0.0, 0.0, -0.12 * h), level), trousers),
            (Cone(0.028 * h, 0.04 * h, 0.125 * h), shin @ _joint((0.0, 0.0, -0.12 * h), level), trousers),
            (Ellipsoid((0.034 * h, 0.034 * h, 0.1 * h)), upper @ _joint((0.0, 0.0, -0.085 * h), level), shirt),
            (Ellipsoid((0.028 * h, 0.028 * h, 0.105 * h)), lower @ _joint((0.0, 0.0, -0.085 * h), level), skin),
        ]
    return limbs


def _joint(place: tuple[float, float, float], angle_rad: Tensor) -> Tensor:
    """(t, 4, 4) pose of a limb turned by ``angle_rad`` (t,) about the axis across, at ``place`` of the one before."""
    position = torch.tensor(place, dtype=torch.float64).expand(len(angle_rad), 3)
    return pose(rotation_about(ACROSS, angle_rad), position)


def _piece(shape: Shape, height_m: float) -> Model:
    return Model(((shape, 0.0),), 0.5 * height_m)
