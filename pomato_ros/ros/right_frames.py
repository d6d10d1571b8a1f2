"""The right image and baseline of the backend stereo, rectified to the left image by the camera_info of both.

Of a rectified pair P_right = P_left + (0, 0, 0, -fx B): the baseline B is ``P_left[3] / P_left[0] - P_right[3] /
P_right[0]`` (sensor_msgs/CameraInfo).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import UnusableFrame
from pomato_ros.ros.conversions.camera_info import (
    Calibration,
    calibration_from_camera_info,
    camera_info_key,
    pinhole,
    region_intrinsics,
)
from pomato_ros.ros.conversions.guards import check_intrinsics
from pomato_ros.ros.conversions.image_decoding import SampleRange, decode_compressed_image, decode_image
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.pairing import SecondSensor
from pomato_ros.ros.rectify import Rectifier, View
from pomato_ros.ros.status import SensorStatus
from pomato_ros.ros.streams import StreamMonitor
from pomato_ros.sources.stereo import checked_baseline
from pomato_ros.structures import Intrinsics

RIGHT_DROPS = ("undecodable", "no_camera_info", "baseline", "calibration")
MOST_FOCAL_DIFFERENCE = 0.02  # between the rectified cameras of one pair


def is_rectified_topic(name: str) -> bool:
    """Whether an image topic's name says that it is rectified (image_rect); its camera_info is still the raw one's."""
    last = name.removesuffix("/compressed").rsplit("/", 1)[-1]
    return bool({"rect", "rectified"} & set(last.split("_")))


def rectified_view(message: CameraInfo) -> View | None:
    """The view that R and P of a stereo camera describe; None where P is not set.

    Raises:
        InputError: P is of no lens, or R is no rotation.
    """
    if message.p[0] <= 0.0 or message.p[5] <= 0.0:
        return None
    intrinsics = region_intrinsics(message, *pinhole(message.p, row_length=4))
    check_intrinsics(intrinsics, "P")
    rotation = np.reshape(np.asarray(message.r, np.float64), (3, 3)) if np.any(message.r) else np.eye(3)
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise InputError("camera_info: expected a rotation in R, got another matrix; calibrate the pair again")
    return View(rotation, intrinsics)


class RightFrames(SecondSensor):
    """Takes the right camera's messages on the executor's thread and answers the worker."""

    def __init__(self, config: PomatoConfig, status: SensorStatus, images: StreamMonitor) -> None:
        """``images`` is the stream of the left images."""
        super().__init__("right image", config, status, images)
        self._rectifier: tuple[object, Rectifier] | None = None
        self._samples = SampleRange(config.input.sample_bits)

    def right(
        self, stamp_ns: int, left_info: CameraInfo | None, left: Rectifier | None
    ) -> tuple[NDArray[np.uint8], float] | None:
        """The right image, on the rows of the rectified left one, and the baseline in metres; None if there is none."""
        message = self._messages.take(stamp_ns)
        if message is None:
            return None
        kind = "undecodable"
        try:
            right_rgb = self._decode(message)
            kind = "no_camera_info"
            right_info = self._known(left_info, left)
            kind = "baseline"
            baseline_m = self._status.baseline_m = baseline(left_info, right_info)
            checked_baseline(baseline_m)
            kind = "calibration"
            assert left is not None
            rectifier = self._made(right_info, (right_rgb.shape[1], right_rgb.shape[0]), left.intrinsics)
            return rectifier.rectify(right_rgb), baseline_m
        except (InputError, UnusableFrame) as error:
            self._drop(kind, str(error))
        return None

    def _decode(self, message: Any) -> NDArray[np.uint8]:
        max_pixels = self._config.input.max_pixels
        if isinstance(message, CompressedImage):
            return decode_compressed_image(message, max_pixels)
        return decode_image(message, max_pixels, self._samples)

    def _known(self, left_info: CameraInfo | None, left: Rectifier | None) -> CameraInfo:
        """The right calibration, if both are there.

        Raises:
            InputError: one is missing.
        """
        if self._info is None or left_info is None or left is None:
            missing = "right/camera_info" if self._info is None else "a usable camera_info of the left image"
            raise InputError(f"stereo: expected camera_info of both cameras, got no {missing}; publish it")
        return self._info

    def _made(self, info: CameraInfo, size_wh: tuple[int, int], left: Intrinsics) -> Rectifier:
        """What brings right images to the left camera's rows, made once for each calibration.

        Raises:
            InputError: the right calibration is of another size, or of another pair.
        """
        key = (size_wh, camera_info_key(info), left)
        if self._rectifier is None or self._rectifier[0] != key:
            rectified = not self._config.input.rectify or is_rectified_topic(self._status.stream.topic)
            made = right_rectifier(info, size_wh, left, rectified=rectified)
            self._rectifier = (key, made)
            self._status.used_as = "rectified by camera_info" if made.removes_distortion else "rectified already"
        return self._rectifier[1]


def baseline(left: CameraInfo | None, right: CameraInfo) -> float:
    """From the left to the right camera along x, metres, as P of both says.

    Raises:
        InputError: P of the right camera is not set, or the two are at one place.
    """
    if right.p[0] <= 0.0:
        raise InputError("right camera_info: expected P of a rectified pair, got none; calibrate the pair (P and R)")
    left_m = left.p[3] / left.p[0] if left is not None and left.p[0] > 0.0 else 0.0
    baseline_m = float(left_m - right.p[3] / right.p[0])
    if not np.isfinite(baseline_m) or baseline_m == 0.0:
        raise InputError(
            "right camera_info: expected P[3] = -fx * baseline, got 0, so the baseline is missing; calibrate the two "
            "cameras as a pair, or set P[3]"
        )
    return baseline_m


def right_rectifier(info: CameraInfo, size_wh: tuple[int, int], left: Intrinsics, *, rectified: bool) -> Rectifier:
    """Turns right images to the axes and intrinsics of the rectified left camera.

    Raises:
        InputError: the calibration is of another size, or its rectified focal length is not the left one's.
    """
    calibration, view = calibration_from_camera_info(info, size_wh), rectified_view(info)
    if calibration is None or view is None:
        raise InputError("right camera_info: expected K and P, got an uncalibrated camera; calibrate the pair")
    ratio = view.intrinsics.fx_px / view.intrinsics.width_px / (left.fx_px / left.width_px)
    if abs(ratio - 1.0) > MOST_FOCAL_DIFFERENCE:
        raise InputError(
            f"right camera_info: expected the left camera's rectified focal length, got {ratio:.3f} times it; are both "
            "of one pair and one calibration?"
        )
    if rectified:
        return Rectifier(Calibration(view.intrinsics, None, "", ()), remove_distortion=True, view=View(np.eye(3), left))
    return Rectifier(calibration, remove_distortion=True, view=View(view.rectified_from_raw, left))
