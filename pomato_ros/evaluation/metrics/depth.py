"""Depth metrics (MonST3R's protocol) and the alignments that give scale-free depth its unit."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

MIN_DEPTH = 1e-5
IRLS_STEPS = 10
IRLS_EPSILON = 1e-8
ADAM_RATE, ADAM_STEPS, ADAM_TOLERANCE = 1e-4, 1000, 1e-6

# (prediction, truth), both (n,) of valid pixels -> (scale, shift)
Alignment = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class DepthMetrics:
    """Errors of predicted depth over the valid pixels of a sequence, after alignment."""

    abs_rel: float
    sq_rel: float
    rmse: float
    log_rmse: float
    delta_1: float  # share of pixels within a factor 1.25 of the truth
    delta_2: float
    delta_3: float
    valid_pixels: int


def evaluate_depth(predicted: ArrayLike, truth: ArrayLike, max_depth: float, align: Alignment) -> DepthMetrics:
    """Align a whole sequence at once and measure it.

    Args:
        predicted: (..., h, w), any unit and shift that ``align`` can mend.
        truth: same shape, metres; 0, NaN or ``max_depth`` and more is not scored.
        max_depth: metres.
        align: one of the functions below.

    Raises:
        ValueError: shapes differ or no pixel has truth.
    """
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape:
        raise ValueError(f"expected depth of one shape, got {predicted.shape} and truth {truth.shape}")
    valid = (truth > 0) & (truth < max_depth)
    if not valid.any():
        raise ValueError(f"no pixel has a true depth between 0 and {max_depth}; nothing can be scored")
    p, g = predicted[valid], truth[valid]
    scale, shift = align(p, g)
    p = np.maximum(scale * p + shift, MIN_DEPTH)
    error = p - g
    ratio = np.maximum(p / g, g / p)
    return DepthMetrics(
        abs_rel=float(np.mean(np.abs(error) / g)),
        sq_rel=float(np.mean(error**2 / g)),
        rmse=float(np.sqrt(np.mean(error**2))),
        log_rmse=float(np.sqrt(np.mean(np.log(p / g) ** 2))),
        delta_1=float(np.mean(ratio < 1.25)),
        delta_2=float(np.mean(ratio < 1.25**2)),
        delta_3=float(np.mean(ratio < 1.25**3)),
        valid_pixels=int(valid.sum()),
    )


def no_alignment(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """The prediction as it is, for depth that claims metres."""
    return 1.0, 0.0


def median_scale(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Ratio of the two (lower) medians."""
    return _lower_median(truth) / _lower_median(predicted), 0.0


def irls_scale(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Scale of least absolute difference: ten reweighted least-squares steps from the ratio of means."""
    scale = truth.mean() / predicted.mean()
    for _ in range(IRLS_STEPS):
        weight = 1.0 / (np.abs(scale * predicted - truth) + IRLS_EPSILON)
        scale = (weight * predicted * truth).sum() / (weight * predicted**2).sum()
    return float(scale), 0.0


def least_squares(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shift of least squared difference."""
    design = np.stack((predicted, np.ones_like(predicted)), axis=-1)
    scale, shift = np.linalg.lstsq(design, truth, rcond=None)[0]
    return float(scale), float(shift)


def least_absolute(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shift of least absolute difference, by scipy's default minimiser from (median ratio, 0)."""

    def cost(parameters: NDArray[np.float64]) -> float:
        return float(np.abs(parameters[0] * predicted + parameters[1] - truth).sum())

    scale, shift = minimize(cost, np.array(median_scale(predicted, truth))).x
    return float(scale), float(shift)


def least_absolute_adam(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shift towards least absolute difference: at most 1000 short Adam steps from (median ratio, 0)."""
    parameters = np.array(median_scale(predicted, truth))
    mean, square = np.zeros(2), np.zeros(2)
    previous = np.inf
    for step in range(1, ADAM_STEPS + 1):
        error = parameters[0] * predicted + parameters[1] - truth
        cost = float(np.abs(error).sum())
        sign = np.sign(error)
        gradient = np.array([(sign * predicted).sum(), sign.sum()])
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        corrected = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        parameters = parameters - ADAM_RATE * mean / (1 - 0.9**step) / corrected
        if abs(previous - cost) < ADAM_TOLERANCE:
            break
        previous = cost
    return float(parameters[0]), float(parameters[1])


def _lower_median(values: NDArray[np.float64]) -> float:
    """The lower of the two middle values for an even count."""
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle)[middle])
