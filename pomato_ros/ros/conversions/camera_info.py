"""CameraInfo to a calibration of the image that came with it, and intrinsics back to CameraInfo."""

from dataclasses import dataclass, replace

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from pomato_ros.ros.conversions.guards import check_intrinsics
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.structures import Intrinsics

PLUMB_BOB, RATIONAL, EQUIDISTANT = "plumb_bob", "rational_polynomial", "equidistant"
OPENCV_LENGTHS = (2, 4, 5, 8, 12, 14)  # k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tau_x tau_y: shorter ones are beginnings
NAMES = {"radtan": PLUMB_BOB, "fisheye": EQUIDISTANT}  # what Kalibr and OpenCV call them


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a CameraInfo says about the image as it came: binning and region of interest are already applied.

    ``distortion_model`` is empty for a camera without distortion. ``rectified`` are the intrinsics that the driver
    intends for the rectified image (its P), None where it gives none or where P belongs to a rotated stereo pair.
    ``note`` says what of the message could not be used; empty: nothing.
    """

    raw: Intrinsics
    rectified: Intrinsics | None
    distortion_model: str
    distortion: tuple[float, ...]
    note: str = ""


def calibration_from_camera_info(message: CameraInfo, image_wh: tuple[int, int]) -> Calibration | None:
    """The calibration of an image of ``image_wh`` pixels, or None for an uncalibrated camera (``K[0] == 0``).

    Raises:
        InputError: The calibration is for another image size, not finite, or of an unknown distortion model.
    """
    if message.k[0] == 0.0:
        return None
    check_finite(message)
    raw = region_intrinsics(message, *pinhole(message.k, row_length=3))
    check_intrinsics(raw, "K")
    if (raw.width_px, raw.height_px) != image_wh:
        raise InputError(
            f"camera_info is for {raw.width_px}x{raw.height_px} pixels (after binning and roi), the image has "
            f"{image_wh[0]}x{image_wh[1]}; calibrate at this size or remap camera_info to the right topic"
        )
    model, distortion, note = distortion_of(message)
    try:
        rectified = rectified_intrinsics(message)
    except InputError as error:  # K and D are a calibration without it
        rectified, note = None, note or f"{error}: P is not used"
    return Calibration(raw, rectified, model, distortion, note)


def check_finite(message: CameraInfo) -> None:
    """Refuse matrices and distortions no camera can have."""
    values = np.concatenate([np.asarray(message.k), np.asarray(message.d)])
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
    """The intrinsics in P, unless there are none or R turns the camera towards a stereo partner.

    Raises:
        InputError: No lens has them.
    """
    turned = np.any(message.r) and not np.allclose(np.reshape(message.r, (3, 3)), np.eye(3), atol=1e-6)
    if turned or message.p[0] <= 0.0 or message.p[5] <= 0.0:
        return None
    rectified = region_intrinsics(message, *pinhole(message.p, row_length=4))
    check_intrinsics(rectified, "P")
    return rectified


def distortion_of(message: CameraInfo) -> tuple[str, tuple[float, ...], str]:
    """Model, coefficients, and what could not be used of them; an empty model where there is no distortion.

    Drivers pad what they send, so that zeros beyond a model's own coefficients say nothing, and plumb_bob and
    rational_polynomial are one model of which either may send any beginning. Without a model's name five coefficients
    or more are of that one; four may be a fisheye's. Distortion that has no one meaning is left in the image.
    """
    coefficients = tuple(float(value) for value in message.d)
    if not any(coefficients):
        return "", (), ""
    name = NAMES.get(message.distortion_model, message.distortion_model)
    if name == EQUIDISTANT and len(coefficients) >= 4 and not any(coefficients[4:]):
        return EQUIDISTANT, coefficients[:4], ""
    if name in (PLUMB_BOB, RATIONAL) or (not name and len(coefficients) > 4):
        used = shortest_opencv(coefficients)
        if used is not None:
            return (PLUMB_BOB if len(used) <= 5 else RATIONAL), used, ""
    return (
        "",
        (),
        f"camera_info distortion: expected {PLUMB_BOB} or {RATIONAL} with {', '.join(map(str, OPENCV_LENGTHS))} "
        f"coefficients or {EQUIDISTANT} with 4, got '{message.distortion_model}' with {len(coefficients)}: K is used, "
        "the distortion stays in the image; calibrate with one of these models",
    )


def shortest_opencv(coefficients: tuple[float, ...]) -> tuple[float, ...] | None:
    """The coefficients padded or cut to a length that OpenCV takes; None where they are too many or too few."""
    if len(coefficients) not in OPENCV_LENGTHS:
        return None
    needed = max(place for place, value in enumerate(coefficients, start=1) if value)
    length = min(size for size in OPENCV_LENGTHS if size >= max(needed, 4))
    return (coefficients + (0.0,) * length)[:length]


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
