"""Trajectory errors do not depend on the frame or, once aligned, on the scale."""

import numpy as np
import pytest

from pomato_ros.evaluation.metrics.trajectory import (
    absolute_errors,
    align_trajectory,
    path_length,
    poses_from_xyz_qwxyz,
    relative_errors,
    root_mean_square,
)
from pomato_ros.geometry.alignment import DegenerateAlignmentError
from pomato_ros.geometry.rigid import compose, invert, pose_exp, pose_from, quaternion_xyzw_from_matrix, rotation_exp


@pytest.fixture
def truth() -> np.ndarray:
    """(20, 4, 4): a wandering camera."""
    steps = pose_exp(np.random.default_rng(0).normal(scale=[0.3, 0.3, 0.3, 0.1, 0.1, 0.1], size=(20, 6)))
    poses = [steps[0]]
    for step in steps[1:]:
        poses.append(compose(poses[-1], step))
    return np.stack(poses)


def scaled(poses: np.ndarray, scale: float) -> np.ndarray:
    poses = poses.copy()
    poses[:, :3, 3] *= scale
    return poses


def test_another_world_frame_and_scale_is_no_error(truth: np.ndarray) -> None:
    moved = compose(pose_exp([1, 2, 3, 0.4, -0.5, 0.6]), scaled(truth, 0.2))
    aligned = align_trajectory(moved, truth)
    np.testing.assert_allclose(aligned, truth, atol=1e-9)
    assert relative_errors(aligned, truth).rotation_deg.max() < 1e-6


def test_without_scale_the_scale_stays_wrong(truth: np.ndarray) -> None:
    aligned = align_trajectory(scaled(truth, 0.5), truth, with_scale=False)
    assert root_mean_square(absolute_errors(aligned, truth)) > 0.1
    assert path_length(aligned) == pytest.approx(0.5 * path_length(truth))


def test_relative_errors_do_not_depend_on_the_world_frame(truth: np.ndarray) -> None:
    noisy = compose(truth, pose_exp(0.01 * np.random.default_rng(1).normal(size=(20, 6))))
    direct = relative_errors(noisy, truth)
    moved = relative_errors(compose(pose_exp([1, 2, 3, 0.4, -0.5, 0.6]), noisy), truth)
    np.testing.assert_allclose(moved.translation, direct.translation, atol=1e-12)
    np.testing.assert_allclose(moved.rotation_deg, direct.rotation_deg, atol=1e-9)


def test_one_wrong_step_is_one_wrong_pair(truth: np.ndarray) -> None:
    wrong = truth.copy()
    jump = pose_from(rotation_exp([0.0, 0.0, np.radians(10)]), [0.3, 0.4, 0.0])
    wrong[10:] = truth[10] @ jump @ invert(truth[10]) @ truth[10:]
    errors = relative_errors(wrong, truth)
    expected_deg = np.zeros(19)
    expected_deg[9] = 10.0
    np.testing.assert_allclose(errors.rotation_deg, expected_deg, atol=1e-6)
    assert errors.translation[9] == pytest.approx(0.5)
    assert np.delete(errors.translation, 9).max() < 1e-9


def test_a_longer_delta_gives_fewer_pairs(truth: np.ndarray) -> None:
    assert relative_errors(truth, truth, delta=5).translation.shape == (15,)
    with pytest.raises(ValueError, match="delta"):
        relative_errors(truth, truth, delta=20)


def test_rows_of_the_published_files_have_w_first(truth: np.ndarray) -> None:
    xyzw = quaternion_xyzw_from_matrix(truth[:, :3, :3])
    rows = np.concatenate((truth[:, :3, 3], xyzw[:, 3:], xyzw[:, :3]), axis=-1)
    np.testing.assert_allclose(poses_from_xyz_qwxyz(rows), truth, atol=1e-12)


def test_standing_still_cannot_be_aligned(truth: np.ndarray) -> None:
    with pytest.raises(DegenerateAlignmentError):
        align_trajectory(np.broadcast_to(np.eye(4), truth.shape), truth)


def test_trajectories_of_different_length_are_refused(truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one length"):
        absolute_errors(truth, truth[:-1])
