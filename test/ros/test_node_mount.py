"""The camera's place on the robot: assumed and sent while nobody tells, given up for a real one without a jump."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pomato_ros.ros import topics
from pomato_ros.ros.conversions.poses import matrix_from_pose, matrix_from_transform, transform_message
from pomato_ros.ros.frames import OPTICAL_ROTATION, assumed_mount
from pomato_ros.ros.topics import tf_qos
from pomato_ros.ros.transforms import MOST_FRAMES, TransformTree


class Buffer:
    """What a tf2 buffer of another node would know: the newest parent of each frame."""

    def __init__(self, graph: Any) -> None:
        self.tree = TransformTree()
        self.static: list[Any] = []
        graph.client.create_subscription(TFMessage, "/tf", self._dynamic, tf_qos(latched=False))
        graph.client.create_subscription(TFMessage, "/tf_static", self._static, tf_qos(latched=True))

    def _dynamic(self, message: Any) -> None:
        for one in message.transforms:
            pose = matrix_from_transform(one.transform)
            self.tree.add(one.header.frame_id, one.child_frame_id, pose, static=False)

    def _static(self, message: Any) -> None:
        for one in message.transforms:
            self.static.append(one)
            pose = matrix_from_transform(one.transform)
            self.tree.add(one.header.frame_id, one.child_frame_id, pose, static=True)

    def pose(self, target: str, source: str) -> Any:
        return self.tree.wait_for(target, source, 0.0)


def send_static(graph: Any, parent: str, child: str, pose: np.ndarray) -> Any:
    """A static transform of another node, as it is heard by ours; its publisher."""
    publisher = graph.client.create_publisher(TFMessage, "/tf_static", tf_qos(latched=True))
    publisher.publish(TFMessage(transforms=[transform_message(pose, Header(frame_id=parent), child)]))
    tree = graph.node._run.listener.tree
    graph.spin_until(lambda: tree.wait_for_parent(child, 0.0) == parent, "the transform")
    return publisher


def mount() -> np.ndarray:
    """A camera that looks back and a little down from the mast."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("ZY", [180, 15], degrees=True).as_matrix() @ OPTICAL_ROTATION
    pose[:3, 3] = (0.2, 0.0, 1.0)
    return pose


def test_a_cloud_can_be_shown_in_odom_where_nobody_sends_a_mount(graph: Any, fakes: SimpleNamespace) -> None:
    buffer = Buffer(graph)
    graph.engine.pose_of_step = lambda step: fakes.moved((0.0, 0.0, 0.5 * step))
    for index in range(2):
        graph.send(fakes.image_of(index))
    graph.spin_until(lambda: buffer.pose("odom", fakes.CAMERA_FRAME) is not None, "TF from odom to the camera")
    ahead = np.eye(4)
    ahead[0, 3] = 0.5
    graph.spin_until(
        lambda: np.allclose(buffer.pose("odom", fakes.CAMERA_FRAME), ahead @ assumed_mount()), "the second pose"
    )
    graph.send(fakes.image_of(2))
    assert len(buffer.static) == 1  # sent once
    assert graph.node.status.mount.assumed  # its own transform is no mount that somebody sent


def test_the_assumed_mount_joins_a_drivers_own_tree_at_its_root(graph: Any, fakes: SimpleNamespace) -> None:
    buffer = Buffer(graph)
    link_from_camera = np.eye(4)
    link_from_camera[:3, :3] = OPTICAL_ROTATION
    link_from_camera[:3, 3] = (0.0, 0.015, 0.0)
    send_static(graph, "camera_link", fakes.CAMERA_FRAME, link_from_camera)
    graph.send(fakes.image_of(0))
    graph.spin_until(lambda: buffer.pose("base_link", fakes.CAMERA_FRAME) is not None, "TF to the camera")
    np.testing.assert_allclose(buffer.pose("base_link", fakes.CAMERA_FRAME), assumed_mount(), atol=1e-12)
    assert {(one.header.frame_id, one.child_frame_id) for one in buffer.static} == {
        ("camera_link", fakes.CAMERA_FRAME),
        ("base_link", "camera_link"),
    }


