"""Puts objects into a scene: at rest and on paths, in view, out of the camera's way and mostly out of each other's."""

import math

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.model_kinds import draw_model_of
from pomato_ros.synthetic.models import draw_textures
from pomato_ros.synthetic.motion import MoverPath, draw_path
from pomato_ros.synthetic.poses import pose, rotation_about
from pomato_ros.synthetic.scene import Part
from pomato_ros.synthetic.sheet import draw_sheet
from pomato_ros.synthetic.stage import Placed, Stage, cut, draw_orientation
from pomato_ros.synthetic.texture_kinds import Dimmed, draw_texture_of
from pomato_ros.synthetic.textures import Noise, Texture
from pomato_ros.synthetic.walker import body, draw_gait, walker
from pomato_ros.synthetic.world_config import WorldConfig

PLACEMENT_TRIES = 14  # draws of a place before an object is left out
POLITE_TRIES = 9  # of these, how many also refuse to cut into another object or, for a mover, to start hidden
WALKER_HEIGHT_M = (1.1, 1.95)
WALKER_PACE = 1.6  # most of its height that a walker goes in a second
VISIT_SPEED_M_S = 6.0  # most of a mover that sweeps through the view
DARKNESS = (0.03, 0.15)  # factor on the colour of a dark object
GLOSS = ((0.2, 1.0), (8.0, 120.0))  # strength and sharpness of highlights, log-uniform
UPRIGHT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def place_all(draw: Draw, config: WorldConfig, stage: Stage, times_s: Tensor) -> list[Placed]:
    """All objects of a scene, those at rest first in the list, whoever finds its place first."""
    placed: list[Placed] = []
    if config.movers_first:
        _place_movers(draw, config, stage, times_s, placed)
        movers = len(placed)
        _place_statics(draw, config, stage, placed)
        return placed[movers:] + placed[:movers]
    _place_statics(draw, config, stage, placed)
    _place_movers(draw, config, stage, times_s, placed)
    return placed


def _place_statics(draw: Draw, config: WorldConfig, stage: Stage, placed: list[Placed]) -> None:
    """Append all objects at rest."""
    for _ in range(draw.integer(config.static_objects)):
        _place_static(draw, config, stage, placed)


def _place_movers(draw: Draw, config: WorldConfig, stage: Stage, times_s: Tensor, placed: list[Placed]) -> None:
    """Append the movers."""
    if draw.chance(config.mover_probability):
        for _ in range(draw.integer(config.movers)):
            _place_mover(draw, config, stage, times_s, placed)


def _place_static(draw: Draw, config: WorldConfig, stage: Stage, placed: list[Placed]) -> None:
    """Append an object at rest in view of some frame, or give up after a number of tries."""
    crowded = config.crowding > 0.0 and draw.chance(config.crowding)
    for attempt in range(PLACEMENT_TRIES):
        frame = draw.integer((0, len(stage.world_from_camera) - 1))
        item = _draw_static(draw, config, stage, frame)
        rude = crowded or attempt >= POLITE_TRIES
        hiding = config.movers_first and attempt < POLITE_TRIES and _hides_a_mover(stage, item, placed)
        if not hiding and stage.clear_of_camera(item) and (rude or not any(cut(item, other) for other in placed)):
            placed.append(item)
            return


def _hides_a_mover(stage: Stage, item: Placed, placed: list[Placed]) -> bool:
    """True if ``item`` would stand before a mover in the middle of the clip."""
    middle = len(stage.world_from_camera) // 2
    movers = (other for other in placed if other.members or not torch.equal(*other.world_from_object[[0, -1]]))
    return any(stage.hides(item, mover, middle) for mover in movers)


