"""The static transform that joins the camera with the robot where nobody else sends one."""

from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Header

from pomato_ros.geometry.rigid import invert
from pomato_ros.ros.conversions.poses import transform_message
from pomato_ros.ros.conversions.stamps import time_from_stamp_ns
from pomato_ros.ros.frames import assumed_mount
from pomato_ros.ros.topics import TF_STATIC_TOPIC, tf_qos
from pomato_ros.ros.transforms import TransformTree, tf_message_type
from pomato_ros.structures import PoseArray

CAMERA_LINK = "camera_link"


@dataclass(frozen=True, slots=True)
class Joint:
    """One static transform as it was sent; the stamp tells it from one of the same frames that others send."""

    parent: str
    child: str
    stamp_ns: int


class CameraTransform:
    """Sends at most one static transform, and takes it back; tf2 forgets it as soon as another parent is named."""

    def __init__(self, node: Node, tree: TransformTree, odom_frame: str, base_frame: str) -> None:
        """Send for ``node``; ``tree`` holds what others send."""
        self._node, self._tree = node, tree
        self._odom_frame, self._base_frame = odom_frame, base_frame
        self._publisher: Any = None
        self._joint: Joint | None = None

    def is_ours(self, parent: str, child: str, stamp_ns: int) -> bool:
        """Whether a static transform is the one that this node sent."""
        return self._joint == Joint(parent, child, stamp_ns)

    def join_base(self, camera_frame: str) -> None:
        """Send the assumed mount, from the base to the camera or to the frame that the camera's own tree hangs on.

        A driver may send camera_link -> image frame and nobody base_link -> camera_link; a second parent of the image
        frame would tear the camera from its driver's tree. Nothing is sent where that would close a circle, or without
        a name.
        """
        root, root_from_camera = self._tree.root_of(camera_frame)
        if root in ("", self._base_frame, self._odom_frame):
            self.withdraw()
        elif self._joint is None or (self._joint.parent, self._joint.child) != (self._base_frame, root):
            self._send(self._base_frame, root, assumed_mount() @ invert(root_from_camera))

    def join_camera_link(self, camera_frame: str) -> None:
        """Send ``camera_link`` -> image frame with the optical rotation."""
        if self._joint is None:
            self._send(CAMERA_LINK, camera_frame, assumed_mount())
            self._tree.add(CAMERA_LINK, camera_frame, assumed_mount(), static=True)

    def withdraw(self) -> None:
        """Send nothing any more to those who come later."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
        self._publisher = self._joint = None

    def _send(self, parent: str, child: str, parent_from_child: PoseArray) -> None:
        message_type = tf_message_type()
        if message_type is None:
            return
        self.withdraw()
        stamp_ns = self._node.get_clock().now().nanoseconds
        self._joint = Joint(parent, child, stamp_ns)
        header = Header(stamp=time_from_stamp_ns(stamp_ns), frame_id=parent)
        self._publisher = self._node.create_publisher(message_type, TF_STATIC_TOPIC, tf_qos(latched=True))
        self._publisher.publish(message_type(transforms=[transform_message(parent_from_child, header, child)]))
        self._node.get_logger().info(f"sending static TF '{parent}' -> '{child}'")
