"""Depth images of both encodings of REP-118 to metres."""

import struct
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pomato_ros.ros.conversions.camera_info import check_finite, pinhole, region_intrinsics
from pomato_ros.ros.conversions.guards import DEEPEST_M
from pomato_ros.ros.conversions.image_decoding import Encoding, check_size, image_rows, size_in_header
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.structures import Intrinsics

MILLIMETRES, METRES = "16UC1", "32FC1"
SAMPLES: dict[str, np.dtype[Any]] = {
    MILLIMETRES: np.dtype(np.uint16),
    "mono16": np.dtype(np.uint16),
    METRES: np.dtype(np.float32),
}
COMPRESSED_HEADER = struct.Struct("<iff")
LEAST_SHARE = 0.005  # of the pixels with depth: with fewer a frame says nothing
REGISTERED_SHARE = 0.02  # of the focal length and of the image's width: cameras that differ by more are two


def decode_depth(message: Image, max_pixels: int) -> NDArray[np.float32]:
    """The (h, w) depth in metres, NaN where invalid: 16UC1 millimetres with 0 as invalid, or 32FC1 metres.

    Raises:
        InputError: as :func:`depth_samples`.
    """
    return usable_depth(depth_samples(message, max_pixels))


def usable_depth(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """The (h, w) depth with NaN where it is none, or farther than any sensor measures."""
    with np.errstate(invalid="ignore"):
        return np.where((depth_m > 0) & (depth_m < DEEPEST_M), depth_m, np.float32(np.nan))


def depth_samples(message: Image | CompressedImage, max_pixels: int) -> NDArray[np.float32]:
    """The (h, w) depth as it came, in metres if the encoding is true: 16UC1 in millimetres, or 32FC1.

    Honours ``step`` and ``is_bigendian``.

    Raises:
        InputError: Another encoding, no pixels, more than ``max_pixels``, or too little data.
    """
    if isinstance(message, CompressedImage):
        return compressed_samples(message, max_pixels)
    sample = SAMPLES.get(message.encoding)
    if sample is None:
        raise InputError(
            f"depth image encoding: expected {MILLIMETRES} (millimetres) or {METRES} (metres), got '{message.encoding}'"
        )
    check_size(message.width, message.height, max_pixels)
    rows = np.ascontiguousarray(image_rows(message, Encoding(sample.itemsize, lambda bytes_of_rows: bytes_of_rows)))
    values = rows.view(sample.newbyteorder(">" if message.is_bigendian else "<")).astype(np.float32)
    return values * np.float32(1e-3) if sample.itemsize == 2 else values


def compressed_samples(message: CompressedImage, max_pixels: int) -> NDArray[np.float32]:
    """The (h, w) depth of a compressedDepth message, metres, 0 where invalid.

    The data are a header of 12 bytes (format, A, B) and a 16-bit PNG: millimetres for 16UC1; for 32FC1 inverse depth,
    ``z = A / (value - B)`` with 0 as invalid (compressed_depth_image_transport).

    Raises:
        InputError: Another form, damaged data, or more than ``max_pixels``.
    """
    encoding, data = message.format.partition(";")[0].strip(), bytes(message.data)
    png = data[COMPRESSED_HEADER.size :]
    if encoding not in SAMPLES or "compressedDepth" not in message.format or not png.startswith(b"\x89PNG"):
        raise InputError(
            f"compressed depth image: expected '{MILLIMETRES}' or '{METRES}; compressedDepth png', got "
            f"'{message.format}' with {len(data)} bytes; set the publisher's format to png, or depth_transport to raw"
        )
    check_size(*size_in_header(png, message.format), max_pixels)
    values = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 2:
        raise InputError("compressed depth image: expected a PNG of one 16-bit channel, got another or a damaged one")
    samples = values.astype(np.float32)
    if encoding != METRES:
        return samples * np.float32(1e-3)
    _, a, b = COMPRESSED_HEADER.unpack_from(data)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(samples > 0, np.float32(a) / (samples - np.float32(b)), np.float32(0.0))


def check_has_depth(depth_m: NDArray[np.float32]) -> None:
    """Refuse a depth image that says nothing.

    Raises:
        InputError: Too few of the (h, w) depths are valid.
    """
    share = float(np.isfinite(depth_m).mean())
    if share < LEAST_SHARE:
        raise InputError(
            f"depth image: expected depth between 0 and {DEEPEST_M:.0f} m at {100 * LEAST_SHARE:.1f} % of the pixels "
            f"or more, got it at {100 * share:.1f} %; the sensor is covered or dead, or {METRES} holds millimetres"
        )


def at_image_size(depth_m: NDArray[np.float32], image_wh: tuple[int, int]) -> NDArray[np.float32]:
    """(h, w) depth of the whole view at another size, nearest pixels.

    Raises:
        InputError: The shapes of depth image and image differ, so that they cannot be one view.
    """
    height, width = depth_m.shape
    if (width, height) == image_wh:
        return depth_m
    if abs(width * image_wh[1] - height * image_wh[0]) > REGISTERED_SHARE * width * image_wh[1]:
        raise InputError(
            f"depth image: expected the shape of the image, {image_wh[0]}x{image_wh[1]}, got {width}x{height}; "
            "register it to the camera (depth_image_proc/register, or align_depth of the driver)"
        )
    columns, rows = (
        ((np.arange(size) + 0.5) * own / size).astype(int) for size, own in zip(image_wh, (width, height), strict=True)
    )
    return depth_m[rows[:, None], columns]


def check_registered(depth_info: CameraInfo, image: Intrinsics) -> None:
    """Refuse depth whose camera, at the image's size, is another than the image's.

    Raises:
        InputError: The two differ, or the calibration of the depth image is none.
    """
    if depth_info.k[0] == 0.0:
        return
    check_finite(depth_info)
    own = region_intrinsics(depth_info, *pinhole(depth_info.k, row_length=3))
    if not (own.width_px and own.height_px):
        raise InputError("depth camera_info: expected a size, got 0x0")
    x, y = image.width_px / own.width_px, image.height_px / own.height_px
    seen = replace(own, fx_px=own.fx_px * x, fy_px=own.fy_px * y, cx_px=own.cx_px * x, cy_px=own.cy_px * y)
    slack_px = REGISTERED_SHARE * max(image.fx_px, image.width_px)
    names = ("fx_px", "fy_px", "cx_px", "cy_px")
    if any(abs(getattr(seen, name) - getattr(image, name)) > slack_px for name in names):
        told = "; ".join(f"{name[:2]} {getattr(image, name):.1f} against {getattr(seen, name):.1f}" for name in names)
        raise InputError(
            f"depth camera_info is of another camera than the image's ({told}): register the depth image to the camera"
        )
