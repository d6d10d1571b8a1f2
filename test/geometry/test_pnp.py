"""Poses found again from what a camera sees, their covariance, and explicit failure."""

import numpy as np
import pytest

from pomato_ros.geometry import pnp
from pomato_ros.geometry.camera import project
from pomato_ros.geometry.pnp import (
    BLOCK,
    RANSAC_POINTS,
    PnpFailure,
    PnpSolution,
    focal_candidates,
    linearised,
    normal_equations,
    solve_pose,
    solve_pose_and_focal,
)
from pomato_ros.geometry.rigid import (
    compose,
    invert,
    pose_exp,
    pose_from,
    pose_log,
    rotation_angle,
    rotation_exp,
    rotation_log,
    transform,
)

CAMERA_MATRIX = np.array([[400.0, 0, 256], [0, 400, 192], [0, 0, 1]])
SETTINGS = {"threshold_px": 5.0, "iterations": 50, "seed": 0}


def seen_points(pose: np.ndarray, count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2) and points (n, 3) in the reference, seen by a camera at ``pose``."""
    generator = np.random.default_rng(seed)
    points_camera = generator.uniform([-2, -1.5, 3], [2, 1.5, 8], size=(count, 3))
    return project(points_camera, CAMERA_MATRIX), transform(pose, points_camera)


def to_the_end(pose: np.ndarray, pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Slow twin of the refinement: all of twenty steps of Gauss and Newton, on all points."""
    for _ in range(20):
        equations = normal_equations(pose, pixels.T, points.T, CAMERA_MATRIX)
        step = np.linalg.solve(equations.matrix, -equations.gradient)
        pose = pose_from(rotation_exp(step[3:]) @ pose[:3, :3], pose[:3, 3] + step[:3])
    return pose


@pytest.fixture
def pose() -> np.ndarray:
    return pose_exp([0.5, -0.2, 0.4, 0.2, 0.5, -0.3])


@pytest.mark.parametrize("seed", range(5))
def test_an_exact_pose_is_found(seed: int) -> None:
    true = pose_exp(np.random.default_rng(seed).normal(size=6))
    found = solve_pose(*seen_points(true), CAMERA_MATRIX, **SETTINGS)
    assert isinstance(found, PnpSolution)
    np.testing.assert_allclose(found.reference_from_camera, true, atol=1e-6)
    assert found.inlier_ratio == 1.0


def test_outliers_are_told_apart(pose: np.ndarray) -> None:
    pixels, points = seen_points(pose)
    pixels[:90] += np.random.default_rng(1).uniform(20, 100, size=(90, 2))
    found = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS)
    assert isinstance(found, PnpSolution)
    assert not found.inliers[:90].any()
    assert found.inliers[90:].all()
    assert found.inlier_ratio == pytest.approx(0.7)
    np.testing.assert_allclose(found.reference_from_camera, pose, atol=1e-6)


def test_least_squares_beats_the_sample(pose: np.ndarray) -> None:
    pixels, points = seen_points(pose)
    pixels += np.random.default_rng(2).normal(size=pixels.shape)
    refined = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS)
    assert isinstance(refined, PnpSolution)
    best = to_the_end(pose, pixels, points)
    np.testing.assert_allclose(refined.reference_from_camera, best, atol=1e-5)
    assert refined.residual_px == pytest.approx(np.sqrt(2), rel=0.1)


def test_the_answer_depends_on_the_seed_only(pose: np.ndarray) -> None:
    pixels, points = seen_points(pose)
    pixels += np.random.default_rng(3).normal(scale=3, size=pixels.shape)
    first, again = (solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS) for _ in range(2))
    assert isinstance(first, PnpSolution)
    assert isinstance(again, PnpSolution)
    np.testing.assert_array_equal(first.reference_from_camera, again.reference_from_camera)


