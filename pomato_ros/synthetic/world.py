"""Draws a scene from a seed and renders it."""

import math

import torch
from torch import Tensor

from pomato_ros.synthetic.camera_path import KINDS as CAMERA_KINDS
from pomato_ros.synthetic.camera_path import Handling, draw_camera_path
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.enclosure import Enclosure, draw_light, draw_open_ground, draw_room
from pomato_ros.synthetic.placing import object_parts, place_all, rigid_pieces
from pomato_ros.synthetic.renderer import instances, render
from pomato_ros.synthetic.scene import Blur, Lamp, Rolling, Scene, Sensor, centred_intrinsics
from pomato_ros.synthetic.stage import Placed, Stage, lifted
from pomato_ros.synthetic.street import Street, camera_space, draw_street, furnish
from pomato_ros.synthetic.world_config import (
    DRIVING_WORLD,
    LOOKS_WORLD,
    MAJORITY_WORLD,
    RICH_WORLD,
    TRAIN_WORLD,
    WORLDS,
    WorldConfig,
)

__all__ = [
    "DRIVING_WORLD",
    "LOOKS_WORLD",
    "MAJORITY_WORLD",
    "RICH_WORLD",
    "TRAIN_WORLD",
    "WORLDS",
    "WorldConfig",
    "draw_scene",
    "moving_share",
    "render_clip",
]

CAMERA_WALL_M = 0.25  # the camera stays this far from floor, walls and ceiling
OPEN_PITCH_DEG = 10.0  # keeps most of an open scene's image off the sky
DRIVE_PITCH_DEG = (-2.0, 10.0)
STREET_YAW_DEG = (-8.0, 8.0)  # off the street's direction
SCENE_TRIES = 24  # draws of a scene in which enough moves; then the one with the most is taken
SEED_QUARTER_BITS = 30  # see HELD_OUT_SEED of pomato_ros.training.config; torch reads 32 bits of a seed
SEED_STEP = 0x1E3779B1  # odd, so that tries do not meet
SURVEY_WIDTH_PX = 24  # of the small picture that tells how much moves
LAMP_SPEED_M_S = (0.0, 3.0)


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
    scene = _draw_scene(Draw(seed), config, frames, size_wh)
    if config.moving_share_least <= 0.0 or frames == 1:
        return scene
    most = moving_share(scene)
    for attempt in range(1, SCENE_TRIES):
        if most >= config.moving_share_least:
            break
        other = _draw_scene(Draw(another_seed(seed, attempt)), config, frames, size_wh)
        share = moving_share(other)
        if share > most:
            scene, most = other, share
    return scene


def another_seed(seed: int, attempt: int) -> int:
    """The seed of another try at a scene, in the same quarter of the seeds: held-out scenes stay held out."""
    within = (1 << SEED_QUARTER_BITS) - 1
    return (seed & ~within) | ((seed + attempt * SEED_STEP) & within)


