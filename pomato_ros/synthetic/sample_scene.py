"""The scene of the bundled sample clip, composed by hand: a furnished room, three movers, a walking camera."""

import math

import torch
from torch import Tensor

from pomato_ros.synthetic.camera_path import Handling, draw_camera_path
from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.enclosure import room
from pomato_ros.synthetic.motion import MoverPath
from pomato_ros.synthetic.poses import pose, rotation_about
from pomato_ros.synthetic.scene import Light, Part, Scene, Sensor, centred_intrinsics
from pomato_ros.synthetic.shapes import Box, Cone, Ellipsoid, Shape
from pomato_ros.synthetic.textures import TABLE_SIZE, Bricks, Checker, Noise, Stripes, Texture, weathered

SEED = 5  # of noise tables and the hand's shake
RATE_HZ = 15.0
FOV_DEG = 68.0  # horizontal
ROOM_M = (6.4, 5.4, 2.7)
CAMERA_START_M = (-2.1, -1.5, 1.45)
CAMERA_TARGET_M = (0.6, 0.4, 0.68)
UPRIGHT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

_Look = tuple[Shape, tuple[float, float, float], Texture]  # a shape, its centre in the object, its texture


def sample_scene(frames: int, size_wh: tuple[int, int]) -> Scene:
    """The sample's scene at 15 Hz; it does not depend on ``size_wh`` (px) as long as its shape stays the same."""
    draw = Draw(SEED)
    stamps_ns = tuple(round(1e9 * index / RATE_HZ) for index in range(frames))
    times_s = 1e-9 * torch.tensor(stamps_ns, dtype=torch.float64)
    times_s = times_s - times_s.mean()
    enclosure = room(ROOM_M, _planks(draw), _plaster(draw, (225, 222, 214)), _walls(draw))
    low, high = enclosure.low + 0.3, enclosure.high - 0.3
    world_from_camera = draw_camera_path(
        draw,
        "orbit",
        Handling(speed_m_s=0.5, turn_deg_s=15.0, shake_m=0.008, shake_deg=0.45, roll_deg=1.0),
        times_s,
        torch.tensor(CAMERA_START_M, dtype=torch.float64),
        torch.tensor(CAMERA_TARGET_M, dtype=torch.float64),
        low,
        high,
    )
    resting = _resting(draw)
    moving = _moving(draw, times_s, enclosure.low, enclosure.high)
    identity = torch.eye(4, dtype=torch.float64).expand(frames, 4, 4)
    objects = [(looks, place.expand(frames, 4, 4)) for looks, place in resting] + moving
    parts = [part for index, (looks, _) in enumerate(objects, start=1) for part in _parts(looks, index)]
    return Scene(
        parts=(*enclosure.parts, *parts),
        world_from_object=torch.stack([identity, *(poses for _, poses in objects)], dim=1),
        world_from_camera=world_from_camera,
        intrinsics=centred_intrinsics(FOV_DEG, size_wh),
        light=Light(torch.tensor([-0.6, -0.9, 2.5], dtype=torch.float64), 0.5, torch.tensor([1.4, 1.32, 1.2]), True),
        sensor=Sensor(torch.full((frames,), 1.1), noise_std=0.6, noise_seed=SEED),
        stamps_ns=stamps_ns,
    )


def _resting(draw: Draw) -> list[tuple[list[_Look], Tensor]]:
    """Furniture: shapes about each object's origin, and its (4, 4) pose."""
    wood = weathered(draw, _stripes((150, 98, 52), (128, 80, 40), 0.05), 0.3, 0.5)
    pale = _plaster(draw, (205, 190, 160))
    top, leg = Box((0.75, 0.45, 0.03)), Box((0.03, 0.03, 0.35))
    legs: list[_Look] = [(leg, (x, y, -0.03), wood) for x in (-0.68, 0.68) for y in (-0.38, 0.38)]
    globe = Ellipsoid((0.17, 0.17, 0.17))
    vase = Cone(0.07, 0.12, 0.15)
    table: list[_Look] = [(top, (0.0, 0.0, 0.35), wood), *legs]
    table += [(vase, (-0.45, 0.1, 0.53), _noise(draw, (30, 80, 110), (210, 220, 215), 0.1))]
    table += [(globe, (0.4, 0.05, 0.55), _noise(draw, (40, 90, 160), (120, 150, 70), 0.16))]
    crate = Checker(_colours((190, 140, 75), (120, 82, 40)), 0.11)
    shelf = Bricks(_colours((120, 70, 60), (60, 40, 35)), (0.5, 0.33), 0.1, 0.0, 0.9, draw.values(TABLE_SIZE))
    picture = _noise(draw, (200, 90, 40), (40, 60, 120), 0.35)
    drum = _stripes((35, 95, 140), (225, 200, 90), 0.24)
    plant = _noise(draw, (25, 80, 30), (110, 160, 60), 0.12)
    return [
        (table, _place(1.5, 1.2, 0.38, 20.0)),
        ([(Box((0.33, 0.33, 0.33)), (0.0, 0.0, 0.0), crate)], _place(-0.9, 1.9, 0.33, 25.0)),
        ([(Box((0.24, 0.2, 0.2)), (0.0, 0.0, 0.0), pale)], _place(-0.85, 1.85, 0.86, -15.0)),
        ([(Box((0.2, 0.9, 1.0)), (0.0, 0.0, 0.0), shelf)], _place(2.98, -0.6, 1.0, 0.0)),
        ([(Box((0.55, 0.02, 0.38)), (0.0, 0.0, 0.0), picture)], _place(0.5, 2.67, 1.7, 0.0)),
        ([(Cone(0.3, 0.3, 0.42), (0.0, 0.0, 0.0), drum)], _place(-2.5, 2.0, 0.42, 0.0)),
        (
            [
                (Cone(0.14, 0.2, 0.18), (0.0, 0.0, -0.42), _plaster(draw, (170, 85, 50))),
                (Ellipsoid((0.33, 0.33, 0.45)), (0.0, 0.0, 0.15), plant),
            ],
            _place(2.6, 2.2, 0.6, 0.0),
        ),
    ]


