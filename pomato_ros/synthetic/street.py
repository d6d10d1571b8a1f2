"""A street along world x: houses, kerbs, lamp posts, trees and parked cars, with cars and people on their ways."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.enclosure import Enclosure, draw_sky
from pomato_ros.synthetic.model_kinds import MODEL_KINDS
from pomato_ros.synthetic.models import Model
from pomato_ros.synthetic.placing import draw_walker, paused
from pomato_ros.synthetic.poses import pose, rotation_about
from pomato_ros.synthetic.scene import Part
from pomato_ros.synthetic.shapes import Box, Cone, Plane, Shape
from pomato_ros.synthetic.stage import Placed, Stage, cut
from pomato_ros.synthetic.texture_kinds import Dimmed, draw_texture_of
from pomato_ros.synthetic.textures import Noise, Plain, Texture, draw_colours
from pomato_ros.synthetic.world_config import WorldConfig

BEHIND_M = 10.0  # how far the street reaches behind the camera's start
KERB_M = 0.14
DASH_M = (1.5, 0.06, 0.004)  # half extents of a lane mark
HOUSES_A_SIDE = 7
CAR_HALF_LENGTH_M = (1.7, 2.6)
CAR_SPEED_M_S = (2.0, 15.0)
CAR_AHEAD_M = (6.5, 30.0)  # of the camera when a car is at its anchor, log-uniform
PERSON_AHEAD_M = (3.5, 14.0)
HEADROOM_M = 2.0  # what begins higher is in nobody's way
FOLLOWING = 0.6  # of cars in the camera's lane that go about as fast as it
PACE = (0.8, 1.3)  # their speed, share of the camera's
TRIES = 10  # draws of a place before something is left out
UPRIGHT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Street:
    """The space of a street and what its parts are."""

    enclosure: Enclosure
    road_m: float  # half its width
    walk_m: float  # width of the pavement on each side
    end_m: float  # how far it reaches along x
    side: float  # -1 where one drives on the right (at negative y, looking along x)


def draw_street(draw: Draw, config: WorldConfig) -> Street:
    """Road, pavements, lane marks and sky."""
    radius, sky = draw_sky(draw, config.shell_radius_m)
    road, walk = draw.uniform((2.8, 6.5)), draw.uniform((1.5, 4.0))
    end = 0.6 * radius
    grey = torch.full((3,), draw.uniform((0.04, 0.25)))
    tarmac = Noise(
        torch.stack((0.7 * grey, grey, 1.3 * grey)),
        draw.log_uniform((0.1, 1.5)),
        4,
        1.5,
        torch.ones(3),
        draw.values(4096),
    )
    ground: Texture = tarmac if draw.chance(0.7) else draw_texture_of(draw, config.textures, (0.3, 2.0), 0.0)
    paving = draw_texture_of(draw, ("bricks", "bricks", "checker", "noise"), (0.3, 1.2), 0.2)
    eye = torch.eye(4, dtype=torch.float64)
    parts = [Part(Plane(), ground, 0, eye, casts_shadow=False), sky]
    middle = 0.5 * (end - BEHIND_M)
    for side in (-1.0, 1.0):
        kerb = Box((0.5 * (end + BEHIND_M), 0.5 * walk, KERB_M))
        parts.append(Part(kerb, paving, 0, _at(middle, side * (road + 0.5 * walk), 0.0), casts_shadow=False))
    paint = Plain(torch.full((3,), draw.uniform((0.4, 0.9))))
    gap = draw.uniform((5.0, 9.0))
    for number in range(int(0.5 * end / gap) + 1):
        dash = Part(Box(DASH_M), paint, 0, _at(number * gap - 0.5 * BEHIND_M, 0.0, 0.0), casts_shadow=False)
        parts.append(dash)
    depth = road + walk + 12.0
    low, high = (torch.tensor(v, dtype=torch.float64) for v in ((-BEHIND_M, -depth, 0.0), (end, depth, 14.0)))
    enclosure = Enclosure(tuple(parts), low, high, indoor=False)
    return Street(enclosure, road, walk, end, draw.choice((-1.0, 1.0)))


def camera_space(street: Street) -> tuple[Tensor, Tensor]:
    """Corners (3,) of where the camera may be: over the road, well before the street's end."""
    low = torch.tensor([1.0 - BEHIND_M, 0.6 - street.road_m, 0.6], dtype=torch.float64)
    high = torch.tensor([0.6 * street.end_m, street.road_m - 0.6, 4.0], dtype=torch.float64)
    return low, high


def furnish(draw: Draw, config: WorldConfig, street: Street, stage: Stage, times_s: Tensor) -> list[Placed]:
    """Houses, things at the kerb, then cars and people that move."""
    placed = _houses(draw, config, street, len(times_s))
    for _ in range(draw.integer(config.static_objects)):
        _place_furniture(draw, config, street, stage, placed, len(times_s))
    if draw.chance(config.mover_probability):
        for _ in range(draw.integer(config.movers)):
            _place_traveller(draw, config, street, stage, placed, times_s)
    return placed


