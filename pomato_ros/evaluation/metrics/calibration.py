"""Whether the network's confidence predicts its error: expected calibration error after one temperature, and rank.

The confidence loss ``C e - alpha log C`` (DUSt3R, eq. 4) is, up to a constant factor, the negative log-likelihood of an
exponential law of the error e with mean ``alpha / C``. So a confidence C claims the mean error

    e_hat = b / C,

with one number b for all pixels of a split. As temperature scaling does (Guo et al. 2017, section 4.2), b is fitted to
the very pixels that are scored, by greatest likelihood of that law: ``b = mean(C e)``. The expected calibration error
is that of Guo et al. 2017, eq. 3, with errors in the place of accuracies: pixels in the order of C fall into K bins
B_k of equal numbers, and

    ECE = sum_k |B_k| / N * |mean_k(e) - mean_k(e_hat)| / mean(e).

0 is a confidence that predicts the mean error of every bin. A constant may have a good ECE, so the rank
correlation (Spearman) of e_hat and e stands beside it: 1 orders all pixels by their error, 0 knows nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

BINS = 10
PIXELS_PER_SEQUENCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSample:
    """Some scored pixels of one or more sequences."""

    confidence: NDArray[np.float64]  # (n,), above 0
    error: NDArray[np.float64]  # (n,), not negative, in any unit that is the same for all


@dataclass(frozen=True, slots=True)
class Calibration:
    """NaN where there is nothing to measure."""

    ece: float
    ece_one_for_all: float  # in the same bins, of a confidence that is the same for all pixels
    rank: float


def sample_pixels(
    confidence: NDArray[np.float64], error: NDArray[np.float64], generator: np.random.Generator
) -> CalibrationSample:
    """At most :data:`PIXELS_PER_SEQUENCE` of the pixels (n,), drawn without replacement."""
    chosen = generator.permutation(len(error))[:PIXELS_PER_SEQUENCE]
    return CalibrationSample(confidence[chosen], error[chosen])


def pooled(samples: Sequence[CalibrationSample]) -> CalibrationSample:
    """All pixels of several sequences."""
    parts = [(sample.confidence, sample.error) for sample in samples] or [(np.zeros(0), np.zeros(0))]
    return CalibrationSample(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def calibration(sample: CalibrationSample, bins: int = BINS) -> Calibration:
    """The module's equations; NaN with fewer pixels than bins or without any error."""
    confidence, error = sample.confidence, sample.error
    if len(error) < bins or not error.any():
        return Calibration(math.nan, math.nan, math.nan)
    claimed = np.mean(confidence * error) / confidence
    order = np.argsort(confidence, kind="stable")
    return Calibration(
        ece=_binned_gap(error, claimed, order, bins),
        ece_one_for_all=_binned_gap(error, np.full_like(error, error.mean()), order, bins),
        rank=rank_correlation(claimed, error),
    )


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's coefficient of (n,) and (n,), ties sharing their mean rank; NaN where one side is all the same."""
    first, second = (rankdata(values) - 0.5 * (len(values) + 1) for values in (one, other))
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > 0.0 else math.nan


def _binned_gap(error: NDArray[np.float64], claimed: NDArray[np.float64], order: NDArray[np.int64], bins: int) -> float:
    """Weighted mean over bins of the gap between mean errors, as a share of the mean error."""
    parts = np.array_split(order, bins)
    gaps = [len(part) * abs(error[part].mean() - claimed[part].mean()) for part in parts]
    return float(sum(gaps) / len(error) / error.mean())