def _moving(draw: Draw, times_s: Tensor, low: Tensor, high: Tensor) -> list[tuple[list[_Look], Tensor]]:
    """A hopping ball, a walking figure and a turning toy, with (t, 4, 4) poses."""
    red, white = (205, 45, 40), (240, 235, 225)
    ball: list[_Look] = [(Ellipsoid((0.27, 0.27, 0.27)), (0.0, 0.0, 0.0), Checker(_colours(red, white), 0.14))]
    coat = weathered(draw, _stripes((40, 60, 120), (200, 170, 60), 0.2), 0.1, 0.5)
    figure: list[_Look] = [
        (Cone(0.27, 0.13, 0.55), (0.0, 0.0, -0.18), coat),
        (Ellipsoid((0.17, 0.17, 0.2)), (0.0, 0.0, 0.54), _noise(draw, (230, 185, 150), (190, 130, 100), 0.2)),
    ]
    toy: list[_Look] = [
        (Box((0.2, 0.14, 0.12)), (0.0, 0.0, 0.0), _stripes((50, 150, 80), (235, 225, 190), 0.1)),
        (Ellipsoid((0.11, 0.11, 0.11)), (0.0, 0.0, 0.2), Checker(_colours((230, 160, 30), (70, 40, 90)), 0.06)),
    ]
    hop = _path("bounce", (0.18, -0.05, 0.0), 1.7, 1.5, height_m=0.75)
    walk = _path("sway", (0.75, -0.5, 0.0), 5.2, 0.25)
    circle = _path("circle", (-0.5, 0.35, 0.0), 2.6, -1.0)
    return [
        (ball, _travel(hop, (-0.35, 1.0, 0.27), times_s, low + 0.27, high - 0.27)),
        (figure, _travel(walk, (1.5, -0.6, 0.74), times_s, low + 0.3, high - 0.3)),
        (toy, _travel(circle, (-0.06, 0.11, 0.12), times_s, low + 0.12, high - 0.3)),
    ]


def _walls(draw: Draw) -> list[Texture]:
    """Textures of the walls at +x, -x, +y, -y."""
    bricks = Bricks(_colours((165, 84, 62), (205, 198, 186)), (0.26, 0.09), 0.13, 0.5, 0.7, draw.values(TABLE_SIZE))
    paper = weathered(draw, _stripes((182, 196, 176), (158, 178, 158), 0.3), 0.5, 0.35)
    return [paper, paper, weathered(draw, bricks, 0.5, 0.5), _plaster(draw, (215, 200, 170))]


def _planks(draw: Draw) -> Texture:
    """A wooden floor."""
    boards = Bricks(_colours((165, 122, 78), (84, 58, 36)), (1.1, 0.14), 0.05, 0.37, 0.6, draw.values(TABLE_SIZE))
    return weathered(draw, boards, 0.25, 0.6)


def _plaster(draw: Draw, rgb: tuple[int, int, int]) -> Texture:
    """Nearly one colour."""
    darker = (int(0.86 * rgb[0]), int(0.86 * rgb[1]), int(0.86 * rgb[2]))
    return _noise(draw, darker, rgb, 0.4)


def _noise(draw: Draw, dark: tuple[int, int, int], bright: tuple[int, int, int], scale_m: float) -> Texture:
    """Patches between two colours."""
    ends = _colours(dark, bright)
    ramp = torch.stack((ends[0], ends.mean(0), ends[1]))
    return Noise(ramp, scale_m, 4, 1.6, torch.ones(3), draw.values(TABLE_SIZE))


def _stripes(one: tuple[int, int, int], other: tuple[int, int, int], period_m: float) -> Texture:
    """Upright bands."""
    return Stripes(_colours(one, other), period_m, 0.0)


def _colours(*rgb: tuple[int, int, int]) -> Tensor:
    """Linear colours (n, 3) of 8-bit ones, under the sensor's square-root transfer curve."""
    return (torch.tensor(rgb, dtype=torch.float32) / 255.0) ** 2


def _place(x: float, y: float, z: float, yaw_deg: float) -> Tensor:
    """(4, 4) pose of an upright object."""
    turn = rotation_about(UPRIGHT, torch.tensor(math.radians(yaw_deg), dtype=torch.float64))
    return pose(turn, torch.tensor([x, y, z], dtype=torch.float64))


def _path(
    kind: str, velocity: tuple[float, float, float], period_s: float, spin_rad_s: float, height_m: float = 0.0
) -> MoverPath:
    """A path that turns about the vertical."""
    return MoverPath(kind, torch.tensor(velocity, dtype=torch.float64), period_s, height_m, UPRIGHT, spin_rad_s)


def _travel(path: MoverPath, anchor: tuple[float, float, float], times_s: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(t, 4, 4) poses along ``path``, which is at ``anchor`` in the middle of the clip."""
    start = torch.tensor(anchor, dtype=torch.float64)
    return path.poses(start, torch.eye(3, dtype=torch.float64), times_s, torch.minimum(low, start), high)


def _parts(looks: list[_Look], instance: int) -> list[Part]:
    """The parts of one object."""
    eye = torch.eye(3, dtype=torch.float64)
    return [
        Part(shape, texture, instance, pose(eye, torch.tensor(centre, dtype=torch.float64)))
        for shape, centre, texture in looks
    ]
