"""Every default of the package, once, with its unit and its allowed range.

Command lines, ROS parameters, ``config/pomato.yaml`` and the documentation tables are all derived from the
dataclasses below; no other module may repeat a default.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pomato_ros.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """Documentation and limits of one option."""

    name: str
    group: str
    default: Any
    description: str
    unit: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    dynamic: bool


def option(
    default: Any,
    description: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """A dataclass field that carries its own documentation and limits."""
    metadata = {
        "description": description,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "dynamic": dynamic,
    }
    return field(default=default, metadata=metadata)


# ---------------------------------------------------------------------------------------------------------------------
# The network's shape


ARCHITECTURES = ("pomato", "mast3r", "d2ust3r", "flow4r")
# More than any network of the family has: a file that asks for more would be built for ever.
MOST_LAYERS, MOST_FRAMES, MOST_CHANNELS = 256, 1024, 16384
MOST: Mapping[str, int] = {"enc_depth": MOST_LAYERS, "dec_depth": MOST_LAYERS, "temporal_length": MOST_FRAMES}
LARGEST_NUMBER = 1e9  # of what is no size: the base of the rotary positions, for one
SIZE_CHOICES: Mapping[str, tuple[str, ...]] = {"architecture": ARCHITECTURES, "head_type": ("dpt", "linear")}


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of one network of the DUSt3R family. The defaults are the published full-size pairwise POMATO.

    ``architecture``: whose heads it has, one of :data:`ARCHITECTURES`.
    ``head_type``: Flow4R's ``dpt`` or ``linear``; all others have dpt.
    ``desc_dim``, ``desc_hidden_dim``: MASt3R's descriptors and the hidden layer that makes them (0: four times its
    input's width). ``two_confs``: descriptors have a confidence of their own, ``desc_conf_min + exp(x)``.
    ``mask_heads``, ``flow_head``: D²USt3R's heads beyond its pointmaps, not in the released weights.

    ``temporal_length`` is the longest window the motion modules accept; 0 means a pairwise network without them.
    ``position_code`` is how large a fixed code of its place is added to each patch's token. Official networks have
    none (0): their rotary attention sees places, but what it hands on does not tell them. With it a small network's
    tokens learn to tell where they are; whether that makes it compare views better is open (dev/LOG.md).
    ``relative_values``: cross-attention hands on how far away it found what it found, see ``CrossAttention``; not in
    official networks.
    """

    architecture: str = "pomato"
    enc_embed_dim: int = 1024
    enc_depth: int = 24
    enc_num_heads: int = 16
    dec_embed_dim: int = 768
    dec_depth: int = 12
    dec_num_heads: int = 12
    patch_size: int = 16
    mlp_ratio: int = 4
    rope_base: float = 100.0
    position_code: float = 0.0
    relative_values: bool = False
    dpt_layer_dims: tuple[int, int, int, int] = (96, 192, 384, 768)
    dpt_feature_dim: int = 256
    dpt_last_dim: int = 128
    temporal_length: int = 0
    temporal_num_heads: int = 8
    group_norm_groups: int = 32
    head_type: str = "dpt"
    desc_dim: int = 24
    desc_hidden_dim: int = 0
    two_confs: bool = True
    desc_conf_min: float = 0.0
    mask_heads: bool = False
    flow_head: bool = False

    def __post_init__(self) -> None:
        """Reject sizes no network can be built from."""
        for item in dataclasses.fields(self):
            check_size(item.name, getattr(self, item.name))
        if self.temporal_length and self.architecture != "pomato":
            raise ConfigError(f"temporal_length must be 0 in a {self.architecture} network: only POMATO sees windows")
        if self.head_type == "linear" and self.architecture != "flow4r":
            raise ConfigError(f"head_type linear is Flow4R's; a {self.architecture} network has dpt")
        if self.patch_size != 16:
            raise ConfigError(f"patch_size must be 16 (the head enlarges its tokens 16 times), got {self.patch_size}")
        for dim, count, what in (
            (self.enc_embed_dim, self.enc_num_heads, "enc"),
            (self.dec_embed_dim, self.dec_num_heads, "dec"),
        ):
            if dim % count or (dim // count) % 4:
                raise ConfigError(
                    f"{what}_embed_dim {dim} over {what}_num_heads {count} must give a head size divisible by 4 "
                    "(rotary positions split it in four); choose other sizes"
                )
        if self.dec_depth < 4:
            raise ConfigError(
                f"dec_depth must be at least 4 (the head reads four distinct depths), got {self.dec_depth}"
            )
        parts = (self.temporal_num_heads, self.group_norm_groups, 2)
        for dim in (self.dec_embed_dim, self.dpt_feature_dim) if self.temporal_length else ():
            if any(dim % part for part in parts):
                raise ConfigError(
                    f"motion modules of {dim} channels need an even number that temporal_num_heads {parts[0]} and "
                    f"group_norm_groups {parts[1]} divide; choose other sizes"
                )

    @property
    def hooks(self) -> tuple[int, int, int, int]:
        """Decoder depths that the heads read; 0 is the encoder's output."""
        depth = self.dec_depth
        return (0, depth // 2, 3 * depth // 4, depth)

    @classmethod
    def from_json(cls, text: str) -> "NetworkConfig":
        """Rebuild a config from the JSON stored beside weights; unknown names are an error."""
        return build_dataclass(cls, json.loads(text), "network config")

    def to_json(self) -> str:
        """The config as the JSON stored beside weights."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def check_size(name: str, value: Any) -> None:
    """Raise :class:`ConfigError` unless ``value`` is of the kind that this entry of a network's config must be."""
    if name in SIZE_CHOICES:
        if value not in SIZE_CHOICES[name]:
            raise ConfigError(f"{name} must be one of {', '.join(SIZE_CHOICES[name])}, got {value!r}")
        return
    if name in ("rope_base", "position_code", "desc_conf_min"):
        number = not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= LARGEST_NUMBER
        if not number or (name == "rope_base" and value == 0):
            what = "a positive number" if name == "rope_base" else "a number of at least 0"
            raise ConfigError(f"{name} must be {what}, got {value!r} (at most {LARGEST_NUMBER:g})")
        return
    if name in ("relative_values", "two_confs", "mask_heads", "flow_head"):
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false, got {value!r}")
        return
    values = value if name == "dpt_layer_dims" else (value,)
    least = 0 if name in ("temporal_length", "desc_hidden_dim") else 1
    most = MOST.get(name, MOST_CHANNELS)
    whole = isinstance(values, tuple) and all(type(number) is int and least <= number <= most for number in values)
    if not whole or (name == "dpt_layer_dims" and len(values) != 4):
        what = "four whole numbers" if name == "dpt_layer_dims" else "a whole number"
        raise ConfigError(f"{name} must be {what} of at least {least}, got {value!r} (at most {most})")


FULL_PAIRWISE = NetworkConfig()
FULL_TEMPORAL = NetworkConfig(temporal_length=12)
FULL_MAST3R = NetworkConfig(architecture="mast3r")
FULL_D2UST3R = NetworkConfig(architecture="d2ust3r")
FULL_FLOW4R = NetworkConfig(architecture="flow4r")
NANO = NetworkConfig(
    enc_embed_dim=160,
    enc_depth=5,
    enc_num_heads=5,
    dec_embed_dim=128,
    dec_depth=4,
    dec_num_heads=4,
    position_code=0.5,
    relative_values=True,
    dpt_layer_dims=(32, 48, 64, 96),
    dpt_feature_dim=48,
    dpt_last_dim=24,
    temporal_length=12,
    group_norm_groups=16,
)
TINY = NetworkConfig(
    enc_embed_dim=192,
    enc_depth=8,
    enc_num_heads=6,
    dec_embed_dim=160,
    dec_depth=6,
    dec_num_heads=5,
    position_code=0.5,
    relative_values=True,
    dpt_layer_dims=(32, 48, 64, 96),
    dpt_feature_dim=64,
    dpt_last_dim=32,
    temporal_length=12,
    group_norm_groups=16,
)
NETWORK_PRESETS: Mapping[str, NetworkConfig] = {
    "nano": NANO,
    "tiny": TINY,
    "full": FULL_TEMPORAL,
    "full_pairwise": FULL_PAIRWISE,
    "full_mast3r": FULL_MAST3R,
    "full_d2ust3r": FULL_D2UST3R,
    "full_flow4r": FULL_FLOW4R,
    **{
        f"nano_{architecture}": dataclasses.replace(NANO, temporal_length=0, architecture=architecture)
        for architecture in ("mast3r", "d2ust3r", "flow4r")
    },
}


# ---------------------------------------------------------------------------------------------------------------------
# Scene layer: standard deviations and gates


@dataclass(frozen=True, slots=True)
class FlowPreset:
    """Settings of DIS optical flow (Kroeger et al. 2016) and its error model, px of the image that flow is found in.

    Each coordinate's variance is ``base^2 + (a r)^2 + (b s)^2 + t^2 / (l + 1)``: r the forward-backward residual, s the
    standard deviation of flow among neighbours, l the smaller eigenvalue of the structure tensor (grey levels^2 a
    pixel^2). The factors are a maximum-likelihood fit (Student-t, 2 degrees of freedom) to flow on 15 rendered clips of
    320x240 at gaps 1, 2, 4 and 8.
    """

    finest_scale: int  # pyramid level at which flow ends; each level halves the image
    patch_stride_px: int
    descent_iterations: int
    refinement_iterations: int
    base_px: float
    residual_factor: float  # a
    spread_factor: float  # b
    texture_px: float  # t


FLOW_PRESETS: Mapping[str, FlowPreset] = {
    "fast": FlowPreset(2, 4, 16, 5, base_px=0.085, residual_factor=1.14, spread_factor=2.16, texture_px=0.0),
    "medium": FlowPreset(1, 4, 8, 5, base_px=0.031, residual_factor=1.02, spread_factor=0.98, texture_px=0.1),
}


@dataclass(frozen=True, slots=True)
class FlowTuning:
    """How dense optical flow is found and checked."""

    preset: str = option(
        "medium",
        "quality of flow: medium takes about three times the time of fast; within 1 px at gap 4: 46 % against 41 %, on "
        "movers 27 % against 11 %",
        choices=tuple(FLOW_PRESETS),
    )
    max_gap: int = option(8, "most frames back", unit="frames", minimum=1, maximum=64)
    max_side_px: int = option(
        600, "images with a longer side are halved until it is not", unit="px", minimum=64, maximum=8192
    )
    residual_gate_px: float = option(
        1.0,
        "forward-backward residual up to which a match counts as visible; 98.8 % of those are, on rendered clips",
        unit="px",
        minimum=0.0,
    )


@dataclass(frozen=True, slots=True)
class TwoViewTuning:
    """How a relative pose is found from flow alone, or refined by it."""

    inlier_gate: float = option(3.0, "standard deviations at which a match has a quarter of its weight", minimum=0.1)
    least_threshold_px: float = option(0.3, "distance of inliers of random sampling, at least", unit="px", minimum=0.0)
    samples: int = option(200, "most random samples", minimum=1)
    homography_preference: float = option(
        0.6,
        "a homography is taken if it explains this share of what an essential matrix explains; 0.5 by theory",
        minimum=0.0,
        maximum=1.0,
    )
    rotation_rad: float = option(0.005, "standard deviation of a sampled rotation", unit="rad", minimum=0.0)
    direction: float = option(0.05, "standard deviation of each coordinate of a sampled direction", minimum=0.0)
    steps: int = option(4, "Gauss-Newton steps", minimum=1)
    correlated: float = option(10.0, "neighbouring matches that err as one", minimum=1.0)


@dataclass(frozen=True, slots=True)
class MotionTuning:
    """When a pixel moves. Chosen on rendered clips of four worlds and three DAVIS clips together.

    Pixels and sizes are those of the grid that residuals are computed on.
    """

    gaps: tuple[int, ...] = (1, 2, 4, 8)  # frames back that are compared, in turn
    gaps_per_step: int = option(1, "gaps compared in a step", minimum=1)
    work_side_px: int = option(200, "long side of the grid of residuals, at most", unit="px", minimum=16)
    motion_px: float = option(6.0, "standard deviation of the residuals of what moves", unit="px", minimum=0.1)
    least_sigma_px: float = option(
        0.25, "standard deviation of flow that its own does not contain", unit="px", minimum=0.0
    )
    most_rest: float = option(0.5, "log-odds for rest that a comparison gives, at most", minimum=0.0)
    most_motion: float = option(2.0, "log-odds for motion that a comparison gives, at most", minimum=0.0)
    texture_levels: float = option(
        4.0, "brightness gradient from which flow is evidence of rest", unit="grey levels/px", minimum=0.1
    )
    gate_levels: float = option(
        7.0,
        "difference of brightness by which a match must be better than rest to be full evidence",
        unit="grey levels",
        minimum=0.1,
    )
    halo_px: int = option(9, "window about a jump in depth where flow may be of either side", unit="px", minimum=1)
    depth_floor: float = option(0.01, "standard deviation of compared depths, share of the depth", minimum=0.0)
    depth_gate: float = option(
        3.0, "standard deviations that a surface lies in free space to be evidence of motion", minimum=0.0
    )
    rest_depth: float = option(0.1, "log-odds for rest where depth was the same before", minimum=0.0)
    spread_gate: float = option(
        0.3, "relative difference of depth in the window beside which depths are not compared", minimum=0.0
    )
    hidden: float = option(0.15, "relative difference of depth from which something hid a point", minimum=0.0)
    photo_levels: float = option(
        8.0, "difference of brightness at rest that is no evidence of motion yet", unit="grey levels", minimum=0.1
    )
    most_photo: float = option(1.0, "log-odds that brightness alone gives, at most", minimum=0.0)
    retention: float = option(0.8, "share of the log-odds that a frame passes on", minimum=0.0, maximum=1.0)
    retention_hidden: float = option(0.4, "the same where flow does not find the pixel again", minimum=0.0, maximum=1.0)
    most_log_odds: float = option(4.0, "log-odds kept, at most", minimum=0.0)
    segment_levels: float = option(20.0, "brightness step that bounds a segment", unit="grey levels", minimum=0.0)
    segment_depth: float = option(0.06, "relative step of depth that bounds a segment", minimum=0.0)
    segment_share: float = option(0.3, "share of a segment that must be known to complete it", minimum=0.0)
    edge_radius_px: int = option(3, "radius of the guided filter", unit="px", minimum=1)
    edge_levels: float = option(8.0, "brightness step that the guided filter keeps", unit="grey levels", minimum=0.1)
    begin: float = option(1.2, "log-odds, averaged over seed_side, at which a region begins")
    go_on: float = option(0.4, "log-odds at which a region ends")
    seed_side: float = option(0.03, "side of the window of begin, share of the image's width", minimum=0.0)
    least_share: float = option(0.0008, "share of the image that a region has, at least", minimum=0.0)
    fit_stride_px: int = option(3, "grid of the matches that a pose is refined on", unit="px", minimum=1)


# ---------------------------------------------------------------------------------------------------------------------
# Tuning of the estimator: standard deviations and gates. Pixels are those of an image 640 px wide and scale with it,
# unless said otherwise; where a value comes from stands beside it. These are not options: what a user may wish to set
# is in the groups below.

TUNED_WIDTH_PX = 640.0


@dataclass(frozen=True, slots=True)
class OdometryTuning:
    """Camera odometry on keyframes."""

    keyframe_landmarks: int = 300  # wanted in view; more cost time and add little (pose std falls as 1 / sqrt n)
    keyframe_inliers: int = 100  # fewer in view, and a keyframe is due
    keyframe_overlap: float = 0.7  # share of the cells occupied at the last keyframe that are still so, at least
    max_keyframes: int = 40  # 0.3 MB each at 640x480; a room seen all around takes about 20
    measured_keyframes: int = 5  # in which landmarks are searched in one frame: bounds the time
    coarse_landmarks: int = 120  # followed from the last image
    spacing_px: float = 14.0  # between landmarks
    patch_px: int = 11  # side of a compared patch, pixels of the image as it is; wider ones straddle two surfaces
    edge_px: int = 2  # a landmark keeps this distance from jumps of depth, pixels of the image as it is
    image_noise: float = 6.0  # grey levels std of a patch seen from elsewhere: sensor noise, light, resampling
    pixel_std: float = 0.25  # px of a patch aligned well, beyond that of its texture
    coarse_pixel_std: float = 1.0  # px of one followed from the last image
    correlation: float = 0.75  # least normalised cross-correlation with the keyframe's patch
    most_area_change: float = 4.0  # of a patch, between keyframe and frame
    coarse_gate: float = 10.0  # standard deviations of the first round's robust kernel
    middle_gate: float = 5.0
    gate: float = 3.5  # of inliers: 99.3 % of chi-square with 3 degrees of freedom
    ransac_gate_px: float = 6.0
    least_inliers: int = 15  # landmarks that a pose needs,
    least_inlier_ratio: float = 0.2  # and share of those that were measured
    surface_power: float = 1.0  # weight of a landmark by its depth; its surface grows with the square of it
    most_surface: float = 4.0  # bound of that weight
    rival_share: float = 0.25  # of the landmarks must be outliers for a rival motion to be looked for,
    rival_surface: float = 1.05  # which must cover so many times the surface,
    rival_noise: float = 4.0  # at a noise level of at most so much
    rival_far_share: float = 0.6  # of the best rival's outliers beyond twice the gate: another motion, not noise
    rival_gate: float = 2.5  # standard deviations of a rival's inliers
    rival_gate_px: float = 3.0  # of RANSAC for rivals
    ambiguous_surface: float = 0.5  # share of the largest surface from which a rival widens the covariance
    acceleration_m_s2: float = 10.0  # std of the camera's; a hand-held camera reaches 1 g
    angular_acceleration_rad_s2: float = 60.0  # a hand-held camera shaken
    speed_m_s: float = 1.0  # std while no velocity is known
    turn_rate_rad_s: float = 3.0
    correlated_residuals: float = 2.0  # that count as one in the covariance: neighbours err alike (NEES 12 without it)
    prediction_s: float = 0.5  # longest time over which the velocity is carried on
    restart_s: float = 1.0  # without a pose, after which a new map begins where the camera was last
    unseen_speed_m_s: float = 0.5  # std of what a camera does while it is not seen
    unseen_turn_rad_s: float = 0.5
    outlier_streak: int = 3  # frames in a row after which an outlier is dropped
    correlated_frames: float = 6.0  # for which a sensor's error at one place lasts
    least_noise: float = 0.3  # bounds of the variance factors of pixels and depth
    most_noise: float = 50.0
    noise_memory: float = 0.7  # of a variance factor from frame to frame, in the logarithm


# ---------------------------------------------------------------------------------------------------------------------
# The running engine and the node


BACKENDS = ("rgbd", "stereo", *ARCHITECTURES)  # as in pomato_ros.sources.registry
AUTO, MONOCULAR = "auto", "pomato"  # and what the first is where no sensor decides


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What measures geometry: which backend, which weights, on what device."""

    backend: str = option(
        AUTO,
        "source of geometry: a depth camera on `depth/image` (rgbd), a stereo pair with `right/image` (stereo), or a "
        "network that sees the frames of one camera: POMATO (pomato) or, with weights of yours in `checkpoint`, MASt3R "
        "(mast3r), D²USt3R (d2ust3r) or Flow4R (flow4r); auto: the node decides when it is activated, rgbd where "
        "`depth/image` has a publisher, stereo where `right/image` has one, else pomato",
        choices=(AUTO, *BACKENDS),
    )
    checkpoint: str = option(
        "", "weights file (.safetensors or an official .pth); empty means the bundled nano weights, which are POMATO's"
    )
    checkpoint_sha256: str = option("", "expected SHA-256 of the weights file; empty means not checked")
    device: str = option("auto", "where the network runs: auto, cpu, cuda or cuda:N")
    precision: str = option(
        "auto",
        "arithmetic of the network; auto is bf16 where the processor has it, else fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    reuse: bool = option(
        True, "keep what the network made of earlier frames of the window; false recomputes it, to compare with"
    )

    @property
    def named_backend(self) -> str:
        """The backend, with auto as the one that needs no sensor beside the camera."""
        return MONOCULAR if self.backend == AUTO else self.backend

    compile: bool = option(
        True,
        "on a GPU, record the network's pieces once for each size and replay them (CUDA graphs); false runs them one "
        "operation after the other",
    )
    num_threads: int = option(
        0,
        "CPU threads of the network; 0: one for a small network (nano), else all cores where there is no GPU",
        minimum=0,
        maximum=256,
    )


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How frames become windows."""

    window_size: int = option(12, "frames in a full window", unit="frames", minimum=2, maximum=64)
    window_stride: int = option(1, "use every n-th accepted frame", unit="frames", minimum=1, maximum=100)
    mode: str = option(
        "anchored",
        "key frame of the window: its first frame (anchored) or its newest (rolling)",
        choices=("anchored", "rolling"),
    )
    overlap: int = option(4, "frames two anchored windows share", unit="frames", minimum=1, maximum=63)
    window_hop: int = option(
        1,
        "frames that the network takes at once: less work a frame, but the earlier ones wait for the last; more than 1 "
        "only anchored",
        unit="frames",
        minimum=1,
        maximum=16,
    )
    image_size: int = option(
        0,
        "long side of the network's input; 0 means the size the weights were trained at",
        unit="px",
        minimum=0,
        maximum=4096,
    )
    max_rate_hz: float = option(0.0, "upper limit of the step rate; 0 means none", unit="Hz", minimum=0.0, dynamic=True)
    max_latency_ms: float = option(
        0.0,
        "longest time a step may take, at the 95th percentile; to keep it, frames are taken one by one, the window is "
        "shortened as far as half of window_size or, anchored, twice the overlap, then tracks are found in the image "
        "alone, then maps are computed at every other pixel; 0 means any",
        unit="ms",
        minimum=0.0,
        dynamic=True,
    )


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """From predictions to points, masks and tracks."""

    conf_threshold: float = option(
        0.0,
        "points at or below this confidence are published as invalid; confidence starts at 1, so 0 keeps all",
        minimum=0.0,
        dynamic=True,
    )
    range_min: float = option(0.05, "points nearer than this are invalid", unit="m", minimum=0.0, dynamic=True)
    range_max: float = option(100.0, "points farther than this are invalid", unit="m", minimum=0.0, dynamic=True)
    mask_threshold: float = option(
        3.0,
        "a pixel moves when its motion exceeds this many lower quartiles of the image's, as far as mask_floor",
        minimum=0.0,
        dynamic=True,
    )
    mask_floor: float = option(
        0.08,
        "and exceeds this share of its distance, less where errors of single pixels are filtered out",
        minimum=0.0,
        maximum=10.0,
        dynamic=True,
    )
    mask_dilate_px: int = option(0, "grow the moving mask by this much", unit="px", minimum=0, maximum=64, dynamic=True)
    pose_source: str = option(
        "best",
        "what the pose is solved on: the pointmap alone, or it together with landmarks and image features on the "
        "network's depth (best)",
        choices=("best", "pointmap"),
    )
    max_tracks: int = option(400, "most 3-D tracks alive at once", minimum=0, maximum=100000)
    track_grid_px: int = option(
        8, "spacing of new track seeds on the network's image", unit="px", minimum=1, maximum=512
    )


@dataclass(frozen=True, slots=True)
class DepthNoise:
    """How the depth images of one kind of sensor err.

    Standard deviation along the optical axis: ``sigma(z) = floor + square (z - nearest_best)^2``. Quantisation with
    steps q of inverse depth adds the variance q^2 / 12, and a lateral error of the pixel's place adds that of the slope
    of inverse depth under it. Beyond the range nothing is measured.
    """

    floor_m: float
    square_per_m: float
    nearest_best_m: float
    inverse_step_per_m: float
    lateral_px: float  # of the sensor's own pixels
    range_m: tuple[float, float]
    edge_px: int  # working pixels beside a jump of depth that mix both surfaces


DEPTH_SENSORS: Mapping[str, DepthNoise] = {
    # First Kinect, Xtion, Astra. Axial noise: Nguyen, Izadi, Lovell 2012; steps: Khoshelham, Elberink 2012 (1/8 px at
    # 580 px and 75 mm); lateral: fit to slanted surfaces of 7-Scenes (dev/LOG.md); range: the driver's default mode.
    "structured_light": DepthNoise(0.0012, 0.0019, 0.4, 0.00287, 0.5, (0.4, 8.0), 1),
    # D400 series and other active or passive stereo cameras with depth on board: 0.08 px of disparity (Intel's tuning
    # guide for the D4xx, well-textured target) at 640 px and 50 mm; steps of 1/32 px.
    "stereo": DepthNoise(0.0005, 0.0025, 0.0, 0.00098, 0.8, (0.2, 10.0), 2),
    # Kinect v2, Azure Kinect, Femto: 1.5 - 0.5 z + 0.3 z^2 mm (Fankhauser et al. 2015), written as a square.
    "time_of_flight": DepthNoise(0.0013, 0.0003, 0.83, 0.0, 0.8, (0.25, 6.0), 2),
}


@dataclass(frozen=True, slots=True)
class MultiviewTuning:
    """When depth from flow and pose counts, where the sensor has none."""

    gaps: tuple[int, ...] = (4, 8)  # frames back; the one with more parallax, if the shorter has not enough, is taken
    least_share: float = 0.02  # of the image must lack depth, to be worth the flow
    useful_depth_m: float = 10.0  # at which parallax is asked for: where depth cameras end
    flow_floor_px: float = 0.4  # smooth flow errs alike over many pixels and gaps, beyond its own sigma
    least_parallax_px: float = 2.0  # ten times what flow errs by, for relative_sigma
    ample_parallax_px: float = 8.0  # twenty times flow_floor_px: no longer gap is asked for
    relative_sigma: float = 0.1  # of inverse depth; less certain depth is not valid
    far_sigma: float = 0.0  # 1/m, certain enough however far; 0: only relative_sigma counts
    least_inverse_depth: float = 0.005  # 1/m; farther than 200 m flow of a few frames measures nothing
    residual_gate: float = 6.0  # mean squared residual over its variance; a chi square of 3 to 5 degrees exceeds it in
    # less than 1 in 2000


@dataclass(frozen=True, slots=True)
class StereoTuning:
    """How a rectified pair is matched (OpenCV's semi-global matcher), refined, and how its disparity errs.

    Variance of a disparity: ``floor^2 + texture^2 (e + noise) / g + agreement^2 c^2 + spread^2 r^2 + hole^2 h^2`` with
    e the mean squared grey difference left after refinement and g the mean squared gradient along the row, both over
    the refinement window; c the difference of left and right matching, r the range of disparities within 5x5 pixels
    and h the share of 9x9 pixels without a match. The factors are a maximum-likelihood fit (Student-t, 3 degrees of
    freedom) to 20 rendered pairs of 320x240 with 0.1 m baseline; the matcher's settings were the best of those tried
    there (dev/LOG.md).
    """

    block_px: int = 5
    small_step: int = 8  # P1, times block_px^2: penalty of a step by one disparity
    large_step: int = 32  # P2, times block_px^2: of a larger step
    prefilter: int = 63
    uniqueness_percent: int = 5
    smoothing_px: float = 0.7  # standard deviation of the filter before matching
    speckle_px: int = 100  # smaller islands are left out
    agreement_gate_px: float = 1.0  # between matching from the left and from the right
    refine_px: int = 9  # side of the refinement window
    refine_steps: int = 2
    refine_damping: float = 4.0  # grey levels^2 per px^2 added to the mean squared gradient
    floor_px: float = 0.03
    texture: float = 0.213
    noise: float = 0.3  # grey levels^2
    agreement: float = 0.55
    spread: float = 0.26
    hole_px: float = 5.8
    largest_sigma_px: float = 3.0  # less certain disparities are left out
    largest_spread_px: float = 4.0  # edges, where the nearer surface is matched too wide
    nearest_m: float = 0.4  # for which disparities are tried,
    widest_share: float = 0.25  # as far as this share of the image's width


@dataclass(frozen=True, slots=True)
class SensorOptions:
    """The depth camera or stereo pair of the backends rgbd and stereo."""

    depth_sensor: str = option(
        "structured_light",
        "kind of depth camera, which decides how its depth errs: structured_light (Kinect v1, Xtion, Astra), stereo "
        "(RealSense D400, OAK-D, ZED depth), time_of_flight (Kinect v2, Azure Kinect, Femto)",
        choices=tuple(DEPTH_SENSORS),
    )
    depth_range_max: float = option(
        0.0, "depth of the sensor beyond this is not used; 0 means as its kind has it", unit="m", minimum=0.0
    )
    depth_transport: str = option(
        "raw",
        "subscribe to `depth/image` itself or to its PNG form `depth/image/compressedDepth`",
        choices=("raw", "compressedDepth"),
    )
    depth_max_offset: float = option(
        0.0,
        "most time between an image and the depth or right image that is paired with it; 0 means half the interval "
        "between images",
        unit="s",
        minimum=0.0,
        maximum=1.0,
    )
    stereo_method: str = option(
        "hh4",
        "semi-global matching along four directions over the whole image (hh4), or along three, row by row (3way), in "
        "about half the time with a fifth more error",
        choices=("hh4", "3way"),
    )
    sensor_image_size: int = option(
        320,
        "long side of the images that the backends rgbd and stereo work at, where image_size is 0; images wider than "
        "4:3 keep the number of pixels that a 4:3 image would have",
        unit="px",
        minimum=64,
        maximum=4096,
    )


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """Where metres come from."""

    scale_source: str = option(
        "model",
        "model: the network's own scale, chained from window to window, never metric; fixed: that times `scale`; "
        "depth: metres from a depth image aligned with the camera's; odometry: metres from another odometry's ways; "
        "tf: the same from TF, where the camera moves in `prior_frame`",
        choices=("model", "fixed", "depth", "odometry", "tf"),
    )
    scale: float = option(1.0, "metres per model unit with scale_source fixed", minimum=1e-9, maximum=1e9)
    prior_frame: str = option(
        "",
        "with scale_source tf: the fixed frame of another odometry, as wheels' odom; what this node sends on TF does "
        "not count",
    )


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """TF frames."""

    odom_frame: str = option("odom", "world-fixed frame of odometry and tracks")
    base_frame: str = option("base_link", "the robot's own frame")
    publish_tf: bool = option(True, "send odom -> base on TF")
    invert_tf: bool = option(False, "send base -> odom instead, to live beside another odometry")
    publish_camera_tf: str = option(
        "auto",
        "static TF of the camera. auto: the assumed mount from base_frame while nobody else sends where the camera "
        "is; camera_link: camera_link -> image frame with the optical rotation; never: none",
        choices=("auto", "camera_link", "never"),
    )
    frame_prefix: str = option("", "put before odom_frame and base_frame, as 'front/' where several robots share TF")
    tf_timeout: float = option(
        2.0, "how long to wait for base <- camera on TF before assuming none", unit="s", minimum=0.0, maximum=60.0
    )


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What comes in."""

    image_transport: str = option("raw", "subscribe to image (raw) or image/compressed", choices=("raw", "compressed"))
    require_camera_info: bool = option(False, "wait for camera_info instead of estimating the focal length")
    rectify: bool = option(True, "remove lens distortion described by camera_info")
    sample_bits: int = option(
        0,
        "bits that 16-bit images use, as 12 of a 12-bit camera; 0 reads it from the data",
        unit="bit",
        minimum=0,
        maximum=16,
    )
    max_pixels: int = option(33_177_600, "larger images are refused", unit="px", minimum=1)


@dataclass(frozen=True, slots=True)
class RobustnessOptions:
    """When an answer is not to be trusted."""

    max_speed: float = option(20.0, "faster camera motion means lost", unit="m/s", minimum=0.0, dynamic=True)
    max_angular_speed: float = option(
        12.0, "faster camera rotation means lost", unit="rad/s", minimum=0.0, dynamic=True
    )
    lost_after_s: float = option(2.0, "no frame for this long means lost", unit="s", minimum=0.0, dynamic=True)
    unseen_speed: float = option(
        0.5,
        "standard deviation of the camera's speed while no image came, by which the pose's covariance grows",
        unit="m/s",
        minimum=0.0,
        dynamic=True,
    )
    unseen_turn: float = option(
        0.5,
        "standard deviation of the camera's rotation while no image came",
        unit="rad/s",
        minimum=0.0,
        dynamic=True,
    )
    recover_frames: int = option(
        3,
        "a camera that was lost is recovering for so many frames with a pose, then tracking",
        unit="frames",
        minimum=0,
        maximum=1000,
        dynamic=True,
    )
    min_inlier_ratio: float = option(
        0.15, "share of static confident pixels that must agree with the pose", minimum=0.0, maximum=1.0, dynamic=True
    )


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What goes out."""

    points_stride: int = option(
        1, "publish every n-th row and column of the cloud", unit="px", minimum=1, maximum=64, dynamic=True
    )
    depth_resolution: str = option(
        "source",
        "size of the depth images: source, so that camera_info of the colour image fits them, or model, the network's "
        "own size and crop, for readers that use depth/camera_info",
        choices=("model", "source"),
    )
    path_max: int = option(2000, "most poses kept in path", minimum=1)
    trail_length: int = option(24, "poses in a track's drawn trail", unit="frames", minimum=1, maximum=1000)
    publish_debug: bool = option(True, "draw and publish debug/image when somebody listens", dynamic=True)
    output_dir: str = option("out", "folder that the save services write into")
    autostart: bool = option(True, "configure and activate without a lifecycle manager")


@dataclass(frozen=True, slots=True)
class PomatoConfig:
    """All options of the engine and the node, in groups; option names are unique across groups."""

    model: ModelOptions = ModelOptions()
    window: WindowOptions = WindowOptions()
    scene: SceneOptions = SceneOptions()
    sensor: SensorOptions = SensorOptions()
    scale: ScaleOptions = ScaleOptions()
    frames: FrameOptions = FrameOptions()
    input: InputOptions = InputOptions()
    robustness: RobustnessOptions = RobustnessOptions()
    output: OutputOptions = OutputOptions()

    def __post_init__(self) -> None:
        """Check each value against its declared type, range and choices, and the few rules between options."""
        for info in iter_options():
            check_value(info, getattr(getattr(self, info.group), info.name))
        if self.window.overlap >= self.window.window_size:
            raise ConfigError(
                f"overlap must be smaller than window_size {self.window.window_size}, got {self.window.overlap}"
            )
        if self.window.window_hop > 1 and self.window.mode != "anchored":
            raise ConfigError(
                f"window_hop {self.window.window_hop} needs mode anchored: rolling, each frame is the key of a window "
                "of its own; use window_hop 1 or mode anchored"
            )
        if self.scene.range_min >= self.scene.range_max:
            raise ConfigError(f"range_min {self.scene.range_min} must be below range_max {self.scene.range_max}")
        self._check_frames()
        if self.scale.scale_source == "tf":
            self._check_prior_frame()

    def _check_frames(self) -> None:
        """Raise :class:`ConfigError` for frames between which there can be no transform."""
        odom, base = self.frames.odom_frame, self.frames.base_frame
        if not odom or not base or odom == base:
            raise ConfigError(
                f"odom_frame and base_frame must be two names, got '{odom}' and '{base}'; set both, for instance odom "
                "and base_link"
            )

    def _check_prior_frame(self) -> None:
        """Raise :class:`ConfigError` for a frame in which TF can never tell how the camera really moves."""
        frame, frames = self.scale.prior_frame, self.frames
        if not frame:
            raise ConfigError(
                "scale_source tf needs prior_frame: the fixed frame on TF in which another odometry has the robot, for "
                "instance odom_wheel"
            )
        if frame == frames.base_frame:
            raise ConfigError(f"prior_frame must be a fixed frame that the robot moves in, got base_frame '{frame}'")
        if frame == frames.odom_frame and frames.publish_tf:
            raise ConfigError(
                f"prior_frame '{frame}' is odom_frame, which this node sends on TF itself: it would be measured with "
                "itself; set publish_tf false if another node sends it, or name another odometry's frame"
            )

    def with_values(self, values: Mapping[str, Any]) -> "PomatoConfig":
        """A copy with options replaced by flat name; an unknown name is an error that lists the known ones."""
        known = {info.name: info for info in iter_options()}
        groups: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"unknown option '{name}'; known options: {', '.join(sorted(known))}")
            groups.setdefault(known[name].group, {})[name] = value
        return dataclasses.replace(
            self, **{group: dataclasses.replace(getattr(self, group), **changes) for group, changes in groups.items()}
        )

    def flat(self) -> dict[str, Any]:
        """All options by flat name."""
        return {info.name: getattr(getattr(self, info.group), info.name) for info in iter_options()}


def iter_options() -> Iterator[OptionInfo]:
    """Every option of :class:`PomatoConfig`, group by group, with its documentation."""
    for group in dataclasses.fields(PomatoConfig):
        group_type = group.type
        if not isinstance(group_type, type):
            raise TypeError(f"group {group.name} must be annotated with a class")
        for item in dataclasses.fields(group_type):
            yield OptionInfo(name=item.name, group=group.name, default=item.default, **item.metadata)


def check_value(info: OptionInfo, value: Any) -> None:
    """Raise :class:`ConfigError` if ``value`` does not suit the option."""
    expected = type(info.default)
    accepted = (int, float) if expected is float else (expected,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(f"{info.name} must be of type {expected.__name__}, got {value!r}")
    if info.choices and value not in info.choices:
        raise ConfigError(f"{info.name} must be one of {', '.join(info.choices)}; got {value!r}")
    if info.minimum is not None and not value >= info.minimum:
        raise ConfigError(f"{info.name} must be at least {info.minimum} {info.unit}".rstrip() + f", got {value!r}")
    if info.maximum is not None and not value <= info.maximum:
        raise ConfigError(f"{info.name} must be at most {info.maximum} {info.unit}".rstrip() + f", got {value!r}")


def build_dataclass(cls: type, values: Mapping[str, Any], what: str) -> Any:
    """Build a flat dataclass from parsed JSON or YAML: lists become tuples, unknown names are refused."""
    known = {item.name for item in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"{what}: unknown entries {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


# ---------------------------------------------------------------------------------------------------------------------
# Tuning of the scene: standard deviations and gates that users have no reason to change. Where a value comes from is
# said behind it; procedural: tuned on seeds 5,000,000 to 5,000,011 of the training world with a simulated depth camera


@dataclass(frozen=True, slots=True)
class AlignmentTuning:
    """How patches are aligned."""

    patch_px: int = 9  # side of a patch
    most_steps: int = 8
    settled_px: float = 0.02  # a shorter step is the last
    farthest_px: float = 6.0  # from the start; farther is another place
    floor_px: float = 0.05  # standard deviation that interpolation and shape leave where noise is nil; procedural


@dataclass(frozen=True, slots=True)
class SurfaceTuning:
    """How depth is read at a point between pixels."""

    radius_px: int = 2  # of the patch that a plane is fitted to
    least_pixels: int = 6  # of one surface, for a plane
    same_surface: float = 0.06  # share of the depth by which pixels of one surface differ in a patch, beside noise
    usual_slope: float = 0.005  # share of the depth per pixel; a surface at about 45 deg to the optical axis
    noise_gate: float = 4.0  # standard deviations
    step: float = 0.12  # share of the depth between neighbouring pixels of different surfaces


@dataclass(frozen=True, slots=True)
class SeedTuning:
    """Where tracks begin."""

    texture_px: int = 7  # side of the patch whose texture counts
    least_texture: float = 5.0  # smaller eigenvalue, 4 grey values^2 / px^2: noise of 3 grey values leaves 0.3 px
    jump_px: int = 9  # side of the window without jumps in depth
    jump: float = 0.1  # share of the depth that is one
    border_px: int = 6  # without seeds


@dataclass(frozen=True, slots=True)
class TrackTuning:
    """Standard deviations and gates of 3-D point tracks."""

    birth_pixel_std: float = 0.05  # px; the first pixel defines the point, interpolation remains
    alignment: AlignmentTuning = AlignmentTuning()
    seeds: SeedTuning = SeedTuning()
    template_share: float = 0.3  # of a place's variance that its template's noise, the same in every frame, makes up
    depth_share: float = 0.05  # of a depth's variance that is the same in every frame: quantisation; procedural
    wander_px: float = 0.01  # px a frame at the point's depth; drift of the pose that a resting point follows
    speed_std: float = 0.3  # share of the depth, a second; of what begins to move; procedural
    acceleration_std: float = 1.5  # share of the depth, a second squared; of a single moving point; procedural
    group_acceleration_std: float = 1.0  # share of the depth, a second squared; of a rigid group; procedural
    group_turn_acceleration_std: float = 4.0  # rad/s^2; of a rigid group; procedural
    turn_std: float = 2.0  # rad/s; of a group that is new; procedural: movers spin by 0.3 to 3 rad/s
    pixel_soft_gate: float = 6.0  # chi square, 2 degrees of freedom, 5 %; larger innovations count as if they were this
    pixel_gate: float = 100.0  # squared standard deviations; errors of patches have long tails; procedural
    depth_gate: float = 10.8  # chi square, 1 degree of freedom, 0.1 %
    depth_step: float = 0.15  # share of the depth; a patch on a surface farther off than this is another one's
    motion_gate: float = 16.3  # chi square, 3 degrees of freedom, 0.1 %; residuals of a rigid motion
    chain_std: float = 0.5  # px; of a patch that is only followed from the last frame
    evidence_memory: float = 0.8  # share of the summed innovations kept from frame to frame
    motion_penalty: float = 6.0  # nats by which motion must be likelier than rest: three more parameters; procedural
    log_odds_limit: float = 8.0  # nats that one pixel of the mask can say
    least_correlation: float = 0.75  # of a patch with its template, to be the same; procedural
    refresh_correlation: float = 0.85  # below it a template is taken anew where the point is known to be; procedural
    surface_slack: float = 0.03  # share of the depth by which one surface may differ, beside noise; procedural
    better_correlation: float = 0.02  # by which a second place must exceed the expected one
    return_px: float = 0.7  # a patch that is followed to the newest frame and back ends so near its start
    variance_rate: float = 0.1  # share of the log of a variance factor's error that a frame corrects
    variance_tracks: int = 20  # fewer say nothing of the variance of innovations
    group_memory: float = 0.5  # weight of the newest motion in a group's velocities
    young_frames: int = 3  # in which a group's velocities are not known yet
    rest_gate: float = 7.8  # chi square, 3 degrees of freedom, 5 %; of a velocity that may be none
    rest_px: float = 0.3  # a group that moves less in the image from frame to frame,
    rest_frames: int = 4  # for so many frames, stands still
    confirm_sightings: int = 2  # before a track gets an id
    hidden_frames: int = 60  # a hidden track at rest or on a group is kept for so long: five windows of 12
    lone_hidden_frames: int = 6  # the same of a single moving point, whose prediction is soon worth nothing
    contradicted_frames: int = 3  # a track whose place is seen, and shows something else, ends after so many
    least_group: int = 4  # tracks that go together
    seed_share: float = 0.6  # of max_tracks that cover the image; the rest is for movers
    full_share: float = 0.85  # of max_tracks that may be visible when new ones begin: hidden ones come back


@dataclass(frozen=True, slots=True)
class ObjectTuning:
    """Standard deviations and gates of moving objects."""

    centre_share: float = 0.15  # of the box's diagonal; standard deviation of its middle, since only part is seen
    speed_std: float = 0.3  # share of the distance, a second; of what begins to move, as in TrackTuning
    acceleration_std: float = 1.0  # share of the box's diagonal, a second squared
    gate: float = 16.3  # chi square, 3 degrees of freedom, 0.1 %
    track_gate: float = 100.0  # the same where at least two tracks are shared: boxes jump when regions merge
    track_weight: float = 16.3  # of the share of common tracks in the cost, against the distance
    confirm_frames: int = 3  # seen in so many frames, an object gets an id
    hidden_frames: int = 60  # it is kept for so long while hidden, as tracks are
