"""The nouns that flow through the package: Frame -> PreparedFrame -> Window -> Observation -> SceneEstimate.

Conventions, everywhere: integer pixel coordinates address pixel centres (pixel (0, 0) has its centre at (0, 0));
camera frames are optical (x right, y down, z forward, REP-103); ``a_from_b`` maps coordinates in b to coordinates in a;
times are integer nanoseconds; ``world`` is the optical frame of the camera at the first frame after a reset.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
PoseArray = NDArray[np.float64]
MaskArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera for an image of ``width_px`` x ``height_px``; all values in pixels."""

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    width_px: int
    height_px: int

    def matrix(self) -> PoseArray:
        """The 3x3 camera matrix K."""
        return np.array([[self.fx_px, 0.0, self.cx_px], [0.0, self.fy_px, self.cy_px], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera image as it came."""

    stamp_ns: int
    image_rgb: NDArray[np.uint8]  # (h, w, 3)
    intrinsics: Intrinsics | None = None  # of this image; None when the camera is not calibrated
    depth_m: FloatArray | None = None  # (h, w) of a depth sensor, the same pixels; NaN or 0 where invalid
    prior_from_camera: PoseArray | None = None  # (4, 4) where another odometry has this camera, metres, any fixed frame
    right_rgb: NDArray[np.uint8] | None = None  # (h, w, 3) of a rectified stereo pair, the same size
    baseline_m: float | None = None  # from the left to the right camera along x, above 0
    valid: MaskArray | None = None  # (h, w) pixels that show the scene, as after rectification; None: all


@dataclass(frozen=True, slots=True)
class DepthMap:
    """Inverse depth of a frame along its optical axis, with uncertainty."""

    inverse_depth: FloatArray  # (h, w) 1/m; 0 is infinitely far; undefined where not valid
    sigma: FloatArray  # (h, w) standard deviation of inverse_depth, 1/m, above 0 where valid
    valid: MaskArray  # (h, w)
    metric: bool  # metres, so that no scale is estimated; else one arbitrary unit


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame resized and cropped by its source (`sources/base.py`); every map belongs to the pixels of ``image_rgb``.

    A source carries along what it needs itself; the other optional fields stay None.
    """

    stamp_ns: int
    image_rgb: NDArray[np.uint8]  # (h, w, 3)
    intrinsics: Intrinsics | None  # of the resized and cropped image
    model_from_source: PoseArray  # (3, 3) pixel homography: source pixel -> pixel of image_rgb
    source_size_wh: tuple[int, int]
    depth_m: FloatArray | None = None  # (h, w) of a depth sensor, the nearest source pixels; NaN or 0 where invalid
    prior_from_camera: PoseArray | None = None  # (4, 4) as in :class:`Frame`
    depth: DepthMap | None = None  # measured by a sensor, with its noise model applied
    right_rgb: NDArray[np.uint8] | None = None  # (h, w, 3) of a rectified stereo pair, resized as the left image
    baseline_m: float | None = None  # from the left to the right camera along x, above 0
    valid: MaskArray | None = None  # (h, w) pixels that show the scene; None: all

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.image_rgb.shape[0], self.image_rgb.shape[1]


# ---------------------------------------------------------------------------------------------------------------------
# The seam: what any source of geometry observes of the newest frame n of a window (sources/base.py). Every map has a
# standard deviation and a validity, as DepthMap has; units are metres where `metric` is true, else one unit for the
# whole stream.


@dataclass(frozen=True, slots=True)
class Correspondence:
    """Where each pixel of the newest frame n is seen in frame n - gap."""

    gap: int  # frames back, at least 1
    pixels: FloatArray  # (h, w, 2) x, y in frame n - gap; undefined where not visible
    sigma_px: FloatArray  # (h, w) standard deviation of each coordinate, px
    visible: MaskArray  # (h, w) found there and confirmed (forward-backward check, or the source's own)
    points_earlier: FloatArray | None = None  # (h, w, 3) the point at that time, in camera n - gap, unit of the depth


@dataclass(frozen=True, slots=True)
class PosePrior:
    """A relative camera pose from outside the estimator: wheels, TF, a gyroscope, or a network's own PnP."""

    gap: int  # frames back, at least 1
    earlier_from_newest: PoseArray  # (4, 4) camera n in camera n - gap, unit of the depth
    covariance: PoseArray  # (6, 6) of x, y, z, rot x, rot y, rot z in axes of camera n - gap; large: uninformative


@dataclass(frozen=True, slots=True)
class MotionEvidence:
    """How sure a source is that a pixel of the newest frame belongs to something that moves."""

    log_odds: FloatArray  # (h, w) ln(p / (1 - p)); 0 is uninformative


@dataclass(frozen=True, slots=True)
class Observation:
    """What a source observes of the newest frame n."""

    depth: DepthMap | None
    correspondence: Callable[[int], Correspondence | None]  # by gap; None: not available. Cached by whoever makes it
    pose_priors: tuple[PosePrior, ...] = ()
    motion: MotionEvidence | None = None
    intrinsics: Intrinsics | None = None  # of the newest image, estimated by the source where the frame has none
    facts: dict[str, float] = field(default_factory=dict)  # figures for diagnostics, by name


@dataclass(frozen=True, slots=True)
class Window:
    """Frames the network sees together, oldest first; ``key`` indexes the frame that every other one is paired with.

    ``next_key`` is the frame that will be the next window's key, with all frames after it; None while it has not come
    or where that cannot be known.
    """

    frames: tuple[PreparedFrame, ...]
    key: int
    next_key: int | None = None


class TrackingState(Enum):
    """What the odometry is worth right now."""

    WARMING = "warming up"
    TRACKING = "tracking"
    LOST = "lost"
    RECOVERING = "recovering"  # found again within the last `recover_frames` frames


@dataclass(frozen=True, slots=True)
class TrackSet:
    """3-D point tracks alive at one time; row i of every array is one track. Positions in world, metres."""

    ids: NDArray[np.int64]  # (n,), stable across windows, never used twice
    positions_world: PoseArray  # (n, 3)
    velocities_world: PoseArray  # (n, 3), m/s
    pixels: FloatArray  # (n, 2) x, y on the network's image of this frame; NaN when not visible
    confidence: FloatArray  # (n,)
    visible: MaskArray  # (n,)
    dynamic: MaskArray  # (n,)
    age_frames: NDArray[np.int64]  # (n,)


@dataclass(frozen=True, slots=True)
class ObjectSet:
    """Things that move, of no class, at one time; row i of every array is one object. World axes, metres.

    A box holds what is seen of an object, which is seldom all of it; that of a hidden object is the last one, moved on.
    """

    ids: NDArray[np.int64]  # (n,), rising; stable across windows, never used twice
    centres_world: PoseArray  # (n, 3) middles of the boxes
    sizes_world: PoseArray  # (n, 3) of the boxes along the axes of the world
    velocities_world: PoseArray  # (n, 3), m/s
    velocity_std: PoseArray  # (n,) standard deviation along each axis, m/s
    visible: MaskArray  # (n,) seen in this frame; else it is where it was expected
    age_frames: NDArray[np.int64]  # (n,) since it was first seen; 1 on its first frame
    track_counts: NDArray[np.int64]  # (n,) tracks that are seen on it
    points_world: FloatArray  # (m, 3) some of the points seen on all of them
    point_rows: NDArray[np.int64]  # (m,) the row of each point's object


def no_objects() -> ObjectSet:
    """An empty set."""
    whole, three = np.zeros(0, np.int64), np.zeros((0, 3))
    return ObjectSet(
        ids=whole,
        centres_world=three,
        sizes_world=three,
        velocities_world=three,
        velocity_std=np.zeros(0),
        visible=np.zeros(0, bool),
        age_frames=whole,
        track_counts=whole,
        points_world=np.zeros((0, 3), np.float32),
        point_rows=whole,
    )


class BudgetState(Enum):
    """Whether steps keep `max_latency_ms`."""

    UNLIMITED = "unlimited"
    MEASURING = "measuring"
    WITHIN = "within"
    EXCEEDED = "exceeded"  # although nothing is left to save


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """What was chosen to keep `max_latency_ms`, and whether it is kept."""

    state: BudgetState = BudgetState.UNLIMITED
    summary: str = ""  # one line for people; empty without a limit


@dataclass(frozen=True, slots=True)
class SceneEstimate:
    """Everything one step estimates of the newest frame. All arrays belong to the network's image of that frame."""

    stamp_ns: int
    state: TrackingState
    frames_in_window: int  # seen since the last reset, at most window_size: how far the warm-up is
    image_rgb: NDArray[np.uint8]  # (h, w, 3)
    intrinsics: Intrinsics
    intrinsics_known: bool  # False: estimated from the pointmap
    model_from_source: PoseArray  # (3, 3) pixel homography
    source_size_wh: tuple[int, int]
    points_camera: FloatArray  # (h, w, 3), metres at the current scale, NaN where invalid
    confidence: FloatArray  # (h, w)
    dynamic_mask: MaskArray  # (h, w)
    world_from_camera: PoseArray | None  # (4, 4); None while lost
    pose_covariance: PoseArray | None  # (6, 6) of x, y, z, rot x, rot y, rot z in world axes; None while lost
    pose_inlier_ratio: float
    metres_per_unit: float  # scale applied to the newest window's pointmaps
    tracks: TrackSet
    stage_seconds: dict[str, float]  # where the time went: preprocess, model, scene; with window_hop also waiting
    budget: BudgetReport = BudgetReport()
    left_out: str = ""  # what the source was not asked for, and why; empty: nothing
    scale_std: float = float("nan")  # standard deviation of the log of the world's unit; NaN if not estimated
    objects: ObjectSet = field(default_factory=no_objects)
    facts: dict[str, float] = field(default_factory=dict)  # the source's figures for diagnostics, by name

    @property
    def depth(self) -> FloatArray:
        """(h, w) depth along the optical axis, metres, NaN where invalid."""
        return self.points_camera[..., 2]
