from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from pomato_ros.ros.conversions.poses import (
    covariance_list,
    matrix_from_transform,
    odometry_message,
    pose_message,
    transform_message,
)
from pomato_ros.ros.conversions.tracks import track_array_message, track_colour, trail_markers
from pomato_ros.ros.frames import OdometryState


def random_pose(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(generator.normal(size=4)).as_matrix()
    pose[:3, 3] = generator.normal(size=3)
    return pose


@pytest.mark.parametrize("seed", range(20))
def test_a_transform_message_holds_the_matrix(seed: int) -> None:
    pose = random_pose(seed)
    message = transform_message(pose, Header(frame_id="odom"), "base")
    assert (message.header.frame_id, message.child_frame_id) == ("odom", "base")
    np.testing.assert_allclose(matrix_from_transform(message.transform), pose, atol=1e-12)


def test_a_transform_without_direction_is_refused() -> None:
    message = transform_message(np.eye(4), Header(), "base")
    message.transform.rotation.w = 0.0
    with pytest.raises(ValueError, match="quaternion"):
        matrix_from_transform(message.transform)


def test_quaternions_are_unit_and_plain_floats() -> None:
    orientation = pose_message(random_pose(3)).orientation
    values = [orientation.x, orientation.y, orientation.z, orientation.w]
    assert all(type(value) is float for value in values)
    assert np.linalg.norm(values) == pytest.approx(1.0)


def test_a_covariance_is_flat_row_major_and_plain() -> None:
    covariance = np.arange(36, dtype=np.float32).reshape(6, 6)
    values = covariance_list(covariance)
    assert values == [float(value) for value in range(36)]
    assert all(type(value) is float for value in values)


def test_odometry_carries_pose_twist_and_both_covariances() -> None:
    state = OdometryState(5, random_pose(1), np.eye(6) * 2, np.arange(1.0, 7.0), np.eye(6) * 3, lost=False)
    message = odometry_message(state, Header(frame_id="odom"), "base_link")
    assert message.child_frame_id == "base_link"
    assert message.pose.covariance[0] == 2.0
    assert message.twist.covariance[35] == 3.0
    twist = message.twist.twist
    assert [twist.linear.x, twist.linear.y, twist.linear.z] == [1.0, 2.0, 3.0]
    assert [twist.angular.x, twist.angular.y, twist.angular.z] == [4.0, 5.0, 6.0]


def test_tracks_are_turned_into_odom_and_sorted(fakes: SimpleNamespace) -> None:
    odom_from_world = random_pose(8)
    message = track_array_message(fakes.make_tracks(), odom_from_world, Header(frame_id="odom"))
    assert [track.id for track in message.tracks] == [7, 41]
    first = message.tracks[0]
    expected = odom_from_world[:3, :3] @ [1.0, 0.0, 3.0] + odom_from_world[:3, 3]
    np.testing.assert_allclose([first.position.x, first.position.y, first.position.z], expected)
    np.testing.assert_allclose(
        [first.velocity.x, first.velocity.y, first.velocity.z], odom_from_world[:3, :3] @ [0.0, 0.0, 1.0]
    )
    assert (first.visible, first.dynamic, first.age, first.confidence) == (False, True, 9, 3.0)


def test_trails_are_pairs_of_points_with_a_colour_each() -> None:
    trails = {1: [np.zeros(3), np.ones(3), 2 * np.ones(3)], 2: [np.zeros(3)], 3: [np.zeros(3), np.ones(3)]}
    message = trail_markers(trails, {3}, Header(frame_id="odom"), 0.01)
    moving, static = message.markers
    assert (len(moving.points), len(moving.colors)) == (2, 2)
    assert (len(static.points), len(static.colors)) == (4, 4)
    assert moving.lifetime.sec > 0
    assert (moving.ns, static.ns) == ("moving", "static")


def test_a_drawing_without_trails_removes_the_last_one() -> None:
    assert {marker.action for marker in trail_markers({}, set(), Header(), 0.01).markers} == {Marker.DELETE}


def test_a_track_keeps_its_colour_and_neighbours_differ() -> None:
    first, second = track_colour(5, bright=True), track_colour(6, bright=True)
    assert first == track_colour(5, bright=True)
    assert abs(first.r - second.r) + abs(first.g - second.g) + abs(first.b - second.b) > 0.3
