"""The moving mask over time: the paper's disagreement, freed of what errs alone, and a belief that follows the image.

The paper's rule flags a tail of pixels even where nothing moves, and nothing where most of the image does. Here the
motion of each pixel is a median over its neighbours, compared with a floor that falls and rises with the network's
confidence; the image's median counts by its lower quartile, and only so far. What is believed moves on with the image,
and a pixel needs more to begin moving than to go on.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.scene.reference import PairMaps
from pomato_ros.structures import FloatArray, MaskArray

BLUR_PX = 5  # medians of neighbours
CONFIDENCE_PX = 9  # mean of confidences
SMOOTHED_FLOOR = 0.3  # of the floor is left where errors of single pixels are gone
UNMOVED_FLOOR = 0.03  # floors; a pixel whose own point went less than this is at rest whatever its neighbours do
HIGHEST_FLOOR = 0.3  # floors; the image's own quartile may ask for no more
DOUBT = (0.5, 3.0)  # within which confidence changes the floor
REST = -0.8  # what a pixel without motion counts for, and
MOTION = 2.0  # the most that one with motion does, in floors
MEMORY = 0.6  # of what was believed
BELIEF = 3.0  # the most that is believed
BEGINS, GOES_ON = 1.0, 0.3  # belief from which a region moves, and to which it reaches
LEAST_SHARE = 0.002  # of the image; smaller regions are none
FLOW_PX = 256  # long side of the image that beliefs are carried on


@dataclass(frozen=True, slots=True)
class MaskParts:
    """Which parts of the method take part: all, but where it is measured what each is worth (mask_ablation)."""

    quartile: bool = True  # the paper's rule: motion beyond what is usual in the image
    distance: bool = True  # motion as a share of each point's distance, else of the image's typical one
    confidence: bool = True  # the floor falls and rises with it
    floor: bool = True  # less motion is none, however little the rest of the image moves
    medians: bool = True  # over neighbours, which keep edges
    own_motion: bool = True  # a pixel at rest is left out, whatever its neighbours do
    memory: bool = True  # votes of the frames before
    hysteresis: bool = True  # a region needs more to begin moving than to go on
    least_area: bool = True  # smaller regions are none


ALL_PARTS = MaskParts()


class MovingMask:
    """What is believed to move, from frame to frame."""

    def __init__(self, parts: MaskParts = ALL_PARTS) -> None:
        """Nothing is."""
        self._parts = parts
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.forget()

    def forget(self) -> None:
        """Nothing is believed any more, as after a frame without sense."""
        self._belief: FloatArray | None = None
        self._grey: NDArray[np.uint8] | None = None
        self.flow_to_before: FloatArray | None = None  # (h, w, 2) px from the newest image to the one before

    def update(self, image_rgb: NDArray[np.uint8], maps: PairMaps | None, alpha: float, floor: float) -> MaskArray:
        """(h, w) pixels of the newest image that move.

        Args:
            image_rgb: (h, w, 3).
            maps: of the pair whose view 2 is the image; None if it is its own reference, which tells nothing.
            alpha: quartiles of the image's motion that a pixel must exceed.
            floor: share of a point's distance that it must have moved, before errors of single pixels are taken out.
        """
        grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
        steps = None if maps is None else steps_of_pixels(maps, self._parts)
        if maps is None or steps is None:
            told = np.zeros(grey.shape, np.float32)
        else:
            told = evidence(steps, maps, alpha, floor, self._parts)
        self.flow_to_before = None
        if self._belief is not None and self._grey is not None:
            self.flow_to_before = self._flow_between(grey, self._grey)
            kept = np.float32(MEMORY if self._parts.memory or maps is None else 0.0)
            told = told + kept * carried_along(self._belief, self.flow_to_before)
        self._belief = np.clip(told, -BELIEF, BELIEF)
        self._grey = grey
        found = regions(self._belief, self._parts)
        if steps is None or not self._parts.own_motion:
            return found
        return found & (lengths(steps) > UNMOVED_FLOOR * floor)

    def _flow_between(self, grey: NDArray[np.uint8], before: NDArray[np.uint8]) -> FloatArray:
        """(h, w, 2) pixels from each of the newest image to the one before."""
        factor = FLOW_PX / max(grey.shape)
        small, small_before = (cv2.resize(item, None, fx=factor, fy=factor) for item in (grey, before))
        return cv2.resize(self._flow.calc(small, small_before, None), grey.shape[::-1]) / np.float32(factor)


def carried_along(belief: FloatArray, flow: FloatArray) -> FloatArray:
    """The belief (h, w) about the image before at the newest pixels, from which ``flow`` (h, w, 2) goes back."""
    height, width = belief.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(belief, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.blur(moved, (3, 3))


def evidence(steps: FloatArray, maps: PairMaps, alpha: float, floor: float, parts: MaskParts) -> FloatArray:
    """(h, w) how many floors each pixel of view 2 moved beyond the first; below zero where it rests.

    ``steps``: (h, w, 3) what :func:`steps_of_pixels` says of ``maps``.
    """
    motion = lengths(without_strays(steps) if parts.medians else steps)
    level = (SMOOTHED_FLOOR * floor if parts.floor else 0.0) * (doubt(maps) if parts.confidence else 1.0)
    quartile = alpha * float(np.quantile(motion, 0.25)) if parts.quartile else 0.0
    quartile = min(quartile, HIGHEST_FLOOR * floor) if parts.floor else quartile
    return np.clip(motion / np.maximum(np.maximum(level, quartile), 1e-9) - 1.0, REST, MOTION).astype(np.float32)


def steps_of_pixels(maps: PairMaps, parts: MaskParts) -> FloatArray:
    """(h, w, 3) how view 2's points moved, shares of their distance; 0 where not told."""
    points, match = maps.points_2.numpy(), maps.points_match.numpy()
    with np.errstate(all="ignore"):
        distance = lengths(points)[..., None]
        moved = (match - points) / (distance if parts.distance else np.nanmedian(distance))
        told = np.isfinite(moved[..., 0] + moved[..., 1] + moved[..., 2])  # of the sum: three times as fast as of each
    return np.where(told[..., None], moved, np.float32(0.0)).clip(-1e3, 1e3).astype(np.float32)