def test_the_pose_moves_with_the_reference(pose: np.ndarray) -> None:
    pixels, points = seen_points(pose)
    other_from_reference = pose_exp([1.0, 2, -1, 0.4, -0.1, 0.2])
    found = solve_pose(pixels, transform(other_from_reference, points), CAMERA_MATRIX, **SETTINGS)
    assert isinstance(found, PnpSolution)
    np.testing.assert_allclose(found.reference_from_camera, compose(other_from_reference, pose), atol=1e-6)


def test_covariance_predicts_the_spread_of_estimates(pose: np.ndarray) -> None:
    pixels, points = seen_points(pose, count=80)
    generator = np.random.default_rng(4)
    errors, covariances = [], []
    for _ in range(150):
        noisy = pixels + 0.5 * generator.normal(size=pixels.shape)
        found = solve_pose(noisy, points, CAMERA_MATRIX, **SETTINGS)
        assert isinstance(found, PnpSolution)
        best = found.reference_from_camera
        errors.append(np.concatenate((best[:3, 3] - pose[:3, 3], rotation_log(best[:3, :3] @ pose[:3, :3].T))))
        covariances.append(found.covariance)
    spread, expected = np.cov(np.array(errors).T), np.mean(covariances, axis=0)
    np.testing.assert_allclose(np.sqrt(np.diag(spread)), np.sqrt(np.diag(expected)), rtol=0.25)
    # whitened errors have variance one in every direction, so the correlations are right as well
    whitened = np.linalg.solve(np.linalg.cholesky(expected), np.array(errors).T)
    assert np.linalg.eigvalsh(np.cov(whitened)).max() < 2


def test_covariance_is_symmetric_and_positive_without_noise(pose: np.ndarray) -> None:
    pixels, points = seen_points(pose)
    found = solve_pose(pixels + 1e-6, points, CAMERA_MATRIX, **SETTINGS)
    assert isinstance(found, PnpSolution)
    covariance = found.covariance
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-20)
    assert (np.linalg.eigvalsh(covariance) > 0).all()


@pytest.mark.parametrize("true_index", [4, 10, 15])
def test_an_unknown_focal_length_is_found_among_the_candidates(pose: np.ndarray, true_index: int) -> None:
    focal_px = focal_candidates(512)[true_index]
    pixels, points = seen_points(pose)
    pixels = (pixels - CAMERA_MATRIX[:2, 2]) * focal_px / 400 + CAMERA_MATRIX[:2, 2]
    found = solve_pose_and_focal(pixels, points, (256, 192), (512, 384), threshold_px=1.0, iterations=100, seed=0)
    assert isinstance(found, PnpSolution)
    assert found.focal_px == pytest.approx(focal_px)
    assert rotation_angle(found.reference_from_camera[:3, :3].T @ pose[:3, :3]) < 1e-5


def test_candidates_are_evenly_spaced_in_their_logarithm() -> None:
    candidates = focal_candidates(512)
    assert len(candidates) == 21
    assert candidates[0] == pytest.approx(256)
    assert candidates[-1] == pytest.approx(1536)
    np.testing.assert_allclose(candidates[1:] / candidates[:-1], 6 ** (1 / 20))


def test_too_few_points_are_a_failure_with_a_reason() -> None:
    result = solve_pose(np.zeros((3, 2)), np.ones((3, 3)), CAMERA_MATRIX, **SETTINGS)
    assert isinstance(result, PnpFailure)
    assert "at least 4" in result.reason


