"""From the pointmaps of one pair (newest frame n, reference frame r) to records of the seam, each with its sigma.

A network gives the pixels of n twice at the same time: X^{n,n} in camera n and X^{n,r} in camera r. Where the camera
of n in r is known, the two differ by the network's error alone, whatever moves, so their spread calibrates sigma:
Var(log z) of one map = Var(log z^{n,n} - log z^{n,r}) / 2. Their mean is the better depth, and pixels that disagree by
many sigma are invalid. X_m^{n,r}, where the same points were at r's time, differs from X^{n,r} by the motion.
"""

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from pomato_ros.geometry.pnp import PnpFailure, PnpSolution, solve_pose
from pomato_ros.geometry.rigid import invert
from pomato_ros.structures import DepthMap, FloatArray, Intrinsics, MaskArray, MotionEvidence, PoseArray

MAD_TO_SIGMA = 1.4826  # of a normal distribution
SAMPLE_STRIDE_PX = 4  # of pixels from which one number is estimated; a network errs alike among neighbours
CORRELATED_PX = 16.0  # side of the square in which a network errs alike: as many pixels as it has count as one
GATE = 5.0  # sigma, beyond which two predictions of one point disagree
LEAST_LOG_SIGMA = 1e-3  # of ln z; no network is better
LEAST_PIXEL_SIGMA = 0.02  # px
LEAST_RATIOS = 30  # of depths, for one unit
CONFIDENCE_RANGE = (0.5, 2.0)  # factor on sigma that one pixel's confidence may have
CONFIDENT_SHARE = 0.7  # of the pixels, the most confident ones, take part in the pose
PNP_GATE_SHARE = 5.0 / 512.0  # of the long side, the published method's 5 px on images of 512 px
PNP_ITERATIONS = 100
MOVING_SHARE = 0.1  # prior probability that a pixel moves
MOTION_SPREAD = 6.0  # standard deviation of a moving pixel's motion in sigmas of one at rest
MEDIAN_PX = 5  # side of the neighbourhood whose median motion evidence is
LOG_ODDS_RANGE = (-4.0, 6.0)


@dataclass(frozen=True, slots=True)
class PairNoise:
    """Standard deviations of one map of a pair, estimated from all pixels."""

    log_depth: float  # of ln z
    pixel: float  # px, across the ray


@dataclass(frozen=True, slots=True)
class PointmapPair:
    """Maps of the newest frame's pixels, all in one unit; camera r is the reference's."""

    points_newest: FloatArray  # (h, w, 3) X^{n,n}, camera n
    conf_newest: FloatArray  # (h, w), above 1
    points_reference: FloatArray  # (h, w, 3) X^{n,r}, camera r
    conf_reference: FloatArray
    points_earlier: FloatArray  # (h, w, 3) X_m^{n,r}, camera r, at r's time
    conf_earlier: FloatArray

    def thinned(self) -> "PointmapPair":
        """Every :data:`SAMPLE_STRIDE_PX`-th row and column."""
        few = (slice(None, None, SAMPLE_STRIDE_PX), slice(None, None, SAMPLE_STRIDE_PX))
        return PointmapPair(*(getattr(self, item.name)[few] for item in fields(self)))

    def scaled(self, factor: float, newest_factor: float) -> "PointmapPair":
        """Points of camera r times ``factor``, those of camera n times ``newest_factor``."""
        return replace(
            self,
            points_newest=self.points_newest * np.float32(newest_factor),
            points_reference=self.points_reference * np.float32(factor),
            points_earlier=self.points_earlier * np.float32(factor),
        )


