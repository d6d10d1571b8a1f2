"""Draws a scene from a seed and renders it: the distribution of worlds the network learns from."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.camera_path import KINDS as CAMERA_KINDS
from pomato_ros.synthetic.camera_path import Handling, draw_camera_path
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.draw import Draw, Range
from pomato_ros.synthetic.enclosure import Enclosure, draw_light, draw_open_ground, draw_room
from pomato_ros.synthetic.models import draw_model, draw_textures
from pomato_ros.synthetic.motion import draw_path
from pomato_ros.synthetic.poses import pose
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.scene import Part, Scene, Sensor, centred_intrinsics
from pomato_ros.synthetic.stage import Placed, Stage, cut, draw_orientation

PLACEMENT_TRIES = 14  # draws of a place before an object is left out
POLITE_TRIES = 9  # of these, how many also refuse to cut into another object or, for a mover, to start hidden
CAMERA_WALL_M = 0.25  # the camera stays this far from floor, walls and ceiling


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """Ranges that scenes are drawn from; pairs are (smallest, largest)."""

    # surroundings
    open_ground_probability: float = 0.2  # else a closed room
    room_size_m: Range = (3.0, 9.0)  # each side
    room_height_m: Range = (2.3, 4.0)
    shell_radius_m: Range = (8.0, 20.0)  # far end of open ground, log-uniform
    # objects at rest
    static_objects: tuple[int, int] = (3, 9)  # how many
    static_size_m: Range = (0.12, 0.9)  # larger half extent, log-uniform
    static_size_limit: float = 0.4  # of the half extent, share of the distance to the camera
    floating_probability: float = 0.2  # objects in mid-air, turned anyhow
    # movers
    mover_probability: float = 0.8  # that a clip has any
    movers: tuple[int, int] = (1, 3)  # how many then
    mover_image_share: Range = (0.015, 0.7)  # of the image that a mover about fills, log-uniform
    mover_size_m: Range = (0.1, 1.3)  # limits of the larger half extent
    mover_speed_m_s: Range = (0.25, 2.0)  # log-uniform
    mover_spin_deg_s: Range = (15.0, 180.0)  # log-uniform
    # looks
    room_texture_m: Range = (0.12, 1.6)  # scale of patterns, log-uniform
    object_texture: Range = (0.12, 0.9)  # scale of patterns, share of the object's radius
    plain_probability: float = 0.12  # surfaces of a single colour
    ambient: Range = (0.3, 0.65)  # share of light from all around
    shadow_probability: float = 0.5
    exposure: Range = (0.75, 1.35)  # gain, log-uniform
    exposure_drift: float = 0.08  # most that the gain changes over a clip
    noise_std: Range = (0.0, 4.0)  # of the 8-bit value
    # camera
    fov_deg: Range = (40.0, 85.0)  # horizontal
    frame_interval_s: Range = (0.033, 0.165)  # log-uniform
    camera_kinds: tuple[float, ...] = (3.0, 3.0, 1.5, 3.0, 0.7)  # odds of dolly, orbit, pan, wander, stand
    camera_height_m: Range = (0.5, 1.9)
    camera_pitch_deg: Range = (-8.0, 30.0)  # downwards; on open ground at least OPEN_PITCH_DEG
    camera_speed_m_s: Range = (0.15, 0.7)  # log-uniform
    camera_turn_deg_s: Range = (6.0, 40.0)  # log-uniform
    shake_m: Range = (0.002, 0.012)  # log-uniform
    shake_deg: Range = (0.1, 0.9)  # log-uniform
    roll_deg: Range = (-6.0, 6.0)
    # difficulty
    motion_scale: float = 1.0  # factor on every speed, of camera and movers: below 1 makes an easier world


TRAIN_WORLD = WorldConfig()
OPEN_PITCH_DEG = 10.0  # keeps most of an open scene's image off the sky


def render_clip(seed: int, config: WorldConfig, frames: int, size_wh: tuple[int, int], supersample: int = 1) -> Clip:
    """Draw the scene of ``seed`` and render it; the same arguments always give the same clip.

    Args:
        seed: the scene's number.
        config: what scenes are drawn from.
        frames: how many frames, at least 1.
        size_wh: image width and height, px. Sizes of the same shape see the same scene.
        supersample: colour samples per pixel along each axis; the truth does not depend on it.
    """
    return render(draw_scene(seed, config, frames, size_wh), supersample)


def draw_scene(seed: int, config: WorldConfig, frames: int, size_wh: tuple[int, int]) -> Scene:
    """The scene of ``seed``; arguments as in :func:`render_clip`.

    Raises:
        ValueError: ``frames`` is below 1.
    """
    if frames < 1:
        raise ValueError(f"a clip needs at least 1 frame, got {frames}")
    draw = Draw(seed)
    fov_deg = draw.uniform(config.fov_deg)
    stamps_ns = _stamps(draw.log_uniform(config.frame_interval_s), frames)
    times_s = config.motion_scale * 1e-9 * torch.tensor(stamps_ns, dtype=torch.float64)
    times_s = times_s - times_s.mean()
    enclosure = _draw_enclosure(draw, config)
    world_from_camera = _draw_camera(draw, config, enclosure, times_s)
    light = draw_light(draw, enclosure, config.ambient, config.shadow_probability)
    half_width = math.tan(math.radians(0.5 * fov_deg))
    stage = Stage(enclosure, world_from_camera, (half_width, half_width * size_wh[1] / size_wh[0]))
    placed = _place_all(draw, config, stage, times_s)
    background = torch.eye(4, dtype=torch.float64).expand(frames, 4, 4)
    return Scene(
        parts=(*enclosure.parts, *_object_parts(draw, config, placed)),
        world_from_object=torch.stack([background, *(item.world_from_object for item in placed)], dim=1),
        world_from_camera=world_from_camera,
        intrinsics=centred_intrinsics(fov_deg, size_wh),
        light=light,
        sensor=_draw_sensor(draw, config, frames),
        stamps_ns=tuple(stamps_ns),
    )


def _stamps(interval_s: float, frames: int) -> list[int]:
    """Evenly spaced integer times."""
    interval_ns = round(1e9 * interval_s)
    return [index * interval_ns for index in range(frames)]


def _draw_enclosure(draw: Draw, config: WorldConfig) -> Enclosure:
    """A room or open ground."""
    if draw.chance(config.open_ground_probability):
        return draw_open_ground(draw, config.shell_radius_m, config.room_texture_m)
    return draw_room(draw, config.room_size_m, config.room_height_m, config.room_texture_m, config.plain_probability)


def _draw_camera(draw: Draw, config: WorldConfig, enclosure: Enclosure, times_s: Tensor) -> Tensor:
    """``world_from_camera`` (t, 4, 4) of a camera that faces the middle of its surroundings, more or less."""
    low, high = enclosure.low + CAMERA_WALL_M, enclosure.high - CAMERA_WALL_M
    start = low + draw.vector(((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))) * (high - low)
    start[2] = min(draw.uniform(config.camera_height_m), float(high[2]))
    centre = 0.5 * (low + high)
    inwards = math.atan2(float(centre[1] - start[1]), float(centre[0] - start[0]))
    yaw = inwards + math.radians(draw.uniform((-50.0, 50.0)))
    pitch = math.radians(draw.uniform(config.camera_pitch_deg if enclosure.indoor else (OPEN_PITCH_DEG, 32.0)))
    distance = draw.uniform((1.5, 4.0))
    gaze = torch.tensor([math.cos(yaw), math.sin(yaw), -math.tan(pitch)], dtype=torch.float64)
    handling = Handling(
        speed_m_s=draw.log_uniform(config.camera_speed_m_s),
        turn_deg_s=draw.log_uniform(config.camera_turn_deg_s),
        shake_m=draw.log_uniform(config.shake_m),
        shake_deg=draw.log_uniform(config.shake_deg),
        roll_deg=draw.uniform(config.roll_deg),
    )
    kind = list(CAMERA_KINDS)[draw.weighted(config.camera_kinds)]
    return draw_camera_path(draw, kind, handling, times_s, start, start + distance * gaze, low, high)


def _place_all(draw: Draw, config: WorldConfig, stage: Stage, times_s: Tensor) -> list[Placed]:
    """All objects of a scene, those at rest first."""
    placed: list[Placed] = []
    for _ in range(draw.integer(config.static_objects)):
        _place_static(draw, config, stage, placed)
    if draw.chance(config.mover_probability):
        for _ in range(draw.integer(config.movers)):
            _place_mover(draw, config, stage, times_s, placed)
    return placed


def _place_static(draw: Draw, config: WorldConfig, stage: Stage, placed: list[Placed]) -> None:
    """Append an object at rest in view of some frame, or give up after a number of tries."""
    for attempt in range(PLACEMENT_TRIES):
        frame = draw.integer((0, len(stage.world_from_camera) - 1))
        item = _draw_static(draw, config, stage, frame)
        rude = attempt >= POLITE_TRIES
        if stage.clear_of_camera(item) and (rude or not any(cut(item, other) for other in placed)):
            placed.append(item)
            return


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
    position, distance = stage.point_in_view(draw, frame)
    size = min(draw.log_uniform(config.static_size_m), config.static_size_limit * distance)
    model = draw_model(draw, max(size, config.static_size_m[0]))
    floating = draw.chance(config.floating_probability)
    low, high = stage.space(model, floating)
    world_from_object = pose(draw_orientation(draw, floating), torch.minimum(torch.maximum(position, low), high))
    return Placed(model, world_from_object.expand(len(stage.world_from_camera), 4, 4))


def _draw_mover(draw: Draw, config: WorldConfig, stage: Stage, times_s: Tensor, frame: int) -> Placed:
    """An object on a path that passes through the view at ``frame``."""
    anchor, distance = stage.point_in_view(draw, frame)
    size = stage.size_for_share(draw.log_uniform(config.mover_image_share), distance)
    model = draw_model(draw, min(max(size, config.mover_size_m[0]), config.mover_size_m[1]))
    floating = draw.chance(config.floating_probability)
    path = draw_path(draw, config.mover_speed_m_s, config.mover_spin_deg_s, floating)
    low, high = stage.space(model, floating)
    anchor = torch.minimum(torch.maximum(anchor, low), high)
    if path.kind == "bounce":
        high[2] = torch.maximum(low[2], stage.enclosure.high[2] - model.radius_m)
    return Placed(model, path.poses(anchor, draw_orientation(draw, floating), times_s - times_s[frame], low, high))


def _object_parts(draw: Draw, config: WorldConfig, placed: list[Placed]) -> list[Part]:
    """Parts of all objects, in the order of the object table, which starts at 1."""
    parts: list[Part] = []
    for instance, item in enumerate(placed, start=1):
        textures = draw_textures(draw, item.model, config.object_texture, config.plain_probability)
        parts.extend(item.model.parts(instance, textures))
    return parts


def _draw_sensor(draw: Draw, config: WorldConfig, frames: int) -> Sensor:
    """Exposure and noise."""
    drift = torch.linspace(-0.5, 0.5, frames) * draw.uniform((-config.exposure_drift, config.exposure_drift))
    return Sensor(
        exposure=draw.log_uniform(config.exposure) * (1.0 + drift),
        noise_std=draw.uniform(config.noise_std),
        noise_seed=draw.integer((0, 2**31 - 1)),
    )