def _place_mover(draw: Draw, config: WorldConfig, stage: Stage, times_s: Tensor, placed: list[Placed]) -> None:
    """Append a mover that passes through the view at some frame of the middle half, or give up after some tries."""
    frames = len(times_s)
    for attempt in range(PLACEMENT_TRIES):
        frame = draw.integer((frames // 4, max(3 * frames // 4 - 1, frames // 4)))
        item = _draw_mover(draw, config, stage, times_s, frame)
        rude = attempt >= POLITE_TRIES
        blocked = any(cut(item, other) or stage.hides(other, item, frame) for other in placed)
        if stage.clear_of_camera(item) and (rude or not blocked):
            placed.append(item)
            return


def _draw_static(draw: Draw, config: WorldConfig, stage: Stage, frame: int) -> Placed:
    """An object at rest, somewhere in view at ``frame``."""
    position, distance = stage.point_in_view(draw, frame, config.static_distance)
    size = min(draw.log_uniform(config.static_size_m), config.static_size_limit * distance)
    model = draw_model_of(draw, config.models, max(size, config.static_size_m[0]))
    floating = draw.chance(config.floating_probability)
    low, high = stage.space(model, floating)
    position = torch.minimum(torch.maximum(position, low), high)
    world_from_object = stage.on_ground(pose(draw_orientation(draw, floating), position)[None])
    return Placed(model, world_from_object.expand(len(stage.world_from_camera), 4, 4))


def _draw_mover(draw: Draw, config: WorldConfig, stage: Stage, times_s: Tensor, frame: int) -> Placed:
    """An object on a path that passes through the view at ``frame``."""
    anchor, distance = stage.point_in_view(draw, frame, config.mover_distance, config.mover_spread)
    since = times_s - times_s[frame]
    if config.pause_probability > 0.0 and draw.chance(config.pause_probability):
        since = paused(draw, since)
    if config.walker_probability > 0.0 and draw.chance(config.walker_probability):
        return draw_walker(draw, config, stage, anchor, since)
    size = stage.size_for_share(draw.log_uniform(config.mover_image_share), distance)
    size = min(max(size, config.mover_size_m[0]), config.mover_size_m[1])
    if config.sheet_probability > 0.0 and draw.chance(config.sheet_probability):
        return _draw_sheet(draw, config, stage, anchor, since, size)
    model = draw_model_of(draw, config.models, size)
    floating = draw.chance(config.floating_probability)
    path = draw_path(draw, config.mover_speed_m_s, config.mover_spin_deg_s, floating)
    if config.visit_probability > 0.0 and draw.chance(config.visit_probability):
        path = _visit(draw, path, stage, frame, distance + model.radius_m, float(times_s[-1] - times_s[0]))
    low, high = stage.space(model, floating)
    anchor = torch.minimum(torch.maximum(anchor, low), high)
    if path.kind == "bounce":
        high[2] = torch.maximum(low[2], stage.enclosure.high[2] - model.radius_m)
    world_from_object = path.poses(anchor, draw_orientation(draw, floating), since, low, high)
    return Placed(model, stage.on_ground(world_from_object))


def draw_walker(
    draw: Draw, config: WorldConfig, stage: Stage, anchor: Tensor, since_s: Tensor, heading: float | None = None
) -> Placed:
    """A walker that is at ``anchor`` (3,) at time zero, or as near as it may; facing where it goes.

    Args:
        draw: source of its height, gait and looks.
        config: looks.
        stage: the space.
        anchor: (3,) world.
        since_s: (t,) seconds.
        heading: direction in radians, any where None.
    """
    height = draw.uniform(WALKER_HEIGHT_M)
    heading = draw.uniform((-math.pi, math.pi)) if heading is None else heading
    speed = min(draw.log_uniform((0.3, 2.2)), WALKER_PACE * height) * float(not draw.chance(0.1))
    low, high = stage.space(body(height), floating=False)
    anchor = torch.minimum(torch.maximum(anchor, low), high)
    bend = draw.uniform((-0.5, 0.5))  # rad/s
    bend = math.copysign(max(abs(bend), 1e-3), bend)
    yaw = heading + bend * since_s
    way = torch.stack((yaw.sin() - math.sin(heading), math.cos(heading) - yaw.cos(), torch.zeros_like(yaw)), dim=1)
    position = anchor + way * (speed / bend)
    position = torch.minimum(torch.maximum(position, low), high)
    world_from_body = stage.on_ground(pose(rotation_about(UPRIGHT, yaw), position))
    scale = (config.object_texture[0] * 0.4 * height, config.object_texture[1] * 0.4 * height)
    tan = draw.uniform((0.12, 0.75))
    skin = torch.tensor([tan, 0.7 * tan, 0.52 * tan])
    face: Texture = Noise(torch.stack((0.8 * skin, skin, skin)), 0.05, 2, 1.0, torch.ones(3), draw.values(4096))
    shirt, trousers = (draw_texture_of(draw, config.textures, scale, 0.3) for _ in range(2))
    return walker(height, draw_gait(draw, speed, height), world_from_body, since_s, (face, shirt, trousers))


def paused(draw: Draw, since_s: Tensor) -> Tensor:
    """Times (t,) of a mover that starts late, stops early or rests in between; the rest is smooth at both ends."""
    first, last = float(since_s[0]), float(since_s[-1])
    span = max(last - first, 1e-6)
    kind = draw.choice(("start", "stop", "rest"))
    turn = first + span * draw.uniform((0.25, 0.75))
    ramp = span * draw.uniform((0.05, 0.25))
    started, stopped = _held(since_s - turn, ramp), -_held(turn - since_s, ramp)
    if kind == "start":
        return started
    if kind == "stop":
        return stopped
    rest = span * draw.uniform((0.2, 0.5))
    return -_held(turn - since_s, ramp) + _held(since_s - turn - rest, ramp)


def _held(time_s: Tensor, ramp_s: float) -> Tensor:
    """Zero before zero, then faster and faster for ``ramp_s``, then as time goes; its derivative is continuous."""
    share = (time_s / ramp_s).clamp(0.0, 1.0)
    return 0.5 * ramp_s * share**2 + (time_s - ramp_s).clamp(min=0.0)


def _visit(draw: Draw, path: MoverPath, stage: Stage, frame: int, distance_m: float, duration_s: float) -> MoverPath:
    """A path to and fro across the view at ``frame``, past both its edges."""
    right = stage.world_from_camera[frame, :3, 0].clone()
    right[2] = 0.0
    amplitude = draw.uniform((1.2, 2.0)) * stage.half_image[0] * distance_m
    rate = 2.0 * math.pi * draw.uniform((0.7, 1.6)) / max(duration_s, 1e-3)
    rate = max(min(rate, VISIT_SPEED_M_S / amplitude), 1e-3)
    side = draw.choice((-1.0, 1.0))
    velocity = side * amplitude * rate * torch.nn.functional.normalize(right, dim=0)
    return MoverPath("sway", velocity, 2.0 * math.pi / rate, 0.0, path.spin_axis, path.spin_rad_s)


def _draw_sheet(
    draw: Draw, config: WorldConfig, stage: Stage, anchor: Tensor, since_s: Tensor, size_m: float
) -> Placed:
    """A bending sheet, upright like a flag or at any angle."""
    sheet = draw_sheet(draw, size_m)
    floating = draw.chance(0.5)
    path = draw_path(draw, config.mover_speed_m_s, config.mover_spin_deg_s, floating)
    low, high = stage.space(sheet.bound(), floating=True)
    anchor = torch.minimum(torch.maximum(anchor, low), high)
    world_from_sheet = path.poses(anchor, draw_orientation(draw, floating), 0.5 * since_s, low, high)
    radius = sheet.bound().radius_m
    scale = (config.object_texture[0] * radius, config.object_texture[1] * radius)
    look = draw_texture_of(draw, config.textures, scale, 0.0)
    return sheet.placed(stage.on_ground(world_from_sheet), since_s, look)


def object_parts(draw: Draw, config: WorldConfig, placed: list[Placed]) -> list[Part]:
    """Parts of all rigid pieces, in the order of the object table, which starts at 1."""
    parts: list[Part] = []
    for instance, item in enumerate(rigid_pieces(placed), start=1):
        textures = list(item.looks) or draw_textures(
            draw, item.model, config.object_texture, config.plain_probability, config.textures
        )
        if config.dark_probability > 0.0 and not item.looks and draw.chance(config.dark_probability):
            factor = draw.log_uniform(DARKNESS)
            textures = [Dimmed(texture, factor) for texture in textures]
        gloss, sharpness = 0.0, 1.0
        if config.gloss_probability > 0.0 and draw.chance(config.gloss_probability):
            gloss, sharpness = draw.log_uniform(GLOSS[0]), draw.log_uniform(GLOSS[1])
        parts.extend(item.model.parts(instance, textures, gloss, sharpness))
    return parts


def rigid_pieces(placed: list[Placed]) -> list[Placed]:
    """The pieces of all objects, in order: an object itself, or its members."""
    return [piece for item in placed for piece in (item.members or (item,))]
