"""One bad moment of a sensor is one event, and good data after it are used at once."""

import numpy as np
import pytest

from pomato_ros.geometry.rigid import invert, pose_exp
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.prior_guard import DEPTHS_KEPT, ContinuousOdometry, DepthUnit

STEP = pose_exp([0.05, 0.0, 0.0, 0.0, 0.0, 0.02])
JUMP = pose_exp([100.0, 3.0, 0.0, 0.0, 0.0, 1.5])
PERIOD_NS = 100_000_000


def poses(count: int, jumps: tuple[int, ...]) -> list[np.ndarray]:
    """A robot that drives a curve; its odometry jumps at some steps and goes on from there."""
    pose, jumped = np.eye(4), np.eye(4)
    seen = []
    for step in range(count):
        jumped = JUMP @ jumped if step in jumps else jumped
        seen.append(jumped @ pose)
        pose = pose @ STEP
    return seen


@pytest.mark.parametrize("jumps", [(), (5,), (5, 6), (3, 9, 14)])
def test_each_jump_costs_one_pose_and_the_others_follow_the_robot(jumps: tuple[int, ...]) -> None:
    odometry = ContinuousOdometry()
    taken: dict[int, np.ndarray] = {}
    refused: list[int] = []
    for step, pose in enumerate(poses(20, jumps)):
        try:
            taken[step] = odometry.take(step * PERIOD_NS, pose, 20.0, 12.0)
        except InputError:
            refused.append(step)
    assert refused == list(jumps)
    assert len(taken) == 20 - len(jumps)
    truth = poses(20, ())
    for step, pose in taken.items():
        np.testing.assert_allclose(pose, truth[step], atol=1e-9)


def test_after_a_long_silence_a_long_way_is_no_jump() -> None:
    odometry = ContinuousOdometry()
    odometry.take(0, np.eye(4), 20.0, 12.0)
    far = pose_exp([15.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(odometry.take(10 * PERIOD_NS, far, 20.0, 12.0), far)


def test_time_that_starts_over_starts_anew() -> None:
    odometry = ContinuousOdometry()
    odometry.take(0, np.eye(4), 20.0, 12.0)
    odometry.clear()
    np.testing.assert_allclose(invert(odometry.take(1, JUMP, 20.0, 12.0)) @ JUMP, np.eye(4), atol=1e-12)


def used(unit: DepthUnit, metres: float) -> bool:
    try:
        unit.check(np.full((4, 5), metres, np.float32))
    except InputError:
        return False
    return True


def test_a_few_frames_in_another_unit_are_left_out_and_the_next_good_one_is_used() -> None:
    unit = DepthUnit()
    assert all(used(unit, metres) for metres in (0.5, 0.7, 2.0, 0.3))
    assert not any(used(unit, 1000 * metres) for metres in (0.5, 0.6, 0.7, 0.5))
    assert used(unit, 0.5)


def test_a_whole_window_in_another_unit_is_believed() -> None:
    unit = DepthUnit()
    assert used(unit, 500.0)
    assert [used(unit, 0.5) for _ in range(DEPTHS_KEPT + 1)] == [False] * (DEPTHS_KEPT - 1) + [True, True]
    assert not used(unit, 500.0)
