import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pomato_ros.geometry.rigid import invert, pose_exp, rotation_log
from pomato_ros.ros.frames import (
    OPTICAL_ROTATION,
    UNKNOWN_VARIANCE,
    OdometryFrames,
    assumed_mount,
    floor_variance,
    is_rigid,
    looks_like_body_frame,
    unseen_motion,
)

SECOND_NS = 1_000_000_000


def mount(
    pitch_down_deg: float, yaw_deg: float, roll_deg: float, translation: tuple[float, float, float]
) -> np.ndarray:
    """base <- optical of a camera turned in its mount."""
    pose = np.eye(4)
    tilt = Rotation.from_euler("ZYX", [yaw_deg, pitch_down_deg, roll_deg], degrees=True).as_matrix()
    pose[:3, :3] = tilt @ OPTICAL_ROTATION
    pose[:3, 3] = translation
    return pose


MOUNTS = [
    assumed_mount(),
    mount(25.0, 0.0, 0.0, (0.3, 0.0, 1.2)),
    mount(-10.0, 40.0, 15.0, (0.1, -0.2, 0.5)),
    mount(30.0, 180.0, 0.0, (-0.4, 0.0, 0.8)),
]


def camera_motion(base_motion: np.ndarray, base_from_optical: np.ndarray) -> np.ndarray:
    """world <- camera when the base moves by ``base_motion`` (4, 4), world being the first optical frame."""
    return invert(base_from_optical) @ base_motion @ base_from_optical


