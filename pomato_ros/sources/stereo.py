"""A rectified stereo pair: metric inverse depth by matching left and right, and signs that the pair is unsound."""

import dataclasses
from typing import Any

import cv2
import numpy as np

from pomato_ros.config import PomatoConfig, StereoTuning
from pomato_ros.errors import UnusableFrame
from pomato_ros.sources.base import Capabilities, PredictionRequest
from pomato_ros.sources.resize import working_frame
from pomato_ros.sources.rgbd import no_correspondence
from pomato_ros.sources.stereo_checks import pair_faults, vertical_offset
from pomato_ros.sources.stereo_matching import Disparity, StereoMatcher, disparities_for
from pomato_ros.structures import DepthMap, Frame, Intrinsics, Observation, PreparedFrame, Window

BASELINES_M = (0.005, 5.0)  # of any rig on a robot or a car; beyond, the unit is wrong


class StereoSource:
    """Source of the backend ``stereo``."""

    def __init__(self, config: PomatoConfig) -> None:
        """Take the working size and the method from ``config``."""
        self._config = config
        self._tuning = StereoTuning()
        self._matchers: dict[int, StereoMatcher] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Metric depth; correspondences come from optical flow."""
        return Capabilities(metric=True)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Both images at the working size.

        A frame without a right image stays one: its pose comes from those before it.

        Raises:
            UnusableFrame: no calibrated left image, a right image of another size, or a baseline that cannot be.
        """
        prepared, _, resizing = working_frame(frame, self._config, "stereo")
        if frame.right_rgb is None:
            return prepared
        if frame.right_rgb.shape != frame.image_rgb.shape:
            raise UnusableFrame(
                f"expected a right image of the left one's shape {frame.image_rgb.shape}, got {frame.right_rgb.shape}; "
                "rectify both to one size"
            )
        right_rgb = resizing.image(frame.right_rgb)
        return dataclasses.replace(prepared, right_rgb=right_rgb, baseline_m=checked_baseline(frame.baseline_m))

    def predict(self, window: Window, request: PredictionRequest) -> Observation:
        """Depth of the newest pair; none where it has no right image, valid nowhere where the pair cannot be one.

        Facts: shares of pixels with a valid depth and with a match, the vertical offset of the right image in px (0
        when rectified) and its spread, and 1 or 0 for ``stereo_swapped``, ``stereo_unrectified`` and
        ``stereo_unsynchronised``.
        """
        frame = window.frames[-1]
        if frame.right_rgb is None or frame.baseline_m is None or frame.intrinsics is None:
            return Observation(None, no_correspondence, facts={"depth_valid_share": 0.0})
        left, right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (frame.image_rgb, frame.right_rgb))
        disparity = self._matcher(frame.intrinsics, frame.baseline_m).match(left, right)
        depth = depth_from_disparity(disparity, frame.intrinsics.fx_px * frame.baseline_m)
        if frame.valid is not None:
            depth = dataclasses.replace(depth, valid=depth.valid & frame.valid)
        offset = vertical_offset(left, right, disparity)
        faults = pair_faults(left, right, disparity, offset)
        if faults["stereo_swapped"] or faults["stereo_unsynchronised"]:
            depth = dataclasses.replace(depth, valid=np.zeros_like(depth.valid))
        facts = {
            "depth_valid_share": float(depth.valid.mean()),
            "stereo_matched_share": float(disparity.matched.mean()),
            "stereo_vertical_offset_px": offset.median_px,
            "stereo_vertical_spread_px": offset.spread_px,
            **{name: float(present) for name, present in faults.items()},
        }
        return Observation(depth, no_correspondence, facts=facts)

    def _matcher(self, camera: Intrinsics, baseline_m: float) -> StereoMatcher:
        """The matcher for a camera, made once."""
        count = disparities_for(camera.fx_px, baseline_m, camera.width_px, self._tuning)
        if count not in self._matchers:
            self._matchers[count] = StereoMatcher(count, self._config.sensor.stereo_method, self._tuning)
        return self._matchers[count]

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Nothing is prepared ahead."""

    def reset(self) -> None:
        """Nothing is kept of frames."""

    def describe(self) -> dict[str, Any]:
        """Backend, method and working size."""
        options = self._config.sensor
        size_px = self._config.window.image_size or options.sensor_image_size
        return {"backend": "stereo", "stereo_method": options.stereo_method, "image_size_px": size_px}


def depth_from_disparity(disparity: Disparity, focal_baseline: float) -> DepthMap:
    """Inverse depth ``d / (f B)`` with its standard deviation; ``focal_baseline`` in px m."""
    by = np.float32(1.0 / focal_baseline)
    return DepthMap(disparity.pixels * by, disparity.sigma_px * by, disparity.valid, metric=True)


def checked_baseline(baseline_m: float | None) -> float:
    """The baseline, if it can be one.

    Raises:
        UnusableFrame: none, not positive, or out of any rig's range.
    """
    if baseline_m is None or not baseline_m > 0:
        raise UnusableFrame(
            f"expected the right camera to the right of the left one, got a baseline of {baseline_m} m; the right "
            "camera_info's P[3] must be -fx * baseline: publish it, or exchange left and right"
        )
    if not BASELINES_M[0] <= baseline_m <= BASELINES_M[1]:
        raise UnusableFrame(
            f"expected a baseline between {BASELINES_M[0]:g} and {BASELINES_M[1]:g} m, got {baseline_m:g} m; P[3] is "
            "-fx * baseline in px m"
        )
    return baseline_m
