"""3-D point track metrics after TAPVid-3D (average points within threshold), and the alignments used before them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

THRESHOLDS_PX = (1, 2, 4, 8, 16)
SCORING_SHORT_SIDE_PX = 256


@dataclass(frozen=True, slots=True)
class TrackMetrics:
    """Shares between 0 and 1 over all scored track positions."""

    occlusion_accuracy: float
    pts_within: dict[int, float]  # by threshold in px
    jaccard: dict[int, float]
    average_pts_within_thresh: float  # APD
    average_jaccard: float


def evaluate_tracks(
    predicted: ArrayLike,
    truth: ArrayLike,
    focal_px: tuple[float, float],
    predicted_visible: ArrayLike,
    true_visible: ArrayLike,
    *,
    rescale: bool = True,
) -> TrackMetrics:
    """Score tracks in the camera of their own frame. The protocol leaves the query frame out: drop it before.

    A point is right within ``k`` px if it is nearer to the truth than ``k * z / sqrt(fx * fy)``: what k pixels span at
    its true depth.

    Args:
        predicted: (t, n, 3).
        truth: (t, n, 3).
        focal_px: (fx, fy) for an image whose short side is 256 px (:func:`scoring_focal`).
        predicted_visible: (t, n).
        true_visible: (t, n); positions that are not visible are only scored as occluded or not.
        rescale: first multiply the prediction by the ratio of median distances from the camera.
    """
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    seen, truly_seen = np.asarray(predicted_visible, dtype=bool), np.asarray(true_visible, dtype=bool)
    if predicted.shape != truth.shape or seen.shape != truth.shape[:2] or truly_seen.shape != truth.shape[:2]:
        raise ValueError(
            f"expected tracks (t, n, 3) and visibility (t, n), got {predicted.shape}, {truth.shape}, {seen.shape}, "
            f"{truly_seen.shape}"
        )
    if not truly_seen.any():
        raise ValueError("no true position is visible; nothing can be scored")
    if rescale:
        predicted = predicted * median_norm_ratio(predicted, truth, truly_seen)
    distance = np.linalg.norm(predicted - truth, axis=-1)
    unit = truth[..., 2] / np.sqrt(focal_px[0] * focal_px[1])
    within = {k: distance < k * unit for k in THRESHOLDS_PX}
    pts_within = {k: float((right & truly_seen).sum() / truly_seen.sum()) for k, right in within.items()}
    jaccard = {k: _jaccard(right, seen, truly_seen) for k, right in within.items()}
    return TrackMetrics(
        occlusion_accuracy=float(np.mean(seen == truly_seen)),
        pts_within=pts_within,
        jaccard=jaccard,
        average_pts_within_thresh=float(np.mean(list(pts_within.values()))),
        average_jaccard=float(np.mean(list(jaccard.values()))),
    )


def scoring_focal(focal_px: tuple[float, float], image_size_wh: tuple[int, int]) -> tuple[float, float]:
    """(fx, fy) rescaled to an image whose short side is 256 px."""
    scale = SCORING_SHORT_SIDE_PX / min(image_size_wh)
    return focal_px[0] * scale, focal_px[1] * scale


def median_norm_ratio(predicted: ArrayLike, truth: ArrayLike, visible: ArrayLike) -> float:
    """Median distance from the camera of true over predicted visible points; (t, n, 3) and (t, n)."""
    visible = np.asarray(visible, dtype=bool)
    true_median = np.median(np.linalg.norm(np.asarray(truth, dtype=np.float64)[visible], axis=-1))
    return float(true_median / np.median(np.linalg.norm(np.asarray(predicted, dtype=np.float64)[visible], axis=-1)))


def scale_and_shift_per_axis(
    predicted: ArrayLike, truth: ArrayLike, visible: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares ``predicted * scale + shift = truth`` for each axis alone; only to compare with published figures.

    Six numbers per clip are fitted to the truth: this is no fair measure of a tracker.

    Args:
        predicted: (t, n, 3).
        truth: (t, n, 3).
        visible: (t, n), positions to fit.

    Returns:
        scale (3,), shift (3,).
    """
    visible = np.asarray(visible, dtype=bool)
    known = np.asarray(predicted, dtype=np.float64)[visible]
    wanted = np.asarray(truth, dtype=np.float64)[visible]
    ones = np.ones(len(known))
    fits = [
        np.linalg.lstsq(np.stack((known[:, axis], ones), axis=-1), wanted[:, axis], rcond=None)[0] for axis in range(3)
    ]
    scale, shift = np.stack(fits, axis=-1)
    return scale, shift


def _jaccard(within: NDArray[np.bool_], seen: NDArray[np.bool_], truly_seen: NDArray[np.bool_]) -> float:
    """True positives over truth and false positives; a visible guess that is too far off counts against twice."""
    true_positives = (within & seen & truly_seen).sum()
    false_positives = (seen & ~(within & truly_seen)).sum()
    return float(true_positives / (truly_seen.sum() + false_positives))
