"""The worlds that scenes are drawn from, by name: one to train on, a richer one, and three that training never uses."""

import dataclasses
from dataclasses import dataclass

from pomato_ros.synthetic.draw import Range
from pomato_ros.synthetic.model_kinds import KEPT_BACK_KINDS, RICH_KINDS
from pomato_ros.synthetic.texture_kinds import KEPT_BACK_TEXTURES, RICH_TEXTURES


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

    # Richer worlds. Every default below leaves its feature out and draws nothing: scenes of the plain world stay as
    # they are, seed by seed.
    models: tuple[str, ...] = ()  # kinds of objects, names of MODEL_KINDS; none for the plain world's
    textures: tuple[str, ...] = ()  # kinds of textures, names of TEXTURE_KINDS; none for the plain world's
    crowding: float = 0.0  # probability that an object at rest may run into others
    static_distance: Range | None = (
        None  # share of the way to the enclosure's end, log-uniform; None: even, 0.3 to 0.98
    )
    mover_distance: Range | None = None  # the same of movers
    mover_spread: float = 1.0  # how far from the middle of the image movers pass
    outdoor_half_size_m: Range | None = None  # where things happen on open ground, log-uniform; None: 4 m
    relief_probability: float = 0.0  # of open ground that has hills
    relief_m: Range = (0.05, 0.06)  # depth of relief, share of the half size
    street_probability: float = 0.0  # houses, kerbs, cars and people along a street
    walker_probability: float = 0.0  # of movers that walk on jointed legs
    sheet_probability: float = 0.0  # of movers that are bending sheets
    visit_probability: float = 0.0  # of movers that sweep across the view, leave it and come back
    pause_probability: float = 0.0  # of movers that start or stop within the clip
    moving_share_least: float = 0.0  # of the image, mean over the clip's frames: scenes below it are drawn again
    gloss_probability: float = 0.0  # of objects with highlights
    dark_probability: float = 0.0  # of objects that are nearly black
    lamps: tuple[int, int] = (0, 0)  # point lights that move, beside the light
    exposure_step_probability: float = 0.0  # of a sudden change of gain
    exposure_step: Range = (0.5, 2.0)  # factor of the gain, log-uniform
    vignette: Range | None = None  # loss of light in the corners, share
    blur_probability: float = 0.0  # of motion blur
    blur_samples: int = 5  # renders per frame, odd; the middle one is at the stamp
    shutter: Range = (0.15, 0.8)  # time the shutter is open, share of the frame interval
    rolling_shutter_probability: float = 0.0  # of rows that are exposed one after the other
    rolling_samples: int = 17  # looks that the rows are taken from, odd; the middle one is at the stamp
    readout: Range = (0.1, 0.5)  # time from the first row to the last, share of the frame interval
    jpeg_probability: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 95)
    fast_speed_m_s: Range = (1.0, 12.0)  # of drive and drone, log-uniform
    drone_height_m: Range = (2.0, 12.0)  # at the start, as far as the enclosure allows
    movers_first: bool = False  # movers find their places before objects at rest
    only_what_meets: bool = False  # skip rays that pass a shape by; faster, and the same but for rounding


TRAIN_WORLD = WorldConfig()
RICH_WORLD = WorldConfig(
    open_ground_probability=0.4,
    room_size_m=(2.5, 18.0),
    room_height_m=(2.2, 7.0),
    shell_radius_m=(30.0, 120.0),
    static_objects=(10, 24),
    static_size_m=(0.03, 4.0),
    static_size_limit=0.45,
    mover_probability=0.95,
    movers=(1, 5),
    mover_image_share=(0.02, 0.9),
    mover_size_m=(0.06, 3.0),
    mover_speed_m_s=(0.15, 5.0),
    mover_spin_deg_s=(10.0, 250.0),
    room_texture_m=(0.06, 3.0),
    object_texture=(0.06, 1.2),
    plain_probability=0.15,
    ambient=(0.2, 0.7),
    shadow_probability=0.5,
    exposure=(0.6, 1.6),
    exposure_drift=0.25,
    noise_std=(0.0, 8.0),
    fov_deg=(35.0, 100.0),
    frame_interval_s=(0.025, 0.25),
    camera_kinds=(3.0, 2.0, 1.5, 2.5, 0.8, 2.0, 2.0),
    camera_speed_m_s=(0.1, 1.5),
    camera_turn_deg_s=(4.0, 60.0),
    shake_m=(0.001, 0.02),
    shake_deg=(0.05, 1.5),
    roll_deg=(-12.0, 12.0),
    models=RICH_KINDS,
    textures=RICH_TEXTURES,
    crowding=0.3,
    static_distance=(0.12, 0.98),
    mover_distance=(0.12, 0.9),
    mover_spread=0.85,
    outdoor_half_size_m=(4.0, 28.0),
    relief_probability=0.6,
    relief_m=(0.02, 0.12),
    walker_probability=0.25,
    sheet_probability=0.12,
    visit_probability=0.15,
    pause_probability=0.3,
    gloss_probability=0.2,
    dark_probability=0.08,
    lamps=(0, 2),
    exposure_step_probability=0.1,
    vignette=(0.0, 0.5),
    blur_probability=0.2,
    rolling_shutter_probability=0.2,
    jpeg_probability=0.5,
    movers_first=True,
    only_what_meets=True,
)
LOOKS_WORLD = dataclasses.replace(
    RICH_WORLD,
    models=KEPT_BACK_KINDS,
    textures=KEPT_BACK_TEXTURES,
    walker_probability=0.0,
    plain_probability=0.05,
    rolling_shutter_probability=0.0,  # scores were made before there was any
)
DRIVING_WORLD = dataclasses.replace(
    RICH_WORLD,
    street_probability=1.0,
    mover_probability=1.0,
    movers=(3, 6),
    shell_radius_m=(90.0, 140.0),
    fov_deg=(45.0, 90.0),
    frame_interval_s=(0.05, 0.12),
    roll_deg=(-1.5, 1.5),
    shake_m=(0.001, 0.006),
    shake_deg=(0.03, 0.3),
    camera_turn_deg_s=(0.3, 5.0),
    fast_speed_m_s=(2.0, 14.0),
    exposure=(0.7, 1.3),
)
MAJORITY_WORLD = dataclasses.replace(
    RICH_WORLD,
    open_ground_probability=0.25,
    static_objects=(6, 14),
    mover_probability=1.0,
    movers=(2, 5),
    mover_image_share=(0.3, 1.2),
    mover_size_m=(0.2, 5.0),
    mover_distance=(0.25, 0.8),
    mover_spread=0.5,
    visit_probability=0.0,
    moving_share_least=0.5,
    rolling_shutter_probability=0.0,  # as in LOOKS_WORLD
)
WORLDS: dict[str, WorldConfig] = {
    "train": TRAIN_WORLD,
    "rich": RICH_WORLD,
    "looks": LOOKS_WORLD,
    "driving": DRIVING_WORLD,
    "majority": MAJORITY_WORLD,
}
