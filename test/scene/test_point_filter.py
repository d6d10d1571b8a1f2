"""Kalman filters of points: static fusion, constant velocity, honest covariances, derivatives."""

import numpy as np

from pomato_ros.geometry.rigid import invert, pose_exp
from pomato_ros.scene.point_filter import (
    PointStates,
    Sightings,
    View,
    begin,
    free_velocities,
    hold,
    innovate,
    predict,
    update,
)
from pomato_ros.structures import Intrinsics

CAMERA = Intrinsics(250.0, 245.0, 159.5, 119.5, 320, 240)
COUNT = 300
PIXEL_STD, INVERSE_STD = 0.2, 0.003


def points(seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return np.stack((draws.uniform(-1, 1, COUNT), draws.uniform(-0.8, 0.8, COUNT), draws.uniform(2, 5, COUNT)), -1)


def view(t: int = 0) -> View:
    return View(CAMERA, invert(pose_exp([0.02 * t, 0.01 * t, 0.005 * t, 0.002 * t, 0.01 * t, 0.0])))


def sightings(truth: np.ndarray, seen_by: View, draws: np.random.Generator) -> Sightings:
    exact = seen_by.observe(truth)
    pixels = exact[:, :2] + PIXEL_STD * draws.standard_normal((COUNT, 2))
    inverse = exact[:, 2] + INVERSE_STD * draws.standard_normal(COUNT)
    covariance = np.tile(PIXEL_STD**2 * np.eye(2), (COUNT, 1, 1))
    yes = np.ones(COUNT, bool)
    return Sightings(pixels, covariance, inverse, np.full(COUNT, INVERSE_STD**2), yes, yes.copy())


def started(truth: np.ndarray, draws: np.random.Generator) -> PointStates:
    first = sightings(truth, view(), draws)
    return begin(view(), first.pixels, first.inverse_depth, first.inverse_depth_variance, PIXEL_STD)


def nees(states: PointStates, truth: np.ndarray) -> np.ndarray:
    error = (states.positions - truth)[..., None]
    return (error * np.linalg.solve(states.covariance[:, :3, :3], error)).sum(axis=(1, 2))


def test_the_jacobian_is_the_derivative() -> None:
    truth, seen_by, step = points(), view(3), 1e-6
    by = seen_by.jacobian(truth)
    for axis in range(3):
        moved = truth + step * np.eye(3)[axis]
        np.testing.assert_allclose((seen_by.observe(moved) - seen_by.observe(truth)) / step, by[..., axis], atol=1e-3)


def test_placing_a_pixel_inverts_observing_a_point() -> None:
    truth, seen_by = points(), view(5)
    seen = seen_by.observe(truth)
    np.testing.assert_allclose(seen_by.place(seen[:, :2], seen[:, 2]), truth, atol=1e-9)
    behind = View(CAMERA, np.eye(4)).observe(np.array([[0.0, 0.0, -1.0]]))
    assert np.isnan(behind).all()


def test_a_point_at_rest_is_the_fusion_of_all_frames() -> None:
    draws, truth = np.random.default_rng(1), points()
    states = started(truth, draws)
    first = np.trace(states.covariance[:, :3, :3], axis1=1, axis2=2)
    for t in range(1, 16):
        predict(states, 0.05, np.zeros(COUNT), np.zeros(COUNT))
        update(states, innovate(states, view(t), sightings(truth, view(t), draws)), np.arange(COUNT))
    last = np.trace(states.covariance[:, :3, :3], axis1=1, axis2=2)
    assert np.median(last / first) < 1.5 / 16
    assert 2.5 < nees(states, truth).mean() < 3.5
    assert not states.velocities.any()
    assert not states.covariance[:, 3:].any()


def test_a_moving_point_gets_its_velocity() -> None:
    draws, start, velocity = np.random.default_rng(2), points(), np.array([0.4, -0.1, 0.2])
    states = started(start, draws)
    free_velocities(states, np.arange(COUNT), np.full(COUNT, 1.0))
    for t in range(1, 21):
        truth = start + 0.05 * t * velocity
        predict(states, 0.05, np.full(COUNT, 0.01), np.zeros(COUNT))
        update(states, innovate(states, view(t), sightings(truth, view(t), draws)), np.arange(COUNT))
    np.testing.assert_allclose(np.median(states.velocities, axis=0), velocity, atol=0.01)
    assert 2.5 < nees(states, truth).mean() < 3.6
    hold(states, np.arange(COUNT))
    assert not states.velocities.any()
    assert not states.covariance[:, 3:].any()


def test_what_is_not_measured_says_nothing() -> None:
    draws, truth = np.random.default_rng(3), points()
    states, twin = started(truth, draws), started(truth, np.random.default_rng(3))
    seen = sightings(truth, view(4), draws)
    seen.found[:] = seen.ranged[:] = False
    update(states, innovate(states, view(4), seen), np.arange(COUNT))
    np.testing.assert_allclose(states.positions, twin.positions, atol=1e-9)
    np.testing.assert_allclose(states.covariance, twin.covariance, rtol=1e-6, atol=1e-12)
    seen.found[:] = True
    update(states, innovate(states, view(4), seen), np.arange(COUNT))
    assert (np.trace(states.covariance, axis1=1, axis2=2) < np.trace(twin.covariance, axis1=1, axis2=2)).all()


def test_only_the_rows_that_are_asked_for_change() -> None:
    draws, truth = np.random.default_rng(4), points()
    states, twin = started(truth, draws), started(truth, np.random.default_rng(4))
    rows = np.arange(0, COUNT, 3)
    update(states, innovate(states, view(2), sightings(truth, view(2), draws)), rows)
    others = np.setdiff1d(np.arange(COUNT), rows)
    assert np.array_equal(states.positions[others], twin.positions[others])
    assert (states.positions[rows] != twin.positions[rows]).any(axis=-1).all()


def test_innovations_are_as_large_as_they_say() -> None:
    draws, truth = np.random.default_rng(5), points()
    states = started(truth, draws)
    innovations = innovate(states, view(6), sightings(truth, view(6), draws))
    assert 1.7 < innovations.pixel_distance().mean() < 2.3
    assert 0.8 < innovations.depth_distance().mean() < 1.2
    assert 0.85 < innovations.normalised().std() < 1.15