def project_points(points: FloatArray, camera: Intrinsics) -> FloatArray:
    """(..., 2) x, y px of points (..., 3) in the camera; NaN behind it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        nearness = np.where(points[..., 2] > 0, 1.0 / points[..., 2], np.nan)
    x = camera.fx_px * points[..., 0] * nearness + camera.cx_px
    y = camera.fy_px * points[..., 1] * nearness + camera.cy_px
    return np.stack((x, y), axis=-1).astype(np.float32)


def in_bounds(pixels: FloatArray, size_hw: tuple[int, int]) -> MaskArray:
    """(h, w) whether pixels (h, w, 2) lie on the image; not where they are NaN."""
    x, y = pixels[..., 0], pixels[..., 1]
    return (x >= 0) & (x <= size_hw[1] - 1) & (y >= 0) & (y <= size_hw[0] - 1)


def spread(residuals: FloatArray) -> float:
    """Standard deviation by the median absolute deviation from 0; NaN of nothing."""
    finite = residuals[np.isfinite(residuals)]
    return MAD_TO_SIGMA * float(np.median(np.abs(finite))) if finite.size else float("nan")


def thinned_pixels(size_hw: tuple[int, int]) -> FloatArray:
    """(h', w', 2) x, y px of every :data:`SAMPLE_STRIDE_PX`-th row and column."""
    y, x = np.mgrid[: size_hw[0] : SAMPLE_STRIDE_PX, : size_hw[1] : SAMPLE_STRIDE_PX]
    return np.stack((x, y), axis=-1).astype(np.float32)


def locate_newest(few: PointmapPair, at_rest: MaskArray, camera: Intrinsics) -> PnpSolution | PnpFailure:
    """Camera n in camera r by PnP of n's pixels on X^{n,r}.

    Args:
        few: maps of every :data:`SAMPLE_STRIDE_PX`-th pixel.
        at_rest: of these, what may take part.
        camera: of the whole image.
    """
    usable = at_rest & np.isfinite(few.points_reference).all(axis=-1)
    if usable.any():
        usable &= few.conf_reference >= np.quantile(few.conf_reference[usable], 1.0 - CONFIDENT_SHARE)
    return solve_pose(
        thinned_pixels((camera.height_px, camera.width_px))[usable],
        few.points_reference[usable],
        camera.matrix(),
        threshold_px=PNP_GATE_SHARE * max(camera.width_px, camera.height_px),
        iterations=PNP_ITERATIONS,
        seed=0,
    )


def correlated_covariance(solution: PnpSolution) -> PoseArray:
    """(6, 6) covariance of a pose on every :data:`SAMPLE_STRIDE_PX`-th pixel, whose errors are correlated."""
    return np.asarray(solution.covariance * (CORRELATED_PX / SAMPLE_STRIDE_PX) ** 2)


def newest_points_of_reference(pair: PointmapPair, reference_from_newest: PoseArray) -> FloatArray:
    """(h, w, 3) X^{n,r} in camera n."""
    newest_from_reference = invert(reference_from_newest)
    return (
        pair.points_reference @ newest_from_reference[:3, :3].T.astype(np.float32)
        + newest_from_reference[:3, 3].astype(np.float32)
    ).astype(np.float32)


def measure_noise(few: PointmapPair, points_again: FloatArray, camera: Intrinsics) -> PairNoise:
    """Standard deviations of one map, from two predictions of the same points.

    What both predictions share of their errors does not show in it.

    Args:
        few: maps of every :data:`SAMPLE_STRIDE_PX`-th pixel.
        points_again: (h', w', 3) X^{n,r} of these in camera n.
        camera: of the whole image.
    """
    log_depth = spread(log_ratio(few.points_newest[..., 2], points_again[..., 2])) / np.sqrt(2.0)
    across = project_points(points_again, camera) - thinned_pixels((camera.height_px, camera.width_px))
    return PairNoise(max(log_depth, LEAST_LOG_SIGMA), max(spread(across), LEAST_PIXEL_SIGMA))


def log_ratio(one: FloatArray, other: FloatArray) -> FloatArray:
    """ln(one / other) of depths, NaN where either is not in front of the camera."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((one > 0) & (other > 0), np.log(one / other), np.nan).astype(np.float32)


def median_ratio(one: FloatArray, other: FloatArray) -> float | None:
    """Median of one / other of depths; None where fewer than :data:`LEAST_RATIOS` can be compared."""
    ratios = log_ratio(one, other)
    ratios = ratios[np.isfinite(ratios)]
    return float(np.exp(np.median(ratios))) if ratios.size >= LEAST_RATIOS else None


