"""The moving mask over time: the paper's disagreement, freed of what errs alone, and a belief that follows the image.

The paper's rule flags a tail of pixels even where nothing moves, and nothing where most of the image does. Here the
motion of each pixel is a median over its neighbours, compared with a floor that falls and rises with the network's
confidence; the image's median counts by its lower quartile, and only so far. What is believed moves on with the image,
and a pixel needs more to begin moving than to go on.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.scene.reference import PairMaps
from pomato_ros.structures import FloatArray, MaskArray

BLUR_PX = 5  # medians of neighbours
CONFIDENCE_PX = 9  # mean of confidences
SMOOTHED_FLOOR = 0.375  # of the floor is left where errors of single pixels are gone
UNMOVED_FLOOR = 0.03  # floors; a pixel whose own point went less than this is at rest whatever its neighbours do
HIGHEST_FLOOR = 1.0  # floors; the image's own quartile may ask for no more
DOUBT = (0.5, 3.0)  # within which confidence changes the floor
REST = -0.8  # what a pixel without motion counts for, and
MOTION = 2.0  # the most that one with motion does, in floors
MEMORY = 0.6  # of what was believed
BELIEF = 3.0  # the most that is believed
BEGINS, GOES_ON = 1.0, 0.3  # belief from which a region moves, and to which it reaches
LEAST_SHARE = 0.002  # of the image; smaller regions are none
FLOW_PX = 256  # long side of the image that beliefs are carried on


class MovingMask:
    """What is believed to move, from frame to frame."""

    def __init__(self) -> None:
        """Nothing is."""
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.forget()

    def forget(self) -> None:
        """Nothing is believed any more, as after a frame without sense."""
        self._belief: FloatArray | None = None
        self._grey: NDArray[np.uint8] | None = None

    def update(self, image_rgb: NDArray[np.uint8], maps: PairMaps | None, alpha: float, floor: float) -> MaskArray:
        """(h, w) pixels of the newest image that move.

        Args:
            image_rgb: (h, w, 3).
            maps: of the pair whose view 2 is the image; None if it is its own reference, which tells nothing.
            alpha: quartiles of the image's motion that a pixel must exceed.
            floor: share of a point's distance that it must have moved, before errors of single pixels are taken out.
        """
        grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
        told = np.zeros(grey.shape, np.float32) if maps is None else evidence(maps, alpha, floor)
        if self._belief is not None and self._grey is not None:
            told = told + np.float32(MEMORY) * self._carried(self._grey, grey, self._belief)
        self._belief = np.clip(told, -BELIEF, BELIEF)
        self._grey = grey
        found = regions(self._belief)
        return found if maps is None else found & (motion_of_pixels(maps) > UNMOVED_FLOOR * floor)

    def _carried(self, before: NDArray[np.uint8], grey: NDArray[np.uint8], belief: FloatArray) -> FloatArray:
        """The belief (h, w) about the image before, at the pixels of the newest one."""
        factor = FLOW_PX / max(grey.shape)
        small, small_before = (cv2.resize(item, None, fx=factor, fy=factor) for item in (grey, before))
        flow = cv2.resize(self._flow.calc(small, small_before, None), grey.shape[::-1]) / np.float32(factor)
        x, y = np.meshgrid(np.arange(grey.shape[1], dtype=np.float32), np.arange(grey.shape[0], dtype=np.float32))
        carried = cv2.remap(
            belief, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return cv2.blur(carried, (3, 3))


def evidence(maps: PairMaps, alpha: float, floor: float) -> FloatArray:
    """(h, w) how many floors each pixel of view 2 moved beyond the first; below zero where it rests."""
    motion = relative_motion(maps)
    level = SMOOTHED_FLOOR * floor * doubt(maps)
    quartile = min(alpha * float(np.quantile(motion, 0.25)), HIGHEST_FLOOR * floor)
    return np.clip(motion / np.maximum(np.maximum(level, quartile), 1e-9) - 1.0, REST, MOTION).astype(np.float32)


def relative_motion(maps: PairMaps) -> FloatArray:
    """(h, w) how far view 2's points went, shares of their distance: medians over neighbours, 0 where not told."""
    return np.linalg.norm(without_strays(steps_of_pixels(maps)), axis=-1)


def motion_of_pixels(maps: PairMaps) -> FloatArray:
    """(h, w) the same of each pixel alone."""
    return np.linalg.norm(steps_of_pixels(maps), axis=-1)


def steps_of_pixels(maps: PairMaps) -> FloatArray:
    """(h, w, 3) how view 2's points moved, shares of their distance; 0 where not told."""
    points, match = maps.points_2.numpy(), maps.points_match.numpy()
    with np.errstate(all="ignore"):
        moved = (match - points) / np.linalg.norm(points, axis=-1, keepdims=True)
    told = np.isfinite(moved).all(axis=-1, keepdims=True)
    return np.where(told, moved, np.float32(0.0)).clip(-1e3, 1e3).astype(np.float32)


def without_strays(values: NDArray[np.floating]) -> FloatArray:
    """(h, w) or (h, w, 3), each channel's median over neighbours; nothing may be NaN."""
    return cv2.medianBlur(np.ascontiguousarray(values, np.float32), BLUR_PX)


def doubt(maps: PairMaps) -> FloatArray:
    """(h, w) factor about 1: the image's typical confidence over that around each pixel."""
    least = np.minimum(maps.conf_2.numpy(), maps.conf_match.numpy()) - 1.0
    around = cv2.blur(np.where(np.isfinite(least), least, 0.0).astype(np.float32), (CONFIDENCE_PX, CONFIDENCE_PX))
    return np.clip(np.median(around) / np.maximum(around, 1e-6), *DOUBT)


def regions(belief: FloatArray) -> MaskArray:
    """(h, w) connected pixels above GOES_ON that hold one above BEGINS and are large enough."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats((belief > GOES_ON).astype(np.uint8), connectivity=4)
    begun = np.zeros(count, bool)
    begun[np.unique(labels[belief > BEGINS])] = True
    begun[0] = False
    return (begun & (facts[:, cv2.CC_STAT_AREA] >= LEAST_SHARE * belief.size))[labels]
