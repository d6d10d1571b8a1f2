"""Robust nonlinear least squares: the one damped Gauss-Newton solver of the package.

Problems give their normal equations at a state; this module iterates, damps and reports the covariance. Residuals are
whitened by the problem, so that one inlier contributes a squared Mahalanobis distance of about its dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from pomato_ros.structures import PoseArray

State = TypeVar("State")
DAMPING_START = 1e-4  # of the diagonal of the normal matrix (Levenberg-Marquardt)
DAMPING_MOST = 1e6
LEAST_CONDITION = 1e-14  # of the largest eigenvalue: smaller ones count as this


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """``H = sum J^T W J``, ``g = sum J^T W r`` and the robust cost at one state."""

    matrix: PoseArray  # (p, p)
    gradient: PoseArray  # (p,)
    cost: float

    @property
    def is_finite(self) -> bool:
        """Whether they can be solved at all."""
        return bool(np.isfinite(self.matrix).all() and np.isfinite(self.gradient).all() and np.isfinite(self.cost))


@dataclass(frozen=True, slots=True)
class Solution(Generic[State]):
    """Where the iteration ended."""

    state: State
    normal: NormalEquations
    iterations: int
    converged: bool

    def covariance(self) -> PoseArray:
        """(p, p) inverse of the normal matrix, of unit variance factor; what nothing determines is large."""
        values, vectors = np.linalg.eigh(0.5 * (self.normal.matrix + self.normal.matrix.T))
        floor = max(float(values[-1]), 1.0) * LEAST_CONDITION
        return np.asarray((vectors / np.maximum(values, floor)) @ vectors.T)


def minimise(
    linearise: Callable[[State], NormalEquations],
    retract: Callable[[State, PoseArray], State],
    state: State,
    iterations: int = 10,
    tolerance: float = 1e-2,
) -> Solution[State]:
    """The state of least robust cost near ``state`` (Levenberg-Marquardt with multiplicative damping).

    Args:
        linearise: normal equations at a state, its weights taken at that state (iteratively reweighted).
        retract: a state moved by a step (p,).
        state: the start.
        iterations: most of them.
        tolerance: a step shorter than so many standard deviations (``step^T H step < tolerance^2``) is the last.
    """
    normal = linearise(state)
    if not normal.is_finite:
        return Solution(state, NormalEquations(np.eye(len(normal.gradient)), normal.gradient, np.inf), 0, False)
    damping = DAMPING_START
    for iteration in range(iterations):
        step = damped_step(normal, damping)
        candidate = retract(state, step)
        found = linearise(candidate)
        if not found.is_finite or found.cost > normal.cost * (1.0 + 1e-9):
            damping *= 10.0
            if damping > DAMPING_MOST:
                return Solution(state, normal, iteration + 1, True)
            continue
        damping = max(damping * 0.1, 1e-9)
        length = float(step @ normal.matrix @ step)
        state, normal = candidate, found
        if length < tolerance**2:
            return Solution(state, normal, iteration + 1, True)
    return Solution(state, normal, iterations, False)


def damped_step(normal: NormalEquations, damping: float) -> PoseArray:
    """(p,) ``-(H + damping diag(H))^-1 g``, by least squares where that matrix is singular."""
    diagonal = np.diag(normal.matrix)
    damped = normal.matrix + np.diag(damping * diagonal + 1e-12 * (1.0 + diagonal.max(initial=0.0)))
    try:
        return np.asarray(-cho_solve(cho_factor(damped, check_finite=False), normal.gradient, check_finite=False))
    except LinAlgError:
        return np.asarray(-np.linalg.lstsq(damped, normal.gradient, rcond=None)[0])


def geman_mcclure(squared: PoseArray, gate: float) -> tuple[PoseArray, PoseArray]:
    """Redescending weights and costs (n,) of squared Mahalanobis distances (n,).

    ``w = (g^2 / (g^2 + d^2))^2``, ``c = g^2 d^2 / (g^2 + d^2)`` (Geman and McClure 1987).
    """
    share = gate**2 / (gate**2 + squared)
    return share**2, squared * share