def sample_depth(depth: DepthMap, pixels: FloatArray) -> FloatArray:
    """(...) depth at the nearest of pixels (..., 2); NaN off the image and where not valid."""
    inside = in_bounds(pixels, depth.valid.shape)
    x, y = (np.rint(np.where(inside, pixels[..., axis], 0.0)).astype(np.intp) for axis in (0, 1))
    usable = inside & depth.valid[y, x] & (depth.inverse_depth[y, x] > 0)
    with np.errstate(divide="ignore"):
        return np.where(usable, 1.0 / depth.inverse_depth[y, x], np.nan).astype(np.float32)


def fused_depth(pair: PointmapPair, points_again: FloatArray, noise: PairNoise, log_sigma: float) -> DepthMap:
    """Geometric mean of both predictions of the newest frame's depth; invalid where they disagree.

    Args:
        pair: maps of all pixels.
        points_again: (h, w, 3) X^{n,r} in camera n.
        noise: of one map.
        log_sigma: standard deviation of the mean's ln z.
    """
    factor = np.maximum(confidence_factor(pair.conf_newest), confidence_factor(pair.conf_reference))
    ratio = log_ratio(points_again[..., 2], pair.points_newest[..., 2])
    valid = np.abs(ratio) < GATE * np.sqrt(2.0) * noise.log_depth * factor  # not where NaN
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.exp(-0.5 * ratio) / pair.points_newest[..., 2]
    inverse = np.where(valid, inverse, 0.0).astype(np.float32)
    return DepthMap(inverse, (inverse * factor * log_sigma).astype(np.float32), valid, metric=False)


def single_depth(points: FloatArray, confidence: FloatArray, log_sigma: float) -> DepthMap:
    """Depth of one pointmap (h, w, 3) in its own camera."""
    valid = np.isfinite(points).all(axis=-1) & (points[..., 2] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(valid, 1.0 / points[..., 2], 0.0).astype(np.float32)
    sigma = (inverse * confidence_factor(confidence) * log_sigma).astype(np.float32)
    return DepthMap(inverse, sigma, valid, metric=False)


def confidence_factor(confidence: FloatArray) -> FloatArray:
    """(h, w) factor on sigma: the confidence loss c |e| - a ln c makes errors inversely proportional to confidence.

    Relative to the image's median, within :data:`CONFIDENCE_RANGE`: the level is calibrated by :func:`measure_noise`.
    """
    factor = float(np.median(confidence)) / np.maximum(confidence, 1e-6)
    return np.clip(factor, *CONFIDENCE_RANGE).astype(np.float32)


def motion_evidence(pair: PointmapPair, noise: PairNoise, camera: Intrinsics) -> MotionEvidence:
    """Log-odds from X_m^{n,r} - X^{n,r} in sigma, split along camera r's rays and across them.

    At rest each component is N(0, 2 sigma^2), moving N(0, s^2 2 sigma^2) with s = :data:`MOTION_SPREAD`, hence
    ln p(r | moving) - ln p(r | at rest) = (1 - 1 / s^2) r^T r / 2 - 3 ln s. A median over neighbours removes outliers.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.log(pair.points_earlier[..., 2] / pair.points_reference[..., 2])
    across = project_points(pair.points_earlier, camera) - project_points(pair.points_reference, camera)
    factor = np.maximum(confidence_factor(pair.conf_earlier), confidence_factor(pair.conf_reference))
    squared = (along / noise.log_depth) ** 2 + (across**2).sum(axis=-1) / max(noise.pixel, 1e-3) ** 2
    squared = squared / (2.0 * factor**2)
    ratio = 0.5 * (1.0 - MOTION_SPREAD**-2) * squared - 3.0 * np.log(MOTION_SPREAD)
    log_odds = np.clip(ratio + np.log(MOVING_SHARE / (1.0 - MOVING_SHARE)), *LOG_ODDS_RANGE)
    log_odds = np.where(np.isfinite(log_odds), log_odds, 0.0).astype(np.float32)
    return MotionEvidence(np.asarray(cv2.medianBlur(log_odds, MEDIAN_PX), np.float32))
