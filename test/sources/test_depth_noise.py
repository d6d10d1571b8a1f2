"""Depth comes with a standard deviation that is honest on simulated truth, and is silent at edges and out of range."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.config import DEPTH_SENSORS, DepthNoise
from pomato_ros.sources.depth_noise import inverse_depth_sigma, jumps, measure_depth
from pomato_ros.sources.resize import Resizing, plan_resizing
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.sensors import sense_depth
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

KINECT = DEPTH_SENSORS["structured_light"]
SAME = Resizing((64, 48), (64, 48))
EVERY_SENSOR = pytest.mark.parametrize("noise", DEPTH_SENSORS.values(), ids=DEPTH_SENSORS.keys())


@pytest.fixture(scope="module")
def clip() -> Clip:
    world = dataclasses.replace(TRAIN_WORLD, open_ground_probability=0.0, room_size_m=(4.0, 6.0))
    return render_clip(9, world, 2, (320, 240))


def test_residuals_have_the_size_of_sigma_on_simulated_truth(clip: Clip) -> None:
    depth = measure_depth(sense_depth(clip, 0), KINECT, Resizing((320, 240), (320, 240)))
    residual = (depth.inverse_depth - 1.0 / clip.depth_m[0].numpy()) / depth.sigma
    assert depth.valid.mean() > 0.6
    assert 0.5 < np.mean(residual[depth.valid] ** 2) < 2.0
    assert 0.7 < 1.4826 * np.median(np.abs(residual[depth.valid])) < 1.3


@EVERY_SENSOR
def test_sigma_is_that_of_the_law_on_a_frontal_plane(noise: DepthNoise) -> None:
    for depth_m in (1.0, 3.0, 5.0):
        depth = measure_depth(np.full((48, 64), depth_m, np.float32), noise, SAME)
        axial = noise.floor_m + noise.square_per_m * (depth_m - noise.nearest_best_m) ** 2
        expected = np.hypot(axial / depth_m**2, noise.inverse_step_per_m / np.sqrt(12.0))
        assert depth.valid.all()
        np.testing.assert_allclose(depth.sigma, expected, rtol=1e-3)


@EVERY_SENSOR
def test_sigma_is_positive_wherever_depth_is_valid(noise: DepthNoise) -> None:
    inverse = np.linspace(1.0 / noise.range_m[1], 1.0 / noise.range_m[0], 64 * 48, dtype=np.float32).reshape(48, 64)
    assert (inverse_depth_sigma(inverse, np.ones(inverse.shape, bool), noise, 0.5) > 0).all()


def test_nothing_out_of_range_or_unmeasured_is_valid() -> None:
    depth_m = np.full((48, 64), 2.0, np.float32)
    depth_m[:, :10], depth_m[:, 10:20], depth_m[:, 20:30], depth_m[:, 30:35] = 0.1, np.nan, 20.0, -1.0
    depth = measure_depth(depth_m, KINECT, SAME)
    assert not depth.valid[:, :35].any()
    assert depth.valid[:, 36:].all()


def test_both_sides_of_an_edge_are_left_out_and_slopes_are_not() -> None:
    depth_m = np.full((48, 64), 3.0, np.float32)
    depth_m[:, 32:] = 1.5
    valid = measure_depth(depth_m, KINECT, SAME).valid
    assert not valid[:, 30:34].any()
    assert valid[:, :29].all()
    assert valid[:, 35:].all()
    slope = (1.0 / np.linspace(0.3, 0.9, 64)).astype(np.float32) * np.ones((48, 1), np.float32)
    assert not jumps(1.0 / slope, np.ones(slope.shape, bool)).any()


def test_slanted_surfaces_are_less_certain() -> None:
    flat = np.full((48, 64), 2.0, np.float32)
    slanted = np.tile((1.0 / np.linspace(0.3, 0.7, 64)).astype(np.float32), (48, 1))
    middle = (24, 32)
    assert measure_depth(slanted, KINECT, SAME).sigma[middle] > 1.3 * measure_depth(flat, KINECT, SAME).sigma[middle]


def test_halved_depth_is_the_mean_of_inverse_depths_and_keeps_edges_out() -> None:
    resizing = plan_resizing((128, 96), 64)
    depth_m = np.full((96, 128), 2.0, np.float32)
    depth_m[::2, ::2] = np.nan  # three of four are measured
    depth_m[:, 65:] = 4.0
    depth = measure_depth(depth_m, KINECT, resizing)
    assert depth.valid.shape == (48, 64)
    np.testing.assert_allclose(depth.inverse_depth[:, :30], 0.5, rtol=1e-5)
    np.testing.assert_allclose(depth.inverse_depth[:, 35:], 0.25, rtol=1e-5)
    assert not depth.valid[:, 32].any()
    assert depth.valid[:, :30].all()