def test_points_that_are_not_finite_do_not_count(pose: np.ndarray) -> None:
    pixels, points = seen_points(pose)
    points[:100] = np.nan
    found = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS)
    assert isinstance(found, PnpSolution)
    assert found.inlier_ratio == pytest.approx(2 / 3)
    assert isinstance(solve_pose(pixels, points * np.nan, CAMERA_MATRIX, **SETTINGS), PnpFailure)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((50, 3)),
        np.linspace(1, 2, 50)[:, None] * [1.0, 2, 3],
        np.random.default_rng(5).normal(size=(50, 3)) * 1e6,
    ],
    ids=["one place", "one line", "nonsense"],
)
def test_points_that_fit_no_camera_are_a_failure_not_an_identity_pose(points: np.ndarray) -> None:
    pixels = np.random.default_rng(6).uniform(0, 500, size=(50, 2))
    settings = {"threshold_px": 0.5, "iterations": 20, "seed": 0}
    assert isinstance(solve_pose(pixels, points, CAMERA_MATRIX, **settings), PnpFailure)
    assert isinstance(solve_pose_and_focal(pixels, points, (256, 192), (512, 384), **settings), PnpFailure)


def test_wrong_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match=r"pixels \(n, 2\)"):
        solve_pose(np.zeros((5, 3)), np.zeros((5, 3)), CAMERA_MATRIX, **SETTINGS)


# --- the fast sums against one derivative after the other


