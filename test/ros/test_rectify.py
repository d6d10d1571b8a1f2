import contextlib

import cv2
import numpy as np
import pytest

from pomato_ros.ros.conversions.camera_info import Calibration
from pomato_ros.ros.conversions.guards import check_intrinsics
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.rectify import Rectifier, check_alike
from pomato_ros.structures import Intrinsics

WH = (160, 120)
RAW = Intrinsics(110.0, 112.0, 79.0, 61.0, *WH)
RATIONAL = (-0.2, 0.03, 0.0, 0.0, 0.01, 0.05, 0.01, 0.0)
DISTORTIONS = [
    ("plumb_bob", (-0.25, 0.06, 0.001, -0.001, 0.0)),
    ("rational_polynomial", RATIONAL),
    ("equidistant", (0.05, -0.01, 0.002, 0.0)),
]


def distorted_pixels(points: np.ndarray, model: str, distortion: tuple[float, ...]) -> np.ndarray:
    """Where a distorting camera sees points (n, 3)."""
    coefficients = np.array(distortion)
    rows = points.reshape(-1, 1, 3)
    if model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(rows, np.zeros(3), np.zeros(3), RAW.matrix(), coefficients)
    else:
        pixels, _ = cv2.projectPoints(rows, np.zeros(3), np.zeros(3), RAW.matrix(), coefficients)
    return pixels.reshape(-1, 2)


def spots(pixels: np.ndarray) -> np.ndarray:
    """An image with a soft spot at each pixel position."""
    columns, rows = np.meshgrid(np.arange(WH[0]), np.arange(WH[1]))
    image = np.zeros((WH[1], WH[0]))
    for x, y in pixels:
        image = np.maximum(image, np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4.0))
    return np.repeat((255 * image).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize(("model", "distortion"), DISTORTIONS)
def test_points_land_where_the_pinhole_camera_sees_them(model: str, distortion: tuple[float, ...]) -> None:
    rectifier = Rectifier(Calibration(RAW, None, model, distortion), remove_distortion=True)
    points = np.array([[0.3, 0.2, 1.0], [-0.35, 0.1, 1.0], [0.0, -0.25, 1.0], [0.05, 0.03, 1.0]])
    image = rectifier.rectify(spots(distorted_pixels(points, model, distortion)))
    expected = points @ rectifier.intrinsics.matrix().T
    for x, y in expected[:, :2]:
        patch = image[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5, 0].astype(float)
        columns, rows = np.meshgrid(np.arange(round(x) - 4, round(x) + 5), np.arange(round(y) - 4, round(y) + 5))
        assert abs((patch * columns).sum() / patch.sum() - x) < 0.25
        assert abs((patch * rows).sum() / patch.sum() - y) < 0.25


@pytest.mark.parametrize(("model", "distortion"), DISTORTIONS)
def test_the_rectified_image_has_no_black_border(model: str, distortion: tuple[float, ...]) -> None:
    rectifier = Rectifier(Calibration(RAW, None, model, distortion), remove_distortion=True)
    white = np.full((WH[1], WH[0], 3), 255, np.uint8)
    assert (rectifier.rectify(white) == 255).mean() > 0.97


def test_an_undistorted_image_is_passed_on_untouched() -> None:
    image = np.zeros((WH[1], WH[0], 3), np.uint8)
    rectifier = Rectifier(Calibration(RAW, None, "", ()), remove_distortion=True)
    assert rectifier.rectify(image) is image
    assert rectifier.intrinsics == RAW


def test_images_that_are_rectified_already_are_described_by_p() -> None:
    rectified = Intrinsics(100.0, 100.0, 80.0, 60.0, *WH)
    rectifier = Rectifier(Calibration(RAW, rectified, *DISTORTIONS[0]), remove_distortion=False)
    image = np.zeros((WH[1], WH[0], 3), np.uint8)
    assert rectifier.intrinsics == rectified
    assert rectifier.rectify(image) is image


def test_the_driver_chooses_the_rectified_camera_by_p() -> None:
    rectified = Intrinsics(100.0, 100.0, 80.0, 60.0, *WH)
    rectifier = Rectifier(Calibration(RAW, rectified, *DISTORTIONS[0]), remove_distortion=True)
    assert rectifier.intrinsics == rectified


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", (1e30, 0.0, 0.0, 0.0, 0.0)),
        ("equidistant", (1e6, 1e6, 1e6, 1e6)),
        ("plumb_bob", (-5.0, 10.0, 0.0, 0.0)),
        ("rational_polynomial", (0.0, 0.0, 0.0, 0.0, 0.0, -4.0, 0.0, 0.0)),
    ],
)
def test_distortion_of_no_lens_is_refused_or_leaves_a_camera(model: str, distortion: tuple[float, ...]) -> None:
    with contextlib.suppress(InputError):
        rectifier = Rectifier(Calibration(RAW, None, model, distortion), remove_distortion=True)
        check_intrinsics(rectifier.intrinsics, "K")
        check_alike(rectifier.intrinsics, RAW)


def test_a_half_sphere_becomes_a_camera_of_120_degrees() -> None:
    raw = Intrinsics(50.0, 50.0, 79.5, 59.5, *WH)
    rectifier = Rectifier(Calibration(raw, None, "equidistant", (0.01, 0.0, 0.0, 0.0)), remove_distortion=True)
    width_rad = 2 * np.arctan(0.5 * WH[0] / rectifier.intrinsics.fx_px)
    assert np.deg2rad(90) < width_rad <= np.deg2rad(121)


def test_pixels_beyond_the_raw_image_are_not_valid() -> None:
    model, distortion = DISTORTIONS[0]
    wide = Intrinsics(70.0, 70.0, 79.5, 59.5, *WH)  # as alpha = 1 makes it: all raw pixels are kept
    rectifier = Rectifier(Calibration(RAW, wide, model, distortion), remove_distortion=True)
    assert rectifier.valid is not None
    white = rectifier.rectify(np.full((WH[1], WH[0], 3), 255, np.uint8))[..., 0]
    assert (white[rectifier.valid] == 255).all()
    assert (white[~rectifier.valid] == 255).mean() < 0.2  # but for the border that is left out
