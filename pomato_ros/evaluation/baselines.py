"""What costs nothing and has to be beaten: answers that look at no image, or that say nothing ever moves.

Depth baselines know the truth: they are the best constants there are, each for its own score, so that no unlucky choice
of a constant flatters the network.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.metrics.trajectory import path_length, root_mean_square
from pomato_ros.geometry.rigid import compose, invert, rotation_angle

DELTA_FACTOR = 1.25


def constant_depth_absrel(truth: NDArray[np.float64]) -> float:
    """AbsRel of the constant with the least AbsRel: the median of true depths (n,), each weighed by its inverse."""
    depth = np.sort(truth)
    weight = np.cumsum(1.0 / depth)
    constant = depth[np.searchsorted(weight, 0.5 * weight[-1])]
    return float(np.mean(np.abs(constant - depth) / depth))


def constant_depth_delta1(truth: NDArray[np.float64]) -> float:
    """Largest share of true depths (n,) that one constant can have within a factor of 1.25."""
    log_depth = np.sort(np.log(truth))
    beyond = np.searchsorted(log_depth, log_depth + 2.0 * math.log(DELTA_FACTOR), side="left")
    return float(np.max(beyond - np.arange(len(log_depth))) / len(log_depth))


def standing_still_position_error(true_world_from_camera: NDArray[np.float64]) -> float:
    """RMS position error of a camera that never moves, put where it fits the true positions (n, 4, 4) best."""
    positions = true_world_from_camera[:, :3, 3]
    return root_mean_square(np.linalg.norm(positions - positions.mean(axis=0), axis=-1))


def standing_still_over_path(true_world_from_camera: NDArray[np.float64]) -> float:
    """:func:`standing_still_position_error` over the length of the true way; NaN where that is nothing."""
    length = path_length(true_world_from_camera)
    return standing_still_position_error(true_world_from_camera) / length if length > 0.0 else math.nan


def standing_still_translation_m(true_world_from_camera: NDArray[np.float64]) -> float:
    """RMS translation from frame to frame, which a camera that never moves misses: poses (n, 4, 4)."""
    return root_mean_square(np.linalg.norm(np.diff(true_world_from_camera[:, :3, 3], axis=0), axis=-1))


def standing_still_rotation_deg(true_world_from_camera: NDArray[np.float64]) -> float:
    """RMS rotation from frame to frame, which a camera that never turns misses: poses (n, 4, 4)."""
    motion = compose(invert(true_world_from_camera[:-1]), true_world_from_camera[1:])
    return root_mean_square(np.degrees(rotation_angle(motion[:, :3, :3])))


def points_that_never_move(points_key: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Tracks (frames, n, 3) that keep the positions (n, 3) of the key frame, in every camera alike."""
    return np.broadcast_to(points_key, (frames, *points_key.shape))
