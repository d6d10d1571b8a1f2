"""The nouns that flow through the package: Frame -> Window -> WindowPrediction -> SceneEstimate.

Conventions, everywhere: integer pixel coordinates address pixel centres (pixel (0, 0) has its centre at (0, 0));
camera frames are optical (x right, y down, z forward, REP-103); ``a_from_b`` maps coordinates in b to coordinates in a;
times are integer nanoseconds; ``world`` is the optical frame of the camera at the first frame after a reset.
"""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
class ModelFrame:
    """A frame resized, cropped and normalised for the network."""

    stamp_ns: int
    image: Tensor  # (3, h, w) in [-1, 1]
    image_rgb: NDArray[np.uint8]  # (h, w, 3), the same pixels
    intrinsics: Intrinsics | None  # of the resized and cropped image
    model_from_source: PoseArray  # (3, 3) pixel homography: source pixel -> network pixel
    source_size_wh: tuple[int, int]
    depth_m: FloatArray | None = None  # (h, w) of a depth sensor, the nearest source pixels; NaN or 0 where invalid
    prior_from_camera: PoseArray | None = None  # (4, 4) as in :class:`Frame`


# ---------------------------------------------------------------------------------------------------------------------
# The seam: what any source of geometry says of the newest frame n of a window (sources/base.py). Every map has a
# standard deviation and a validity; units are metres where `metric` is true, else one unit for the whole stream.


@dataclass(frozen=True, slots=True)
class DepthMap:
    """Inverse depth of a frame along its optical axis, with uncertainty."""

    inverse_depth: FloatArray  # (h, w) 1/m; 0 is infinitely far; undefined where not valid
    sigma: FloatArray  # (h, w) standard deviation of inverse_depth, 1/m, above 0 where valid
    valid: MaskArray  # (h, w)
    metric: bool  # metres, so that no scale is estimated; else one arbitrary unit


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
    covariance: PoseArray  # (6, 6) of x, y, z, rot x, rot y, rot z in axes of camera n - gap; large: says nothing


@dataclass(frozen=True, slots=True)
class MotionEvidence:
    """How sure a source is that a pixel of the newest frame belongs to something that moves."""

    log_odds: FloatArray  # (h, w) ln(p / (1 - p)); 0 says nothing


@dataclass(frozen=True, slots=True)
class Window:
    """Frames the network sees together, oldest first; ``key`` indexes the frame that every other one is paired with.

    ``next_key`` is the frame that will be the next window's key, with all frames after it; None while it has not come
    or where that cannot be known.
    """

    frames: tuple[ModelFrame, ...]
    key: int
    next_key: int | None = None


@dataclass(frozen=True, slots=True)
class PairPrediction:
    """Outputs of the three heads for P pairs (view 1, view 2); points in the pair's own, arbitrary scale.

    ``points_1`` X^{1,1}: pixels of view 1 in camera 1. ``points_2`` X^{2,1}: pixels of view 2 in camera 1.
    ``points_match`` X_m^{2,1}: where the points seen by view 2 were at view 1's time, in camera 1.
    Maps that nobody asked for have no rows, see :class:`Wanted`.
    """

    points_1: Tensor  # (p, h, w, 3)
    conf_1: Tensor  # (p, h, w), above 1
    points_2: Tensor
    conf_2: Tensor
    points_match: Tensor
    conf_match: Tensor


HEADS = (1, 2, 3)  # of the network, in the order of PairPrediction's fields: X^{1,1}, X^{2,1} and X_m^{2,1}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What will be read of a window's prediction; a predictor may leave out the rest.

    ``slots``: the window's frames whose pairs with the key are read. ``from_key_heads``, ``to_key_heads``: which maps
    of :class:`WindowPrediction`'s two orders. ``stride``: maps need not tell neighbours apart that are nearer than this
    many pixels; they have every pixel all the same.
    """

    slots: tuple[int, ...]
    from_key_heads: tuple[int, ...] = HEADS
    to_key_heads: tuple[int, ...] = HEADS
    stride: int = 1


@dataclass(frozen=True, slots=True)
class WindowPrediction:
    """Both pair orders of a window against its key frame, one row for each of some frames or, by default, for all.

    ``from_key``: view 1 = frame t, view 2 = key (the paper's tracking): its ``points_1`` is X^{t,t} and its
    ``points_match`` follows the key's pixels to time t, in camera t.
    ``to_key``: view 1 = key, view 2 = frame t (the paper's reconstruction): its ``points_2`` is X^{t,key} and its
    ``points_match`` takes frame t's pixels back to the key's time, in the key's camera.
    """

    key: int
    from_key: PairPrediction
    to_key: PairPrediction
    slots: tuple[int, ...] | None = None  # the window's frames that rows belong to; None: all, in order

    def row_of(self, slot: int) -> int:
        """The row of a frame of the window.

        Raises:
            ValueError: the frame was not asked for.
        """
        if self.slots is None:
            return slot
        if slot not in self.slots:
            raise ValueError(f"expected one of the frames {self.slots} that were predicted, got {slot}; ask for it")
        return self.slots.index(slot)


class TrackingState(Enum):
    """What the odometry is worth right now."""

    WARMING = "warming up"
    TRACKING = "tracking"
    LOST = "lost"
    RECOVERING = "recovering"  # found again, but not for long enough to be believed as before


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


@dataclass(frozen=True, slots=True)
class SceneEstimate:
    """Everything one step says about the newest frame. All arrays belong to the network's image of that frame."""

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
    budget: str = ""  # what was chosen to keep max_latency_ms; empty without one
    left_out: str = ""  # what the network was not asked for, and why; empty: nothing
    scale_std: float = float("nan")  # standard deviation of the log of the world's unit; NaN if nobody told
    objects: ObjectSet = field(default_factory=no_objects)

    @property
    def depth(self) -> FloatArray:
        """(h, w) depth along the optical axis, metres, NaN where invalid."""
        return self.points_camera[..., 2]
