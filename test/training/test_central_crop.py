"""Turned views: the chosen pixel in the middle, and points that still project to where they are seen."""

import numpy as np
import pytest

from pomato_ros.structures import Intrinsics
from pomato_ros.training.central_crop import turn_points, turn_towards, warp_maps

CAMERA = Intrinsics(100.0, 100.0, 79.5, 59.5, 160, 120)


@pytest.mark.parametrize("roll_rad", [0.0, 0.4])
@pytest.mark.parametrize("pixel_xy", [(79.5, 59.5), (50.0, 80.0), (120.0, 30.0)])
def test_points_project_where_the_turned_image_shows_them(pixel_xy: tuple[float, float], roll_rad: float) -> None:
    view = turn_towards(CAMERA, pixel_xy, (64, 48), 130.0, roll_rad)
    y, x = np.mgrid[:120, :160].astype(np.float32)
    depth = 3.0 + 0.01 * x
    points = np.stack(((x - 79.5) / 100 * depth, (y - 59.5) / 100 * depth, depth), axis=-1).astype(np.float32)
    turned = turn_points(view, warp_maps(view, points))
    seen = np.isfinite(turned).all(-1)
    assert seen.mean() > 0.3
    rows, columns = np.nonzero(seen)
    u = 130 * turned[seen][:, 0] / turned[seen][:, 2] + view.intrinsics.cx_px
    v = 130 * turned[seen][:, 1] / turned[seen][:, 2] + view.intrinsics.cy_px
    assert np.abs(np.stack((u - columns, v - rows))).max() < 0.1
    middle = view.turned_from_pixels @ np.array([*pixel_xy, 1.0])
    np.testing.assert_allclose(middle[:2] / middle[2], (31.5, 23.5), atol=1e-9)
    np.testing.assert_allclose(view.turned_from_camera @ view.turned_from_camera.T, np.eye(3), atol=1e-12)


def test_looking_straight_ahead_is_a_plain_central_crop() -> None:
    view = turn_towards(CAMERA, (79.5, 59.5), (80, 60), 100.0, 0.0)
    image = np.random.default_rng(0).uniform(size=(120, 160, 3)).astype(np.float32)
    np.testing.assert_allclose(warp_maps(view, image), image[30:90, 40:120], atol=1e-3)
