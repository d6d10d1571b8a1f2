"""An oracle that errs as networks do: true pointmaps with correlated noise, outliers and a unit that wanders."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.sources.dust3r.prediction import PairPrediction, Wanted, WindowPrediction
from pomato_ros.structures import FloatArray, Window
from pomato_ros.synthetic.clip import Clip

OWN, OTHER, MATCH, WINDOW = range(4)  # whose errors are drawn: X^{1,1}, X^{2,1}, X_m^{2,1}, a window's unit
KEPT_PAIRS = 64
GARBAGE_SMOOTH, GARBAGE_WHITE = 0.3, 0.1  # what a network makes of noise: shares of a made-up depth


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """How the predictions of a pair err."""

    relative_error: float = 0.02  # length of a point's error as a share of its depth, root mean square over the image
    ray_share: float = 0.8  # of its variance lies along the pixel's own ray, as networks err; the rest across it
    smooth_share: float = 0.5  # of the variance is smooth over the image, the rest is white
    smooth_length: float = 0.25  # share of the long side over which the smooth part's correlation falls to 1 / e
    frame_share: float = 0.5  # of the smooth variance belongs to the frame, whatever it is paired with
    neighbour_correlation: float = 0.8  # of a frame's part with that of the next frame
    unevenness: float = 0.5  # standard deviation of the log of the error's local size
    outlier_share: float = 0.05  # pixels that lie anywhere
    outlier_depths: tuple[float, float] = (0.2, 1.0)  # how far an outlier is off, shares of its depth
    confidence_power: float = 0.5  # confidence falls with this power of the error's local size; 1 would be calibrated
    confidence_spread: float = 0.3  # standard deviation of its log around that
    confidence_gain: tuple[float, float] = (2.0, 10.0)  # its level, another one in each window
    outlier_confidence: float = 0.4  # factor on the confidence of outliers
    scale_wander: float = 0.2  # a window's unit lies within this share of the usual one


@dataclass(frozen=True, slots=True)
class DepthSensor:
    """How a depth image errs: white, with ``sigma(z) = share * z + square_per_m * z^2``, as stereo cameras do."""

    share: float = 0.005
    square_per_m: float = 0.002
    hole_share: float = 0.1  # pixels without depth, anywhere
    range_m: float = 10.0  # no depth beyond

    def __str__(self) -> str:
        """For people."""
        return (
            f"{self.share:.1%} of depth + {self.square_per_m:g} depth^2/m white, {self.hole_share:.0%} holes, "
            f"{self.range_m:g} m range"
        )


ISSUE_NOISE = NoiseModel()
ISSUE_SENSOR = DepthSensor()


class NoisyOracle:
    """Predictions for windows of one clip's frames, recognised by their stamps.

    A pair's errors depend on the seed and the pair alone, so that a pair evaluated twice gives the same answer.
    """

    def __init__(
        self,
        clip: Clip,
        noise: NoiseModel = ISSUE_NOISE,
        seed: int = 0,
        units_per_metre: float = 0.7,
        blind: Collection[int] = (),
    ) -> None:
        """``units_per_metre``: about which windows' units wander; ``blind``: frames whose predictions are garbage."""
        self._clip, self._noise, self._seed, self._blind = clip, noise, seed, frozenset(blind)
        self._usual_units = units_per_metre
        self._number = {stamp_ns: number for number, stamp_ns in enumerate(clip.stamps_ns)}
        height, width = clip.depth_m.shape[1:]
        self._spread_y, self._spread_x = smooth_weights((height, width), noise.smooth_length * max(height, width))
        points = clip.points_camera(0).numpy()
        self._rays = points / np.linalg.norm(points, axis=-1, keepdims=True)
        self._frame_knots = neighbourly(
            np.random.default_rng([seed, len(clip)]),
            len(clip),
            (4, self._spread_y.shape[1], self._spread_x.shape[1]),
            noise.neighbour_correlation,
        )
        self._pairs: OrderedDict[tuple[int, int, int], _Maps] = OrderedDict()

    def describe(self) -> dict[str, Any]:
        """As the real predictor."""
        return {"image_size_px": max(self._clip.intrinsics.width_px, self._clip.intrinsics.height_px)}

    def units_per_metre(self, key: int) -> float:
        """The unit of windows whose key is frame ``key``."""
        wander = self._draws(key, key, WINDOW).uniform(-self._noise.scale_wander, self._noise.scale_wander)
        return float(self._usual_units * (1.0 + wander))

    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        """Both pair orders of a window against its key."""
        numbers = [self._number[frame.stamp_ns] for frame in window.frames]
        key = numbers[window.key]
        if wanted is not None:
            numbers = [numbers[slot] for slot in wanted.slots]
        return WindowPrediction(
            key=window.key,
            from_key=self._rows([(number, key) for number in numbers], key),
            to_key=self._rows([(key, number) for number in numbers], key),
            slots=None if wanted is None else wanted.slots,
        )

    def _rows(self, pairs: list[tuple[int, int]], key: int) -> PairPrediction:
        rows = [self._pair(one, two, key) for one, two in pairs]
        stacked = (torch.from_numpy(np.stack(maps)) for maps in zip(*rows, strict=True))
        points_1, conf_1, points_2, conf_2, points_match, conf_match = stacked
        return PairPrediction(points_1, conf_1, points_2, conf_2, points_match, conf_match)

    def _pair(self, one: int, two: int, key: int) -> "_Maps":
        """The six maps of a pair, from memory where it was asked for lately."""
        known = self._pairs.get((one, two, key))
        if known is None:
            known = self._pairs[one, two, key] = self._predict_pair(one, two, key)
            if len(self._pairs) > KEPT_PAIRS:
                self._pairs.popitem(last=False)
        return known

    def _predict_pair(self, one: int, two: int, key: int) -> "_Maps":
        """View 1 = frame ``one``, view 2 = frame ``two``, in the unit of the window of ``key``."""
        clip = self._clip
        blind_2 = one in self._blind or two in self._blind
        own = self._predict(clip.points_camera(one), one, (one, two), key, OWN, blind=one in self._blind)
        other = self._predict(clip.points_transferred(two, one), two, (one, two), key, OTHER, blind=blind_2)
        match = self._predict(clip.points_matched(two, one), two, (one, two), key, MATCH, blind=blind_2)
        return (*own, *other, *match)

    def _predict(
        self, truth: torch.Tensor, frame: int, pair: tuple[int, int], key: int, head: int, *, blind: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Points (h, w, 3) and confidence (h, w) of one head for the pixels of ``frame``; ``truth`` in metres.

        The points are in the camera of the pair's first frame.
        """
        draws = self._draws(*pair, head)
        unit = np.float32(self.units_per_metre(key))
        if blind:
            points, confidence = self._garbage(draws)
            return unit * points, confidence
        size = self._error_size(frame)
        depth: FloatArray = self._clip.depth_m[frame].numpy()
        error = (size[..., None] * self._error(draws, frame) @ self._rotation(pair[0], frame)).astype(np.float32)
        outlier = draws.random(depth.shape, dtype=np.float32) < self._noise.outlier_share
        error[outlier] = self._outliers(draws, int(outlier.sum()))
        points = (unit * (truth.numpy() + depth[..., None] * error)).astype(np.float32)
        return points, self._confidence(draws, key, size, outlier)

    def _error(self, draws: np.random.Generator, frame: int) -> FloatArray:
        """(h, w, 3) errors of the noise model's mean square, before their local size, along the axes of ``frame``."""
        noise = self._noise
        knots = draws.standard_normal((3, *self._frame_knots.shape[2:]), dtype=np.float32)
        frame_part, pair_part = self._smooth(self._frame_knots[frame, :3]), self._smooth(knots)
        smooth = np.sqrt(noise.frame_share) * frame_part + np.sqrt(1.0 - noise.frame_share) * pair_part
        white = draws.standard_normal(smooth.shape, dtype=np.float32)
        mixed = np.sqrt(noise.smooth_share) * smooth + np.sqrt(1.0 - noise.smooth_share) * white
        along = (mixed * self._rays).sum(axis=-1, keepdims=True) * self._rays
        across = np.sqrt(0.5 * (1.0 - noise.ray_share)) * (mixed - along)
        return (noise.relative_error * (np.sqrt(noise.ray_share) * along + across)).astype(np.float32)

    def _rotation(self, camera: int, frame: int) -> FloatArray:
        """(3, 3) by which rows of vectors along the axes of ``frame`` are turned to those of ``camera``."""
        poses = self._clip.world_from_camera
        return (poses[frame, :3, :3].T @ poses[camera, :3, :3]).numpy().astype(np.float32)

    def _error_size(self, frame: int) -> FloatArray:
        """(h, w) factor on the errors of a frame's pixels, of mean square 1."""
        log_size = self._noise.unevenness * self._smooth(self._frame_knots[frame, 3:])[..., 0]
        return np.exp(log_size - self._noise.unevenness**2).astype(np.float32)

    def _outliers(self, draws: np.random.Generator, count: int) -> FloatArray:
        """(n, 3) errors in any direction, shares of the depth."""
        direction = draws.standard_normal((count, 3), dtype=np.float32)
        length = draws.uniform(*self._noise.outlier_depths, size=(count, 1))
        return (length * direction / np.linalg.norm(direction, axis=-1, keepdims=True)).astype(np.float32)

    def _confidence(
        self, draws: np.random.Generator, key: int, size: FloatArray, outlier: NDArray[np.bool_]
    ) -> FloatArray:
        """(h, w) above 1: lower where the error is larger, but by a law of its own."""
        noise = self._noise
        low, high = np.log(noise.confidence_gain)
        gain = np.exp(np.random.default_rng([self._seed, key, key, WINDOW, 1]).uniform(low, high))
        spread = np.exp(noise.confidence_spread * draws.standard_normal(size.shape, dtype=np.float32))
        level = gain * size**-noise.confidence_power * spread
        return (1.0 + np.where(outlier, noise.outlier_confidence, 1.0) * level).astype(np.float32)

    def _garbage(self, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """What a network predicts for noise: some smooth surface in front of the camera, with low confidence."""
        rays = self._rays / self._rays[..., 2:]
        typical = float(self._clip.depth_m[0].median())
        knots = draws.standard_normal((3, *self._frame_knots.shape[2:]), dtype=np.float32)
        white = draws.standard_normal(rays.shape, dtype=np.float32)
        error = GARBAGE_SMOOTH * self._smooth(knots) + GARBAGE_WHITE * white
        confidence = 1.0 + 0.2 * draws.random(rays.shape[:2], dtype=np.float32)
        return (typical * (rays + error)).astype(np.float32), confidence.astype(np.float32)

    def _smooth(self, knots: FloatArray) -> FloatArray:
        """Knots (c, ky, kx) -> smooth fields (h, w, c) of variance 1 everywhere."""
        fields: FloatArray = (self._spread_y @ knots @ self._spread_x.T).astype(np.float32)
        return np.moveaxis(fields, 0, -1)

    def _draws(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *numbers])


_Maps = tuple[FloatArray, ...]


def sensed_depth(depth_m: FloatArray, sensor: DepthSensor, draws: np.random.Generator) -> FloatArray:
    """(h, w) true depth in metres -> what the sensor measures, NaN where it measures nothing."""
    sigma_m = sensor.share * depth_m + sensor.square_per_m * depth_m**2
    seen = depth_m + sigma_m * draws.standard_normal(depth_m.shape, dtype=np.float32)
    measured = (draws.random(depth_m.shape) >= sensor.hole_share) & (seen > 0) & (depth_m <= sensor.range_m)
    return np.where(measured, seen, np.float32(np.nan)).astype(np.float32)


def smooth_weights(shape: tuple[int, int], length_px: float) -> tuple[FloatArray, FloatArray]:
    """Weights (h, ky) and (w, kx) that spread white knots to fields whose correlation is 1 / e at ``length_px``."""
    return _axis_weights(shape[0], length_px), _axis_weights(shape[1], length_px)


def _axis_weights(size_px: int, length_px: float) -> FloatArray:
    """Gaussian kernels on knots half a length apart, which reach beyond both ends; rows have length 1."""
    half = 0.5 * length_px
    knots = half * np.arange(-3, np.ceil(size_px / half) + 4)
    weights = np.exp(-0.5 * ((np.arange(size_px)[:, None] - knots) / half) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def neighbourly(
    draws: np.random.Generator, count: int, shape: tuple[int, ...], correlation: float
) -> NDArray[np.float32]:
    """(count, *shape) standard normals, each correlated with the one before it."""
    values = draws.standard_normal((count, *shape), dtype=np.float32)
    for index in range(1, count):
        values[index] = correlation * values[index - 1] + np.sqrt(1.0 - correlation**2) * values[index]
    return values