def _houses(draw: Draw, config: WorldConfig, street: Street, frames: int) -> list[Placed]:
    """Fronts along both pavements, with gaps."""
    placed: list[Placed] = []
    for side in (-1.0, 1.0):
        x = -BEHIND_M
        for _ in range(HOUSES_A_SIDE):
            size = draw.uniform((3.0, 7.0))
            x += size + draw.choice((0.2, draw.uniform((0.5, 6.0))))
            model = MODEL_KINDS["house"](draw, size)
            shape = model.shapes[0][0]
            assert isinstance(shape, Box)
            y = side * (street.road_m + street.walk_m + shape.half_extents_m[1] + draw.uniform((0.0, 1.5)))
            looks = tuple(draw_texture_of(draw, config.textures, (0.4, 3.0), 0.15) for _ in model.shapes)
            place = _at(x, y, model.half_height_m)
            placed.append(Placed(model, place.expand(frames, 4, 4), looks=looks))
            x += size
    return placed


def _place_furniture(
    draw: Draw, config: WorldConfig, street: Street, stage: Stage, placed: list[Placed], frames: int
) -> None:
    """Append a lamp post, a tree, a parked car or anything else on a pavement."""
    for _ in range(TRIES):
        kind = draw.choice(("lamp_post", "pole", "tree", "tree", "car", "car", "any"))
        side = draw.choice((-1.0, 1.0))
        x = draw.log_uniform((3.0, 0.9 * street.end_m))
        y = side * (street.road_m + street.walk_m * draw.uniform((0.1, 0.8)))
        yaw = draw.choice((0.0, math.pi)) + draw.uniform((-0.05, 0.05))
        if kind == "car":
            model = MODEL_KINDS["car"](draw, draw.uniform(CAR_HALF_LENGTH_M))
            y = side * (street.road_m - 0.4)
        elif kind == "any":
            model = MODEL_KINDS[draw.choice(config.models)](draw, draw.log_uniform((0.15, 0.8)))
            yaw = draw.uniform((-math.pi, math.pi))
        else:
            size = draw.uniform((1.5, 2.5)) if kind == "lamp_post" else draw.uniform((0.9, 2.6))
            model = MODEL_KINDS[kind](draw, size)
            yaw = -0.5 * math.pi * (side + 1.0)
        foot = 0.0 if kind == "car" else KERB_M
        world_from_object = _at(x, y, foot + model.half_height_m, yaw).expand(frames, 4, 4)
        item = Placed(model, world_from_object, looks=_car_looks(draw, model) if kind == "car" else ())
        if _clear(stage, item) and not any(_cut_flat(item, other) for other in placed):
            placed.append(item)
            return


