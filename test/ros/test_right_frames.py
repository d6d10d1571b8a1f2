"""A pair's raw images are rectified by R and P of both: what one point of the scene shows lies on one row."""

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.ros.conversions.camera_info import calibration_from_camera_info
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.rectify import Rectifier
from pomato_ros.ros.right_frames import baseline, rectified_view, right_rectifier

SIZE_WH = (160, 120)
RAW, RECTIFIED = (150.0, 82.0, 57.0), (140.0, 79.5, 59.5)  # focal length, cx, cy


def info(turn_rad: tuple[float, float, float], baseline_m: float = 0.0) -> CameraInfo:
    """A raw camera of a pair; ``turn_rad`` is the rotation vector of the rectified axes <- raw ones."""
    message = CameraInfo(width=SIZE_WH[0], height=SIZE_WH[1], distortion_model="plumb_bob", d=[0.0] * 5)
    (focal, cx, cy), (to, px, py) = RAW, RECTIFIED
    message.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    message.r = pose_exp([0.0, 0.0, 0.0, *turn_rad])[:3, :3].ravel().tolist()
    message.p = [to, 0.0, px, -to * baseline_m, 0.0, to, py, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def seen(message: CameraInfo, point_rectified: np.ndarray) -> np.ndarray:
    """(h, w, 3) raw image with one blurred spot where a camera sees a point of its rectified axes."""
    raw = np.reshape(message.r, (3, 3)).T @ point_rectified
    x, y = RAW[0] * raw[0] / raw[2] + RAW[1], RAW[0] * raw[1] / raw[2] + RAW[2]
    rows, columns = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]]
    spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8.0)
    return np.repeat(spot[..., None], 3, axis=-1).astype(np.uint8)


def centre(image: np.ndarray) -> tuple[float, float]:
    """x and y of the spot."""
    weights = image[..., 0].astype(float)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((weights * columns).sum() / weights.sum()), float((weights * rows).sum() / weights.sum())


def test_a_point_lies_on_one_row_with_the_disparity_of_its_depth() -> None:
    left, right = info((0.02, -0.03, 0.05)), info((-0.03, 0.02, -0.04), baseline_m=0.12)
    view = rectified_view(left)
    assert view is not None
    calibration = calibration_from_camera_info(left, SIZE_WH)
    assert calibration is not None
    of_left = Rectifier(calibration, remove_distortion=True, view=view)
    of_right = right_rectifier(right, SIZE_WH, of_left.intrinsics, rectified=False)
    for point in ([0.1, 0.2, 1.5], [-0.3, -0.2, 2.0], [0.4, 0.3, 3.0]):
        in_left = np.array(point)
        in_right = in_left - [0.12, 0.0, 0.0]
        x_left, y_left = centre(of_left.rectify(seen(left, in_left)))
        x_right, y_right = centre(of_right.rectify(seen(right, in_right)))
        to, cx, cy = RECTIFIED
        assert (x_left, y_left) == pytest.approx(
            (to * point[0] / point[2] + cx, to * point[1] / point[2] + cy), abs=0.1
        )
        assert y_right == pytest.approx(y_left, abs=0.1)
        assert x_left - x_right == pytest.approx(to * 0.12 / point[2], abs=0.1)
    assert baseline(left, right) == pytest.approx(0.12)


def test_exchanged_cameras_have_a_negative_baseline() -> None:
    assert baseline(info((0, 0, 0), 0.12), info((0, 0, 0))) == pytest.approx(-0.12)


def test_calibrations_of_no_pair_are_refused() -> None:
    left = rectified_view(info((0, 0, 0)))
    assert left is not None
    other = info((0, 0, 0), 0.1)
    other.p[0] = other.p[5] = 200.0
    with pytest.raises(InputError, match="rectified focal length"):
        right_rectifier(other, SIZE_WH, left.intrinsics, rectified=False)
    bent = info((0, 0, 0), 0.1)
    bent.r = [2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    with pytest.raises(InputError, match="rotation in R"):
        rectified_view(bent)
    uncalibrated = CameraInfo(width=160, height=120)
    with pytest.raises(InputError, match="expected P"):
        baseline(info((0, 0, 0)), uncalibrated)
