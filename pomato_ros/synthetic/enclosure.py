"""What surrounds a scene, so that every ray ends: a room of six planes, or open ground under a far shell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw, Range
from pomato_ros.synthetic.marched import Relief, Terrain, draw_relief
from pomato_ros.synthetic.poses import pose
from pomato_ros.synthetic.scene import Light, Part
from pomato_ros.synthetic.shapes import Plane, Shell
from pomato_ros.synthetic.texture_kinds import draw_texture_of
from pomato_ros.synthetic.textures import TABLE_SIZE, Noise, Texture

OUTDOOR_HALF_SIZE_M = 4.0  # where things happen on open ground
INWARD_NORMALS = (  # floor, ceiling, walls at +x, -x, +y, -y
    (0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0),
    (-1.0, 0.0, 0.0),
    (1.0, 0.0, 0.0),
    (0.0, -1.0, 0.0),
    (0.0, 1.0, 0.0),
)
SUN_DISTANCE_M = 25.0  # near enough for shadow rays in float32, far enough to look parallel


@dataclass(frozen=True, slots=True, eq=False)
class Enclosure:
    """The background of a scene and the space inside it."""

    parts: tuple[Part, ...]
    low: Tensor  # (3,) float64 corner of the space that camera and objects share, metres
    high: Tensor  # (3,) the opposite corner
    indoor: bool
    relief: Relief | None = None  # of the ground; low is where it is highest


def draw_room(
    draw: Draw,
    size_m: Range,
    height_m: Range,
    texture_scale_m: Range,
    plain_probability: float,
    textures: tuple[str, ...] = (),
) -> Enclosure:
    """A room with its own floor and ceiling; its walls share a texture or have one each."""
    x, y, z = draw.uniform(size_m), draw.uniform(size_m), draw.uniform(height_m)

    def texture(extra_plain: float = 0.0) -> Texture:
        return draw_texture_of(draw, textures, texture_scale_m, min(plain_probability + extra_plain, 1.0))

    floor, ceiling, shared = texture(), texture(0.3), texture()
    walls = [texture() for _ in range(4)] if draw.chance(0.4) else [shared] * 4
    return room((x, y, z), floor, ceiling, walls)


def room(size_m: tuple[float, float, float], floor: Texture, ceiling: Texture, walls: Sequence[Texture]) -> Enclosure:
    """A closed room with the origin in the middle of its floor.

    Args:
        size_m: length along x, y and z.
        floor: texture of the floor.
        ceiling: texture of the ceiling.
        walls: textures of the walls at +x, -x, +y and -y; their u runs level, their v runs up.
    """
    x, y, z = size_m
    places = [(0.0, 0.0, 0.0), (0.0, 0.0, z), (0.5 * x, 0.0, 0.0), (-0.5 * x, 0.0, 0.0), (0.0, 0.5 * y, 0.0)]
    places.append((0.0, -0.5 * y, 0.0))
    looks = (floor, ceiling, *walls)
    poses = [_face_pose(place, normal) for place, normal in zip(places, INWARD_NORMALS, strict=True)]
    parts = tuple(Part(Plane(), look, 0, face, casts_shadow=False) for look, face in zip(looks, poses, strict=True))
    high = torch.tensor([0.5 * x, 0.5 * y, z], dtype=torch.float64)
    return Enclosure(parts, high * torch.tensor([-1.0, -1.0, 0.0]), high, indoor=True)


def draw_open_ground(
    draw: Draw,
    shell_radius_m: Range,
    texture_scale_m: Range,
    textures: tuple[str, ...] = (),
    half_size_m: Range | None = None,
    relief: tuple[float, Range] = (0.0, (0.0, 0.0)),
) -> Enclosure:
    """Ground inside a large sphere that carries a bright, cloudy sky.

    Args:
        draw: source of everything.
        shell_radius_m: limits of the sphere's radius, log-uniform.
        texture_scale_m: limits of the ground's pattern.
        textures: kinds of textures; none for the plain world's.
        half_size_m: limits of where things happen, log-uniform; None for 4 m.
        relief: probability of hills, and limits of their depth, share of the half size; otherwise the ground is flat.
    """
    radius, sky = draw_sky(draw, shell_radius_m)
    texture = draw_texture_of(draw, textures, texture_scale_m, 0.0)
    half = OUTDOOR_HALF_SIZE_M if half_size_m is None else min(draw.log_uniform(half_size_m), 0.5 * radius)
    hills = None
    if relief[0] > 0.0 and draw.chance(relief[0]):
        hills = draw_relief(draw, half * draw.uniform(relief[1]), (0.6 * half, 2.0 * half), 4)
    identity = torch.eye(4, dtype=torch.float64)
    ground = Part(Plane() if hills is None else Terrain(hills, radius), texture, 0, identity, casts_shadow=False)
    corner = torch.tensor([half, half, half], dtype=torch.float64)
    return Enclosure((ground, sky), corner * torch.tensor([-1.0, -1.0, 0.0]), corner, indoor=False, relief=hills)


def draw_sky(draw: Draw, shell_radius_m: Range) -> tuple[float, Part]:
    """A far shell that carries a bright, cloudy sky, and its radius."""
    blue = torch.tensor([0.35, 0.55, 0.95]) * draw.uniform((0.5, 1.0))
    white = torch.tensor([0.95, 0.93, 0.9])
    radius = draw.log_uniform(shell_radius_m)
    clouds = Noise(
        torch.stack((blue, torch.lerp(blue, white, 0.5), white)),
        scale_m=0.5 * radius,
        octaves=4,
        sharpness=draw.uniform((0.8, 2.0)),
        stretch=torch.tensor([1.0, 1.0, 2.0]),
        table=draw.values(TABLE_SIZE),
    )
    return radius, Part(Shell(radius), clouds, 0, torch.eye(4, dtype=torch.float64), casts_shadow=False)


def draw_light(draw: Draw, enclosure: Enclosure, ambient: Range, shadow_probability: float) -> Light:
    """A lamp below the ceiling of a room, or a sun over open ground."""
    if enclosure.indoor:
        low, high = enclosure.low, enclosure.high
        share = draw.vector(((0.15, 0.85), (0.15, 0.85), (0.75, 0.95)))
        position = low + share * (high - low)
    else:
        azimuth, elevation = draw.uniform((-math.pi, math.pi)), math.radians(draw.uniform((25.0, 70.0)))
        level = math.cos(elevation)
        direction = [level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation)]
        position = max(SUN_DISTANCE_M, 2.5 * float(enclosure.high.amax())) * torch.tensor(
            direction, dtype=torch.float64
        )
    warmth = draw.uniform((-0.12, 0.12))
    return Light(
        position_world=position,
        ambient=draw.uniform(ambient),
        rgb=torch.tensor([1.0 + warmth, 1.0, 1.0 - warmth]) * draw.uniform((1.0, 1.6)),
        shadows=draw.chance(shadow_probability),
    )


def _face_pose(origin: tuple[float, float, float], normal: tuple[float, float, float]) -> Tensor:
    """(4, 4) float64 pose of a plane through ``origin`` with ``normal`` as local z; walls keep local y upright."""
    z = torch.tensor(normal, dtype=torch.float64)
    y = torch.tensor([0.0, 1.0, 0.0] if abs(normal[2]) > 0.5 else [0.0, 0.0, 1.0], dtype=torch.float64)
    x = torch.linalg.cross(y, z)
    return pose(torch.stack((x, y, z), dim=-1), torch.tensor(origin, dtype=torch.float64))
