import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker

from pomato_ros.geometry.rigid import rotation_log
from pomato_ros.ros import topics
from pomato_ros.ros.conversions.cloud import cloud_records
from pomato_ros.ros.conversions.poses import transform_message
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time, time_from_stamp_ns
from pomato_ros.ros.frames import OPTICAL_ROTATION, UNKNOWN_VARIANCE
from pomato_ros.ros.topics import tf_qos
from pomato_ros.structures import TrackingState


def stamps_of(message: Any) -> list[Time]:
    return (
        [marker.header.stamp for marker in message.markers] if hasattr(message, "markers") else [message.header.stamp]
    )


def frame_of(message: Any) -> str:
    return message.markers[0].header.frame_id if hasattr(message, "markers") else message.header.frame_id


@pytest.fixture
def heard(graph: Any) -> Any:
    """A graph that listens to everything, after two steps."""
    graph.listen_to_all()
    graph.wait_until_connected()
    graph.step(0)
    graph.step(1)
    return graph


@pytest.fixture
def heard_at_model(make_graph: Callable[..., Any]) -> Any:
    """The same with depth images of the network's own size, after one step."""
    graph = make_graph(depth_resolution="model")
    graph.wait_until_active()
    graph.listen_to_all()
    graph.wait_until_connected()
    graph.step(0)
    return graph


def newest(graph: Any, topic: topics.Topic) -> Any:
    return graph.received[topic.name][-1]


def test_all_outputs_of_a_step_carry_the_stamp_of_its_image(heard: Any, fakes: SimpleNamespace) -> None:
    for index in range(2):
        expected = fakes.image_of(index).header.stamp
        for topic in topics.SCENE_OUTPUTS:
            for stamp in stamps_of(heard.received[topic.name][index]):
                assert (stamp.sec, stamp.nanosec) == (expected.sec, expected.nanosec), topic.name


def test_frames_that_wait_for_each_other_are_all_published_with_their_own_stamps(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph(window_hop=2)
    graph.wait_until_active()
    graph.listen_to_all()
    graph.wait_until_connected()
    for first in (0, 2):
        graph.image_publisher.publish(fakes.image_of(first))
        graph.spin_until(lambda: len(graph.engine.waiting) == 1, "the first of two to be taken")
        assert graph.node.status.engine.steps == first
        graph.send(fakes.image_of(first + 1))
        done = first + 2
        graph.spin_until(lambda done=done: len(graph.received[topics.ODOMETRY.name]) == done, "both odometries")
    stamps = [stamp_ns_from_time(message.header.stamp) for message in graph.received[topics.ODOMETRY.name]]
    assert stamps == [fakes.START_NS + index * fakes.FRAME_NS for index in range(4)]


def test_frames_are_the_camera_or_odom(heard: Any, fakes: SimpleNamespace) -> None:
    in_odom = {topics.ODOMETRY, topics.PATH, topics.TRACKS, topics.TRACK_MARKERS, topics.OBJECTS}
    for topic in topics.SCENE_OUTPUTS:
        assert frame_of(newest(heard, topic)) == ("odom" if topic in in_odom else fakes.CAMERA_FRAME), topic.name


def test_the_cloud_is_organised_and_says_what_moves(heard: Any, fakes: SimpleNamespace) -> None:
    width, height = fakes.MODEL_WH
    message = newest(heard, topics.POINTS)
    assert (message.width, message.height, message.is_dense) == (width, height, False)
    records = cloud_records(message)
    assert np.isnan(records["x"][0, 0])
    assert records["x"][5, 7] == pytest.approx(0.7)
    assert records["y"][5, 7] == pytest.approx(0.5)
    assert records["z"][5, 7] == fakes.DEPTH_M
    assert records["confidence"][5, 7] == 2.5
    assert records["rgb"].view(np.uint32)[5, 7] == 0x000A141E
    assert records["dynamic"][4:8, 2:6].all()
    assert records["dynamic"].sum() == 16


def test_static_and_moving_points_share_the_valid_ones(heard: Any, fakes: SimpleNamespace) -> None:
    static, moving = newest(heard, topics.STATIC_POINTS), newest(heard, topics.DYNAMIC_POINTS)
    width, height = fakes.MODEL_WH
    assert (static.height, moving.height) == (1, 1)
    assert moving.width == 16
    assert static.width == width * height - 1 - 16
    assert not cloud_records(static)["dynamic"].any()
    assert cloud_records(moving)["dynamic"].all()
    assert np.isfinite(cloud_records(static)["z"]).all()


def float_pixels(message: Any) -> np.ndarray:
    assert message.encoding == "32FC1"
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def test_depth_is_metres_with_nan_where_invalid_and_static_depth_where_it_moves_too(
    heard_at_model: Any, fakes: SimpleNamespace
) -> None:
    depth = float_pixels(newest(heard_at_model, topics.DEPTH_IMAGE))
    static = float_pixels(newest(heard_at_model, topics.STATIC_DEPTH_IMAGE))
    assert np.isnan(depth[0, 0])
    assert np.nanmin(depth) == np.nanmax(depth) == fakes.DEPTH_M
    assert np.isnan(static[4:8, 2:6]).all()
    assert np.isnan(static).sum() == 17


def test_the_mask_has_the_size_of_the_source_and_lies_where_the_mover_is(heard: Any, fakes: SimpleNamespace) -> None:
    message = newest(heard, topics.MASK_IMAGE)
    assert (message.width, message.height, message.encoding) == (*fakes.SOURCE_WH, "mono8")
    levels = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.width)
    assert set(np.unique(levels).tolist()) == {0, 255}
    rows, columns = np.nonzero(levels)
    # Model pixels 2..5 x 4..7, at half the size and two columns cut off: source pixels 8..15 x 8..15.
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (8, 15, 8, 15)


