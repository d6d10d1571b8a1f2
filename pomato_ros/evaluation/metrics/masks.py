"""Mask metrics: intersection over union, and DAVIS's region similarity J."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RECALL_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class RegionSimilarity:
    """J over the frames of one sequence (Perazzi et al. 2016)."""

    mean: float
    recall: float  # share of frames with IoU above 0.5


@dataclass(frozen=True, slots=True)
class MaskCounts:
    """Pixels of all frames of a sequence."""

    both: int  # called moving, and moving
    either: int  # called moving, or moving
    moving: int
    total: int


def count_mask(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> MaskCounts:
    """Counts over masks (t, h, w)."""
    return MaskCounts(
        both=int((predicted & truth).sum()),
        either=int((predicted | truth).sum()),
        moving=int(truth.sum()),
        total=truth.size,
    )


def intersection_over_union(predicted: ArrayLike, truth: ArrayLike) -> float:
    """IoU of two masks of one shape; over several frames, pixels of all frames together. Two empty masks agree: 1."""
    predicted, truth = np.asarray(predicted, dtype=bool), np.asarray(truth, dtype=bool)
    if predicted.shape != truth.shape:
        raise ValueError(f"expected masks of one shape, got {predicted.shape} and truth {truth.shape}")
    union = int((predicted | truth).sum())
    return float((predicted & truth).sum() / union) if union else 1.0


def region_similarity(predicted: ArrayLike, truth: ArrayLike) -> RegionSimilarity:
    """Masks (t, h, w) of one sequence; DAVIS's protocol leaves the first and the last frame out: drop them before."""
    predicted, truth = np.asarray(predicted, dtype=bool), np.asarray(truth, dtype=bool)
    if not len(truth) or len(predicted) != len(truth):
        raise ValueError(f"expected as many masks as true ones, at least one, got {len(predicted)} and {len(truth)}")
    values = np.array([intersection_over_union(p, t) for p, t in zip(predicted, truth, strict=True)])
    return RegionSimilarity(mean=float(values.mean()), recall=float(np.mean(values > RECALL_THRESHOLD)))