def test_a_mount_that_comes_late_is_taken_up_without_a_jump_of_the_camera(graph: Any, fakes: SimpleNamespace) -> None:
    graph.engine.pose_of_step = lambda step: fakes.moved((0.0, 0.0, 0.5 * step))
    odometry = graph.listen(topics.ODOMETRY.name, topics.ODOMETRY.message_type, topics.ODOMETRY.qos())
    graph.wait_until_connected()
    buffer = Buffer(graph)
    for index in range(3):
        graph.step(index)
    graph.spin_until(lambda: graph.client.count_publishers("/tf_static") == 1, "the assumed mount")
    send_static(graph, "base_link", fakes.CAMERA_FRAME, mount())
    for index in range(3, 6):
        graph.step(index)
    mounts = [assumed_mount()] * 3 + [mount()] * 3
    cameras = [matrix_from_pose(one.pose.pose) @ each for one, each in zip(odometry, mounts, strict=True)]
    for step, camera in enumerate(cameras):  # as if nothing had been
        expected = fakes.moved((0.0, 0.0, 0.5 * step))
        np.testing.assert_allclose(assumed_mount() @ expected, camera, atol=1e-9)
    twist = odometry[4].twist.twist.linear
    np.testing.assert_allclose([twist.x, twist.z], [-5.0, 0.0], atol=2.0)  # it goes backwards
    assert not graph.node.status.mount.assumed
    assert graph.node.status.mount.warning == ""
    graph.spin_until(lambda: graph.client.count_publishers("/tf_static") == 1, "only the real mount's publisher")
    graph.spin_until(lambda: np.allclose(buffer.pose("odom", fakes.CAMERA_FRAME), cameras[-1]), "TF as odometry")


def test_nothing_is_sent_where_it_would_close_a_circle_or_is_not_wanted(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    for options, frame in (
        ({"publish_camera_tf": "never"}, fakes.CAMERA_FRAME),
        ({}, ""),
        ({}, "odom"),
        ({}, "base_link"),
    ):
        graph = make_graph(**options)
        graph.wait_until_active()
        graph.send(fakes.image_of(0, frame_id=frame))
        graph.spin_for(0.1)
        assert graph.node.count_publishers("/tf_static") == 0


def test_a_stop_does_not_wait_for_a_mount(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    graph = make_graph(tf_timeout=60.0)
    graph.wait_until_active()
    graph.image_publisher.publish(fakes.image_of(0))
    graph.spin_until(lambda: graph.node.status.engine.busy_since_s is not None, "the worker to wait")
    started_s = time.monotonic()
    graph.node.trigger_deactivate()
    assert time.monotonic() - started_s < 10.0


def test_names_on_tf_are_kept_in_bounds_and_those_in_use_stay() -> None:
    tree = TransformTree()
    tree.add("base_link", "mast", mount(), static=True)
    for index in range(3 * MOST_FRAMES):
        tree.add("map", f"object_{index}", np.eye(4), static=False)
        if index % 100 == 0:
            tree.add("mast", "camera", np.eye(4), static=False)  # a pan-tilt head that speaks regularly
    assert len(tree._edges) <= MOST_FRAMES
    np.testing.assert_allclose(tree.wait_for("base_link", "camera", 0.0), mount())


def test_a_chain_that_leads_beyond_the_earth_is_no_mount() -> None:
    tree = TransformTree()
    far = np.eye(4)
    far[0, 3] = 9e6
    tree.add("base_link", "mast", far, static=True)
    tree.add("mast", "camera", far, static=True)
    assert tree.wait_for("base_link", "camera", 0.0) is None
    assert tree.wait_for("base_link", "mast", 0.0) is not None


def test_frame_prefix_stands_before_the_nodes_own_frames(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph(frame_prefix="front/")
    graph.wait_until_active()
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    graph.send(fakes.image_of(0))
    graph.spin_until(lambda: bool(transforms), "TF")
    sent = transforms[0].transforms[0]
    assert (sent.header.frame_id, sent.child_frame_id) == ("front/odom", "front/base_link")