def lengths(vectors: FloatArray) -> FloatArray:
    """(...) of vectors (..., 3); several times as fast as NumPy's norm along so short an axis."""
    return np.sqrt(np.einsum("...i,...i->...", vectors, vectors))


def without_strays(values: NDArray[np.floating]) -> FloatArray:
    """(h, w) or (h, w, 3), each channel's median over neighbours; nothing may be NaN."""
    return cv2.medianBlur(np.ascontiguousarray(values, np.float32), BLUR_PX)


def doubt(maps: PairMaps) -> FloatArray:
    """(h, w) factor about 1: the image's typical confidence over that around each pixel."""
    least = np.minimum(maps.conf_2.numpy(), maps.conf_match.numpy()) - 1.0
    around = cv2.blur(np.where(np.isfinite(least), least, 0.0).astype(np.float32), (CONFIDENCE_PX, CONFIDENCE_PX))
    return np.clip(np.median(around) / np.maximum(around, 1e-6), *DOUBT)


def regions(belief: FloatArray, parts: MaskParts = ALL_PARTS) -> MaskArray:
    """(h, w) connected pixels above GOES_ON that hold one above BEGINS and are large enough."""
    goes_on = belief > (GOES_ON if parts.hysteresis else BEGINS)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(goes_on.astype(np.uint8), connectivity=4)
    begun = np.zeros(count, bool)
    begun[np.unique(labels[belief > BEGINS])] = True
    begun[0] = False
    least = LEAST_SHARE * belief.size if parts.least_area else 0.0
    return (begun & (facts[:, cv2.CC_STAT_AREA] >= least))[labels]