def test_camera_infos_belong_to_their_images(heard: Any, fakes: SimpleNamespace) -> None:
    for image, info in (
        (topics.DEPTH_IMAGE, topics.DEPTH_INFO),
        (topics.STATIC_DEPTH_IMAGE, topics.STATIC_DEPTH_INFO),
        (topics.MASK_IMAGE, topics.MASK_INFO),
    ):
        assert newest(heard, image).header == newest(heard, info).header
        assert newest(heard, image).width == newest(heard, info).width
        assert newest(heard, image).height == newest(heard, info).height
    # The principal point of the network's image is (9.5, 7.5); back on the source: (9.5 + 2.25) / 0.5.
    for info in (topics.DEPTH_INFO, topics.MASK_INFO):
        assert list(newest(heard, info).k) == [30.0, 0.0, 23.5, 0.0, 32.0, 15.5, 0.0, 0.0, 1.0]


def test_the_camera_info_of_depth_at_the_networks_size_is_that_of_its_crop(heard_at_model: Any) -> None:
    info = newest(heard_at_model, topics.DEPTH_INFO)
    assert (info.width, info.height) == (newest(heard_at_model, topics.DEPTH_IMAGE).width, 16)
    assert list(info.k) == [15.0, 0.0, 9.5, 0.0, 16.0, 7.5, 0.0, 0.0, 1.0]


def test_confidence_and_debug_pictures_are_there(heard: Any) -> None:
    assert (float_pixels(newest(heard, topics.CONFIDENCE_IMAGE)) == 2.5).all()
    picture = newest(heard, topics.DEBUG_IMAGE)
    assert picture.encoding == "bgr8"
    assert picture.width >= 480
    assert len(picture.data) == picture.height * picture.step


def test_tracks_and_trails(heard: Any) -> None:
    message = newest(heard, topics.TRACKS)
    assert [(track.id, track.visible, track.dynamic, track.age) for track in message.tracks] == [
        (7, False, True, 9),
        (41, True, False, 4),
    ]
    first = message.tracks[0].position
    np.testing.assert_allclose([first.x, first.y, first.z], [3.0, -1.0, 0.0], atol=1e-12)  # optical (1, 0, 3)
    velocity = message.tracks[0].velocity
    np.testing.assert_allclose([velocity.x, velocity.y, velocity.z], [1.0, 0.0, 0.0], atol=1e-12)
    markers = newest(heard, topics.TRACK_MARKERS).markers
    assert [(marker.action, len(marker.points)) for marker in markers] == [(Marker.ADD, 2), (Marker.ADD, 2)]