def _place_traveller(
    draw: Draw, config: WorldConfig, street: Street, stage: Stage, placed: list[Placed], times_s: Tensor
) -> None:
    """Append a car in its lane or across, or a person on the pavement or on the road."""
    person = draw.chance(0.4)
    for attempt in range(TRIES):
        frame = draw.integer((len(times_s) // 4, max(3 * len(times_s) // 4 - 1, 0)))
        since = times_s - times_s[frame]
        since = paused(draw, since) if draw.chance(config.pause_probability) else since
        ahead = float(stage.world_from_camera[frame, 0, 3])
        if person:
            item = _person(draw, config, street, stage, since, ahead + draw.log_uniform(PERSON_AHEAD_M))
        else:
            way_m = float(stage.world_from_camera[-1, 0, 3] - stage.world_from_camera[0, 0, 3])
            camera_m_s = way_m / max(float(times_s[-1] - times_s[0]), 1e-6)
            item = _car(draw, street, since, ahead + draw.log_uniform(CAR_AHEAD_M), camera_m_s)
        if _clear(stage, item) and (attempt > TRIES // 2 or not any(_in_the_way(item, other) for other in placed)):
            placed.append(item)
            return


def _car(draw: Draw, street: Street, since_s: Tensor, ahead_m: float, camera_m_s: float) -> Placed:
    """A car that goes along a lane, or across the street; before the camera it often keeps the camera's pace."""
    model = MODEL_KINDS["car"](draw, draw.uniform(CAR_HALF_LENGTH_M))
    speed = draw.log_uniform(CAR_SPEED_M_S)
    across, oncoming = draw.chance(0.2), draw.chance(0.5)
    lane = 0.5 * street.road_m * street.side
    if across:
        yaw = draw.choice((-0.5, 0.5)) * math.pi
        start = torch.tensor([ahead_m, draw.uniform((-2.0, 2.0)), model.half_height_m], dtype=torch.float64)
    else:
        yaw = math.pi if oncoming else 0.0
        start = torch.tensor([ahead_m, -lane if oncoming else lane, model.half_height_m], dtype=torch.float64)
        if not oncoming and draw.chance(FOLLOWING):
            speed = max(camera_m_s * draw.uniform(PACE), CAR_SPEED_M_S[0])
    turn = draw.uniform((-0.1, 0.1)) if draw.chance(0.3) else 0.0
    heading = yaw + turn * torch.tanh(since_s)
    level = torch.zeros_like(heading)
    way = torch.stack((math.cos(yaw) + level, math.sin(yaw) + level, level), dim=1) * (speed * since_s)[:, None]
    poses = pose(rotation_about(UPRIGHT, heading), start + way)
    return Placed(model, poses, looks=_car_looks(draw, model))


def _person(draw: Draw, config: WorldConfig, street: Street, stage: Stage, since_s: Tensor, ahead_m: float) -> Placed:
    """A walker along a pavement, or crossing the road."""
    crossing = draw.chance(0.4)
    y = draw.uniform((-1.0, 1.0)) * street.road_m
    if not crossing:
        y = draw.choice((-1.0, 1.0)) * (street.road_m + street.walk_m * draw.uniform((0.2, 0.8)))
    heading = draw.choice((-0.5, 0.5)) * math.pi if crossing else draw.choice((0.0, math.pi))
    anchor = torch.tensor([ahead_m, y, 0.0], dtype=torch.float64)
    return draw_walker(draw, config, stage, anchor, since_s, heading + draw.uniform((-0.2, 0.2)))


def _car_looks(draw: Draw, model: Model) -> tuple[Texture, ...]:
    """Paint, dark windows, black wheels."""
    paint: Texture = Plain(draw_colours(draw, 1)[0])
    if draw.chance(0.25):
        paint = draw_texture_of(draw, ("stripes", "noise", "checker"), (0.3, 1.5), 0.0)
    glass, rubber = Dimmed(Plain(draw_colours(draw, 1)[0]), 0.25), Plain(torch.full((3,), 0.015))
    return (paint, glass, *[rubber] * (len(model.shapes) - 2))


def _clear(stage: Stage, item: Placed) -> bool:
    """True if the camera never comes inside the object's largest shape, seen from above; cars may pass close by."""
    reach = max(0.5 * item.model.radius_m, 0.6)
    gap = (item.centres_world - stage.world_from_camera[:, :3, 3])[:, :2].norm(dim=-1)
    return stage.clear_of_camera(item) if not item.looks else bool((gap > reach + 0.9).all())


def _cut_flat(one: Placed, other: Placed) -> bool:
    """True if two objects run into each other; fronts of houses do not count, their bounding spheres bulge."""
    house = any(isinstance(item.model.shapes[0][0], Box) and item.model.radius_m > 3.5 for item in (one, other))
    return not house and cut(one, other)


def _in_the_way(one: Placed, other: Placed) -> bool:
    """True if two objects ever stand in the same place of the road, seen from above; fronts of houses do not count."""
    if any(isinstance(item.model.shapes[0][0], Box) and item.model.radius_m > 3.5 for item in (one, other)):
        return False
    (here, radius), (there, other_radius) = _discs(one), _discs(other)
    gap = (here[:, :, None] - there[:, None]).norm(dim=-1)
    return bool((gap < radius + other_radius).any())


def _discs(item: Placed) -> tuple[Tensor, float]:
    """Centres (t, d, 2) and radius of discs on the ground that hold what of an object is less than HEADROOM_M high."""
    centre = item.centres_world[:, None, :2]
    body = item.model.shapes[0][0]
    if len(item.looks) > 2 and isinstance(body, Box):  # a car; a house has at most two shapes
        half_length = body.half_extents_m[0]
        forwards = item.world_from_object[:, None, :2, 0]
        places = half_length * torch.tensor([-0.6, 0.0, 0.6], dtype=torch.float64)[:, None]
        return centre + places * forwards, 0.5 * half_length
    if item.members:
        return centre, 0.5 * item.model.radius_m  # a walker's arms and legs
    poses = item.model.object_from_part or tuple(_at(0.0, 0.0, height) for _, height in item.model.shapes)
    reach = [
        float(part[:2, 3].norm()) + _flat_radius_m(shape, part)
        for (shape, _), part in zip(item.model.shapes, poses, strict=True)
        if item.model.half_height_m + float(part[2, 3]) - shape.radius_m < HEADROOM_M
    ]
    return centre, max(reach, default=0.0)


def _flat_radius_m(shape: Shape, object_from_part: Tensor) -> float:
    """Radius of a shape seen from above; of one that leans, that of its bounding sphere."""
    if isinstance(shape, Cone) and float(object_from_part[2, 2]) > 0.999:
        return max(shape.bottom_radius_m, shape.top_radius_m)
    return shape.radius_m


def _at(x: float, y: float, z: float, yaw: float = 0.0) -> Tensor:
    """(4, 4) pose of something upright."""
    turn = rotation_about(UPRIGHT, torch.tensor(yaw, dtype=torch.float64))
    return pose(turn, torch.tensor([x, y, z], dtype=torch.float64))
