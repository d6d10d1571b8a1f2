"""Kinds of objects by name: those of the plain world, those of richer ones, and those kept back for held-out worlds."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pomato_ros.synthetic import models
from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.marched import Hill, Torus, draw_relief
from pomato_ros.synthetic.models import Model, draw_model
from pomato_ros.synthetic.polyhedron import gem, prism, pyramid
from pomato_ros.synthetic.poses import pose, rotation_about
from pomato_ros.synthetic.shapes import Box, Cone, Ellipsoid, Shape

Placing = tuple[Shape, tuple[float, float, float]]  # a shape and the place of its centre
EYE = torch.eye(3, dtype=torch.float64)
UPRIGHT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def draw_model_of(draw: Draw, kinds: tuple[str, ...], size_m: float) -> Model:
    """A random object of one of ``kinds``, of the plain world's where there are none named.

    Raises:
        KeyError: no such kind.
    """
    return MODEL_KINDS[draw.choice(kinds)](draw, size_m) if kinds else draw_model(draw, size_m)


def compound(placings: list[Placing], half_height_m: float, rotations: list[Tensor] | None = None) -> Model:
    """An object of shapes with a place, and perhaps a rotation (3, 3), each."""
    turns = rotations or [EYE] * len(placings)
    poses = [pose(turn, torch.tensor(c, dtype=torch.float64)) for (_, c), turn in zip(placings, turns, strict=True)]
    return Model(tuple((shape, centre[2]) for shape, centre in placings), half_height_m, tuple(poses))


# ---------------------------------------------------------------------------------------------------------------------
# Richer worlds


def _cone(draw: Draw, size_m: float) -> Model:
    half_height = size_m * draw.uniform((0.5, 1.2))
    return Model(((Cone(size_m * draw.uniform((0.3, 0.9)), 0.0, half_height), 0.0),), half_height)


def _torus(draw: Draw, size_m: float) -> Model:
    tube = size_m * draw.uniform((0.12, 0.38))
    ring = Torus(size_m - tube, tube)
    if draw.chance(0.5):
        return Model(((ring, 0.0),), tube)
    upended = rotation_about(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), torch.tensor(0.5 * math.pi))
    return compound([(ring, (0.0, 0.0, 0.0))], size_m, [upended])


def _hill(draw: Draw, size_m: float) -> Model:
    half_height = size_m * draw.uniform((0.15, 0.5))
    relief = draw_relief(draw, 1.6 * half_height, (0.7 * size_m, 2.5 * size_m), 3)
    return Model(((Hill(size_m, half_height, relief), 0.0),), half_height)


def _pole(draw: Draw, size_m: float) -> Model:
    """A thin pole, at times with a crossbar or a head."""
    half_height, radius = 1.5 * size_m, size_m * draw.log_uniform((0.012, 0.06))
    shaft = Cone(radius, radius * draw.uniform((0.5, 1.0)), half_height)
    head = draw.integer((0, 3))
    if head == 0:
        ball = 3.0 * radius
        return compound(
            [(shaft, (0.0, 0.0, 0.0)), (Ellipsoid((ball, ball, ball)), (0.0, 0.0, half_height))], half_height
        )
    if head == 1:
        bar = Box((0.5 * size_m, radius, radius))
        places: list[Placing] = [(shaft, (0.0, 0.0, 0.0)), (bar, (0.0, 0.0, half_height * draw.uniform((0.3, 0.9))))]
        return compound(places, half_height)
    return Model(((shaft, 0.0),), half_height)


def _stack(draw: Draw, size_m: float) -> Model:
    """Two to five boxes and drums on top of one another, each turned and a little aside."""
    count = draw.integer((2, 5))
    halves = [size_m * draw.uniform((0.5, 1.0)) / count for _ in range(count)]
    total, foot = sum(halves), -sum(halves)
    placings: list[Placing] = []
    turns = []
    for half in halves:
        width = size_m * draw.uniform((0.25, 0.6))
        box = Box((width, width * draw.uniform((0.5, 1.0)), half))
        shape: Shape = box if draw.chance(0.65) else Cone(width, width * draw.uniform((0.6, 1.0)), half)
        aside = (draw.uniform((-0.15, 0.15)) * size_m, draw.uniform((-0.15, 0.15)) * size_m)
        placings.append((shape, (*aside, foot + half)))
        turns.append(rotation_about(UPRIGHT, torch.tensor(draw.uniform((-1.5, 1.5)), dtype=torch.float64)))
        foot += 2.0 * half
    return compound(placings, total, turns)


def _cluster(draw: Draw, size_m: float) -> Model:
    """Two to four solids that run into one another, at any angle."""
    placings: list[Placing] = []
    turns = []
    for _ in range(draw.integer((2, 4))):
        a, b, c = (size_m * draw.uniform((0.2, 0.6)) for _ in range(3))
        solids: tuple[Shape, ...] = (Box((a, b, c)), Ellipsoid((a, b, c)), Cone(a, b, c))
        shape = draw.choice(solids)
        x, y, z = (0.45 * size_m * float(value) for value in draw.direction())
        placings.append((shape, (x, y, z)))
        angle = torch.tensor(draw.uniform((-math.pi, math.pi)), dtype=torch.float64)
        turns.append(rotation_about(draw.direction(), angle))
    return compound(placings, 0.7 * size_m, turns)


def _chair(draw: Draw, size_m: float) -> Model:
    """A seat on four legs, with a back."""
    half = 0.9 * size_m
    seat_z, width, leg = draw.uniform((-0.2, 0.1)) * size_m, 0.45 * size_m, 0.04 * size_m
    leg_half = 0.5 * (seat_z + half)
    placings: list[Placing] = [(Box((width, width, leg)), (0.0, 0.0, seat_z))]
    placings += [
        (Box((leg, leg, leg_half)), (x * (width - leg), y * (width - leg), leg_half - half))
        for x in (-1.0, 1.0)
        for y in (-1.0, 1.0)
    ]
    back_half = 0.5 * (half - seat_z)
    placings.append((Box((leg, width, back_half)), (leg - width, 0.0, half - back_half)))
    return compound(placings, half)


def _tree(draw: Draw, size_m: float) -> Model:
    """A trunk under a crown of one to three balls, or of a cone."""
    half = 1.3 * size_m
    trunk_half = half * draw.uniform((0.3, 0.5))
    trunk = Cone(0.1 * size_m, 0.07 * size_m, trunk_half)
    placings: list[Placing] = [(trunk, (0.0, 0.0, trunk_half - half))]
    crown_half = half - 0.8 * trunk_half
    if draw.chance(0.3):
        placings.append((Cone(0.6 * size_m, 0.0, crown_half), (0.0, 0.0, half - crown_half)))
        return compound(placings, half)
    for _ in range(draw.integer((1, 3))):
        radius = 0.6 * crown_half * draw.uniform((0.7, 1.1))
        aside = [draw.uniform((-0.3, 0.3)) * size_m for _ in range(2)]
        placings.append((Ellipsoid((radius, radius, 0.9 * radius)), (aside[0], aside[1], half - radius)))
    return compound(placings, half)


# ---------------------------------------------------------------------------------------------------------------------
# Kept back: no world to train on draws them


def _gem(draw: Draw, size_m: float) -> Model:
    count = draw.integer((7, 16))
    normals = torch.nn.functional.normalize(draw.normals(count, 3).double(), dim=1)
    offsets = 0.55 * size_m * (0.75 + 0.25 * draw.values(count).double())
    return Model(((gem(normals, offsets), 0.0),), 0.5 * size_m)


def _prism(draw: Draw, size_m: float) -> Model:
    half_height = size_m * draw.uniform((0.3, 1.0))
    return Model(
        ((prism(draw.choice((3, 5, 6, 8)), size_m * draw.uniform((0.3, 0.9)), half_height), 0.0),), half_height
    )


def _pyramid(draw: Draw, size_m: float) -> Model:
    half_height = size_m * draw.uniform((0.4, 0.9))
    return Model(((pyramid(draw.integer((3, 6)), size_m * draw.uniform((0.5, 1.0)), half_height), 0.0),), half_height)


def _star(draw: Draw, size_m: float) -> Model:
    """Bars that cross in the middle, every which way."""
    turns = [
        rotation_about(draw.direction(), torch.tensor(draw.uniform((-3.0, 3.0)))) for _ in range(draw.integer((3, 6)))
    ]
    thin = size_m * draw.uniform((0.06, 0.14))
    return compound([(Box((thin, thin, size_m)), (0.0, 0.0, 0.0))] * len(turns), 0.8 * size_m, turns)


def _ladder(draw: Draw, size_m: float) -> Model:
    """Two rails and some rungs."""
    half, width, thin = 1.4 * size_m, 0.35 * size_m, 0.05 * size_m
    placings: list[Placing] = [(Box((thin, thin, half)), (0.0, side * width, 0.0)) for side in (-1.0, 1.0)]
    rungs = draw.integer((4, 7))
    for rung in range(rungs):
        height = half * (2.0 * (rung + 0.5) / rungs - 1.0)
        placings.append((Box((0.6 * thin, width, 0.6 * thin)), (0.0, 0.0, height)))
    return compound(placings, half)


# ---------------------------------------------------------------------------------------------------------------------
# On a street


def _car(draw: Draw, size_m: float) -> Model:
    """A body, a cabin and four wheels; x is forwards, ``size_m`` half its length."""
    width, body, cabin = size_m * draw.uniform((0.38, 0.44)), 0.17 * size_m, size_m * draw.uniform((0.12, 0.2))
    wheel = 0.16 * size_m
    half = 0.5 * (wheel + 2.0 * body + 2.0 * cabin)
    body_z = wheel + body - half
    length = size_m * draw.uniform((0.45, 0.75))
    placings: list[Placing] = [
        (Box((size_m, width, body)), (0.0, 0.0, body_z)),
        (Box((length, 0.88 * width, cabin)), (-0.12 * size_m, 0.0, half - cabin)),
    ]
    turns = [EYE, EYE]
    axle = rotation_about(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), torch.tensor(0.5 * math.pi))
    for x in (-0.62, 0.62):
        for y in (-1.0, 1.0):
            placings.append((Cone(wheel, wheel, 0.07 * size_m), (x * size_m, y * 0.95 * width, wheel - half)))
            turns.append(axle)
    return compound(placings, half, turns)


def _house(draw: Draw, size_m: float) -> Model:
    """A block, at times with a roof."""
    half = size_m * draw.uniform((0.5, 1.6))
    block = Box((size_m, size_m * draw.uniform((0.4, 1.0)), half))
    if draw.chance(0.5):
        return Model(((block, 0.0),), half)
    roof_half = 0.3 * size_m
    quarter = rotation_about(UPRIGHT, torch.tensor(0.25 * math.pi, dtype=torch.float64))
    roof = pyramid(4, math.sqrt(2.0) * size_m, roof_half)
    return compound([(block, (0.0, 0.0, 0.0)), (roof, (0.0, 0.0, half + roof_half))], half, [EYE, quarter])


def _lamp_post(draw: Draw, size_m: float) -> Model:
    """A tall thin post with an arm."""
    half, radius = 2.0 * size_m, 0.035 * size_m
    arm = 0.35 * size_m
    shaft = Cone(1.5 * radius, radius, half)
    return compound([(shaft, (0.0, 0.0, 0.0)), (Box((radius, arm, 1.5 * radius)), (0.0, arm, half))], half)


MODEL_KINDS: dict[str, Callable[[Draw, float], Model]] = {
    **{function.__name__.lstrip("_"): function for function in models.MODELS},
    "cone": _cone,
    "torus": _torus,
    "hill": _hill,
    "pole": _pole,
    "stack": _stack,
    "cluster": _cluster,
    "chair": _chair,
    "tree": _tree,
    "gem": _gem,
    "prism": _prism,
    "pyramid": _pyramid,
    "star": _star,
    "ladder": _ladder,
    "car": _car,
    "house": _house,
    "lamp_post": _lamp_post,
}
PLAIN_KINDS = tuple(dict.fromkeys(function.__name__.lstrip("_") for function in models.MODELS))
RICH_KINDS = (
    *PLAIN_KINDS,
    "cone",
    "torus",
    "hill",
    "pole",
    "pole",
    "stack",
    "stack",
    "cluster",
    "cluster",
    "chair",
    "tree",
)
KEPT_BACK_KINDS = ("gem", "gem", "prism", "pyramid", "star", "ladder")