@pytest.mark.skipif(topics.OBJECTS not in topics.SCENE_OUTPUTS, reason="vision_msgs is not installed")
def test_objects_that_are_seen(heard: Any) -> None:
    (found,) = newest(heard, topics.OBJECTS).detections
    centre = found.bbox.center.position
    assert found.id == "3"
    np.testing.assert_allclose([centre.x, centre.y, centre.z], [4.0, -1.0, -2.0], atol=1e-6)  # optical (1, 2, 4)


def test_depth_has_the_size_of_the_source(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    graph = make_graph(points_stride=2)
    graph.wait_until_active()
    graph.listen_to_all()
    graph.wait_until_connected()
    graph.step(0)
    depth = float_pixels(newest(graph, topics.DEPTH_IMAGE))
    assert depth.shape == (fakes.SOURCE_WH[1], fakes.SOURCE_WH[0])
    assert np.isnan(depth[:, :4]).all()  # cut off before the network
    assert depth[10, 20] == fakes.DEPTH_M
    assert newest(graph, topics.DEPTH_INFO).k[2] == 23.5
    assert (newest(graph, topics.POINTS).width, newest(graph, topics.POINTS).height) == (10, 8)


def test_nothing_is_built_for_topics_that_nobody_hears(graph: Any) -> None:
    graph.listen(topics.ODOMETRY.name, topics.ODOMETRY.message_type, topics.ODOMETRY.qos())
    graph.wait_until_connected()
    graph.step(0)
    assert graph.node.status.output.topics_with_subscribers == ("~/odometry",)


@pytest.mark.parametrize("topic", topics.SCENE_OUTPUTS, ids=lambda topic: topic.name)
def test_the_engine_is_told_whether_anybody_reads_tracks(graph: Any, topic: topics.Topic) -> None:
    graph.step(0)
    assert not graph.engine.tracks_are_read
    graph.listen(topic.name, topic.message_type, topic.qos())
    graph.wait_until_connected()
    graph.step(1)
    shown = {topics.TRACKS, topics.TRACK_MARKERS, topics.OBJECTS, topics.DEBUG_IMAGE}
    assert graph.engine.tracks_are_read == (topic in shown)


def publish_mount(graph: Any, pose: np.ndarray, fakes: SimpleNamespace) -> None:
    publisher = graph.client.create_publisher(TFMessage, "/tf_static", tf_qos(latched=True))
    publisher.publish(TFMessage(transforms=[transform_message(pose, Header(frame_id="base_link"), fakes.CAMERA_FRAME)]))
    tree = graph.node._run.listener.tree
    graph.spin_until(lambda: tree.wait_for_parent(fakes.CAMERA_FRAME, 0.0) is not None, "the mount")


def tilted_mount() -> np.ndarray:
    """A camera that looks 20 degrees down and 50 degrees to the left, half a metre ahead."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("ZYX", [50, 20, 5], degrees=True).as_matrix() @ OPTICAL_ROTATION
    pose[:3, 3] = (0.5, 0.1, 1.1)
    return pose


def base_motion(forward_m: float, left_rad: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", left_rad).as_matrix()
    pose[0, 3] = forward_m
    return pose


def test_forward_is_plus_x_and_a_left_turn_plus_yaw_with_a_tilted_mount(graph: Any, fakes: SimpleNamespace) -> None:
    mount = tilted_mount()
    publish_mount(graph, mount, fakes)
    motions = [base_motion(0.0, 0.0), base_motion(1.0, 0.0), base_motion(1.0, 0.3)]
    graph.engine.pose_of_step = lambda step: np.linalg.inv(mount) @ motions[step] @ mount
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    odometry = graph.listen(topics.ODOMETRY.name, topics.ODOMETRY.message_type, topics.ODOMETRY.qos())
    graph.wait_until_connected()
    for index in range(3):
        graph.step(index)
    graph.spin_until(lambda: len(transforms) >= 3, "TF")
    for message, transform, motion in zip(odometry, transforms, motions, strict=True):
        sent = transform.transforms[0]
        assert (sent.header.frame_id, sent.child_frame_id) == ("odom", "base_link")
        assert sent.header.stamp == message.header.stamp
        position, turn = message.pose.pose.position, message.pose.pose.orientation
        np.testing.assert_allclose([position.x, position.y, position.z], motion[:3, 3], atol=1e-9)
        rotation = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        np.testing.assert_allclose(rotation_log(rotation), rotation_log(motion[:3, :3]), atol=1e-9)
    assert not graph.node.status.mount.assumed
    speed = odometry[1].twist.twist.linear
    np.testing.assert_allclose([speed.x, speed.y, speed.z], [1e9 / fakes.FRAME_NS, 0.0, 0.0], atol=1e-6)


def test_while_lost_there_is_no_tf_and_odometry_says_unknown(graph: Any, fakes: SimpleNamespace) -> None:
    poses = [fakes.moved((0.0, 0.0, 1.0)), None, np.full((4, 4), np.nan)]
    graph.engine.pose_of_step = lambda step: poses[step]
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    odometry = graph.listen(topics.ODOMETRY.name, topics.ODOMETRY.message_type, topics.ODOMETRY.qos())
    graph.wait_until_connected()
    for index in range(3):
        graph.step(index)
    graph.spin_for(0.2)
    assert len(transforms) == 1
    for message in odometry[1:]:
        assert np.diag(np.reshape(message.pose.covariance, (6, 6))).tolist() == [UNKNOWN_VARIANCE] * 6
        assert message.pose.pose.position.x == pytest.approx(1.0)
        turn = message.pose.pose.orientation
        assert np.linalg.norm([turn.x, turn.y, turn.z, turn.w]) == pytest.approx(1.0)


def test_tf_stamps_rise_strictly_and_values_are_numbers(graph: Any, fakes: SimpleNamespace) -> None:
    broken = [np.eye(4), np.full((4, 4), np.inf), 3.0 * np.eye(4), fakes.moved((0.1, 0.0, 0.2), 0.1)]
    graph.engine.pose_of_step = lambda step: broken[step]
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    for index in (0, 1, 2, 2, 3):  # one frame comes twice
        graph.send(fakes.image_of(index))
    graph.spin_until(lambda: len(transforms) >= 2, "TF")
    graph.spin_for(0.1)
    stamps = [stamp_ns_from_time(message.transforms[0].header.stamp) for message in transforms]
    assert stamps == sorted(set(stamps))
    assert len(stamps) == 2
    for message in transforms:
        transform = message.transforms[0].transform
        turn, shift = transform.rotation, transform.translation
        assert np.isfinite([shift.x, shift.y, shift.z]).all()
        assert np.linalg.norm([turn.x, turn.y, turn.z, turn.w]) == pytest.approx(1.0)


def test_inverted_tf_is_the_inverse_under_the_other_parent(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph(invert_tf=True, odom_frame="odom_pomato")
    graph.wait_until_active()
    graph.engine.pose_of_step = lambda step: fakes.moved((0.0, 0.0, 2.0))
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    graph.send(fakes.image_of(0))
    graph.spin_until(lambda: bool(transforms), "TF")
    sent = transforms[0].transforms[0]
    assert (sent.header.frame_id, sent.child_frame_id) == ("base_link", "odom_pomato")
    assert sent.transform.translation.x == pytest.approx(-2.0)


def test_no_tf_when_told_so(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    graph = make_graph(publish_tf=False)
    graph.wait_until_active()
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    graph.send(fakes.image_of(0))
    graph.spin_for(0.2)
    assert transforms == []


def test_a_bare_camera_gets_its_static_transform(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    graph = make_graph(publish_camera_tf="camera_link", base_frame="camera_link", tf_timeout=2.0)
    graph.wait_until_active()
    static = graph.listen("/tf_static", TFMessage, tf_qos(latched=True))
    graph.send(fakes.image_of(0))
    graph.spin_until(lambda: bool(static), "the static transform")
    sent = static[0].transforms[0]
    assert (sent.header.frame_id, sent.child_frame_id) == ("camera_link", fakes.CAMERA_FRAME)
    assert not graph.node.status.mount.assumed
    graph.spin_until(lambda: graph.client.count_publishers("/tf_static") == 1, "the publisher to be seen")
    graph.node.trigger_deactivate()
    graph.spin_until(lambda: graph.client.count_publishers("/tf_static") == 0, "the publisher to go")


def test_a_mount_that_comes_before_the_first_pose_is_taken_up(graph: Any, fakes: SimpleNamespace) -> None:
    graph.engine.pose_of_step = lambda step: None if step == 0 else np.eye(4)
    graph.step(0)
    assert graph.node.status.mount.assumed
    graph.node._run.listener.tree.add("base_link", fakes.CAMERA_FRAME, np.diag([1.0, -1.0, -1.0, 1.0]), static=True)
    graph.step(1)
    assert not graph.node.status.mount.assumed
    graph.node._run.listener.tree.add("base_link", fakes.CAMERA_FRAME, np.eye(4), static=True)
    graph.step(2)  # too late: that the camera moves on the base is not followed
    np.testing.assert_allclose(graph.node._outputs.history.newest.odom_from_world, np.diag([1.0, -1.0, -1.0, 1.0]))


def test_after_a_jump_in_time_transforms_are_heard_and_waited_for_again(graph: Any, fakes: SimpleNamespace) -> None:
    run = graph.node._run
    graph.step(0)
    run.listener.tree.add("odom", "base_link", np.eye(4), static=False)
    run.listener.stop_dynamic()
    run.jump_in_time()
    assert run.listener.hears_dynamic
    assert run.listener.tree.wait_for("odom", "base_link", 0.0) is None
    assert run._frames_waited_for == set()


def test_of_moving_points_an_empty_cloud_is_sent_once(graph: Any, fakes: SimpleNamespace) -> None:
    clouds = graph.listen(topics.DYNAMIC_POINTS.name, topics.DYNAMIC_POINTS.message_type, topics.DYNAMIC_POINTS.qos())
    graph.wait_until_connected()
    step = graph.engine.step
    still = np.zeros(fakes.MODEL_WH[::-1], bool)
    for index, (moving, sent) in enumerate([(True, 1), (False, 2), (False, 2), (False, 2), (True, 3)]):
        graph.engine.step = step if moving else lambda frame: dataclasses.replace(step(frame), dynamic_mask=still)
        graph.send(fakes.image_of(index))
        graph.spin_until(lambda sent=sent: len(clouds) == sent, "the cloud")
    assert [cloud.width > 0 for cloud in clouds] == [True, False, True]


def test_another_publisher_of_the_same_transform_is_named(graph: Any, fakes: SimpleNamespace) -> None:
    publisher = graph.client.create_publisher(TFMessage, "/tf", tf_qos(latched=False))
    graph.spin_until(lambda: publisher.get_subscription_count() > 0, "the node's /tf subscription")
    header = Header(frame_id="odom", stamp=time_from_stamp_ns(5))
    publisher.publish(TFMessage(transforms=[transform_message(np.eye(4), header, "base_link")]))
    status = graph.diagnostics()["tracking"]
    assert "odom -> base_link" in status.message
    assert "client" in status.message


def test_its_own_transforms_are_no_rival(heard: Any) -> None:
    heard.spin_for(0.1)
    assert heard.node._run.listener.rival == ""


def test_path_holds_the_poses_so_far_each_with_its_stamp(heard: Any, fakes: SimpleNamespace) -> None:
    message = newest(heard, topics.PATH)
    stamps = [stamp_ns_from_time(pose.header.stamp) for pose in message.poses]
    assert stamps == [fakes.START_NS, fakes.START_NS + fakes.FRAME_NS]


def test_the_fake_camera_is_calibrated_when_camera_info_says_so(graph: Any, fakes: SimpleNamespace) -> None:
    graph.publish_info(fakes.camera_info_of(focal_px=40.0))
    graph.step(0)
    intrinsics = graph.engine.frames[-1].intrinsics
    assert intrinsics is not None
    assert intrinsics.fx_px == 40.0
    assert graph.diagnostics()["input"].message.endswith("calibrated")


def test_a_recovering_camera_has_tf_and_odometry_and_a_warning(heard: Any, fakes: SimpleNamespace) -> None:
    step = heard.engine.step
    heard.engine.step = lambda frame: dataclasses.replace(step(frame), state=TrackingState.RECOVERING)
    heard.step(2)
    assert heard.node.status.output.tf_sent == 3
    assert newest(heard, topics.ODOMETRY).pose.covariance[0] < 1.0
    status = heard.diagnostics()["tracking"]
    assert status.level == DiagnosticStatus.WARN
    assert status.message.startswith("recovering")