def equations_one_by_one(
    pose: np.ndarray, pixels: np.ndarray, points: np.ndarray, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Slow twin: derivatives by differences, all in one Jacobian."""

    def misses(step: np.ndarray) -> np.ndarray:
        moved = pose.copy()
        moved[:3, :3] = pose_exp([0.0, 0.0, 0.0, *step[3:]])[:3, :3] @ pose[:3, :3]
        moved[:3, 3] += step[:3]
        return (project(transform(invert(moved), points), matrix) - pixels).ravel()

    size = 1e-6
    jacobian = np.stack([(misses(size * axis) - misses(-size * axis)) / (2 * size) for axis in np.eye(6)], axis=-1)
    residual = misses(np.zeros(6))
    return jacobian.T @ jacobian, jacobian.T @ residual, float(residual @ residual)


@pytest.mark.parametrize("count", [4, 100, BLOCK, BLOCK + 1, 3 * BLOCK - 7])
def test_normal_equations_are_the_sums_of_a_jacobian(count: int) -> None:
    draws = np.random.default_rng(count)
    matrix = np.array([[400.0, 0.7, 255.0], [0.0, 410.0, 143.0], [0.0, 0.0, 1.0]])
    pose = pose_exp([0.2, -0.1, 0.3, 0.1, -0.2, 0.05])
    seen = draws.uniform((-2.0, -1.0, 2.0), (2.0, 1.0, 6.0), (count, 3))
    pixels = project(seen, matrix) + draws.normal(size=(count, 2))
    points = transform(pose, seen)
    found = normal_equations(pose, pixels.T, points.T, matrix)
    slow_matrix, slow_gradient, slow_cost = equations_one_by_one(pose, pixels, points, matrix)
    np.testing.assert_allclose(found.matrix, slow_matrix, rtol=1e-5, atol=1e-6 * np.abs(slow_matrix).max())
    np.testing.assert_allclose(found.gradient, slow_gradient, rtol=1e-4, atol=1e-6 * np.abs(slow_gradient).max())
    assert found.cost == pytest.approx(slow_cost, rel=1e-12)
    assert found.count == count


def test_rows_of_derivatives_sum_up_to_the_normal_equations(pose: np.ndarray) -> None:
    draws = np.random.default_rng(2)
    matrix = np.array([[400.0, 0.7, 255.0], [0.0, 410.0, 143.0], [0.0, 0.0, 1.0]])
    seen = draws.uniform((-2.0, -1.0, 2.0), (2.0, 1.0, 6.0), (50, 3))
    pixels, points = project(seen, matrix) + draws.normal(size=(50, 2)), transform(pose, seen)
    sums = sum(rows @ rows.T for rows in linearised(pose, pixels.T, points.T, matrix))
    turn = np.kron(np.eye(2), pose[:3, :3])
    found = normal_equations(pose, pixels.T, points.T, matrix)
    np.testing.assert_allclose(found.matrix, turn @ sums[:6, :6] @ turn.T, rtol=1e-9, atol=1e-9 * np.abs(sums).max())
    np.testing.assert_allclose(found.gradient, turn @ sums[:6, 6], rtol=1e-9, atol=1e-9 * np.abs(sums).max())
    assert found.cost == pytest.approx(sums[6, 6], rel=1e-12)


def test_a_point_behind_the_camera_makes_the_cost_infinite() -> None:
    points = np.array([[0.0, 0.0, 2.0], [0.1, 0.0, 3.0], [0.0, 0.1, 2.5], [0.0, 0.0, -1.0]])
    assert normal_equations(np.eye(4), np.zeros((2, 4)), points.T, CAMERA_MATRIX).cost == np.inf


def test_many_points_are_refined_to_their_own_least_squares(pose: np.ndarray) -> None:
    """The first round takes few of the points and the last step is not looked at: neither may show."""
    pixels, points = seen_points(pose, 4 * RANSAC_POINTS)
    pixels += np.random.default_rng(5).normal(size=pixels.shape)
    pixels[:800] += 40.0
    found = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS)
    assert isinstance(found, PnpSolution)
    assert not found.inliers[:800].any()
    best = to_the_end(found.reference_from_camera, pixels[found.inliers], points[found.inliers])
    apart = pose_log(compose(invert(best), found.reference_from_camera))
    assert (np.abs(apart) < 0.01 * np.sqrt(np.diag(found.covariance))).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.19, 0.4])
def test_with_few_outliers_no_samples_are_drawn_and_the_answer_is_that_of_samples(
    pose: np.ndarray, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = np.random.default_rng(7)
    pixels, points = seen_points(pose, 800)
    pixels += draws.normal(size=pixels.shape)
    pixels[: int(share * 800)] += draws.uniform(15, 90, size=(int(share * 800), 2))
    fast = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS)
    monkeypatch.setattr(pnp, "MAJORITY", 1.1)  # never
    slow = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS)
    assert isinstance(fast, PnpSolution)
    assert isinstance(slow, PnpSolution)
    assert (fast.inliers == slow.inliers).mean() > 0.99
    apart = pose_log(compose(invert(slow.reference_from_camera), fast.reference_from_camera))
    assert (np.abs(apart) < 0.2 * np.sqrt(np.diag(slow.covariance))).all()
    assert np.sqrt(np.diag(fast.covariance)) == pytest.approx(np.sqrt(np.diag(slow.covariance)), rel=0.02)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("far", [0.0, 0.02, 0.05, 0.5])
def test_a_start_does_not_show_in_the_answer(pose: np.ndarray, share: float, far: float) -> None:
    draws = np.random.default_rng(8)
    pixels, points = seen_points(pose, 800)
    pixels += draws.normal(size=pixels.shape)
    pixels[: int(share * 800)] += draws.uniform(15, 90, size=(int(share * 800), 2))
    start = pose @ pose_exp(far * np.array([1.0, -1.0, 0.5, 0.3, -0.2, 0.1]))
    alone = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS)
    found = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS, start=start)
    assert isinstance(alone, PnpSolution)
    assert isinstance(found, PnpSolution)
    assert (found.inliers == alone.inliers).mean() > 0.99
    apart = pose_log(compose(invert(alone.reference_from_camera), found.reference_from_camera))
    assert (np.abs(apart) < 0.2 * np.sqrt(np.diag(alone.covariance))).all()


def test_a_near_start_is_taken_instead_of_one_from_nothing(pose: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pnp, "_of_majority", None)  # not called
    pixels, points = seen_points(pose, 800)
    start = pose @ pose_exp([0.02, 0.0, -0.01, 0.003, 0.0, 0.002])
    found = solve_pose(pixels, points, CAMERA_MATRIX, **SETTINGS, start=start)
    assert isinstance(found, PnpSolution)
    np.testing.assert_allclose(found.reference_from_camera, pose, atol=1e-5)
