"""From log-odds on a coarse grid to moving regions with the image's edges."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import MotionTuning
from pomato_ros.scene.free_space import DepthGrid
from pomato_ros.structures import FloatArray, MaskArray

LEAST_SEGMENT_PX = 12  # of the grid; smaller segments are no surfaces
EDGE_PX = 3  # side of the window that an edge is found in


def completed(
    log_odds: FloatArray, gray: NDArray[np.uint8], depth: DepthGrid | None, tuning: MotionTuning
) -> FloatArray:
    """(h, w) log-odds where pixels that little is known of take the mean of their segment.

    Segments are bounded by edges of the image and of the depth. Nothing is concluded where too little is known.

    Args:
        log_odds: (h, w).
        gray: (h, w).
        depth: (h, w) on the same grid, or None.
        tuning: ``segment_levels``, ``segment_depth`` and ``segment_share``.
    """
    count, labels = cv2.connectedComponents((~_edges(gray, depth, tuning)).astype(np.uint8), connectivity=4)
    certain = np.minimum(np.abs(log_odds), np.float32(1.0))
    weights = np.bincount(labels.ravel(), certain.ravel(), count)
    sums = np.bincount(labels.ravel(), (certain * log_odds).ravel(), count)
    sizes = np.bincount(labels.ravel(), minlength=count)
    concluded = (weights >= tuning.segment_share * sizes) & (sizes >= LEAST_SEGMENT_PX) & (weights > 0)
    concluded[0] = False  # edges
    means = np.divide(sums, weights, out=np.zeros(count), where=concluded).astype(np.float32)
    whole = certain * log_odds + (np.float32(1.0) - certain) * means[labels]
    return np.where(concluded[labels], whole, log_odds).astype(np.float32)


def _edges(gray: NDArray[np.uint8], depth: DepthGrid | None, tuning: MotionTuning) -> MaskArray:
    """(h, w) pixels on an edge of the image or of the depth."""
    window = np.ones((EDGE_PX, EDGE_PX), np.uint8)
    edges = cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, window) > tuning.segment_levels
    if depth is not None:
        jump = cv2.morphologyEx(depth.inverse_depth, cv2.MORPH_GRADIENT, window)
        edges |= (jump > np.float32(tuning.segment_depth) * depth.inverse_depth) & depth.known
    return np.asarray(edges)


def guided(values: FloatArray, gray: NDArray[np.uint8], radius_px: int, edge_levels: float) -> FloatArray:
    """(h, w) values smoothed except across edges of an image: the guided filter (He, Sun, Tang 2010).

    Args:
        values: (h, w).
        gray: (h, w) the guide.
        radius_px: of the windows in which values are linear in brightness.
        edge_levels: brightness differences above it are kept as edges.
    """
    guide, window = gray.astype(np.float32), (2 * radius_px + 1, 2 * radius_px + 1)
    mean_guide, mean_values = cv2.blur(guide, window), cv2.blur(values, window)
    covariance = cv2.blur(guide * values, window) - mean_guide * mean_values
    variance = cv2.blur(guide * guide, window) - mean_guide * mean_guide
    slope = covariance / (variance + np.float32(edge_levels**2))
    offset = mean_values - slope * mean_guide
    return np.asarray(cv2.blur(slope, window) * guide + cv2.blur(offset, window))


def regions(log_odds: FloatArray, tuning: MotionTuning) -> MaskArray:
    """(h, w) connected pixels above ``go_on`` that are many enough, and above ``begin`` in some window's mean."""
    candidates = log_odds > np.float32(tuning.go_on)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(candidates.astype(np.uint8), connectivity=4)
    side_px = max(3, 2 * round(0.5 * tuning.seed_side * log_odds.shape[1]) + 1)
    seeds = candidates & (cv2.blur(log_odds, (side_px, side_px)) > np.float32(tuning.begin))
    kept = statistics[:, cv2.CC_STAT_AREA] >= tuning.least_share * log_odds.size
    kept &= np.bincount(labels[seeds], minlength=count) > 0
    kept[0] = False
    return np.asarray(kept[labels])
