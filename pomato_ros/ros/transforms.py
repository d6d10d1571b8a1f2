"""TF without tf2_ros (pip installs of ROS 2 have none): finds the camera's mount and sends odometry.

Only ``tf2_msgs/TFMessage`` is needed. Where even that is missing, nothing is heard or sent, and the node says so.
"""

import importlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Header

from pomato_ros.geometry.rigid import invert
from pomato_ros.ros.conversions.poses import matrix_from_transform, transform_message
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time, time_from_stamp_ns
from pomato_ros.ros.frames import assumed_mount, is_rigid, looks_like_body_frame
from pomato_ros.ros.topics import TF_STATIC_TOPIC, TF_TOPIC, tf_qos
from pomato_ros.structures import PoseArray

MOST_FRAMES = 2000  # kept on TF, those of others' objects too; beyond, the ones unheard for longest are let go
SENT_STAMPS_KEPT = 1000
TransformSink = Callable[[Any, bool], None]  # a TFMessage, and whether its transforms are static
Edges = Mapping[str, tuple[str, PoseArray]]  # child -> (parent, parent <- child)


def tf_message_type() -> Any | None:
    """The TFMessage class, or None where tf2_msgs is not installed."""
    try:
        return importlib.import_module("tf2_msgs.msg").TFMessage
    except ImportError:
        return None


@dataclass(frozen=True, slots=True)
class Mount:
    """How the camera sits on the base."""

    base_from_optical: PoseArray  # (4, 4)
    assumed: bool  # True: nobody told, a camera looking forward is assumed
    warning: str  # empty when all is well


class TransformTree:
    """The newest transform of every frame to its parent."""

    def __init__(self) -> None:
        """Start empty."""
        self._edges: dict[str, tuple[str, PoseArray]] = {}  # the one heard last is the last
        self._static: set[str] = set()
        self._condition = threading.Condition()
        self._closed = False

    def add(self, parent: str, child: str, parent_from_child: PoseArray, *, static: bool) -> None:
        """Store one transform."""
        with self._condition:
            self._edges.pop(child, None)
            if len(self._edges) >= MOST_FRAMES and not self._make_room():
                return
            self._edges[child] = (parent, parent_from_child)
            (self._static.add if static else self._static.discard)(child)
            self._condition.notify_all()

    def _make_room(self) -> bool:
        """Let go of the dynamic transform that was unheard for longest; False if all are static."""
        oldest = next((child for child in self._edges if child not in self._static), None)
        if oldest is not None:
            del self._edges[oldest]
        return oldest is not None

    def clear_dynamic(self) -> None:
        """Time jumped: keep only the static transforms."""
        with self._condition:
            self._edges = {child: edge for child, edge in self._edges.items() if child in self._static}

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def root_of(self, frame: str) -> tuple[str, PoseArray]:
        """The topmost ancestor of a frame, itself where it has none, and ancestor <- frame (4, 4)."""
        with self._condition:
            return list(poses_in_ancestors(self._edges, frame).items())[-1]

    def wait_for_parent(self, frame: str, timeout_s: float) -> str | None:
        """The parent of a frame, waiting up to ``timeout_s`` for somebody to name one."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or frame in self._edges, timeout_s)
            return self._edges[frame][0] if frame in self._edges else None

    def wait_for(self, target: str, source: str, timeout_s: float) -> PoseArray | None:
        """Target <- source (4, 4), waiting for it up to ``timeout_s``; None if the frames stay unconnected."""
        with self._condition:

            def is_there() -> bool:
                return self._closed or relative_pose(self._edges, target, source) is not None

            self._condition.wait_for(is_there, timeout_s)
            return relative_pose(self._edges, target, source)


def relative_pose(edges: Edges, target: str, source: str) -> PoseArray | None:
    """Target <- source over the nearest common ancestor, or None if there is none."""
    target_ancestors = poses_in_ancestors(edges, target)
    for ancestor, ancestor_from_source in poses_in_ancestors(edges, source).items():
        if ancestor in target_ancestors:
            pose = invert(target_ancestors[ancestor]) @ ancestor_from_source
            return pose if is_rigid(pose) else None  # a chain of frames may lead beyond what a robot can be
    return None


def poses_in_ancestors(edges: Edges, frame: str) -> dict[str, PoseArray]:
    """The frame's pose in itself and in each of its ancestors, nearest first; a cycle ends the walk."""
    poses = {frame: np.eye(4)}
    child, ancestor_from_frame = frame, np.eye(4)
    while child in edges and edges[child][0] not in poses:
        parent, parent_from_child = edges[child]
        ancestor_from_frame = parent_from_child @ ancestor_from_frame
        poses[parent] = ancestor_from_frame
        child = parent
    return poses


def find_mount(tree: TransformTree, base_frame: str, camera_frame: str, timeout_s: float) -> Mount:
    """The camera's mount from TF, or the assumption of a camera that looks forward, with a warning."""
    pose = tree.wait_for(base_frame, camera_frame, timeout_s)
    if pose is None:
        warning = (
            f"no transform from '{camera_frame}' to '{base_frame}' on TF within tf_timeout: assuming a camera at "
            f"'{base_frame}' that looks forward. Publish it, for instance: ros2 run tf2_ros static_transform_publisher "
            f"--frame-id {base_frame} --child-frame-id {camera_frame or '<image frame_id>'} "
            "--roll -1.5708 --pitch 0 --yaw -1.5708"
        )
        return Mount(assumed_mount(), assumed=True, warning=warning)
    if looks_like_body_frame(pose):
        warning = (
            f"the z axis of '{camera_frame}' points up in '{base_frame}': it seems to be a body frame. Images must "
            "carry an optical frame (z forward, x right, y down: REP-103), often called *_optical_frame"
        )
        return Mount(pose, assumed=False, warning=warning)
    return Mount(pose, assumed=False, warning="")


