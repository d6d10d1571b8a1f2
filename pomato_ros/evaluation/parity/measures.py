"""How far an array is from its reference, by kind of array, with the tolerance of that kind."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomato_ros.evaluation.parity.report import Measure
from pomato_ros.geometry.rigid import rotation_angle

NETWORK_MAX_TOLERANCE = 5e-5
NETWORK_L2_TOLERANCE = 1e-5
TINY_VALUE = 1e-6  # below it, values count as zero
MASK_TOLERANCE = 1e-3
FOCAL_TOLERANCE_PX = 1e-3
TRUTH_FACTOR = 3.0  # an optimisation may be this many times farther from the truth than the published one

Measures = tuple[Measure, ...]


def network_measures(ours: ArrayLike, reference: ArrayLike) -> Measures:
    """Largest difference over the largest reference value, and relative L2."""
    difference, reference = _difference(ours, reference)
    largest = np.abs(reference).max(initial=0.0) or 1.0
    length = float(np.linalg.norm(reference)) or 1.0
    return (
        Measure("max", float(np.abs(difference).max(initial=0.0) / largest), NETWORK_MAX_TOLERANCE),
        Measure("rel-L2", float(np.linalg.norm(difference) / length), NETWORK_L2_TOLERANCE),
    )


def each_value_measure(ours: ArrayLike, reference: ArrayLike) -> Measures:
    """Largest difference over the same value of the reference, for values of very different sizes."""
    difference, reference = _difference(ours, reference)
    size = np.maximum(np.abs(reference), TINY_VALUE)
    return (Measure("each value", float((np.abs(difference) / size).max(initial=0.0)), NETWORK_MAX_TOLERANCE),)


def absolute_measure(ours: ArrayLike, reference: ArrayLike, tolerance: float, label: str = "max |diff|") -> Measures:
    """Largest difference, in the array's own unit."""
    difference, _ = _difference(ours, reference)
    return (Measure(label, float(np.abs(difference).max(initial=0.0)), tolerance),)


def relative_measure(ours: ArrayLike, reference: ArrayLike, tolerance: float, label: str = "max") -> Measures:
    """Largest difference over the largest reference value."""
    difference, reference = _difference(ours, reference)
    largest = np.abs(reference).max(initial=0.0) or 1.0
    return (Measure(label, float(np.abs(difference).max(initial=0.0) / largest), tolerance),)


def mask_measure(ours: ArrayLike, reference: ArrayLike) -> Measures:
    """Share of pixels that differ."""
    ours, reference = np.asarray(ours, dtype=bool), np.asarray(reference, dtype=bool)
    share = float(np.mean(ours != reference)) if ours.shape == reference.shape else np.inf
    return (Measure("differing", share, MASK_TOLERANCE),)


def exact_measure(ours: ArrayLike, reference: ArrayLike) -> Measures:
    """Number of entries that differ; none may."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    count = float(np.count_nonzero(ours != reference)) if ours.shape == reference.shape else np.inf
    return (Measure("differing", count, 0.0),)


def pose_errors(pose: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Rotation in degrees and translation relative to the true one's length, of poses (4, 4)."""
    rotation_deg = float(np.degrees(rotation_angle(pose[:3, :3].T @ truth[:3, :3])))
    return rotation_deg, float(np.linalg.norm(pose[:3, 3] - truth[:3, 3]) / np.linalg.norm(truth[:3, 3]))


def pose_measures(
    ours: NDArray[np.float64], published: NDArray[np.float64], truth: NDArray[np.float64], listed: tuple[float, float]
) -> Measures:
    """Poses (n, 4, 4) against the truth: no farther than three times the published ones are.

    ``listed``: rotation (deg) and relative translation errors that the fixture states, at least.
    """
    our_errors = np.array([pose_errors(*pair) for pair in zip(ours, truth, strict=True)]).max(axis=0)
    their_errors = np.array([pose_errors(*pair) for pair in zip(published, truth, strict=True)]).max(axis=0)
    allowed = TRUTH_FACTOR * np.maximum(their_errors, listed)
    return (
        Measure("rotation to truth, deg", float(our_errors[0]), float(allowed[0])),
        Measure("translation to truth", float(our_errors[1]), float(allowed[1])),
    )


def _difference(ours: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference and reference in float64; a wrong shape is an infinite difference."""
    ours, reference = np.asarray(ours, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if ours.shape != reference.shape:
        return np.full(1, np.inf), reference
    return ours - reference, reference
