"""Metres from a sensor: how a depth image or another odometry corrects the unit of the world, and how sure that is.

The network's unit wanders from window to window; the chain of windows carries one unit on (``estimator.py``) and slowly
goes astray. What the sensor says of that is filtered here.
"""

import math
from dataclasses import dataclass

import numpy as np

from pomato_ros.geometry.alignment import DegenerateAlignmentError, robust_scale
from pomato_ros.pointmap_scene.odometry import CONFIDENT_SHARE, CORRELATED_PIXELS
from pomato_ros.structures import FloatArray, MaskArray, PoseArray

WAY_SOURCES = ("odometry", "tf")  # both give poses of another odometry: as messages, or on TF
SENSOR_SOURCES = ("depth", *WAY_SOURCES)
UNKNOWN_LOG_STD = 1.0  # before a sensor has said anything: the world's unit is within a factor e of the metre
REFOUND_LOG_STD = 0.3  # of a unit that was guessed after being lost
DRIFT_LOG_STD = 0.003  # by which the chain of windows goes astray in one frame
GATE = 4.0  # standard deviations beyond which a measurement is not believed,
PERSISTENT = 3  # unless so many in a row say so
DEPTH_LOG_STD = 0.01  # of a depth sensor as a whole, and of what the network errs alike over an image
REPEATED_FRAMES = 8.0  # a network's errors last for about so many frames: one frame counts as this part of one
LEAST_PIXELS_SHARE = 0.01  # of the image; fewer pixels with both depths tell nothing
WAY_LOG_STD = 0.02  # of another odometry's ways
WAY_STD_M = 0.005  # and of their ends
LEAST_WAY_M = 0.05  # a shorter way between two frames tells nothing
MOST_WAY_LOG_STD = 0.3  # nor does one that is less sure


@dataclass(frozen=True, slots=True)
class ScaleMeasurement:
    """What a sensor says of the unit of the world."""

    log_ratio: float  # log of metres per unit of the world
    variance: float


class ScaleFilter:
    """A Kalman filter on x, the log of metres per unit of the world.

    ``x_k = x_{k-1} + w_k`` with ``w_k ~ N(0, DRIFT_LOG_STD^2)``, measured as ``z_k = x_k + v_k``. Every correction is
    put into the world at once, after which x is 0 again; so only its variance is kept.
    """

    def __init__(self, *, known: bool) -> None:
        """``known``: the first frame's unit is that asked for, as where no sensor is asked."""
        self._variance = 0.0 if known else UNKNOWN_LOG_STD**2
        self._refused = 0

    @property
    def log_std(self) -> float:
        """Standard deviation of x."""
        return math.sqrt(self._variance)

    def predict(self) -> None:
        """One frame later."""
        self._variance += DRIFT_LOG_STD**2

    def doubt(self) -> None:
        """The chain of windows broke: its unit was guessed anew."""
        self._variance += REFOUND_LOG_STD**2

    def update(self, measured: ScaleMeasurement) -> float:
        """The correction: log of the factor by which everything in the world must be longer.

        ``K z`` with the gain ``K = P / (P + R)``, after which the variance is ``(1 - K) P``. A measurement far off is
        not believed unless it persists; then it is believed alone.
        """
        if measured.log_ratio**2 > GATE**2 * (self._variance + measured.variance):
            self._refused += 1
            if self._refused < PERSISTENT:
                return 0.0
            self._variance = max(self._variance, measured.log_ratio**2)
        self._refused = 0
        gain = self._variance / (self._variance + measured.variance)
        self._variance *= 1.0 - gain
        return gain * measured.log_ratio


def scale_from_depth(
    depth: FloatArray, sensor_depth_m: FloatArray, confidence: FloatArray, static: MaskArray
) -> ScaleMeasurement | None:
    """The median log ratio of a sensor's depth to the network's; None if too few pixels have both.

    Args:
        depth: (h, w) of the network, in the unit of the world; what is not positive is left out.
        sensor_depth_m: (h, w) of the same pixels, in metres; NaN or 0 where invalid.
        confidence: (h, w) of the network; the surer pixels take part.
        static: (h, w) pixels that may take part.
    """
    with np.errstate(invalid="ignore"):
        usable = static & (depth > 0) & (sensor_depth_m > 0) & np.isfinite(sensor_depth_m) & np.isfinite(depth)
    if usable.sum() < max(LEAST_PIXELS_SHARE * usable.size, 1):
        return None
    usable &= confidence >= np.quantile(confidence[usable], 1.0 - CONFIDENT_SHARE)
    try:
        found = robust_scale(depth[usable], sensor_depth_m[usable])
    except DegenerateAlignmentError:
        return None
    independent = max(found.count / CORRELATED_PIXELS, 1.0)
    variance = found.log_spread**2 / independent + DEPTH_LOG_STD**2
    return ScaleMeasurement(math.log(found.scale), REPEATED_FRAMES * variance)


def scale_from_way(
    way: PoseArray, way_covariance: PoseArray, sensor_way_m: PoseArray, overlap: float = 1.0
) -> ScaleMeasurement | None:
    """The log ratio of another odometry's displacement to ours; None if the way is too short to tell.

    Args:
        way: (3,) displacement of the camera between two frames, in the unit of the world.
        way_covariance: (3, 3) of it.
        sensor_way_m: (3,) the other odometry's displacement of the camera between the same frames, in any axes.
        overlap: how many measurements will share this way.
    """
    length, length_m = float(np.linalg.norm(way)), float(np.linalg.norm(sensor_way_m))
    if not (length > 0 and length_m >= LEAST_WAY_M and math.isfinite(length_m)):
        return None
    along = way / length
    log_variance = max(float(along @ way_covariance @ along), 0.0) / length**2
    log_variance += WAY_LOG_STD**2 + 2 * (WAY_STD_M / length_m) ** 2
    if log_variance > MOST_WAY_LOG_STD**2:
        return None
    return ScaleMeasurement(math.log(length_m / length), overlap * log_variance)


def scaled_about(world_from_camera: PoseArray, factor: float, centre_world: PoseArray) -> PoseArray:
    """A pose (4, 4) in a world whose lengths grow by ``factor`` about the point ``centre_world`` (3,)."""
    pose = world_from_camera.copy()
    pose[:3, 3] = centre_world + factor * (pose[:3, 3] - centre_world)
    return pose
