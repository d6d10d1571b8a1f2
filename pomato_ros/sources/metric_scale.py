"""Metres for a source that has none: the one place where anything is rescaled, before the estimator sees it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pomato_ros.config import ScaleOptions
from pomato_ros.geometry.rigid import invert
from pomato_ros.sources.base import Capabilities, PredictionRequest, Source
from pomato_ros.structures import (
    Correspondence,
    DepthMap,
    FloatArray,
    Frame,
    Observation,
    PosePrior,
    PreparedFrame,
    Window,
)

SENSORS = ("depth", "odometry", "tf")
UNKNOWN_LOG_STD = 1.0  # before a sensor was read: the unit is within a factor e of the metre
DRIFT_LOG_STD = 0.003  # of the source's unit, per frame
GATE = 4.0  # standard deviations of the innovation beyond which a measurement is rejected,
PERSISTENT = 3  # unless so many in a row lie beyond
DEPTH_LOG_STD = 0.01  # of a depth sensor as a whole, and of what a network errs alike over an image
REPEATED_FRAMES = 8.0  # a network's errors last for about so many frames: one frame counts as this part of one
CORRELATED_PIXELS = 256.0  # of a depth map, that count as one
LEAST_PIXELS_SHARE = 0.01  # of the image, with both depths
PATH_LOG_STD = 0.02  # of another odometry's displacement
PATH_STD_M = 0.005  # of its ends
LEAST_PATH_M = 0.05
MOST_PATH_LOG_STD = 0.3  # a displacement less certain than that is not used
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class ScaleMeasurement:
    """What a sensor measures of ln(metres per unit)."""

    log_scale: float
    variance: float


class ScaleFilter:
    """Kalman filter on x = ln(metres per unit): x_k = x_{k-1} + w, w ~ N(0, DRIFT_LOG_STD^2); z_k = x_k + v."""

    def __init__(self, log_scale: float, log_std: float) -> None:
        """The prior."""
        self.log_scale = log_scale
        self._variance = log_std**2
        self._rejected = 0

    @property
    def log_std(self) -> float:
        """Standard deviation of x."""
        return math.sqrt(self._variance)

    def predict(self) -> None:
        """One frame later."""
        self._variance += DRIFT_LOG_STD**2

    def update(self, measured: ScaleMeasurement) -> None:
        """X + K (z - x) with K = P / (P + R), P then (1 - K) P; outliers are rejected until they persist."""
        innovation = measured.log_scale - self.log_scale
        if innovation**2 > GATE**2 * (self._variance + measured.variance):
            self._rejected += 1
            if self._rejected < PERSISTENT:
                return
            self._variance = max(self._variance, innovation**2)
        self._rejected = 0
        gain = self._variance / (self._variance + measured.variance)
        self.log_scale += gain * innovation
        self._variance *= 1.0 - gain


class MetricSource:
    """A :class:`pomato_ros.sources.base.Source`: another one, its lengths multiplied by metres per unit."""

    def __init__(self, source: Source, options: ScaleOptions) -> None:
        """``options``: where metres come from; with scale_source model the unit stays the source's own."""
        self.source = source
        self._options = options
        self._filter = self._start()

    @property
    def capabilities(self) -> Capabilities:
        """Of the source, and metres where something measures them."""
        return replace(self.source.capabilities, metric=self._options.scale_source != "model")

    def prepare(self, frame: Frame) -> PreparedFrame:
        """As the source."""
        return self.source.prepare(frame)

    def predict(self, window: Window, request: PredictionRequest) -> Observation:
        """The source's observation in metres."""
        seen = self.source.predict(window, request)
        if self._options.scale_source in SENSORS:
            self._filter.predict()
            for measured in self._measure(window, seen):
                self._filter.update(measured)
        facts = {**seen.facts, "scale_log_std": self._filter.log_std}
        return rescaled(replace(seen, facts=facts), math.exp(self._filter.log_scale), self.capabilities.metric)

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """As the source."""
        self.source.warm_up(size_wh)

    def reset(self) -> None:
        """Source and scale."""
        self.source.reset()
        self._filter = self._start()

    def describe(self) -> dict[str, Any]:
        """Of the source."""
        return self.source.describe()

    def _start(self) -> ScaleFilter:
        source = self._options.scale_source
        if source in SENSORS:
            return ScaleFilter(0.0, UNKNOWN_LOG_STD)
        return ScaleFilter(math.log(self._options.scale) if source == "fixed" else 0.0, 0.0)

    def _measure(self, window: Window, seen: Observation) -> list[ScaleMeasurement]:
        newest = window.frames[-1]
        if self._options.scale_source == "depth":
            sensor_m = newest.depth_m
            found = [None if sensor_m is None or seen.depth is None else scale_from_depth(seen.depth, sensor_m)]
        else:
            found = [scale_from_path(prior, window) for prior in seen.pose_priors]
        return [measured for measured in found if measured is not None]


