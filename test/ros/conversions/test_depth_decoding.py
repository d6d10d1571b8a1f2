"""Depth is metres whatever it was packed in, and what is not of the image's pixels is refused with a reason."""

from array import array
from dataclasses import replace

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image

from pomato_ros.ros.conversions.camera_info import camera_info_from_intrinsics
from pomato_ros.ros.conversions.depth_decoding import at_image_size, check_registered, decode_depth
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.structures import Intrinsics

DEPTH_M = np.array([[0.5, 1.25, 4.0], [0.0, 65.535, 2.001]])
CAMERA = Intrinsics(500.0, 505.0, 319.5, 239.5, 640, 480)


def depth_message(encoding: str, *, big_endian: bool = False, padding: int = 0) -> Image:
    order = ">" if big_endian else "<"
    values = np.round(DEPTH_M * 1000).astype(f"{order}u2") if encoding != "32FC1" else DEPTH_M.astype(f"{order}f4")
    rows = [row.tobytes() + b"\xaa" * padding for row in values]
    message = Image(height=2, width=3, encoding=encoding, is_bigendian=int(big_endian), step=len(rows[0]))
    message.data = array("B", b"".join(rows))
    return message


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_metres_whatever_the_encoding(encoding: str, big_endian: bool, padding: int) -> None:
    depth_m = decode_depth(depth_message(encoding, big_endian=big_endian, padding=padding), 100)
    assert depth_m.dtype == np.float32
    np.testing.assert_allclose(depth_m, np.where(DEPTH_M > 0, DEPTH_M, np.nan), rtol=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf, -1.0, np.nan])
def test_what_is_no_depth_is_nan(value: float) -> None:
    message = depth_message("32FC1")
    message.data = array("B", np.full((2, 3), value, "<f4").tobytes())
    assert np.isnan(decode_depth(message, 100)).all()


def test_bad_depth_images_are_refused_with_what_was_expected() -> None:
    with pytest.raises(InputError, match=r"expected 16UC1 \(millimetres\) or 32FC1 \(metres\), got 'rgb8'"):
        decode_depth(Image(height=2, width=3, encoding="rgb8"), 100)
    short = depth_message("16UC1")
    short.data = short.data[:7]
    with pytest.raises(InputError, match="expected 2 rows x step 6 = 12 bytes, got 7"):
        decode_depth(short, 100)
    with pytest.raises(InputError, match="max_pixels"):
        decode_depth(depth_message("16UC1"), 5)


def test_another_size_of_the_same_view_takes_the_nearest_pixels() -> None:
    depth_m = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(at_image_size(depth_m, (4, 3)), depth_m)
    np.testing.assert_array_equal(at_image_size(depth_m, (8, 6)), depth_m.repeat(2, 0).repeat(2, 1))
    doubled = depth_m.repeat(3, 0).repeat(3, 1)
    np.testing.assert_array_equal(at_image_size(doubled, (4, 3)), depth_m)
    with pytest.raises(InputError, match="expected the shape of the image, 4x4, got 4x3"):
        at_image_size(depth_m, (4, 4))


def test_depth_of_another_camera_is_refused() -> None:
    half = Intrinsics(250.0, 252.5, 159.5, 119.5, 320, 240)
    check_registered(camera_info_from_intrinsics(CAMERA, Image().header), CAMERA)
    check_registered(camera_info_from_intrinsics(half, Image().header), CAMERA)
    check_registered(CameraInfo(width=320, height=240), CAMERA)  # uncalibrated: nothing to compare
    infrared = camera_info_from_intrinsics(replace(half, fx_px=190.0, fy_px=190.0), Image().header)
    with pytest.raises(InputError, match=r"another camera than the image's \(fx 500.0 against 380.0"):
        check_registered(infrared, CAMERA)
