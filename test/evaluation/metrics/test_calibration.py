"""Confidence that tells the mean error is calibrated, in any unit; one that tells nothing is no better than none."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from pomato_ros.evaluation.metrics.calibration import (
    BINS,
    PIXELS_PER_SEQUENCE,
    CalibrationSample,
    calibration,
    pooled,
    rank_correlation,
    sample_pixels,
)

GENERATOR = np.random.default_rng(0)
CONFIDENCE = 1.0 + np.exp(GENERATOR.normal(size=20_000))
ERROR = GENERATOR.exponential(0.3 / CONFIDENCE)  # the law that the confidence loss assumes


def test_the_exact_mean_error_is_calibrated_and_ranks_all() -> None:
    found = calibration(CalibrationSample(CONFIDENCE, 0.7 / CONFIDENCE))
    assert found.ece == pytest.approx(0.0, abs=1e-12)
    assert found.rank == pytest.approx(1.0)
    assert found.ece_one_for_all > 0.3


def test_errors_of_the_assumed_law_are_calibrated_on_average() -> None:
    found = calibration(CalibrationSample(CONFIDENCE, ERROR))
    assert found.ece < 0.05 < found.ece_one_for_all
    assert 0.1 < found.rank < 1.0


@pytest.mark.parametrize(("confidence_unit", "error_unit"), [(7.0, 1.0), (1.0, 0.01), (0.2, 30.0)])
def test_neither_the_unit_of_confidence_nor_of_error_matters(confidence_unit: float, error_unit: float) -> None:
    found = calibration(CalibrationSample(CONFIDENCE, ERROR))
    scaled = calibration(CalibrationSample(confidence_unit * CONFIDENCE, error_unit * ERROR))
    np.testing.assert_allclose(
        (scaled.ece, scaled.ece_one_for_all, scaled.rank), (found.ece, found.ece_one_for_all, found.rank)
    )


def test_confidence_that_is_wrong_way_round_is_worse_than_one_for_all() -> None:
    found = calibration(CalibrationSample(CONFIDENCE, CONFIDENCE**2))
    assert found.ece > found.ece_one_for_all
    assert found.rank == pytest.approx(-1.0)


def test_the_equations_hold_bin_by_bin() -> None:
    confidence, error = CONFIDENCE[:103], ERROR[:103]
    claimed = (confidence * error).mean() / confidence
    total = 0.0
    ranked = sorted(range(103), key=lambda i: confidence[i])
    sizes = [11, 11, 11, *[10] * 7]
    for size in sizes:
        chosen, ranked = ranked[:size], ranked[size:]
        total += size / 103 * abs(sum(error[i] for i in chosen) / size - sum(claimed[i] for i in chosen) / size)
    assert calibration(CalibrationSample(confidence, error)).ece == pytest.approx(total / error.mean())


def test_rank_correlation_is_spearmans_with_ties() -> None:
    one, other = np.round(CONFIDENCE[:500], 1), np.round(ERROR[:500], 1)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_one_confidence_for_all_has_no_rank_and_its_own_baseline() -> None:
    found = calibration(CalibrationSample(np.full(100, 2.0), ERROR[:100]))
    assert found.ece == pytest.approx(found.ece_one_for_all)
    assert math.isnan(found.rank)


@pytest.mark.parametrize("error", [np.ones(BINS - 1), np.zeros(100)])
def test_nothing_is_said_of_too_little(error: np.ndarray) -> None:
    found = calibration(CalibrationSample(np.ones_like(error), error))
    assert math.isnan(found.ece)
    assert math.isnan(found.rank)


def test_pixels_are_drawn_without_repetition_and_from_the_seed() -> None:
    errors = np.arange(20_000.0)
    sample = sample_pixels(errors + 1.0, errors, np.random.default_rng(3))
    assert len(np.unique(sample.error)) == PIXELS_PER_SEQUENCE
    np.testing.assert_array_equal(sample.confidence, sample.error + 1.0)
    np.testing.assert_array_equal(sample.error, sample_pixels(errors, errors, np.random.default_rng(3)).error)
    assert len(pooled([sample, sample]).error) == 2 * PIXELS_PER_SEQUENCE
    assert len(pooled([]).error) == 0