def scale_from_depth(depth: DepthMap, sensor_m: FloatArray) -> ScaleMeasurement | None:
    """Median of ln(sensor depth times inverse depth); None where too few pixels have both."""
    with np.errstate(invalid="ignore"):
        usable = depth.valid & (depth.inverse_depth > 0) & (sensor_m > 0) & (sensor_m < np.inf)
    if usable.sum() < max(LEAST_PIXELS_SHARE * usable.size, 1):
        return None
    logs = np.log(sensor_m[usable] * depth.inverse_depth[usable])
    middle = float(np.median(logs))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(logs - middle)))
    variance = spread**2 / max(logs.size / CORRELATED_PIXELS, 1.0) + DEPTH_LOG_STD**2
    return ScaleMeasurement(middle, REPEATED_FRAMES * variance)


def scale_from_path(prior: PosePrior, window: Window) -> ScaleMeasurement | None:
    """Log ratio of another odometry's displacement to the source's; None where either is too short or uncertain."""
    newest, earlier = window.frames[-1], window.frames[-1 - prior.gap]
    if newest.prior_from_camera is None or earlier.prior_from_camera is None:
        return None
    length_m = float(np.linalg.norm((invert(earlier.prior_from_camera) @ newest.prior_from_camera)[:3, 3]))
    path = prior.earlier_from_newest[:3, 3]
    length = float(np.linalg.norm(path))
    if length <= 0 or not LEAST_PATH_M <= length_m < math.inf:
        return None
    along = path / length
    variance = max(float(along @ prior.covariance[:3, :3] @ along), 0.0) / length**2
    variance += PATH_LOG_STD**2 + 2 * (PATH_STD_M / length_m) ** 2
    if variance > MOST_PATH_LOG_STD**2:
        return None
    return ScaleMeasurement(math.log(length_m / length), prior.gap * variance)  # gap windows share this path


def rescaled(seen: Observation, scale: float, metric: bool) -> Observation:
    """An observation with all lengths times ``scale``."""
    depth = seen.depth
    if depth is not None:
        share = np.float32(1.0 / scale)
        depth = replace(depth, inverse_depth=depth.inverse_depth * share, sigma=depth.sigma * share, metric=metric)
    priors = tuple(rescaled_prior(prior, scale) for prior in seen.pose_priors)
    return replace(seen, depth=depth, correspondence=rescaled_matches(seen.correspondence, scale), pose_priors=priors)


def rescaled_prior(prior: PosePrior, scale: float) -> PosePrior:
    """A pose prior with its translation times ``scale``."""
    pose, factor = prior.earlier_from_newest.copy(), np.array([scale] * 3 + [1.0] * 3)
    pose[:3, 3] *= scale
    return replace(prior, earlier_from_newest=pose, covariance=prior.covariance * np.outer(factor, factor))


def rescaled_matches(
    correspondence: Callable[[int], Correspondence | None], scale: float
) -> Callable[[int], Correspondence | None]:
    """Correspondences by gap, their earlier points times ``scale``."""

    def by_gap(gap: int) -> Correspondence | None:
        match = correspondence(gap)
        if match is None or match.points_earlier is None:
            return match
        return replace(match, points_earlier=match.points_earlier * np.float32(scale))

    return by_gap
