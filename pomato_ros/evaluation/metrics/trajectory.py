"""Trajectory metrics: absolute error after one alignment, and relative error from frame to frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomato_ros.geometry.alignment import align_similarity
from pomato_ros.geometry.rigid import compose, invert, matrix_from_quaternion_xyzw, pose_from, rotation_angle


@dataclass(frozen=True, slots=True)
class RelativeErrors:
    """One value per pair of frames (i, i + delta)."""

    translation: NDArray[np.float64]  # (n - delta,), unit of the truth
    rotation_deg: NDArray[np.float64]  # (n - delta,)


def align_trajectory(
    world_from_camera: ArrayLike, true_world_from_camera: ArrayLike, *, with_scale: bool = True
) -> NDArray[np.float64]:
    """Poses (n, 4, 4) moved as a whole (Sim(3), or SE(3) without scale) so that positions fit the truth's.

    Raises:
        DegenerateAlignmentError: fewer than three poses, or positions on one line or in one place.
    """
    predicted, truth = _checked(world_from_camera, true_world_from_camera)
    fit = align_similarity(predicted[:, :3, 3], truth[:, :3, 3], with_scale=with_scale)
    return fit.apply_to_poses(predicted)


def absolute_errors(world_from_camera: ArrayLike, true_world_from_camera: ArrayLike) -> NDArray[np.float64]:
    """(n,) distances between positions of aligned poses (n, 4, 4)."""
    predicted, truth = _checked(world_from_camera, true_world_from_camera)
    return np.linalg.norm(predicted[:, :3, 3] - truth[:, :3, 3], axis=-1)


def relative_errors(world_from_camera: ArrayLike, true_world_from_camera: ArrayLike, delta: int = 1) -> RelativeErrors:
    """How the motion over ``delta`` frames differs from the true one, for all pairs; poses (n, 4, 4).

    The error of a pair is the pose ``(true motion)^-1 * motion``: its translation's length and its rotation's angle.
    Align first (:func:`align_trajectory`) if the scale is not known.
    """
    predicted, truth = _checked(world_from_camera, true_world_from_camera)
    if not 0 < delta < len(truth):
        raise ValueError(f"delta must be between 1 and the number of poses - 1 = {len(truth) - 1}, got {delta}")
    motion = compose(invert(predicted[:-delta]), predicted[delta:])
    true_motion = compose(invert(truth[:-delta]), truth[delta:])
    error = compose(invert(true_motion), motion)
    return RelativeErrors(
        translation=np.linalg.norm(error[:, :3, 3], axis=-1), rotation_deg=np.degrees(rotation_angle(error[:, :3, :3]))
    )


def path_length(world_from_camera: ArrayLike) -> float:
    """Length of the way through all positions of poses (n, 4, 4)."""
    positions = np.asarray(world_from_camera, dtype=np.float64)[:, :3, 3]
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).sum())


def root_mean_square(errors: ArrayLike) -> float:
    """RMS over all errors."""
    return float(np.sqrt(np.mean(np.square(np.asarray(errors, dtype=np.float64)))))


def poses_from_xyz_qwxyz(rows: ArrayLike) -> NDArray[np.float64]:
    """Rows (n, 7) of x y z qw qx qy qz, the published files' order (not TUM's) -> poses (n, 4, 4)."""
    rows = np.asarray(rows, dtype=np.float64)
    return pose_from(matrix_from_quaternion_xyzw(rows[:, [4, 5, 6, 3]]), rows[:, :3])


def _checked(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64; shapes must be (n, 4, 4) and equal."""
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape or predicted.shape[1:] != (4, 4):
        raise ValueError(f"expected two trajectories (n, 4, 4) of one length, got {predicted.shape} and {truth.shape}")
    return predicted, truth
