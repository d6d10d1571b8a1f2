"""Rigid motion solved on points that are seen, with outliers among them."""

import numpy as np

from pomato_ros.geometry.rigid import invert, pose_exp
from pomato_ros.scene.point_filter import View
from pomato_ros.scene.rigid_groups import Motion, RigidGroup, carried, fit_motion, residual_distance
from pomato_ros.structures import Intrinsics

CAMERA = Intrinsics(250.0, 250.0, 159.5, 119.5, 320, 240)
VIEW = View(CAMERA, invert(pose_exp([0.3, -0.2, 0.1, 0.1, -0.2, 0.05])))
NOISE = np.array([0.1, 0.1, 0.0005])


def scene(motion: Motion, count: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points before, what is measured after, and its covariances."""
    draws = np.random.default_rng(seed)
    points = motion.centre + draws.uniform(-0.3, 0.3, (count, 3))
    measured = VIEW.observe(motion.move(points)) + NOISE * draws.standard_normal((count, 3))
    return points, measured, np.tile(np.diag(NOISE**2), (count, 1, 1))


def rest(motion: Motion) -> Motion:
    return Motion(motion.centre, np.zeros(3), np.zeros(3))


MOTION = Motion(np.array([0.2, 0.1, 2.5]), np.array([0.05, -0.02, 0.04]), np.array([0.1, -0.15, 0.2]))


def test_the_motion_is_found() -> None:
    points, measured, total = scene(MOTION)
    fit = fit_motion(VIEW, points, measured, total, rest(MOTION), 0.5, 1.0)
    np.testing.assert_allclose(fit.motion.move(points), MOTION.move(points), atol=0.002)
    np.testing.assert_allclose(fit.motion.turn_rad, MOTION.turn_rad, atol=0.01)
    assert 1.5 < np.median(fit.distance) < 3.5
    np.testing.assert_allclose(fit.distance, residual_distance(VIEW, fit.motion.move(points), measured, total))


def test_outliers_do_not_take_it_along() -> None:
    points, measured, total = scene(MOTION)
    measured[:9, 0] += 30.0
    fit = fit_motion(VIEW, points, measured, total, rest(MOTION), 0.5, 1.0)
    np.testing.assert_allclose(fit.motion.move(points), MOTION.move(points), atol=0.004)
    assert (fit.distance[:9] > 100.0).all()
    assert (fit.distance[9:] < 20.0).mean() > 0.9


def test_with_little_to_go_by_the_prior_decides() -> None:
    points, measured, total = scene(MOTION, count=1)
    expected = Motion(MOTION.centre, MOTION.shift, MOTION.turn_rad)
    fit = fit_motion(VIEW, points, measured, total, expected, 0.001, 0.001)
    np.testing.assert_allclose(fit.motion.turn_rad, MOTION.turn_rad, atol=0.003)
    unseen = np.tile(1e12 * np.eye(3), (1, 1, 1))
    fit = fit_motion(VIEW, points, measured, unseen, expected, 0.1, 0.1)
    np.testing.assert_allclose(fit.motion.shift, MOTION.shift, atol=1e-6)


def test_motions_compose() -> None:
    points, _, _ = scene(MOTION)
    after = Motion(MOTION.centre + MOTION.shift, np.array([0.0, 0.1, 0.0]), np.array([0.0, 0.3, 0.1]))
    np.testing.assert_allclose(MOTION.then(after).move(points), after.move(MOTION.move(points)), atol=1e-12)


def test_covariances_turn_with_the_motion() -> None:
    covariance = np.zeros((1, 6, 6))
    covariance[0, :3, :3] = np.diag((4.0, 1.0, 1.0))
    quarter = Motion(np.zeros(3), np.zeros(3), np.array([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(carried(quarter, covariance)[0, :3, :3], np.diag((1.0, 4.0, 1.0)), atol=1e-12)


def test_a_group_expects_to_go_on_as_it_went() -> None:
    group = RigidGroup()
    group.learn(MOTION, 0.1, 0.5)
    expected = group.predict(np.array([1.0, 0.0, 3.0]), 0.2)
    np.testing.assert_allclose(expected.shift, 2 * MOTION.shift)
    np.testing.assert_allclose(expected.turn_rad, 2 * MOTION.turn_rad)
    group.learn(Motion(MOTION.centre, np.zeros(3), np.zeros(3)), 0.1, 0.5)
    np.testing.assert_allclose(group.velocity, 0.5 * MOTION.shift / 0.1)
