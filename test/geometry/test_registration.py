"""Registered depth is that of a slow z-buffer that goes pixel by pixel, for any pair of cameras."""

import math

import numpy as np
import pytest

from pomato_ros.geometry.registration import DepthRegistration, close_gaps, registration_grid
from pomato_ros.geometry.rigid import pose_from, rotation_exp
from pomato_ros.structures import FloatArray, Intrinsics, PoseArray

DEPTH_CAMERA = Intrinsics(60.0, 62.0, 31.0, 24.5, 64, 48)
SAME = Intrinsics(60.0, 62.0, 31.0, 24.5, 64, 48)
WIDE = Intrinsics(40.0, 40.0, 29.5, 19.5, 60, 40)
FINE = Intrinsics(130.0, 128.0, 70.0, 50.0, 140, 100)


def scene(seed: int) -> FloatArray:
    """A slanted wall with boards in front of it, and holes."""
    draws = np.random.default_rng(seed)
    depth = np.tile(np.linspace(2.0, 5.0, 64, dtype=np.float32), (48, 1))
    for _ in range(6):
        x, y = draws.integers(0, 54), draws.integers(0, 38)
        depth[y : y + draws.integers(4, 16), x : x + draws.integers(4, 16)] = draws.uniform(0.6, 3.0)
    depth[draws.random(depth.shape) < 0.05] = 0.0
    depth[draws.random(depth.shape) < 0.05] = np.nan
    return depth


def slow_z_buffer(depth_m: FloatArray, depth_camera: Intrinsics, camera: Intrinsics, pose: PoseArray) -> FloatArray:
    """One pixel after the other."""
    image = np.full((camera.height_px, camera.width_px), np.inf)
    inverse = np.linalg.inv(depth_camera.matrix())
    for row in range(depth_camera.height_px):
        for column in range(depth_camera.width_px):
            z = float(depth_m[row, column])
            if not z > 0:
                continue
            point = pose[:3, :3] @ (inverse @ [column, row, 1.0] * z) + pose[:3, 3]
            if point[2] <= 0:
                continue
            x = math.floor(camera.fx_px * point[0] / point[2] + camera.cx_px + 0.5)
            y = math.floor(camera.fy_px * point[1] / point[2] + camera.cy_px + 0.5)
            inside = 0 <= x < camera.width_px and 0 <= y < camera.height_px
            if inside:
                image[y, x] = min(image[y, x], point[2])
    return image.astype(np.float32)


TRANSLATIONS = {
    "right": (-0.08, 0.0, 0.0),
    "left": (0.08, 0.0, 0.0),
    "above": (0.01, 0.06, 0.0),
    "ahead": (0.01, 0.02, -0.1),
    "behind": (0.02, -0.01, 0.1),
    "beside and ahead": (-0.15, 0.02, -0.02),
}


@pytest.mark.parametrize("translation", TRANSLATIONS.values(), ids=TRANSLATIONS.keys())
@pytest.mark.parametrize("colour_camera", [SAME, WIDE, FINE], ids=["same", "wide", "fine"])
def test_projection_is_that_of_the_slow_z_buffer(
    colour_camera: Intrinsics, translation: tuple[float, float, float]
) -> None:
    pose = pose_from(rotation_exp([0.01, -0.02, 0.015]), translation)
    depth = scene(3)
    fast = DepthRegistration(DEPTH_CAMERA, colour_camera, pose).project(depth)
    slow = slow_z_buffer(depth, DEPTH_CAMERA, registration_grid(DEPTH_CAMERA, colour_camera), pose)
    differs = ~np.isclose(fast, slow, atol=1e-4)
    assert differs.mean() < 0.003  # pixels whose place is rounded the other way in single precision
    assert np.isfinite(slow).mean() > 0.3


def test_without_motion_between_equal_cameras_depth_stays() -> None:
    depth = scene(1)
    found = DepthRegistration(DEPTH_CAMERA, SAME, np.eye(4)).project(depth)
    np.testing.assert_allclose(found, np.where(depth > 0, depth, np.inf), rtol=1e-6)


def test_a_finer_camera_is_filled_without_gaps() -> None:
    depth = np.full((48, 64), 2.0, np.float32)
    found = DepthRegistration(DEPTH_CAMERA, FINE, pose_from(np.eye(3), [0.02, 0.0, 0.0])).register(depth)
    assert found.shape == (100, 140)
    assert (found[20:80, 30:110] == 2.0).all()


def test_gaps_take_the_farther_surface_and_large_holes_stay() -> None:
    depth = np.full((20, 20), 1.0, np.float32)
    depth[:, 10:] = 3.0
    depth[5, 10] = np.inf
    depth[12:18, 2:8] = np.inf
    filled = close_gaps(depth)
    assert filled[5, 10] == pytest.approx(3.0)
    assert np.isinf(filled[13:17, 3:7]).all()
    measured = np.isfinite(depth)
    np.testing.assert_array_equal(filled[measured], depth[measured])


def test_a_depth_image_of_another_size_is_refused() -> None:
    registration = DepthRegistration(DEPTH_CAMERA, SAME, np.eye(4))
    with pytest.raises(ValueError, match=r"\(48, 64\)"):
        registration.register(np.ones((24, 32), np.float32))
