"""Simulated sensors measure the scene that was rendered, err as they say, and see nothing where they cannot."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.sensors import (
    KINECT,
    incidence_cosine,
    projector_shadow,
    render_right_images,
    right_camera,
    sense_depth,
)
from pomato_ros.synthetic.world import WorldConfig, draw_scene

CAMERA = Intrinsics(100.0, 100.0, 49.5, 29.5, 100, 60)


def test_depth_errs_by_the_sigma_of_the_model(clip: Clip) -> None:
    measured, truth = sense_depth(clip, 0), clip.depth_m[0].numpy()
    seen = np.isfinite(measured)
    axial = KINECT.sigma_a_m + KINECT.sigma_b_per_m * (truth - KINECT.sigma_c_m) ** 2
    step = KINECT.inverse_step_per_m * truth**2
    residual = (measured - truth)[seen] / np.sqrt(axial**2 + step**2 / 12)[seen]
    assert 1.4826 * np.median(np.abs(residual)) == pytest.approx(1.0, abs=0.15)
    assert abs(np.median(residual)) < 0.1


def test_nothing_is_measured_out_of_range(clip: Clip) -> None:
    far = dataclasses.replace(clip, depth_m=clip.depth_m * 10.0)
    measured = sense_depth(far, 1)
    assert np.nanmax(measured) <= KINECT.range_m[1] if np.isfinite(measured).any() else True
    assert not np.isfinite(measured[far.depth_m[1].numpy() > 1.5 * KINECT.range_m[1]]).any()


def test_a_sensor_measures_the_same_again(clip: Clip) -> None:
    np.testing.assert_array_equal(sense_depth(clip, 2, seed=3), sense_depth(clip, 2, seed=3))
    assert not np.array_equal(sense_depth(clip, 2, seed=3), sense_depth(clip, 2, seed=4))


def test_the_shadow_of_a_near_board_has_the_width_of_its_parallax() -> None:
    depth = np.full((60, 100), 4.0, np.float32)
    depth[:, 40:70] = 1.0
    shadow = projector_shadow(depth, CAMERA, baseline_m=0.1)
    width_px = 100.0 * 0.1 * (1.0 / 1.0 - 1.0 / 4.0)
    assert shadow[30, :40].sum() == pytest.approx(width_px, abs=1.5)
    assert not shadow[:, 40:].any()


def test_incidence_on_a_plane_is_that_of_its_normal() -> None:
    slope = 2.0
    x = (np.arange(100) - CAMERA.cx_px) / CAMERA.fx_px
    depth = np.tile((3.0 / (1.0 + slope * x)).astype(np.float32), (60, 1))  # the plane z + slope x = 3
    cosine = incidence_cosine(depth, CAMERA)[30, 50]
    assert cosine == pytest.approx(1.0 / np.hypot(1.0, slope), abs=0.02)


def test_the_right_image_is_the_left_one_moved_by_the_disparity(even_light: WorldConfig) -> None:
    scene = draw_scene(8, even_light, 1, (96, 64))
    clip, baseline_m = render(scene, supersample=2), 0.05
    right = render_right_images(scene, baseline_m)[0].astype(float)
    left, depth = clip.images[0].numpy().astype(float), clip.depth_m[0].numpy()
    columns = np.rint(np.arange(96) - scene.intrinsics.fx_px * baseline_m / depth).astype(int)
    rows = np.broadcast_to(np.arange(64)[:, None], columns.shape)
    inside = columns >= 0
    difference = np.abs(right[rows, columns.clip(0)] - left).mean(axis=-1)[inside]
    unmoved = np.abs(right - left).mean(axis=-1)[inside]
    assert np.median(difference) < 0.6 * np.median(unmoved)


def test_both_cameras_of_a_pair_see_the_movers_at_the_same_time(even_light: WorldConfig) -> None:
    scene = draw_scene(6, even_light, 3, (48, 32))
    right = right_camera(scene, 0.1)
    assert right.world_from_object is scene.world_from_object
    away = (right.world_from_camera - scene.world_from_camera)[:, :3, 3].norm(dim=1)
    np.testing.assert_allclose(away.numpy(), 0.1, atol=1e-12)
