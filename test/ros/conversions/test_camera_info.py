import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from pomato_ros.ros.conversions.camera_info import (
    calibration_from_camera_info,
    camera_info_from_intrinsics,
    camera_info_key,
    source_intrinsics,
)
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.structures import Intrinsics

WH = (640, 400)


def info(**changes: object) -> CameraInfo:
    message = CameraInfo(width=WH[0], height=WH[1], distortion_model="plumb_bob", d=[0.0] * 5)
    message.k = [500.0, 0.0, 310.0, 0.0, 510.0, 190.0, 0.0, 0.0, 1.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_intrinsics_are_read_from_k() -> None:
    calibration = calibration_from_camera_info(info(), WH)
    assert calibration is not None
    assert calibration.raw == Intrinsics(500.0, 510.0, 310.0, 190.0, *WH)
    assert calibration.distortion == ()


def test_a_camera_without_focal_length_is_uncalibrated() -> None:
    assert calibration_from_camera_info(CameraInfo(width=WH[0], height=WH[1]), WH) is None


def test_a_point_seen_through_binning_and_region_of_interest_lands_on_the_right_pixel() -> None:
    message = info(binning_x=2, binning_y=4)
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 100, 40, 320, 200
    calibration = calibration_from_camera_info(message, (160, 50))
    assert calibration is not None
    point = np.array([0.13, -0.05, 1.0])
    full = np.array([[500.0, 0.0, 310.0], [0.0, 510.0, 190.0], [0.0, 0.0, 1.0]]) @ point
    seen = calibration.raw.matrix() @ point
    # The centre of binned pixel i is the mean of the centres of full pixels b*i .. b*i + b - 1 of the region.
    assert full[0] == pytest.approx(100 + 2 * seen[0] + 0.5)
    assert full[1] == pytest.approx(40 + 4 * seen[1] + 1.5)


def test_a_calibration_for_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(InputError, match="640x400.*320x200"):
        calibration_from_camera_info(info(), (320, 200))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -500.0])
def test_impossible_focal_lengths_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="finite"):
        calibration_from_camera_info(info(k=[bad, 0.0, 310.0, 0.0, 510.0, 190.0, 0.0, 0.0, 1.0]), WH)


@pytest.mark.parametrize(
    ("model", "count"), [("plumb_bob", 5), ("plumb_bob", 4), ("rational_polynomial", 8), ("equidistant", 4)]
)
def test_known_distortion_models_are_accepted(model: str, count: int) -> None:
    calibration = calibration_from_camera_info(info(distortion_model=model, d=[0.01] * count), WH)
    assert calibration is not None
    assert (calibration.distortion_model, len(calibration.distortion)) == (model, count)


@pytest.mark.parametrize(
    ("model", "given", "meant", "used"),
    [
        ("equidistant", [0.1, 0.2, 0.3, 0.4, 0.0], "equidistant", [0.1, 0.2, 0.3, 0.4]),
        ("equidistant", [0.1, 0.2, 0.3, 0.4] + [0.0] * 10, "equidistant", [0.1, 0.2, 0.3, 0.4]),
        ("fisheye", [0.1, 0.2, 0.3, 0.4], "equidistant", [0.1, 0.2, 0.3, 0.4]),
        ("radtan", [0.1, 0.2, 0.3, 0.4], "plumb_bob", [0.1, 0.2, 0.3, 0.4]),
        ("plumb_bob", [0.1, 0.2], "plumb_bob", [0.1, 0.2, 0.0, 0.0]),
        ("plumb_bob", [0.1, 0.2, 0.3, 0.4, 0.5] + [0.0] * 9, "plumb_bob", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("plumb_bob", [0.1] * 8, "rational_polynomial", [0.1] * 8),
        ("rational_polynomial", [0.1] * 5, "plumb_bob", [0.1] * 5),
        ("", [0.1] * 5, "plumb_bob", [0.1] * 5),
    ],
)
def test_coefficients_of_one_meaning_are_used(model: str, given: list[float], meant: str, used: list[float]) -> None:
    calibration = calibration_from_camera_info(info(distortion_model=model, d=given), WH)
    assert calibration is not None
    assert (calibration.distortion_model, list(calibration.distortion), calibration.note) == (meant, used, "")


@pytest.mark.parametrize(
    ("model", "count"), [("thin_prism", 5), ("plumb_bob", 3), ("", 4), ("equidistant", 5), ("plumb_bob", 15)]
)
def test_distortion_without_one_meaning_stays_in_the_image_and_k_is_used(model: str, count: int) -> None:
    calibration = calibration_from_camera_info(info(distortion_model=model, d=[0.01] * count), WH)
    assert calibration is not None
    assert (calibration.distortion_model, calibration.distortion) == ("", ())
    assert f"got '{model}' with {count}" in calibration.note


@pytest.mark.parametrize("focal_px", [1e-300, 1e-6, 0.9, 1e300, float("nan")])
def test_focal_lengths_of_no_lens_are_refused(focal_px: float) -> None:
    matrix = [focal_px, 0.0, 300.0, 0.0, focal_px, 180.0, 0.0, 0.0, 1.0]
    with pytest.raises(InputError, match="focal lengths"):
        calibration_from_camera_info(info(k=matrix), WH)


def test_p_counts_only_where_the_camera_is_not_turned() -> None:
    projection = [450.0, 0.0, 300.0, 0.0, 0.0, 455.0, 180.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    straight = calibration_from_camera_info(info(p=projection, r=np.eye(3).ravel().tolist()), WH)
    turned = calibration_from_camera_info(info(p=projection, r=np.roll(np.eye(3), 1, axis=0).ravel().tolist()), WH)
    assert straight is not None
    assert turned is not None
    assert straight.rectified == Intrinsics(450.0, 455.0, 300.0, 180.0, *WH)
    assert turned.rectified is None


def test_a_camera_info_made_from_intrinsics_reads_back_the_same() -> None:
    intrinsics = Intrinsics(100.5, 101.5, 30.25, 20.75, 64, 48)
    calibration = calibration_from_camera_info(camera_info_from_intrinsics(intrinsics, Header()), (64, 48))
    assert calibration is not None
    assert calibration.raw == calibration.rectified == intrinsics


def test_source_intrinsics_undo_resize_and_crop() -> None:
    source = Intrinsics(400.0, 410.0, 320.0, 200.0, 640, 400)
    model_from_source = np.array([[0.25, 0.0, -10.0], [0.0, 0.25, -2.0], [0.0, 0.0, 1.0]])
    matrix = model_from_source @ source.matrix()
    model = Intrinsics(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], 140, 96)
    again = source_intrinsics(model, model_from_source, (640, 400))
    np.testing.assert_allclose(again.matrix(), source.matrix())
    assert (again.width_px, again.height_px) == (640, 400)


def test_the_key_ignores_the_header_and_nothing_else() -> None:
    first, second = info(), info()
    second.header.frame_id = "elsewhere"
    assert camera_info_key(first) == camera_info_key(second)
    for change in ({"width": 641}, {"binning_x": 2}, {"d": [0.1] * 5}, {"k": [1.0] * 9}, {"distortion_model": "x"}):
        assert camera_info_key(info(**change)) != camera_info_key(first)


@pytest.mark.parametrize("value", [float("nan"), 1e-30])
def test_a_projection_that_is_none_leaves_k(value: float) -> None:
    projection = [value, 0.0, 300.0, 0.0, 0.0, value, 180.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    calibration = calibration_from_camera_info(info(p=projection), WH)
    assert calibration is not None
    assert calibration.rectified is None
    assert "P is not used" in calibration.note
