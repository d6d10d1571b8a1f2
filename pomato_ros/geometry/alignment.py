"""Similarities and robust scales between point sets; degenerate input is an error, never a guess."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RANK_TOLERANCE = 1e-9


class DegenerateAlignmentError(ValueError):
    """The points do not determine the alignment; the message says why."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """``target = scale * rotation @ source + translation``."""

    scale: float
    rotation: NDArray[np.float64]  # (3, 3)
    translation: NDArray[np.float64]  # (3,)

    def apply(self, points: ArrayLike) -> NDArray[np.float64]:
        """Source points (..., 3) -> target frame."""
        return self.scale * np.asarray(points, dtype=np.float64) @ self.rotation.T + self.translation

    def apply_to_poses(self, source_from_camera: ArrayLike) -> NDArray[np.float64]:
        """Poses (..., 4, 4) in the source frame -> rigid poses in the target frame: positions scaled, axes turned."""
        poses = np.array(source_from_camera, dtype=np.float64)
        poses[..., :3, 3] = self.apply(poses[..., :3, 3])
        poses[..., :3, :3] = self.rotation @ poses[..., :3, :3]
        return poses


@dataclass(frozen=True, slots=True)
class RobustScale:
    """A ratio of sizes and how sure it is."""

    scale: float
    log_spread: float  # median absolute deviation of the log ratios times 1.4826, about one standard deviation
    count: int  # ratios used


def align_similarity(
    source: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None, *, with_scale: bool = True
) -> Similarity:
    """Weighted least-squares similarity from ``source`` to ``target`` (Umeyama 1991, eq. 40-43).

    Args:
        source: (n, 3).
        target: (n, 3), the same points in another frame.
        weights: (n,), not negative; None weighs all alike.
        with_scale: False forces scale 1.

    Raises:
        DegenerateAlignmentError: fewer than three points with weight, points that are not finite, or points on a line
            or all in one place.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise ValueError(f"expected two arrays of shape (n, 3), got {source.shape} and {target.shape}")
    share = _shares(weights, len(source))
    source_mean, target_mean = share @ source, share @ target
    source_centred, target_centred = source - source_mean, target - target_mean
    covariance = (target_centred * share[:, None]).T @ source_centred
    _require_plane(source_centred, share, "source")
    _require_plane(target_centred, share, "target")
    left, singular, right = np.linalg.svd(covariance)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    variance = share @ (source_centred**2).sum(axis=-1)
    scale = float((singular * signs).sum() / variance) if with_scale else 1.0
    return Similarity(scale=scale, rotation=rotation, translation=target_mean - scale * rotation @ source_mean)


def robust_scale(source: ArrayLike, target: ArrayLike) -> RobustScale:
    """The factor from ``source`` to ``target`` sizes: the median of the log ratios, the lower one of two.

    Args:
        source: (...) positive sizes, such as depths or distances of points; others are left out.
        target: (...) the same quantities in the other unit.

    Raises:
        DegenerateAlignmentError: no pair of positive finite values is left.
    """
    source, target = np.ravel(source), np.ravel(target)
    kind = np.float32 if source.dtype == target.dtype == np.float32 else np.float64  # half the price for whole maps
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.divide(target, source, dtype=kind)
        usable = (source > 0) & (ratio > 0) & (ratio < np.inf)
    log_ratio = np.log(ratio[usable])
    if not len(log_ratio):
        raise DegenerateAlignmentError("no pair of positive finite sizes to compare; check masks and validity")
    middle = _lower_median(log_ratio)
    spread = 1.4826 * _lower_median(np.abs(log_ratio - middle))
    return RobustScale(scale=float(np.exp(middle)), log_spread=spread, count=len(log_ratio))


def _shares(weights: ArrayLike | None, count: int) -> NDArray[np.float64]:
    """Weights divided by their sum; at least three must be positive."""
    share = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (count,) or not np.all(share >= 0):
        raise ValueError(f"expected {count} weights that are not negative, got shape {share.shape}")
    positive = int((share > 0).sum())
    if positive < 3:
        raise DegenerateAlignmentError(f"a similarity needs at least three points with weight, got {positive}")
    return share / share.sum()


def _require_plane(centred: NDArray[np.float64], share: NDArray[np.float64], what: str) -> None:
    """Raise unless the weighted points span at least a plane."""
    if not np.isfinite(centred).all():
        raise DegenerateAlignmentError(f"{what} points must be finite; leave out invalid ones first")
    variances = np.linalg.eigvalsh((centred * share[:, None]).T @ centred)
    if not variances[1] > RANK_TOLERANCE * variances[2]:
        raise DegenerateAlignmentError(
            f"{what} points lie on one line or in one place; their rotation is not determined"
        )


def _lower_median(values: NDArray[np.floating]) -> float:
    """Smallest of the values (n,) that at least half of them do not exceed."""
    middle = (len(values) + 1) // 2 - 1
    return float(np.partition(values, middle)[middle])
