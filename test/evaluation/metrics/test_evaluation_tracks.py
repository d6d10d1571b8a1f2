"""APD counts what lies within a pixel's width at its depth, and its alignments mend what they claim."""

import numpy as np
import pytest

from pomato_ros.evaluation.metrics.tracks import (
    THRESHOLDS_PX,
    evaluate_tracks,
    median_norm_ratio,
    scale_and_shift_per_axis,
    scoring_focal,
)

FOCAL_PX = (200.0, 200.0)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).uniform([-2, -2, 2], [2, 2, 8], size=(11, 30, 3))


@pytest.fixture
def visible() -> np.ndarray:
    return np.random.default_rng(1).random((11, 30)) < 0.8


def test_the_truth_itself_scores_one(truth: np.ndarray, visible: np.ndarray) -> None:
    metrics = evaluate_tracks(truth, truth, FOCAL_PX, visible, visible)
    assert metrics.average_pts_within_thresh == 1.0
    assert metrics.average_jaccard == 1.0
    assert metrics.occlusion_accuracy == 1.0


def test_an_error_of_three_pixels_is_within_four_but_not_two(truth: np.ndarray, visible: np.ndarray) -> None:
    predicted = truth.copy()
    predicted[..., 0] += 3.0 * truth[..., 2] / FOCAL_PX[0]
    metrics = evaluate_tracks(predicted, truth, FOCAL_PX, visible, visible, rescale=False)
    assert metrics.pts_within == {1: 0.0, 2: 0.0, 4: 1.0, 8: 1.0, 16: 1.0}
    assert metrics.average_pts_within_thresh == pytest.approx(0.6)


def test_rescaling_removes_the_scale_only(truth: np.ndarray, visible: np.ndarray) -> None:
    assert evaluate_tracks(5 * truth, truth, FOCAL_PX, visible, visible).average_pts_within_thresh == 1.0
    assert evaluate_tracks(5 * truth, truth, FOCAL_PX, visible, visible, rescale=False).average_jaccard == 0.0
    assert median_norm_ratio(5 * truth, truth, visible) == pytest.approx(0.2)


def test_more_pixels_never_hurt(truth: np.ndarray, visible: np.ndarray) -> None:
    predicted = truth + 0.05 * np.random.default_rng(2).normal(size=truth.shape)
    metrics = evaluate_tracks(predicted, truth, FOCAL_PX, visible, visible)
    shares = [metrics.pts_within[k] for k in THRESHOLDS_PX]
    assert shares == sorted(shares)
    assert all(metrics.jaccard[k] <= metrics.pts_within[k] for k in THRESHOLDS_PX)


def test_hidden_points_are_not_scored_for_position(truth: np.ndarray, visible: np.ndarray) -> None:
    predicted = np.where(visible[..., None], truth, 100.0)
    assert evaluate_tracks(predicted, truth, FOCAL_PX, visible, visible).average_pts_within_thresh == 1.0


def test_claiming_hidden_points_costs_jaccard_and_occlusion_accuracy(truth: np.ndarray, visible: np.ndarray) -> None:
    metrics = evaluate_tracks(truth, truth, FOCAL_PX, np.ones_like(visible), visible)
    assert metrics.average_pts_within_thresh == 1.0
    assert metrics.occlusion_accuracy == pytest.approx(visible.mean())
    assert metrics.average_jaccard == pytest.approx(visible.mean())


def test_missing_visible_points_costs_jaccard(truth: np.ndarray, visible: np.ndarray) -> None:
    metrics = evaluate_tracks(truth, truth, FOCAL_PX, np.zeros_like(visible), visible)
    assert metrics.average_jaccard == 0.0
    assert metrics.average_pts_within_thresh == 1.0


def test_focal_length_is_rescaled_to_a_short_side_of_256() -> None:
    assert scoring_focal((500.0, 510.0), (1024, 512)) == (250.0, 255.0)
    assert scoring_focal((500.0, 510.0), (512, 1024)) == (250.0, 255.0)


def test_scale_and_shift_are_found_per_axis(truth: np.ndarray, visible: np.ndarray) -> None:
    scale, shift = np.array([2.0, -0.5, 3.0]), np.array([1.0, 2.0, -3.0])
    target = np.where(visible[..., None], truth * scale + shift, 1e3)
    found_scale, found_shift = scale_and_shift_per_axis(truth, target, visible)
    np.testing.assert_allclose(found_scale, scale)
    np.testing.assert_allclose(found_shift, shift, atol=1e-9)


def test_shapes_and_emptiness_are_checked(truth: np.ndarray, visible: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"tracks \(t, n, 3\)"):
        evaluate_tracks(truth, truth, FOCAL_PX, visible.T, visible)
    with pytest.raises(ValueError, match="nothing can be scored"):
        evaluate_tracks(truth, truth, FOCAL_PX, visible, 0 * visible)
