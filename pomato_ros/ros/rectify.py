"""Removes lens distortion, once per calibration: the sampling maps are kept."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.ros.conversions.camera_info import EQUIDISTANT, Calibration
from pomato_ros.ros.conversions.guards import check_intrinsics
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.structures import Intrinsics, MaskArray, PoseArray

LEAST_VALID_SHARE = 0.1  # of the rectified pixels that show the raw image; with fewer the distortion is no lens's
MOST_FOCAL_RATIO = 4.0
WIDEST_RECTIFIED_RAD = np.deg2rad(120.0)  # a pinhole image of a wider view is all edge


@dataclass(frozen=True, slots=True)
class View:
    """Where a rectified image looks: the camera of a stereo pair after rectification (R and P of its camera_info)."""

    rectified_from_raw: PoseArray  # (3, 3) rotation of the optical axes
    intrinsics: Intrinsics


class Rectifier:
    """Turns images of one calibrated camera into pinhole images and knows their intrinsics.

    With ``remove_distortion`` off the images are taken to be rectified already, so the driver's P applies.
    """

    def __init__(self, calibration: Calibration, *, remove_distortion: bool, view: View | None = None) -> None:
        """Prepare the sampling maps, where there is distortion to remove or an axis to turn.

        ``view`` is what a pair is rectified to; without one the camera keeps its axes.

        Raises:
            InputError: No lens has this distortion.
        """
        self._raw_intrinsics = calibration.raw
        self.note = calibration.note
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        self._valid: MaskArray | None = None
        if view is not None:
            self._look_through(calibration, view, remove_distortion)
        elif not remove_distortion:
            self._intrinsics = calibration.rectified or calibration.raw
        elif not calibration.distortion:
            self._intrinsics = calibration.raw
        else:
            self._intrinsics = calibration.rectified or full_image_intrinsics(calibration)
            check_intrinsics(self._intrinsics, "distortion of a lens, which leaves a rectified camera")
            if calibration.rectified is None:
                check_alike(self._intrinsics, calibration.raw)
            self._maps = distortion_maps(calibration, self._intrinsics)
            self._valid = self._valid_pixels()

    def _look_through(self, calibration: Calibration, view: View, remove_distortion: bool) -> None:
        """Rectify to ``view``, unless the images are what it shows already."""
        self._intrinsics = view.intrinsics
        turned = not np.allclose(view.rectified_from_raw, np.eye(3), atol=1e-6)
        if remove_distortion and (turned or calibration.distortion or calibration.raw != view.intrinsics):
            self._maps = distortion_maps(calibration, view.intrinsics, view.rectified_from_raw)
            self._valid = self._valid_pixels()

    @property
    def removes_distortion(self) -> bool:
        """Whether images are changed at all."""
        return self._maps is not None

    @property
    def raw_intrinsics(self) -> Intrinsics:
        """Of the images as they come, without their distortion."""
        return self._raw_intrinsics

    @property
    def intrinsics(self) -> Intrinsics:
        """Of the images that :meth:`rectify` returns."""
        return self._intrinsics

    @property
    def valid(self) -> MaskArray | None:
        """(h, w) pixels of the rectified image that show the raw one; None where all do."""
        return self._valid

    def rectify(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The (h, w, 3) image without distortion; the image itself where there is none to remove."""
        if self._maps is None:
            return image_rgb
        return np.asarray(cv2.remap(image_rgb, *self._maps, interpolation=cv2.INTER_LINEAR), np.uint8)

    def rectify_depth(self, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """The (h, w) depth of the same raw pixels without distortion: nearest pixels, NaN beyond the image."""
        if self._maps is None:
            return depth_m
        columns, rows, inside = self._raw_pixels(depth_m.shape[1], depth_m.shape[0])
        height, width = depth_m.shape
        return np.where(inside, depth_m[rows.clip(0, height - 1), columns.clip(0, width - 1)], np.float32(np.nan))

    def _raw_pixels(self, width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64], MaskArray]:
        """Columns and rows of the nearest raw pixels, and which of them are in a raw image of this size."""
        assert self._maps is not None
        x, y = cv2.convertMaps(*self._maps, cv2.CV_32FC1)
        columns, rows = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
        return columns, rows, (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)

    def _valid_pixels(self) -> MaskArray | None:
        """See :attr:`valid`; one pixel at the border is left out too, since it is blended with what is not there."""
        _, _, inside = self._raw_pixels(self._raw_intrinsics.width_px, self._raw_intrinsics.height_px)
        if inside.mean() < LEAST_VALID_SHARE:
            raise InputError(
                f"camera_info: expected distortion of a lens, got one that leaves {100 * inside.mean():.1f} % of the "
                "rectified image; calibrate the camera again, or set rectify false if the images are rectified"
            )
        if inside.all():
            return None
        return cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)


def check_alike(rectified: Intrinsics, raw: Intrinsics) -> None:
    """Refuse distortion that turns the image into a much narrower or wider one.

    Raises:
        InputError: No lens bends the image so.
    """
    ratios = (rectified.fx_px / raw.fx_px, rectified.fy_px / raw.fy_px)
    if not all(1.0 / MOST_FOCAL_RATIO < ratio < MOST_FOCAL_RATIO for ratio in ratios):
        raise InputError(
            f"camera_info: expected distortion of a lens, got one with rectified focal lengths {ratios[0]:.2g} and "
            f"{ratios[1]:.2g} times the raw ones; calibrate the camera again, or set P"
        )


def full_image_intrinsics(calibration: Calibration) -> Intrinsics:
    """Intrinsics for which every pixel of the rectified image lies inside the raw one, at most 120 degrees wide."""
    raw = calibration.raw
    size, distortion = (raw.width_px, raw.height_px), np.array(calibration.distortion)
    if calibration.distortion_model == EQUIDISTANT:
        matrix = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            raw.matrix(), distortion, size, np.eye(3), balance=0.0
        )
    else:
        matrix, _ = cv2.getOptimalNewCameraMatrix(raw.matrix(), distortion, size, 0.0)
    fx_px, fy_px, cx_px, cy_px = (float(value) for value in (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))
    least_px = 0.5 * raw.width_px / np.tan(0.5 * WIDEST_RECTIFIED_RAD)
    if 0.0 < fx_px < least_px:
        fx_px, fy_px = float(least_px), float(least_px * raw.fy_px / raw.fx_px)
        cx_px, cy_px = 0.5 * (raw.width_px - 1), 0.5 * (raw.height_px - 1)
    return Intrinsics(fx_px, fy_px, cx_px, cy_px, raw.width_px, raw.height_px)


def distortion_maps(
    calibration: Calibration, rectified: Intrinsics, rectified_from_raw: PoseArray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of the rectified image, whose axes may be turned, where to sample the raw one."""
    fisheye = calibration.distortion_model == EQUIDISTANT
    initialise = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    map_x, map_y = initialise(
        calibration.raw.matrix(),
        np.array(calibration.distortion or (0.0,) * 4),
        np.eye(3) if rectified_from_raw is None else rectified_from_raw,
        rectified.matrix(),
        (rectified.width_px, rectified.height_px),
        cv2.CV_16SC2,
    )
    return map_x, map_y
