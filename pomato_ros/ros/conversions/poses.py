"""Rigid transforms to the messages that carry poses."""

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, TransformStamped, Twist, Vector3
from nav_msgs.msg import Odometry, Path
from std_msgs.msg import Header

from pomato_ros.geometry.rigid import matrix_from_quaternion_xyzw, pose_from, quaternion_xyzw_from_matrix
from pomato_ros.ros.frames import FARTHEST_M, OdometryState
from pomato_ros.structures import PoseArray


def point_message(xyz: np.ndarray) -> Point:
    """A (3,) vector as Point."""
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def vector_message(xyz: np.ndarray) -> Vector3:
    """A (3,) vector as Vector3."""
    return Vector3(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def quaternion_message(rotation: np.ndarray) -> Quaternion:
    """A (3, 3) rotation as a unit Quaternion."""
    x, y, z, w = (float(value) for value in quaternion_xyzw_from_matrix(rotation))
    return Quaternion(x=x, y=y, z=z, w=w)


def pose_message(pose: PoseArray) -> Pose:
    """A (4, 4) transform as Pose."""
    return Pose(position=point_message(pose[:3, 3]), orientation=quaternion_message(pose[:3, :3]))


def transform_message(parent_from_child: PoseArray, header: Header, child_frame: str) -> TransformStamped:
    """A (4, 4) transform as TransformStamped; ``header.frame_id`` names the parent."""
    transform = Transform(
        translation=vector_message(parent_from_child[:3, 3]), rotation=quaternion_message(parent_from_child[:3, :3])
    )
    return TransformStamped(header=header, child_frame_id=child_frame, transform=transform)


def matrix_from_transform(transform: Transform) -> PoseArray:
    """The (4, 4) matrix of a Transform.

    Raises:
        ValueError: The quaternion has no direction or a value is not finite.
    """
    return matrix_from_position_and_turn(transform.translation, transform.rotation)


def matrix_from_pose(pose: Pose) -> PoseArray:
    """The (4, 4) matrix of a Pose.

    Raises:
        ValueError: The quaternion has no direction or a value is not finite.
    """
    return matrix_from_position_and_turn(pose.position, pose.orientation)


def matrix_from_position_and_turn(position: Point | Vector3, turn: Quaternion) -> PoseArray:
    """The (4, 4) matrix of the two parts of a pose or transform message.

    Raises:
        ValueError: The quaternion has no direction or a value is not finite.
    """
    translation = np.array([position.x, position.y, position.z])
    if not np.abs(translation).max() <= FARTHEST_M:
        raise ValueError(f"expected a position within {FARTHEST_M:.0e} m, got {translation}; check who sends it")
    return pose_from(matrix_from_quaternion_xyzw([turn.x, turn.y, turn.z, turn.w]), translation)


def covariance_list(covariance: np.ndarray) -> list[float]:
    """A (6, 6) covariance as the flat list a message wants."""
    return [float(value) for value in np.asarray(covariance, np.float64).reshape(36)]


def odometry_message(state: OdometryState, header: Header, base_frame: str) -> Odometry:
    """Pose and twist of ``base_frame`` in ``header.frame_id``."""
    message = Odometry(header=header, child_frame_id=base_frame)
    message.pose.pose = pose_message(state.odom_from_base)
    message.pose.covariance = covariance_list(state.pose_covariance)
    message.twist.twist = Twist(
        linear=vector_message(state.twist_base[:3]), angular=vector_message(state.twist_base[3:])
    )
    message.twist.covariance = covariance_list(state.twist_covariance)
    return message


def pose_stamped_message(pose: PoseArray, header: Header) -> PoseStamped:
    """A (4, 4) transform as PoseStamped."""
    return PoseStamped(header=header, pose=pose_message(pose))


def path_message(poses: list[PoseStamped], header: Header) -> Path:
    """A Path of poses that are already messages."""
    return Path(header=header, poses=poses)
