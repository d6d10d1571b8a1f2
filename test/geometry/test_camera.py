"""Pinhole laws: round trips, rays that survive resizing, focal lengths found again."""

import numpy as np
import pytest

from pomato_ros.geometry.camera import (
    clip_focal,
    crop_homography,
    focal_by_irls,
    focal_by_median,
    half_size_principal_point,
    project,
    resize_homography,
    transform_intrinsics,
    transform_pixels,
    unproject,
)
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.structures import Intrinsics

CAMERA = Intrinsics(fx_px=300.0, fy_px=280.0, cx_px=161.3, cy_px=118.9, width_px=320, height_px=240)


def pointmap(focal_px: float, height: int = 24, width: int = 36, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    depth = generator.uniform(1, 5, size=(height, width))
    cx, cy = half_size_principal_point(height, width)
    return unproject(pixel_grid(height, width), depth, [[focal_px, 0, cx], [0, focal_px, cy], [0, 0, 1]])


def test_projection_undoes_unprojection() -> None:
    pixels = np.random.default_rng(0).uniform(0, 300, size=(50, 2))
    depth = np.random.default_rng(1).uniform(0.1, 50, size=50)
    points = unproject(pixels, depth, CAMERA.matrix())
    np.testing.assert_allclose(points[:, 2], depth)
    np.testing.assert_allclose(project(points, CAMERA.matrix()), pixels, atol=1e-9)


def test_unprojection_is_along_the_inverse_of_the_matrix() -> None:
    matrix = np.array([[120.0, 3.0, 60.0], [0.0, 118.0, 47.0], [0.0, 0.0, 1.0]])
    pixels = np.random.default_rng(0).uniform(-50, 300, size=(5, 4, 2))
    depth = np.random.default_rng(1).uniform(0.1, 50, size=(5, 4))
    rays = np.concatenate((pixels, np.ones((5, 4, 1))), axis=-1) @ np.linalg.inv(matrix).T
    np.testing.assert_allclose(unproject(pixels, depth, matrix), rays * depth[..., None], atol=1e-12)
    np.testing.assert_allclose(unproject(pixels, 2.0, matrix), rays * 2.0, atol=1e-12)


def test_points_not_in_front_project_to_nan() -> None:
    assert np.isnan(project([[0.0, 0, -1], [1, 1, 0]], CAMERA.matrix())).all()


def test_x_grows_to_the_right_and_y_downwards() -> None:
    x, y = project([1.0, 0.5, 2.0], CAMERA.matrix())
    assert x > CAMERA.cx_px
    assert y > CAMERA.cy_px


def test_resizing_keeps_the_edges_of_the_image() -> None:
    homography = resize_homography(0.5, 0.25)
    np.testing.assert_allclose(transform_pixels(homography, [[-0.5, -0.5]]), [[-0.5, -0.5]])
    np.testing.assert_allclose(transform_pixels(homography, [[319.5, 239.5]]), [[159.5, 59.5]])
    np.testing.assert_allclose(transform_pixels(homography, [[0, 0]]), [[-0.25, -0.375]])


def test_a_ray_through_a_pixel_survives_resize_and_crop() -> None:
    b_from_a = crop_homography(7, 3) @ resize_homography(0.4, 0.55)
    resized = transform_intrinsics(b_from_a, CAMERA, (112, 96))
    assert (resized.width_px, resized.height_px) == (112, 96)
    pixels = np.random.default_rng(2).uniform(0, 239, size=(20, 2))
    before = unproject(pixels, np.ones(20), CAMERA.matrix())
    after = unproject(transform_pixels(b_from_a, pixels), np.ones(20), resized.matrix())
    np.testing.assert_allclose(after, before, atol=1e-12)


@pytest.mark.parametrize("focal_px", [15.0, 40.0, 200.0])
@pytest.mark.parametrize("estimate", [focal_by_irls, focal_by_median])
def test_focal_length_of_an_exact_pointmap(focal_px: float, estimate) -> None:
    points = pointmap(focal_px)
    assert estimate(points, half_size_principal_point(*points.shape[:2])) == pytest.approx(focal_px, rel=1e-9)


def test_focal_length_does_not_depend_on_the_scale_of_the_points() -> None:
    points = pointmap(50.0) * 17.0
    assert focal_by_irls(points, half_size_principal_point(24, 36)) == pytest.approx(50.0)


def test_focal_length_withstands_outliers() -> None:
    points = pointmap(50.0)
    points[:6] = np.random.default_rng(3).normal(size=points[:6].shape) + [0, 0, 4]
    assert focal_by_irls(points, half_size_principal_point(24, 36)) == pytest.approx(50.0, rel=0.02)


def test_masked_pixels_do_not_count() -> None:
    points = pointmap(50.0)
    points[:12] *= [3.0, 3.0, 1.0]
    good = np.zeros(points.shape[:2], dtype=bool)
    good[12:] = True
    principal_point = half_size_principal_point(24, 36)
    assert focal_by_irls(points, principal_point, good) == pytest.approx(50.0)
    assert focal_by_median(points, principal_point, good) == pytest.approx(50.0)


def test_points_at_depth_zero_are_left_out() -> None:
    points = pointmap(50.0)
    points[3, 4, 2] = 0.0
    points[5, 6] = 0.0
    assert focal_by_irls(points, half_size_principal_point(24, 36)) == pytest.approx(50.0, rel=1e-4)


def test_a_pointmap_that_says_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="focal length"):
        focal_by_irls(np.zeros((4, 4, 3)), (2, 2))
    with pytest.raises(ValueError, match="focal length"):
        focal_by_median(np.full((4, 4, 3), np.nan), (2, 2))


def test_clipping_is_in_units_of_a_sixty_degree_view() -> None:
    unit = 64 / (2 * np.tan(np.pi / 6))
    assert clip_focal(10.0, 48, 64, 0.5, 3.5) == pytest.approx(0.5 * unit)
    assert clip_focal(1e4, 48, 64, 0.5, 3.5) == pytest.approx(3.5 * unit)
    assert clip_focal(unit, 64, 48, 0.5, 3.5) == pytest.approx(unit)
