"""The filter is the one of its own model, follows what changes, and doubts what it does not see."""

import math

import numpy as np
import pytest

from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.pointmap_scene.scale import (
    DRIFT_LOG_STD,
    LEAST_WAY_M,
    PERSISTENT,
    UNKNOWN_LOG_STD,
    ScaleFilter,
    ScaleMeasurement,
    scale_from_depth,
    scale_from_way,
    scaled_about,
)

SHAPE = (48, 64)


def run_filter(log_truth: np.ndarray, measured: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors and standard deviations over time; NaN in ``measured`` is a frame without a sensor."""
    scale, corrected = ScaleFilter(known=False), 0.0
    errors, stds = [], []
    for truth, seen in zip(log_truth, measured, strict=True):
        scale.predict()
        if np.isfinite(seen):
            corrected += scale.update(ScaleMeasurement(seen - corrected, variance))
        errors.append(corrected - truth)
        stds.append(scale.log_std)
    return np.array(errors), np.array(stds)


def test_errors_are_as_large_as_the_filter_says() -> None:
    draws, variance = np.random.default_rng(0), 0.02**2
    shares = []
    for _ in range(60):
        truth = 0.4 + np.cumsum(DRIFT_LOG_STD * draws.normal(size=50))
        errors, stds = run_filter(truth, truth + 0.02 * draws.normal(size=50), variance)
        shares.append((errors / stds) ** 2)
        assert stds[-1] < 0.5 * 0.02
    assert np.mean(shares) == pytest.approx(1.0, abs=0.15)


def test_without_a_sensor_the_doubt_grows_and_the_scale_stays() -> None:
    truth = np.full(40, math.log(3.0))
    measured = np.where(np.arange(40) < 20, truth, np.nan)
    errors, stds = run_filter(truth, measured, 1e-6)
    assert np.abs(errors).max() < 1e-3
    assert (np.diff(stds[20:]) > 0).all()
    assert stds[-1] == pytest.approx(math.hypot(stds[19], math.sqrt(20) * DRIFT_LOG_STD), rel=1e-6)


def test_a_change_that_stays_is_followed_and_one_wrong_image_is_not() -> None:
    truth = np.where(np.arange(60) < 30, 0.0, 0.2)
    errors, stds = run_filter(truth, truth, 1e-4)
    assert np.abs(errors[30 + PERSISTENT :]).max() < 0.02
    outlier = np.zeros(60)
    outlier[30] = 1.0
    errors, _ = run_filter(np.zeros(60), outlier, 1e-4)
    assert np.abs(errors).max() < 1e-9
    assert stds.min() > 0


def test_a_known_unit_is_sure_at_first_and_an_unknown_one_is_not() -> None:
    assert ScaleFilter(known=True).log_std == 0.0
    assert ScaleFilter(known=False).log_std == UNKNOWN_LOG_STD
    scale = ScaleFilter(known=False)
    assert scale.update(ScaleMeasurement(math.log(25.0), 1e-4)) == pytest.approx(math.log(25.0), rel=1e-3)
    sure = scale.log_std
    scale.doubt()
    assert scale.log_std > 10 * sure


@pytest.mark.parametrize("factor", [0.04, 1.0, 30.0])
def test_the_ratio_of_depths_is_found_among_outliers_and_holes(factor: float) -> None:
    draws = np.random.default_rng(3)
    depth = draws.uniform(1.0, 5.0, SHAPE).astype(np.float32)
    sensor = (factor * depth * np.exp(0.02 * draws.normal(size=SHAPE))).astype(np.float32)
    confidence = draws.uniform(1.0, 10.0, SHAPE).astype(np.float32)
    static = np.ones(SHAPE, bool)
    static[:, 40:] = False
    sensor[:, 40:] *= 2.0  # movers
    sensor[draws.random(SHAPE) < 0.3] = np.nan
    sensor[draws.random(SHAPE) < 0.1] = 0.0
    sensor[draws.random(SHAPE) < 0.1] *= 3.0
    found = scale_from_depth(depth, sensor, confidence, static)
    assert found is not None
    assert found.log_ratio == pytest.approx(math.log(factor), abs=5e-3)
    assert found.variance > 0


def test_unsure_pixels_do_not_tell_the_ratio() -> None:
    depth, confidence = np.ones(SHAPE, np.float32), np.full(SHAPE, 2.0, np.float32)
    depth[:, :16], confidence[:, :16] = 5.0, 1.1
    found = scale_from_depth(depth, np.ones(SHAPE, np.float32), confidence, np.ones(SHAPE, bool))
    assert found is not None
    assert found.log_ratio == 0.0


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_a_depth_image_without_depth_tells_nothing(value: float) -> None:
    sensor = np.full(SHAPE, value, np.float32)
    ones = np.ones(SHAPE, np.float32)
    assert scale_from_depth(ones, sensor, ones, np.ones(SHAPE, bool)) is None
    sensor[0, :5] = 1.0
    assert scale_from_depth(ones, sensor, ones, np.ones(SHAPE, bool)) is None
    assert scale_from_depth(ones, ones, ones, np.zeros(SHAPE, bool)) is None


def test_the_ratio_of_ways_is_free_of_axes_and_less_sure_for_short_ones() -> None:
    way = np.array([0.3, -0.2, 0.6])
    turn = pose_exp([0, 0, 0, 0.5, -1.0, 0.2])[:3, :3]
    found = scale_from_way(way, 1e-6 * np.eye(3), 2.0 * turn @ way)
    assert found is not None
    assert found.log_ratio == pytest.approx(math.log(2.0))
    short = scale_from_way(0.2 * way, 1e-6 * np.eye(3), 0.4 * turn @ way)
    assert short is not None
    assert short.variance > found.variance
    shared = scale_from_way(way, 1e-6 * np.eye(3), 2.0 * turn @ way, overlap=5.0)
    assert shared is not None
    assert shared.variance == pytest.approx(5.0 * found.variance)


def test_a_camera_that_hardly_moved_tells_no_ratio() -> None:
    ahead = np.array([0.0, 0.0, 1.0])
    assert scale_from_way(ahead, np.zeros((3, 3)), 0.9 * LEAST_WAY_M * ahead) is None
    assert scale_from_way(0.0 * ahead, np.zeros((3, 3)), ahead) is None
    assert scale_from_way(ahead, np.zeros((3, 3)), np.nan * ahead) is None
    assert scale_from_way(ahead, np.diag([0.0, 0.0, 0.25]), ahead) is None


def test_what_grows_about_a_point_keeps_that_point_and_all_directions() -> None:
    pose, centre = pose_exp([1.0, 2.0, -0.5, 0.2, 0.1, -0.7]), np.array([0.3, -1.0, 2.0])
    grown = scaled_about(pose, 1.7, centre)
    np.testing.assert_array_equal(grown[:3, :3], pose[:3, :3])
    np.testing.assert_allclose(grown[:3, 3] - centre, 1.7 * (pose[:3, 3] - centre))
    np.testing.assert_allclose(scaled_about(grown, 1 / 1.7, centre), pose)