def moving_share(scene: Scene) -> float:
    """Share of the image that moves to a neighbouring frame, mean over ``scene``'s first, middle and last frame."""
    last = len(scene.stamps_ns) - 1
    chosen = sorted({0, last // 2, last})
    width, height = scene.intrinsics.width_px, scene.intrinsics.height_px
    fov_deg = math.degrees(2.0 * math.atan(0.5 * width / scene.intrinsics.fx_px))
    seen = instances(
        scene.at(chosen), centred_intrinsics(fov_deg, (SURVEY_WIDTH_PX, SURVEY_WIDTH_PX * height // width))
    )
    shares = []
    for row, frame in enumerate(chosen):
        neighbours = [other for other in (frame - 1, frame + 1) if 0 <= other <= last]
        poses = scene.world_from_object
        moved = torch.stack([(poses[frame] != poses[other]).flatten(1).any(1) for other in neighbours]).any(0)
        shares.append(float(moved[seen[row].long()].double().mean()))
    return sum(shares) / len(shares)


def _draw_scene(draw: Draw, config: WorldConfig, frames: int, size_wh: tuple[int, int]) -> Scene:
    """One scene from the sequence of ``draw``."""
    fov_deg = draw.uniform(config.fov_deg)
    interval_s = draw.log_uniform(config.frame_interval_s)
    stamps_ns = _stamps(interval_s, frames)
    times_s = config.motion_scale * 1e-9 * torch.tensor(stamps_ns, dtype=torch.float64)
    times_s = times_s - times_s.mean()
    offsets_s, rolling = _shutter_offsets(draw, config, interval_s)
    offsets_s = config.motion_scale * offsets_s
    looks = len(offsets_s)  # poses per frame
    times_s = (times_s[:, None] + offsets_s).flatten()
    street = (
        draw_street(draw, config)
        if config.street_probability > 0.0 and draw.chance(config.street_probability)
        else None
    )
    enclosure = _draw_enclosure(draw, config) if street is None else street.enclosure
    if street is None:
        world_from_camera = _draw_camera(draw, config, enclosure, times_s)
    else:
        world_from_camera = _draw_driver(draw, config, street, times_s)
    light = draw_light(draw, enclosure, config.ambient, config.shadow_probability)
    half_width = math.tan(math.radians(0.5 * fov_deg))
    stage = Stage(enclosure, world_from_camera, (half_width, half_width * size_wh[1] / size_wh[0]))
    if street is None:
        placed = place_all(draw, config, stage, times_s)
    else:
        placed = furnish(draw, config, street, stage, times_s)
    world_from_object = _object_table(placed, len(times_s))
    own = slice(looks // 2, None, looks)  # the pose of each frame's stamp among its poses
    return Scene(
        parts=(*enclosure.parts, *object_parts(draw, config, placed)),
        world_from_object=world_from_object[own],
        world_from_camera=world_from_camera[own],
        intrinsics=centred_intrinsics(fov_deg, size_wh),
        light=light,
        sensor=_draw_sensor(draw, config, frames),
        stamps_ns=tuple(stamps_ns),
        lamps=_draw_lamps(draw, config, enclosure, times_s[own]),
        blur=None
        if looks == 1
        else Blur(
            world_from_object.unflatten(0, (frames, looks)),
            world_from_camera.unflatten(0, (frames, looks)),
            rolling,
        ),
        only_what_meets=config.only_what_meets,
    )


def _stamps(interval_s: float, frames: int) -> list[int]:
    """Evenly spaced integer times."""
    interval_ns = round(1e9 * interval_s)
    return [index * interval_ns for index in range(frames)]


def _shutter_offsets(draw: Draw, config: WorldConfig, interval_s: float) -> tuple[Tensor, Rolling | None]:
    """Times (k,) relative to a stamp at which a frame is looked at, in seconds, the middle one zero; how rows roll."""
    offsets = torch.zeros(1, dtype=torch.float64)
    if config.blur_probability > 0.0 and draw.chance(config.blur_probability):
        offsets = _spread(config.blur_samples, draw.uniform(config.shutter) * interval_s)
    if config.rolling_shutter_probability <= 0.0 or not draw.chance(config.rolling_shutter_probability):
        return offsets, None
    readout_s = draw.uniform(config.readout) * interval_s
    looks = _spread(config.rolling_samples, readout_s + float(offsets[-1] - offsets[0]))
    return looks, Rolling(tuple(looks.tolist()), tuple(offsets.tolist()), readout_s)


def _spread(samples: int, duration_s: float) -> Tensor:
    """An odd number, at least ``samples``, of even times from -1/2 to 1/2 of ``duration_s``; the middle one is zero."""
    count = samples + 1 - samples % 2
    times = torch.linspace(-0.5, 0.5, count, dtype=torch.float64) * duration_s
    times[count // 2] = 0.0
    return times


def _draw_enclosure(draw: Draw, config: WorldConfig) -> Enclosure:
    """A room or open ground."""
    if draw.chance(config.open_ground_probability):
        relief = config.relief_probability, config.relief_m
        return draw_open_ground(
            draw,
            config.shell_radius_m,
            config.room_texture_m,
            config.textures,
            config.outdoor_half_size_m,
            relief,
        )
    return draw_room(
        draw,
        config.room_size_m,
        config.room_height_m,
        config.room_texture_m,
        config.plain_probability,
        config.textures,
    )


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
    speed = draw.log_uniform(config.camera_speed_m_s)
    turn, shake = draw.log_uniform(config.camera_turn_deg_s), draw.log_uniform(config.shake_m)
    shake_deg, roll = draw.log_uniform(config.shake_deg), draw.uniform(config.roll_deg)
    kind = list(CAMERA_KINDS)[draw.weighted(config.camera_kinds)]
    if kind in ("drive", "drone"):
        room = float((high - low)[:2].amin())
        speed = min(draw.log_uniform(config.fast_speed_m_s), 0.8 * room)
    if kind == "drive":
        pitch = math.radians(draw.uniform(DRIVE_PITCH_DEG))
    if kind == "drone":
        start[2] = min(draw.uniform(config.drone_height_m), float(high[2]))
        distance = draw.uniform((1.5, 4.0)) * max(1.0, 0.5 * float(start[2]))
    gaze = torch.tensor([math.cos(yaw), math.sin(yaw), -math.tan(pitch)], dtype=torch.float64)
    handling = Handling(speed, turn, shake, shake_deg, roll)
    path = draw_camera_path(draw, kind, handling, times_s, start, start + distance * gaze, low, high)
    return lifted(path, enclosure.relief)


def _draw_driver(draw: Draw, config: WorldConfig, street: Street, times_s: Tensor) -> Tensor:
    """``world_from_camera`` (t, 4, 4) of a car in its lane, or of somebody who stands or walks at the road."""
    low, high = camera_space(street)
    start = torch.tensor([0.0, 0.5 * street.road_m * street.side, draw.uniform((1.1, 2.0))], dtype=torch.float64)
    yaw = math.radians(draw.uniform(STREET_YAW_DEG))
    gaze = torch.tensor([math.cos(yaw), math.sin(yaw), -math.tan(math.radians(draw.uniform((-1.0, 8.0))))])
    kind = "drive" if draw.chance(0.8) else draw.choice(("stand", "pan", "dolly"))
    handling = Handling(
        speed_m_s=draw.log_uniform(config.fast_speed_m_s if kind == "drive" else config.camera_speed_m_s),
        turn_deg_s=draw.log_uniform(config.camera_turn_deg_s),
        shake_m=draw.log_uniform(config.shake_m),
        shake_deg=draw.log_uniform(config.shake_deg),
        roll_deg=draw.uniform(config.roll_deg),
    )
    start[0] = 0.5 * handling.speed_m_s * float(times_s[-1] - times_s[0]) if kind == "drive" else 2.0
    start[0] = min(float(start[0]), 0.45 * street.end_m)
    return draw_camera_path(draw, kind, handling, times_s, start, start + 10.0 * gaze.double(), low, high)


def _object_table(placed: list[Placed], poses: int) -> Tensor:
    """``world_from_object`` (t, n, 4, 4) of the background and all rigid pieces."""
    background = torch.eye(4, dtype=torch.float64).expand(poses, 4, 4)
    return torch.stack([background, *(item.world_from_object for item in rigid_pieces(placed))], dim=1)


def _draw_sensor(draw: Draw, config: WorldConfig, frames: int) -> Sensor:
    """Exposure, noise, loss of light in the corners, compression."""
    drift = torch.linspace(-0.5, 0.5, frames) * draw.uniform((-config.exposure_drift, config.exposure_drift))
    exposure = draw.log_uniform(config.exposure) * (1.0 + drift)
    noise_std, noise_seed = draw.uniform(config.noise_std), draw.integer((0, 2**31 - 1))
    if config.exposure_step_probability > 0.0 and draw.chance(config.exposure_step_probability):
        exposure[draw.integer((0, frames - 1)) :] *= draw.log_uniform(config.exposure_step)
    vignette = 0.0 if config.vignette is None else draw.uniform(config.vignette)
    jpeg = config.jpeg_probability > 0.0 and draw.chance(config.jpeg_probability)
    return Sensor(exposure, noise_std, noise_seed, vignette, draw.integer(config.jpeg_quality) if jpeg else None)


def _draw_lamps(draw: Draw, config: WorldConfig, enclosure: Enclosure, times_s: Tensor) -> tuple[Lamp, ...]:
    """Point lights that go straight on through the enclosure, and rest at its walls."""
    if config.lamps[1] == 0:
        return ()
    lamps = []
    for _ in range(draw.integer(config.lamps)):
        size = enclosure.high - enclosure.low
        start = enclosure.low + draw.vector(((0.1, 0.9), (0.1, 0.9), (0.2, 0.8))) * size
        velocity = draw.direction() * draw.uniform(LAMP_SPEED_M_S)
        margin = 0.05 * size
        way = start + times_s[:, None] * velocity
        way = torch.minimum(torch.maximum(way, enclosure.low + margin), enclosure.high - margin)
        rgb = torch.tensor([1.0, draw.uniform((0.5, 1.0)), draw.uniform((0.2, 1.0))]) * draw.uniform((0.3, 1.2))
        reach = draw.uniform((0.2, 0.6)) * float(size[:2].amin())
        lamps.append(Lamp(way, rgb, reach, draw.chance(config.shadow_probability)))
    return tuple(lamps)
