"""What the images say of a pixel's place in an earlier frame: at its match, and where it would be at rest."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import MotionTuning
from pomato_ros.scene.flow import sample
from pomato_ros.structures import FloatArray, MaskArray

PATCH_PX = 3  # side of the patches that are compared
SLOPE_SHARE = 0.5  # of the brightness range around a pixel, which a shift of half a pixel explains


def preference_for_match(
    newest: NDArray[np.uint8],
    earlier: NDArray[np.uint8],
    at_match: FloatArray,
    at_rest: FloatArray,
    tuning: MotionTuning,
) -> FloatArray:
    """(h, w) from 0, where rest explains the image as well as the match does, to 1, where it does not.

    Args:
        newest: (h, w).
        earlier: (h, w).
        at_match: (h, w, 2) px in the earlier image.
        at_rest: (h, w, 2) px in the earlier image.
        tuning: ``gate_levels``.
    """
    moved, rested = (unexplained(newest, earlier, pixels) for pixels in (at_match, at_rest))
    better = cv2.blur(rested - moved, (PATCH_PX, PATCH_PX))
    return np.clip(better / np.float32(tuning.gate_levels), 0.0, 1.0)


def unexplained(newest: NDArray[np.uint8], earlier: NDArray[np.uint8], pixels: FloatArray) -> FloatArray:
    """(h, w) grey levels by which a pixel is outside the range of the pixels next to its place in an earlier image.

    An error of a pixel in the place explains that range, however steep the texture.

    Args:
        newest: (h, w).
        earlier: (h, w).
        pixels: (h, w, 2) px in the earlier image.
    """
    window = np.ones((PATCH_PX, PATCH_PX), np.uint8)
    above = cv2.subtract(newest, sample(cv2.dilate(earlier, window), pixels))
    below = cv2.subtract(sample(cv2.erode(earlier, window), pixels), newest)
    return np.maximum(above, below).astype(np.float32)


def mismatch_at_rest(
    newest: NDArray[np.uint8],
    earlier: NDArray[np.uint8],
    at_rest: FloatArray,
    chosen: MaskArray,
    tuning: MotionTuning,
) -> FloatArray:
    """(h, w) log-odds of motion where the earlier image differs from the newest one at a pixel's place at rest.

    A common change of brightness, and what an error of half a pixel explains, does not count.

    Args:
        newest: (h, w).
        earlier: (h, w).
        at_rest: (h, w, 2) px in the earlier image.
        chosen: (h, w) pixels to answer for; 0 elsewhere.
        tuning: ``photo_levels`` and ``most_photo``.
    """
    if not chosen.any():
        return np.zeros(newest.shape, np.float32)
    change = newest.astype(np.float32) - sample(earlier.astype(np.float32), at_rest)
    change -= np.float32(np.median(change[chosen]))
    differs = cv2.blur(np.abs(change), (PATCH_PX, PATCH_PX))
    slope = cv2.morphologyEx(newest, cv2.MORPH_GRADIENT, np.ones((PATCH_PX, PATCH_PX), np.uint8))
    excess = (differs - np.float32(SLOPE_SHARE) * slope) / np.float32(tuning.photo_levels) - np.float32(1.0)
    return np.where(chosen, np.clip(excess, 0.0, tuning.most_photo), np.float32(0.0)).astype(np.float32)
