"""Perfect depth scores perfectly, each alignment mends what it claims to mend, and invalid pixels do not count."""

import numpy as np
import pytest

from pomato_ros.evaluation.metrics.depth import (
    evaluate_depth,
    irls_scale,
    least_absolute,
    least_absolute_adam,
    least_squares,
    median_scale,
    no_alignment,
)

SCALES = [median_scale, irls_scale, least_squares, least_absolute, least_absolute_adam]
AFFINE = [least_squares, least_absolute]


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 30, size=(3, 12, 16))


@pytest.mark.parametrize("align", [no_alignment, *SCALES])
def test_the_truth_itself_has_no_error(truth: np.ndarray, align) -> None:
    metrics = evaluate_depth(truth, truth, 80.0, align)
    assert metrics.abs_rel < 1e-4
    assert metrics.rmse < 1e-3
    assert metrics.delta_1 == 1.0
    assert metrics.valid_pixels == truth.size


@pytest.mark.parametrize("align", SCALES)
def test_scale_is_mended(truth: np.ndarray, align) -> None:
    assert evaluate_depth(0.37 * truth, truth, 80.0, align).abs_rel < 1e-3


@pytest.mark.parametrize("align", AFFINE)
def test_scale_and_shift_are_mended(truth: np.ndarray, align) -> None:
    assert evaluate_depth(0.5 * truth + 2, truth, 80.0, align).abs_rel < 1e-3


@pytest.mark.parametrize("align", [median_scale, irls_scale, least_absolute])
def test_robust_alignments_ignore_a_few_wild_pixels(truth: np.ndarray, align) -> None:
    predicted = 0.5 * truth
    predicted.ravel()[::20] *= 3
    scale, shift = align(predicted.ravel(), truth.ravel())
    assert scale == pytest.approx(2.0, rel=0.05)
    assert shift == pytest.approx(0.0, abs=0.2)


def test_figures_of_a_known_error(truth: np.ndarray) -> None:
    metrics = evaluate_depth(1.3 * truth, truth, 80.0, no_alignment)
    assert metrics.abs_rel == pytest.approx(0.3)
    assert metrics.log_rmse == pytest.approx(np.log(1.3))
    assert metrics.rmse == pytest.approx(0.3 * np.sqrt(np.mean(truth**2)))
    assert metrics.sq_rel == pytest.approx(0.09 * truth.mean())
    assert (metrics.delta_1, metrics.delta_2, metrics.delta_3) == (0.0, 1.0, 1.0)


def test_pixels_without_truth_do_not_count(truth: np.ndarray) -> None:
    predicted = truth.copy()
    truth[0, 0, :4] = [0, np.nan, 80.0, 500.0]
    metrics = evaluate_depth(predicted, truth, 80.0, no_alignment)
    assert metrics.valid_pixels == truth.size - 4
    assert metrics.abs_rel == 0.0


def test_a_prediction_that_is_not_finite_spoils_the_score(truth: np.ndarray) -> None:
    predicted = truth.copy()
    predicted[0, 0, 0] = np.nan
    assert np.isnan(evaluate_depth(predicted, truth, 80.0, no_alignment).abs_rel)


def test_alignment_is_for_the_sequence_not_for_each_frame(truth: np.ndarray) -> None:
    drifting = truth * np.array([0.8, 1.0, 1.2])[:, None, None]
    assert evaluate_depth(drifting, truth, 80.0, median_scale).abs_rel > 0.05


def test_medians_are_the_lower_ones() -> None:
    assert median_scale(np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 30, 40])) == (10.0, 0.0)
    assert median_scale(np.array([1.0, 2, 3, 4]), np.array([4.0, 100, 8, 200]))[0] == 4.0


def test_nothing_to_score_is_an_error(truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no pixel"):
        evaluate_depth(truth, 0 * truth, 80.0, median_scale)
    with pytest.raises(ValueError, match="one shape"):
        evaluate_depth(truth, truth[0], 80.0, median_scale)