class TransformListener:
    """Feeds a :class:`TransformTree` from /tf and /tf_static, and notices another publisher of our odometry.

    /tf is heard only until :meth:`stop_dynamic`: busy robots send hundreds of messages a second there. Who asks for
    every message (``also``) goes on to get them.
    """

    def __init__(
        self,
        node: Node,
        is_ours: Callable[[int], bool],
        odom_frame: str,
        base_frame: str,
        also: TransformSink | None = None,
    ) -> None:
        """Listen; ``is_ours`` tells whether the node itself sent a transform of a given stamp (ns)."""
        self.tree = TransformTree()
        self.is_own_static: Callable[[str, str, int], bool] = lambda parent, child, stamp_ns: False
        self.rival = ""  # "parent -> child" that somebody else publishes for one of our frames
        self._node = node
        self._is_ours = is_ours
        self._pair = (odom_frame, base_frame)
        self._also = also
        self._feeds_tree = True
        self._static: Any = None
        self._dynamic: Any = None
        message_type = tf_message_type()
        if message_type is not None:
            self._static = node.create_subscription(
                message_type, TF_STATIC_TOPIC, self._on_static, tf_qos(latched=True)
            )
            self.start_dynamic()

    @property
    def hears_dynamic(self) -> bool:
        """Whether /tf is still listened to for the tree."""
        return self._dynamic is not None and self._feeds_tree

    def start_dynamic(self) -> None:
        """Listen to /tf, if not yet; call from the executor's thread."""
        self._feeds_tree = True
        message_type = tf_message_type()
        if self._dynamic is None and message_type is not None:
            self._dynamic = self._node.create_subscription(
                message_type, TF_TOPIC, self._on_dynamic, tf_qos(latched=False)
            )

    def stop_dynamic(self) -> None:
        """Stop listening to /tf, as far as nobody else asks for it; call from the executor's thread."""
        self._feeds_tree = False
        if self._dynamic is not None and self._also is None:
            self._node.destroy_subscription(self._dynamic)
            self._dynamic = None

    def destroy(self) -> None:
        """Stop listening altogether."""
        self._also = None
        self.stop_dynamic()
        if self._static is not None:
            self._node.destroy_subscription(self._static)
            self._static = None

    def _on_static(self, message: Any) -> None:
        others = [one for one in message.transforms if not self._is_own_static(one)]
        if self._also is not None and others:
            self._also(type(message)(transforms=others), True)
        for transform in others:
            self._store(transform, static=True)

    def _is_own_static(self, transform: Any) -> bool:
        header = transform.header
        return self.is_own_static(header.frame_id, transform.child_frame_id, stamp_ns_from_time(header.stamp))

    def _on_dynamic(self, message: Any) -> None:
        if self._also is not None:
            self._also(message, False)
        for transform in message.transforms if self._feeds_tree else ():
            self._store(transform, static=False)
            self._notice_rival(transform)

    def _store(self, transform: Any, *, static: bool) -> None:
        try:
            pose = matrix_from_transform(transform.transform)
        except ValueError as error:
            parent, child = transform.header.frame_id, transform.child_frame_id
            self._node.get_logger().warning(f"ignoring TF '{parent}' -> '{child}': {error}", throttle_duration_sec=10.0)
            return
        self.tree.add(transform.header.frame_id, transform.child_frame_id, pose, static=static)

    def _notice_rival(self, transform: Any) -> None:
        pair = (transform.header.frame_id, transform.child_frame_id)
        if set(pair) == set(self._pair) and not self._is_ours(stamp_ns_from_time(transform.header.stamp)):
            self.rival = f"{pair[0]} -> {pair[1]}"


class OdometryBroadcaster:
    """Sends odom -> base: each stamp once, stamps strictly rising, never anything but a rigid transform."""

    def __init__(self, node: Node, odom_frame: str, base_frame: str, *, inverted: bool) -> None:
        """Send ``odom_frame`` -> ``base_frame``, or the inverse, to live beside another odometry."""
        self._node = node
        self._frames = (base_frame, odom_frame) if inverted else (odom_frame, base_frame)
        self._inverted = inverted
        self._newest_ns: int | None = None
        self._sent_ns: deque[int] = deque(maxlen=SENT_STAMPS_KEPT)
        message_type = tf_message_type()
        self._message_type = message_type
        self._publisher = (
            None if message_type is None else node.create_publisher(message_type, TF_TOPIC, tf_qos(latched=False))
        )

    @property
    def available(self) -> bool:
        """Whether tf2_msgs is installed."""
        return self._publisher is not None

    def destroy(self) -> None:
        """Remove the publisher."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def has_sent(self, stamp_ns: int) -> bool:
        """Whether a transform of this stamp was ours."""
        return stamp_ns in tuple(self._sent_ns)

    def forget_stamps(self) -> None:
        """Time jumped back: any stamp may come next."""
        self._newest_ns = None

    def send(self, stamp_ns: int, odom_from_base: PoseArray) -> bool:
        """Send one pose; False if it was refused."""
        stale = self._newest_ns is not None and stamp_ns <= self._newest_ns
        if self._publisher is None or self._message_type is None or stale or not is_rigid(odom_from_base):
            return False
        pose = invert(odom_from_base) if self._inverted else odom_from_base
        header = Header(stamp=time_from_stamp_ns(stamp_ns), frame_id=self._frames[0])
        self._newest_ns = stamp_ns
        self._sent_ns.append(stamp_ns)
        self._publisher.publish(self._message_type(transforms=[transform_message(pose, header, self._frames[1])]))
        return True
