"""What a number may be where it enters or leaves the package: one rule for each kind, used at every border."""

import numpy as np
from builtin_interfaces.msg import Time

from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.conversions.stamps import NANOSECONDS_PER_SECOND, stamp_ns_from_time
from pomato_ros.structures import Intrinsics

LATEST_NS = (2**31 - 1) * NANOSECONDS_PER_SECOND  # what a message's signed seconds can carry
DEEPEST_M = 1000.0  # no depth sensor sees farther; millimetres that are called metres do
FOCAL_PER_WIDTH = (0.02, 100.0)  # focal length over image width of any lens: 175 degrees to half a degree


def usable_stamp_ns(stamp: Time) -> int:
    """Nanoseconds of an image's stamp.

    Raises:
        InputError: Not set, before 1970, or not a time that a message can carry again.
    """
    stamp_ns = stamp_ns_from_time(stamp)
    if stamp.nanosec >= NANOSECONDS_PER_SECOND or not 0 < stamp_ns <= LATEST_NS:
        raise InputError(
            f"image stamp: expected a time after 1970 with less than 10^9 nanoseconds, got {stamp.sec} s "
            f"{stamp.nanosec} ns; the driver does not set it, or its clock is broken"
        )
    return stamp_ns


def check_intrinsics(camera: Intrinsics, what: str) -> None:
    """Refuse a pinhole camera that no lens makes.

    Raises:
        InputError: A value is not finite, or the focal lengths cannot be those of this image.
    """
    values = (camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px)
    longest = max(camera.width_px, camera.height_px)
    least, most = (share * longest for share in FOCAL_PER_WIDTH)
    if not np.isfinite(values).all() or not all(least <= focal <= most for focal in values[:2]):
        raise InputError(
            f"camera_info: expected {what} with focal lengths of {least:.0f} to {most:.0f} px for "
            f"{camera.width_px}x{camera.height_px}, got fx {camera.fx_px:.4g}, fy {camera.fy_px:.4g}, cx "
            f"{camera.cx_px:.4g}, cy {camera.cy_px:.4g}; calibrate the camera again"
        )
    if any(abs(centre) > 10 * longest for centre in values[2:]):
        raise InputError(
            f"camera_info: expected {what} with its principal point near the image, got cx {camera.cx_px:.4g}, cy "
            f"{camera.cy_px:.4g}; calibrate the camera again"
        )
