"""Disparity of a rectified pair with a standard deviation: semi-global matching from both sides, refined to subpixels.

Semi-global matching (Hirschmueller 2008) in OpenCV gives whole disparities that agree from both sides. Each is refined
by least squares on grey values (Lucas, Kanade 1981, along the row): with the right image warped by the disparity,
``d += -sum g e / (sum g^2 + n lambda)``, e the difference of grey values and g the warped gradient, both without their
local means, so that a different exposure does not matter.
"""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import StereoTuning
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.structures import FloatArray, MaskArray

STEPS_PER_PX = 16  # of OpenCV's disparities
GROUP_PX = 16  # of which their number is a multiple
NO_MATCH_PX = -1.0
LARGEST_STEP_PX = 0.5  # of one refinement
SPREAD_PX, HOLE_PX = 5, 9  # sides of neighbourhoods
METHODS = {"hh4": cv2.STEREO_SGBM_MODE_HH4, "3way": cv2.STEREO_SGBM_MODE_SGBM_3WAY}
GrayImage = NDArray[np.uint8]
Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Disparity:
    """How far left of its place in the left image a point is seen in the right one."""

    pixels: FloatArray  # (h, w) px, above 0 where valid
    sigma_px: FloatArray  # (h, w) above 0
    valid: MaskArray  # (h, w)
    matched: MaskArray  # (h, w) agreed from both sides, certain or not


class StereoMatcher:
    """Matches pairs of one number of disparities."""

    def __init__(self, disparities: int, method: str, tuning: StereoTuning | None = None) -> None:
        """``disparities``: tried, a multiple of 16; ``method``: one of :data:`METHODS`."""
        self._tuning = tuning or StereoTuning()
        self._disparities = disparities
        area = self._tuning.block_px**2
        self._matcher = cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=disparities,
            blockSize=self._tuning.block_px,
            P1=self._tuning.small_step * area,
            P2=self._tuning.large_step * area,
            disp12MaxDiff=-1,
            preFilterCap=self._tuning.prefilter,
            uniquenessRatio=self._tuning.uniqueness_percent,
            mode=METHODS[method],
        )

    def match(self, left: GrayImage, right: GrayImage) -> Disparity:
        """Disparity of the left image (h, w); ``right`` has the same size, rows are epipolar lines."""
        tuning = self._tuning
        left, right = (cv2.GaussianBlur(image, (0, 0), tuning.smoothing_px) for image in (left, right))
        raw = self._raw(left, right)
        cv2.filterSpeckles(raw, -STEPS_PER_PX, tuning.speckle_px, STEPS_PER_PX)
        coarse = raw.astype(np.float32) / np.float32(STEPS_PER_PX)
        from_right = self._raw(flipped(right), flipped(left))
        difference = disagreement(coarse, flipped(from_right).astype(np.float32) / np.float32(STEPS_PER_PX))
        matched: MaskArray = (coarse > 0) & (difference < np.float32(tuning.agreement_gate_px))
        refined, error, gradient = refine(left, right, coarse, matched, tuning)
        spread = local_range(refined, matched)
        hole = 1.0 - cv2.blur(matched.astype(np.float32), (HOLE_PX, HOLE_PX))
        variance = np.float32(tuning.floor_px**2) + np.float32(tuning.texture**2) * (
            (error + np.float32(tuning.noise)) / cv2.max(gradient, 1e-2)
        )
        variance += np.float32(tuning.agreement**2) * difference * difference
        variance += np.float32(tuning.spread**2) * spread * spread + np.float32(tuning.hole_px**2) * hole * hole
        sigma_px = np.asarray(cv2.sqrt(variance), np.float32)
        certain = (sigma_px < np.float32(tuning.largest_sigma_px)) & (spread < np.float32(tuning.largest_spread_px))
        return Disparity(refined, sigma_px, matched & certain & (refined > 0), matched)

    def _raw(self, left: GrayImage, right: GrayImage) -> NDArray[np.int16]:
        """(h, w) disparities in sixteenths of a pixel; not above 0 where there is none.

        The matcher leaves out as many columns on the left as it tries disparities, so both images are widened there.
        """
        count = self._disparities
        left, right = (cv2.copyMakeBorder(image, 0, 0, count, 0, cv2.BORDER_REPLICATE) for image in (left, right))
        return np.ascontiguousarray(self._matcher.compute(left, right)[:, count:])


def disparities_for(focal_px: float, baseline_m: float, width_px: int, tuning: StereoTuning) -> int:
    """How many disparities are tried: to the nearest depth wanted, within a share of the width; a multiple of 16."""
    wanted = min(focal_px * baseline_m / tuning.nearest_m, tuning.widest_share * width_px)
    return max(GROUP_PX, int(np.ceil(wanted / GROUP_PX)) * GROUP_PX)


def flipped(image: NDArray[Pixel]) -> NDArray[Pixel]:
    """The image mirrored left to right."""
    return np.ascontiguousarray(image[:, ::-1])


def disagreement(of_left: FloatArray, of_right: FloatArray) -> FloatArray:
    """(h, w) px between the disparity of each left pixel and that of the right pixel it leads to; large if none is."""
    pixels = pixel_grid(*of_left.shape).astype(np.float32)
    pixels[..., 0] -= of_left
    partner = cv2.remap(of_right, pixels, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=-1e3)
    return np.asarray(cv2.absdiff(partner, of_left), np.float32)


def refine(
    left: GrayImage, right: GrayImage, disparity: FloatArray, matched: MaskArray, tuning: StereoTuning
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Disparity (h, w) refined, the mean squared grey difference left (h, w), the mean squared gradient (h, w)."""
    left_values, right_values = left.astype(np.float32), right.astype(np.float32)
    slope = cv2.Sobel(right_values, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    weight = matched.astype(np.float32)
    window = (tuning.refine_px, tuning.refine_px)
    count = cv2.blur(weight, window) + np.float32(1e-6)
    pixels = pixel_grid(*disparity.shape).astype(np.float32)
    columns, refined = pixels[..., 0].copy(), disparity
    error = gradient = np.zeros_like(disparity)
    for _ in range(tuning.refine_steps):
        pixels[..., 0] = columns - refined
        warped_slope = cv2.remap(slope, pixels, None, cv2.INTER_LINEAR)
        difference = left_values - cv2.remap(right_values, pixels, None, cv2.INTER_LINEAR)
        difference -= cv2.blur(difference * weight, window) / count
        warped_slope -= cv2.blur(warped_slope * weight, window) / count
        gradient = cv2.blur(warped_slope * warped_slope * weight, window) / count
        product = cv2.blur(warped_slope * difference * weight, window) / count
        step = -product / (gradient + np.float32(tuning.refine_damping))
        refined = refined + np.clip(step, -LARGEST_STEP_PX, LARGEST_STEP_PX) * weight
        error = cv2.blur(difference * difference * weight, window) / count
    return refined, error, gradient


def local_range(disparity: FloatArray, matched: MaskArray) -> FloatArray:
    """(h, w) px between the largest and the smallest disparity matched within 5x5 pixels."""
    square = np.ones((SPREAD_PX, SPREAD_PX), np.uint8)
    largest = cv2.dilate(np.where(matched, disparity, np.float32(-1e3)), square)
    smallest = cv2.erode(np.where(matched, disparity, np.float32(1e3)), square)
    return np.asarray(cv2.max(largest - smallest, 0.0), np.float32)