def moved_base(xyz: tuple[float, float, float], yaw_rad: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", yaw_rad).as_matrix()
    pose[:3, 3] = xyz
    return pose


@pytest.mark.parametrize("base_from_optical", MOUNTS)
def test_odom_starts_at_identity(base_from_optical: np.ndarray) -> None:
    state = OdometryFrames(base_from_optical).update(0, np.eye(4), np.eye(6))
    np.testing.assert_allclose(state.odom_from_base, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("base_from_optical", MOUNTS)
def test_driving_forward_is_plus_x_whatever_the_mount(base_from_optical: np.ndarray) -> None:
    pose = camera_motion(moved_base((1.5, 0.0, 0.0), 0.0), base_from_optical)
    state = OdometryFrames(base_from_optical).update(0, pose, np.eye(6))
    np.testing.assert_allclose(state.odom_from_base, moved_base((1.5, 0.0, 0.0), 0.0), atol=1e-12)


@pytest.mark.parametrize("base_from_optical", MOUNTS)
def test_turning_left_is_plus_yaw_whatever_the_mount(base_from_optical: np.ndarray) -> None:
    pose = camera_motion(moved_base((0.0, 0.0, 0.0), 0.4), base_from_optical)
    state = OdometryFrames(base_from_optical).update(0, pose, np.eye(6))
    np.testing.assert_allclose(rotation_log(state.odom_from_base[:3, :3]), [0.0, 0.0, 0.4], atol=1e-12)
    np.testing.assert_allclose(state.odom_from_base[:3, 3], 0.0, atol=1e-12)


def test_an_optical_camera_moving_along_its_axis_moves_along_x() -> None:
    forward = np.eye(4)
    forward[2, 3] = 2.0
    state = OdometryFrames(assumed_mount()).update(0, forward, np.eye(6))
    np.testing.assert_allclose(state.odom_from_base[:3, 3], [2.0, 0.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("base_from_optical", MOUNTS)
def test_the_twist_is_in_the_base_and_follows_from_the_stamps(base_from_optical: np.ndarray) -> None:
    frames = OdometryFrames(base_from_optical)
    start, end = moved_base((0.0, 0.0, 0.0), np.pi / 2), moved_base((0.0, 1.0, 0.0), np.pi / 2)
    frames.update(0, camera_motion(start, base_from_optical), np.eye(6))
    state = frames.update(SECOND_NS // 2, camera_motion(end, base_from_optical), np.eye(6))
    np.testing.assert_allclose(state.twist_base, [2.0, 0.0, 0.0, 0.0, 0.0, 0.0], atol=1e-9)


def test_turning_in_place_has_only_angular_velocity() -> None:
    frames = OdometryFrames(MOUNTS[1])
    frames.update(0, np.eye(4), np.eye(6))
    state = frames.update(SECOND_NS, camera_motion(moved_base((0.0, 0.0, 0.0), 0.2), MOUNTS[1]), np.eye(6))
    np.testing.assert_allclose(state.twist_base, [0.0, 0.0, 0.0, 0.0, 0.0, 0.2], atol=1e-9)


def test_the_first_twist_is_unknown() -> None:
    state = OdometryFrames(assumed_mount()).update(0, np.eye(4), np.eye(6))
    assert np.diag(state.twist_covariance).min() == UNKNOWN_VARIANCE


def test_without_a_pose_the_last_one_stays_and_nobody_may_trust_it() -> None:
    frames = OdometryFrames(assumed_mount())
    known = frames.update(0, camera_motion(moved_base((1.0, 0.0, 0.0), 0.0), assumed_mount()), np.eye(6))
    lost = frames.update(SECOND_NS, None, None)
    assert lost.lost
    np.testing.assert_array_equal(lost.odom_from_base, known.odom_from_base)
    np.testing.assert_array_equal(lost.pose_covariance, np.eye(6) * UNKNOWN_VARIANCE)


def test_a_pose_that_is_not_rigid_counts_as_lost() -> None:
    frames = OdometryFrames(assumed_mount())
    assert frames.update(0, np.full((4, 4), np.nan), np.eye(6)).lost
    assert frames.update(0, 2.0 * np.eye(4), np.eye(6)).lost


def test_a_new_world_begins_where_the_old_one_ended() -> None:
    base_from_optical = MOUNTS[2]
    frames = OdometryFrames(base_from_optical)
    before = moved_base((2.0, 1.0, 0.0), 0.7)
    frames.update(0, camera_motion(before, base_from_optical), np.eye(6))
    frames.continue_from_last(np.zeros((6, 6)))
    same_place = frames.update(SECOND_NS, np.eye(4), np.eye(6))
    np.testing.assert_allclose(same_place.odom_from_base, before, atol=1e-12)
    onward = frames.update(2 * SECOND_NS, camera_motion(moved_base((1.0, 0.0, 0.0), 0.0), base_from_optical), np.eye(6))
    np.testing.assert_allclose(onward.odom_from_base, before @ moved_base((1.0, 0.0, 0.0), 0.0), atol=1e-12)


def test_the_covariance_follows_small_disturbances_of_the_camera_pose() -> None:
    base_from_optical = MOUNTS[2]
    generator = np.random.default_rng(0)
    factor = generator.normal(size=(6, 6)) * 1e-4
    covariance = factor @ factor.T
    pose = camera_motion(moved_base((0.5, 0.2, 0.0), 0.3), base_from_optical)
    expected = OdometryFrames(base_from_optical).update(0, pose, covariance)
    nominal = expected.odom_from_base
    errors = []
    for disturbance in generator.multivariate_normal(np.zeros(6), covariance, size=4000):
        disturbed = pose.copy()
        disturbed[:3, :3] = Rotation.from_rotvec(disturbance[3:]).as_matrix() @ pose[:3, :3]
        disturbed[:3, 3] += disturbance[:3]
        base = OdometryFrames(base_from_optical).update(0, disturbed, covariance).odom_from_base
        turn = rotation_log(base[:3, :3] @ nominal[:3, :3].T)
        errors.append(np.concatenate([base[:3, 3] - nominal[:3, 3], turn]))
    measured = np.cov(np.array(errors).T)
    np.testing.assert_allclose(measured, expected.pose_covariance, atol=0.1 * np.abs(expected.pose_covariance).max())


def test_no_variance_is_ever_zero_or_not_a_number() -> None:
    assert np.diag(floor_variance(np.zeros((6, 6)))).min() > 0.0
    np.testing.assert_array_equal(floor_variance(np.full((6, 6), np.nan)), np.eye(6) * UNKNOWN_VARIANCE)


def driven_curve(step: int) -> np.ndarray:
    """A base that speeds up and slows down on a winding way, ten steps a second."""
    time_s = 0.1 * step
    return moved_base(
        (0.5 * time_s + 0.2 * np.sin(time_s), 0.3 * np.sin(0.7 * time_s), 0.0), 0.4 * np.sin(0.5 * time_s)
    )


@pytest.mark.parametrize(
    ("white_m", "white_rad", "walk_m", "walk_rad"),
    [(0.003, 0.001, 0.0, 0.0), (0.0, 0.0, 0.003, 0.002), (0.01, 0.005, 0.005, 0.002)],
)
def test_the_twists_error_is_as_large_as_its_covariance_says(
    white_m: float, white_rad: float, walk_m: float, walk_rad: float
) -> None:
    """Mean of e^T C^-1 e over the six components, which is 6 where covariances are honest; poses drift and tremble."""
    draws = np.random.default_rng(5)
    frames, drift = OdometryFrames(assumed_mount()), np.zeros(6)
    nees, before = [], np.eye(4)
    spread = np.array([white_m] * 3 + [white_rad] * 3), np.array([walk_m] * 3 + [walk_rad] * 3)
    for step in range(400):
        truth = driven_curve(step)
        drift = drift + draws.normal(0.0, 1.0, 6) * spread[1]
        seen = truth @ pose_exp(drift + draws.normal(0.0, 1.0, 6) * spread[0])
        covariance = np.eye(6) * (1e-4 + (0.01 * step) ** 2)  # what is known of the pose plays no part
        state = frames.update(step * SECOND_NS // 10, camera_motion(seen, assumed_mount()), covariance)
        motion = np.linalg.inv(before) @ truth
        turned = Rotation.from_matrix(motion[:3, :3]).as_rotvec()
        true_twist = np.concatenate([truth[:3, :3].T @ (truth[:3, 3] - before[:3, 3]), turned]) / 0.1
        error = state.twist_base - true_twist
        nees.append(error @ np.linalg.solve(state.twist_covariance, error))
        before = truth
    assert 3.0 < np.mean(nees[20:]) < 12.0


def test_a_steady_pose_has_a_steady_twist_however_uncertain_it_grew() -> None:
    frames, variances = OdometryFrames(assumed_mount()), []
    for step in range(200):
        pose = camera_motion(moved_base((0.1 * step, 0.0, 0.0), 0.0), assumed_mount())
        state = frames.update(step * SECOND_NS // 10, pose, np.eye(6) * 1e-4 * (step + 1))
        variances.append(np.diag(state.twist_covariance))
    assert (np.array(variances[1:]) <= 1e-2 * (1 + 1e-6)).all()
    assert (np.array(variances[10:]) < 2e-4).all()
    assert (np.array(variances) > 0.0).all()


def test_a_pose_that_grew_no_less_certain_still_has_an_uncertain_twist() -> None:
    frames = OdometryFrames(assumed_mount())
    frames.update(0, np.eye(4), np.eye(6))
    state = frames.update(SECOND_NS, np.eye(4), np.eye(6) * 0.5)
    assert np.linalg.eigvalsh(state.twist_covariance).min() > 0.0


def test_a_new_world_is_no_more_certain_than_its_beginning() -> None:
    frames = OdometryFrames(MOUNTS[1])
    before = frames.update(0, camera_motion(moved_base((2.0, 1.0, 0.0), 0.7), MOUNTS[1]), np.eye(6) * 0.01)
    frames.continue_from_last(np.zeros((6, 6)))
    after = frames.update(SECOND_NS, np.eye(4), np.eye(6) * 1e-6)
    growth = after.pose_covariance - before.pose_covariance
    assert np.linalg.eigvalsh(growth).min() >= 0.0
    assert np.diag(after.twist_covariance).min() == UNKNOWN_VARIANCE  # the motion in between was not seen
    way = camera_motion(moved_base((3.0, 0.0, 0.0), 0.0), MOUNTS[1])
    onward = frames.update(2 * SECOND_NS, way, np.eye(6) * 1e-6)
    heading_error_m2 = 0.01 * 3.0**2
    assert np.trace(onward.pose_covariance[:3, :3]) > np.trace(before.pose_covariance[:3, :3]) + heading_error_m2


def test_the_longer_nothing_was_seen_the_less_certain_the_pose() -> None:
    frames = OdometryFrames(MOUNTS[1])
    before = frames.update(0, np.eye(4), np.eye(6) * 1e-6)
    frames.continue_from_last(unseen_motion(30.0, speed_m_s=0.5, turn_rad_s=0.5))
    after = frames.update(30 * SECOND_NS, np.eye(4), np.eye(6) * 1e-6)
    np.testing.assert_allclose(after.odom_from_base, before.odom_from_base, atol=1e-12)
    deviations = np.sqrt(np.diag(after.pose_covariance))
    np.testing.assert_allclose(deviations[:3], 15.0, rtol=1e-3)
    np.testing.assert_allclose(deviations[3:], np.pi, rtol=1e-3)  # any heading


def test_a_pose_beyond_the_earth_counts_as_lost() -> None:
    frames = OdometryFrames(assumed_mount())
    far = np.eye(4)
    far[0, 3] = 1e200
    assert frames.update(0, far, np.eye(6)).lost


def test_only_an_upright_camera_axis_looks_like_a_body_frame() -> None:
    assert looks_like_body_frame(np.eye(4))
    assert not any(looks_like_body_frame(pose) for pose in MOUNTS)


def test_rigid_means_finite_and_a_rotation() -> None:
    mirrored = np.diag([1.0, 1.0, -1.0, 1.0])
    assert is_rigid(np.eye(4))
    assert not is_rigid(mirrored)
    assert not is_rigid(np.full((4, 4), np.inf))
