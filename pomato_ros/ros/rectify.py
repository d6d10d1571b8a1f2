"""Removes lens distortion, once per calibration: the sampling maps are kept."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.ros.conversions.camera_info import EQUIDISTANT, Calibration
from pomato_ros.structures import Intrinsics


class Rectifier:
    """Turns images of one calibrated camera into pinhole images and knows their intrinsics.

    With ``remove_distortion`` off the images are taken to be rectified already, so the driver's P applies.
    """

    def __init__(self, calibration: Calibration, *, remove_distortion: bool) -> None:
        """Prepare the sampling maps, where there is distortion to remove."""
        self._raw_intrinsics = calibration.raw
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        if not remove_distortion:
            self._intrinsics = calibration.rectified or calibration.raw
        elif not calibration.distortion:
            self._intrinsics = calibration.raw
        else:
            self._intrinsics = calibration.rectified or full_image_intrinsics(calibration)
            self._maps = distortion_maps(calibration, self._intrinsics)

    @property
    def raw_intrinsics(self) -> Intrinsics:
        """Of the images as they come, without their distortion."""
        return self._raw_intrinsics

    @property
    def intrinsics(self) -> Intrinsics:
        """Of the images that :meth:`rectify` returns."""
        return self._intrinsics

    def rectify(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The (h, w, 3) image without distortion; the image itself where there is none to remove."""
        if self._maps is None:
            return image_rgb
        return np.asarray(cv2.remap(image_rgb, *self._maps, interpolation=cv2.INTER_LINEAR), np.uint8)

    def rectify_depth(self, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """The (h, w) depth of the same raw pixels without distortion: nearest pixels, NaN beyond the image."""
        if self._maps is None:
            return depth_m
        x, y = cv2.convertMaps(*self._maps, cv2.CV_32FC1)
        columns, rows = np.rint(x).astype(int), np.rint(y).astype(int)
        height, width = depth_m.shape
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        return np.where(inside, depth_m[rows.clip(0, height - 1), columns.clip(0, width - 1)], np.float32(np.nan))


def full_image_intrinsics(calibration: Calibration) -> Intrinsics:
    """Intrinsics for which every pixel of the rectified image lies inside the raw one."""
    raw = calibration.raw
    size, distortion = (raw.width_px, raw.height_px), np.array(calibration.distortion)
    if calibration.distortion_model == EQUIDISTANT:
        matrix = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            raw.matrix(), distortion, size, np.eye(3), balance=0.0
        )
    else:
        matrix, _ = cv2.getOptimalNewCameraMatrix(raw.matrix(), distortion, size, 0.0)
    return Intrinsics(
        fx_px=float(matrix[0, 0]),
        fy_px=float(matrix[1, 1]),
        cx_px=float(matrix[0, 2]),
        cy_px=float(matrix[1, 2]),
        width_px=raw.width_px,
        height_px=raw.height_px,
    )


def distortion_maps(calibration: Calibration, rectified: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of the rectified image, where to sample the raw one."""
    fisheye = calibration.distortion_model == EQUIDISTANT
    initialise = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    map_x, map_y = initialise(
        calibration.raw.matrix(),
        np.array(calibration.distortion),
        np.eye(3),
        rectified.matrix(),
        (rectified.width_px, rectified.height_px),
        cv2.CV_16SC2,
    )
    return map_x, map_y
