"""Signs that a pair is not what it should be: rectified, synchronised, left and right in their places."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.sources.stereo_matching import Disparity
from pomato_ros.structures import FloatArray

BLOCKS = (6, 8)  # rows and columns that the vertical offset is found in
LEAST_TEXTURE = 8.0  # grey levels^2 a px^2 along the column, mean over a block
LEAST_BLOCKS = 6
STEPS = 3
SUSPECT_MATCHED = 0.25  # share of matched pixels of a sound pair is larger: .70 on the poorest of those tried
SWAP_SIDE_PX = 400  # long side at which exchanged images are tried
SWAP_GAIN = 0.3  # share of pixels by which exchanged images must match better
LEAST_CONTRAST = 4.0  # grey levels, standard deviation of an image that shows something
RECTIFIED_PX = 0.3  # sound pairs are off by .07 px at most, one pixel of offset is found as .4 to .8 px
SYNCHRONOUS_PX = 0.35  # sound pairs have a spread of .24 px at most
SYNCHRONOUS_MATCHED = 0.65


@dataclass(frozen=True, slots=True)
class VerticalOffset:
    """How far below its epipolar line points are seen in the right image, px."""

    median_px: float  # NaN with too little texture
    spread_px: float  # robust standard deviation over blocks of the image


def vertical_offset(left: NDArray[np.uint8], right: NDArray[np.uint8], disparity: Disparity) -> VerticalOffset:
    """The offset of matched blocks, by least squares on grey values along the columns.

    A rectified pair has none; a constant one is a camera that was turned or moved, a spread one a pair that was taken
    at two times.
    """
    left_values, right_values = left.astype(np.float32), right.astype(np.float32)
    slope = cv2.Sobel(right_values, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    pixels = pixel_grid(*left.shape).astype(np.float32)
    pixels[..., 0] -= disparity.pixels
    rows = pixels[..., 1].copy()
    weight = disparity.matched.astype(np.float32)
    total = block_sums(weight) + 1e-6
    offset = np.zeros(BLOCKS)
    usable = np.ones(BLOCKS, bool)
    for _ in range(STEPS):
        field = cv2.resize(offset.astype(np.float32), left.shape[::-1], interpolation=cv2.INTER_NEAREST)
        pixels[..., 1] = rows + field
        gradient = cv2.remap(slope, pixels, None, cv2.INTER_LINEAR) * weight
        difference = (left_values - cv2.remap(right_values, pixels, None, cv2.INTER_LINEAR)) * weight
        squared = block_sums(gradient * gradient)
        usable = squared / total > LEAST_TEXTURE
        offset = offset + np.where(usable, block_sums(gradient * difference) / (squared + 1e-6), 0.0).clip(-1.0, 1.0)
    found = offset[usable]
    if found.size < LEAST_BLOCKS:
        return VerticalOffset(float("nan"), float("nan"))
    median = float(np.median(found))
    return VerticalOffset(median, float(1.4826 * np.median(np.abs(found - median))))


def block_sums(values: FloatArray) -> NDArray[np.float64]:
    """Sums over :data:`BLOCKS` equal parts of an image (h, w)."""
    size_wh = BLOCKS[1], BLOCKS[0]
    means = cv2.resize(values, size_wh, interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.asarray(means * values.size / (BLOCKS[0] * BLOCKS[1]), np.float64)


def pair_faults(
    left: NDArray[np.uint8], right: NDArray[np.uint8], disparity: Disparity, offset: VerticalOffset
) -> dict[str, bool]:
    """What is wrong with a pair, by name; a pair with too little texture is given the benefit."""
    matched = float(disparity.matched.mean())
    swapped = matched < SUSPECT_MATCHED and are_swapped(left, right)
    spread = offset.spread_px > SYNCHRONOUS_PX
    return {
        "stereo_swapped": swapped,
        "stereo_unrectified": not swapped and abs(offset.median_px) > RECTIFIED_PX,
        "stereo_unsynchronised": not swapped and spread and matched < SYNCHRONOUS_MATCHED,
    }


def are_swapped(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    """Whether the images match better the other way round; both at a small size, by block matching."""
    if min(left.std(), right.std()) < LEAST_CONTRAST:
        return False
    scale = min(1.0, SWAP_SIDE_PX / max(left.shape))
    small = [cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for image in (left, right)]
    return match_share(small[1], small[0]) > match_share(small[0], small[1]) + SWAP_GAIN


def match_share(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """Share of pixels that a cheap matcher with a consistency check finds in front of the cameras."""
    count = max(16, left.shape[1] // 4 // 16 * 16)
    matcher = cv2.StereoSGBM.create(1, count, 5, 200, 800, 1, 63, 10, 50, 1, cv2.STEREO_SGBM_MODE_SGBM_3WAY)
    return float((matcher.compute(left, right)[:, count:] > 16).mean())
