"""CameraInfo to a calibration of the image that came with it, and intrinsics back to CameraInfo."""

from dataclasses import dataclass, replace

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.structures import Intrinsics

PLUMB_BOB, RATIONAL, EQUIDISTANT = "plumb_bob", "rational_polynomial", "equidistant"
DISTORTION_LENGTHS = {PLUMB_BOB: (4, 5), RATIONAL: (8, 12, 14), EQUIDISTANT: (4,), "fisheye": (4,)}


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a CameraInfo says about the image as it came: binning and region of interest are already applied.

    ``distortion_model`` is empty for a camera without distortion. ``rectified`` are the intrinsics that the driver
    intends for the rectified image (its P), None where it gives none or where P belongs to a rotated stereo pair.
    """

    raw: Intrinsics
    rectified: Intrinsics | None
    distortion_model: str
    distortion: tuple[float, ...]


def calibration_from_camera_info(message: CameraInfo, image_wh: tuple[int, int]) -> Calibration | None:
    """The calibration of an image of ``image_wh`` pixels, or None for an uncalibrated camera (``K[0] == 0``).

    Raises:
        InputError: The calibration is for another image size, not finite, or of an unknown distortion model.
    """
    if message.k[0] == 0.0:
        return None
    check_finite(message)
    raw = region_intrinsics(message, *pinhole(message.k, row_length=3))
    if (raw.width_px, raw.height_px) != image_wh:
        raise InputError(
            f"camera_info is for {raw.width_px}x{raw.height_px} pixels (after binning and roi), the image has "
            f"{image_wh[0]}x{image_wh[1]}; calibrate at this size or remap camera_info to the right topic"
        )
    model, distortion = distortion_of(message)
    return Calibration(raw, rectified_intrinsics(message), model, distortion)


def check_finite(message: CameraInfo) -> None:
    """Refuse matrices and distortions no camera can have."""
    values = np.concatenate([np.asarray(message.k), np.asarray(message.d), np.asarray(message.p)])
    if not np.isfinite(values).all() or message.k[0] < 0.0 or message.k[4] <= 0.0:
        raise InputError(
            f"camera_info: expected finite numbers and positive focal lengths, got K {np.asarray(message.k).tolist()}, "
            f"D {np.asarray(message.d).tolist()}"
        )


def pinhole(matrix: np.ndarray, row_length: int) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of a row-major K (``row_length`` 3) or P (4)."""
    return float(matrix[0]), float(matrix[row_length + 1]), float(matrix[2]), float(matrix[row_length + 2])


def region_intrinsics(message: CameraInfo, fx_px: float, fy_px: float, cx_px: float, cy_px: float) -> Intrinsics:
    """Full-sensor intrinsics moved to the binned region of interest (REP-104).

    A binned pixel's centre is the mean of its members' centres: x_full = b * x + (b - 1) / 2, plus the offset.
    """
    bin_x, bin_y = max(1, int(message.binning_x)), max(1, int(message.binning_y))
    width_px = int(message.roi.width) or int(message.width)
    height_px = int(message.roi.height) or int(message.height)
    return Intrinsics(
        fx_px=fx_px / bin_x,
        fy_px=fy_px / bin_y,
        cx_px=(cx_px - int(message.roi.x_offset) - (bin_x - 1) / 2) / bin_x,
        cy_px=(cy_px - int(message.roi.y_offset) - (bin_y - 1) / 2) / bin_y,
        width_px=width_px // bin_x,
        height_px=height_px // bin_y,
    )


def rectified_intrinsics(message: CameraInfo) -> Intrinsics | None:
    """The intrinsics in P, unless there are none or R turns the camera towards a stereo partner."""
    turned = np.any(message.r) and not np.allclose(np.reshape(message.r, (3, 3)), np.eye(3), atol=1e-6)
    if turned or message.p[0] <= 0.0 or message.p[5] <= 0.0:
        return None
    return region_intrinsics(message, *pinhole(message.p, row_length=4))


def distortion_of(message: CameraInfo) -> tuple[str, tuple[float, ...]]:
    """Model name and coefficients; an empty name where every coefficient is zero."""
    coefficients = tuple(float(value) for value in message.d)
    if not any(coefficients):
        return "", ()
    lengths = DISTORTION_LENGTHS.get(message.distortion_model)
    if lengths is None or len(coefficients) not in lengths:
        known = "; ".join(f"{name} with {' or '.join(map(str, sizes))}" for name, sizes in DISTORTION_LENGTHS.items())
        raise InputError(
            f"camera_info distortion: expected {known} coefficients, got '{message.distortion_model}' with "
            f"{len(coefficients)}"
        )
    return (EQUIDISTANT if message.distortion_model == "fisheye" else message.distortion_model), coefficients


def camera_info_key(message: CameraInfo) -> tuple[object, ...]:
    """Everything of a CameraInfo that matters but its header; equal keys mean an unchanged camera."""
    region = message.roi
    return (
        *(message.width, message.height, message.distortion_model, message.binning_x, message.binning_y),
        *(tuple(message.d), tuple(message.k), tuple(message.r), tuple(message.p)),
        *(region.x_offset, region.y_offset, region.width, region.height),
    )


def camera_info_from_intrinsics(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """The CameraInfo of an image without distortion."""
    fx, fy = float(intrinsics.fx_px), float(intrinsics.fy_px)
    cx, cy = float(intrinsics.cx_px), float(intrinsics.cy_px)
    message = CameraInfo(header=header, height=int(intrinsics.height_px), width=int(intrinsics.width_px))
    message.distortion_model = PLUMB_BOB
    message.d = [0.0] * 5
    message.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def source_intrinsics(
    intrinsics: Intrinsics, model_from_source: np.ndarray, source_size_wh: tuple[int, int]
) -> Intrinsics:
    """Intrinsics of the source image, from those of the network's image and the (3, 3) pixel map between them."""
    matrix = np.linalg.inv(model_from_source) @ intrinsics.matrix()
    fx, fy, cx, cy = (float(value) for value in (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))
    return replace(
        intrinsics, fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy, width_px=source_size_wh[0], height_px=source_size_wh[1]
    )
