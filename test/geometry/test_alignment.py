"""Similarities found again, with noise and outliers, and refused where they are not determined."""

import numpy as np
import pytest

from pomato_ros.geometry.alignment import (
    DegenerateAlignmentError,
    Similarity,
    align_similarity,
    robust_scale,
)
from pomato_ros.geometry.rigid import pose_exp, rotation_exp

TRUTH = Similarity(scale=2.5, rotation=rotation_exp([0.3, -1.2, 0.7]), translation=np.array([1.0, -2.0, 0.5]))


@pytest.fixture
def source() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 3)) + [0, 0, 5]


def assert_close(found: Similarity, expected: Similarity, tolerance: float = 1e-9) -> None:
    assert found.scale == pytest.approx(expected.scale, rel=tolerance)
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=tolerance)
    np.testing.assert_allclose(found.translation, expected.translation, atol=20 * tolerance)


def test_an_exact_similarity_is_found(source: np.ndarray) -> None:
    assert_close(align_similarity(source, TRUTH.apply(source)), TRUTH)


def test_a_plane_of_points_is_enough(source: np.ndarray) -> None:
    source[:, 2] = 0.3 * source[:, 0] + 1
    assert_close(align_similarity(source, TRUTH.apply(source)), TRUTH)


def test_mirrored_points_still_give_a_rotation(source: np.ndarray) -> None:
    fit = align_similarity(source, source * [1, 1, -1])
    assert np.linalg.det(fit.rotation) == pytest.approx(1.0)


def test_without_scale_only_position_and_axes_change(source: np.ndarray) -> None:
    fit = align_similarity(source, TRUTH.apply(source), with_scale=False)
    assert fit.scale == 1.0
    np.testing.assert_allclose(fit.rotation, TRUTH.rotation, atol=1e-9)


def test_points_without_weight_do_not_count(source: np.ndarray) -> None:
    target = TRUTH.apply(source)
    target[:30] += 100
    weights = np.r_[np.zeros(30), np.ones(30)]
    assert_close(align_similarity(source, target, weights), TRUTH)


def test_the_weight_of_a_point_is_its_repetition(source: np.ndarray) -> None:
    target = TRUTH.apply(source) + np.random.default_rng(1).normal(size=source.shape)
    repeated = np.r_[np.arange(60), np.arange(10), np.arange(10)]
    weights = np.r_[np.full(10, 3.0), np.ones(50)]
    assert_close(align_similarity(source, target, weights), align_similarity(source[repeated], target[repeated]))


def test_the_fit_is_the_best_one_nearby(source: np.ndarray) -> None:
    generator = np.random.default_rng(2)
    target = TRUTH.apply(source) + 0.1 * generator.normal(size=source.shape)
    fit = align_similarity(source, target)
    best = ((fit.apply(source) - target) ** 2).sum()
    for _ in range(50):
        change = 1e-3 * generator.normal(size=7)
        other = Similarity(
            fit.scale * (1 + change[0]), rotation_exp(change[1:4]) @ fit.rotation, fit.translation + change[4:]
        )
        assert ((other.apply(source) - target) ** 2).sum() > best


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.zeros((5, 3)), "one place"),
        (np.linspace(0, 1, 5)[:, None] * [1.0, 2, 3], "line"),
        (np.eye(3)[:2], "at least three"),
        (np.full((5, 3), np.nan), "finite"),
    ],
)
def test_degenerate_points_are_refused_with_a_reason(points: np.ndarray, reason: str) -> None:
    with pytest.raises(DegenerateAlignmentError, match=reason):
        align_similarity(points, points)


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        align_similarity(np.zeros((4, 3)), np.zeros((5, 3)))


def test_poses_move_with_the_points(source: np.ndarray) -> None:
    poses = pose_exp(np.random.default_rng(4).normal(size=(5, 6)))
    moved = TRUTH.apply_to_poses(poses)
    np.testing.assert_allclose(moved[:, :3, 3], TRUTH.apply(poses[:, :3, 3]))
    # a point at one unit ahead of the camera, seen in the target's unit
    ahead = poses[:, :3, 3] + poses[:, :3, 2]
    np.testing.assert_allclose(moved[:, :3, 3] + TRUTH.scale * moved[:, :3, 2], TRUTH.apply(ahead))


def test_robust_scale_is_the_ratio_whatever_the_minority_says() -> None:
    generator = np.random.default_rng(5)
    source = generator.uniform(0.5, 20, size=1000)
    target = 3.0 * source * np.exp(0.01 * generator.normal(size=1000))
    target[:300] = generator.uniform(0, 100, size=300)
    target[300:310] = np.nan
    found = robust_scale(source, target)
    assert found.scale == pytest.approx(3.0, rel=5e-3)
    assert found.count == 990
    clean = robust_scale(source[310:], target[310:])
    assert clean.log_spread == pytest.approx(0.01, rel=0.15)
    back = robust_scale(target[310:], source[310:])
    assert back.scale == pytest.approx(1 / clean.scale, rel=1e-3)


def test_scale_of_nothing_is_an_error() -> None:
    with pytest.raises(DegenerateAlignmentError, match="no pair"):
        robust_scale([0.0, -1, np.nan], [1.0, 1, 1])


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1001])
def test_the_scale_is_the_lower_median_of_the_sorted_ratios(count: int) -> None:
    source, target = np.random.default_rng(count).uniform(0.5, 2.0, size=(2, count))
    ratios = np.sort(target / source)
    middle = ratios[(count - 1) // 2]
    found = robust_scale(source, target)
    assert found.scale == pytest.approx(middle)
    assert found.log_spread == pytest.approx(1.4826 * np.sort(np.abs(np.log(ratios / middle)))[(count - 1) // 2])
    assert found.count == count


def test_maps_of_half_the_precision_have_the_same_scale() -> None:
    draws = np.random.default_rng(0)
    source, target = np.exp(draws.normal(size=(2, 500))).astype(np.float32)
    source[:40], target[:40] = np.tile((0.0, -1.0, np.nan, np.inf), 10), np.repeat((0.0, -1.0, np.nan, np.inf), 10)
    found, expected = robust_scale(source, target), robust_scale(source.astype(np.float64), target.astype(np.float64))
    assert found.scale == pytest.approx(expected.scale, rel=1e-6)
    assert found.log_spread == pytest.approx(expected.log_spread, rel=1e-6)
    assert found.count == expected.count == 460
