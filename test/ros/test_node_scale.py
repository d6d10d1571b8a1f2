"""Depth images, odometry and TF reach the engine with their image; bad ones are dropped, counted and named."""

from array import array
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pomato_ros.errors import ConfigError
from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.ros.conversions.images import image_message
from pomato_ros.ros.conversions.poses import pose_message, transform_message
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time, time_from_stamp_ns
from pomato_ros.ros.frames import assumed_mount
from pomato_ros.ros.topics import tf_qos


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def depth_of(image: Image, depth_m: np.ndarray, delay_ns: int = 0) -> Image:
    """A depth image of 16-bit millimetres that goes with an image."""
    stamp = time_from_stamp_ns(stamp_ns_from_time(image.header.stamp) + delay_ns)
    header = Header(stamp=stamp, frame_id=image.header.frame_id)
    height, width = depth_m.shape
    message = Image(header=header, height=height, width=width, encoding="16UC1", step=2 * width)
    message.data = array("B", np.round(1000 * depth_m).astype("<u2").tobytes())
    return message


def sloping(fakes: SimpleNamespace) -> np.ndarray:
    width, height = fakes.SOURCE_WH
    return np.fromfunction(lambda y, x: 1.0 + 0.01 * x + 0.1 * y, (height, width))


def odometry(stamp_ns: int, pose: np.ndarray, child: str = "base_link") -> Odometry:
    message = Odometry(header=Header(stamp=time_from_stamp_ns(stamp_ns), frame_id="odom"), child_frame_id=child)
    message.pose.pose = pose_message(pose)
    return message


class Sender:
    """Publishes one topic and waits until the node has taken each message."""

    def __init__(self, graph: Any, message_type: Any, topic: str) -> None:
        self.graph = graph
        self.publisher = graph.client.create_publisher(message_type, topic, 10)
        graph.spin_until(lambda: self.publisher.get_subscription_count() > 0, topic)

    def __call__(self, message: Any) -> None:
        came = self.graph.node.status.scale_input
        count = came.messages_in
        self.publisher.publish(message)
        self.graph.spin_until(lambda: came.messages_in > count, "the message")


@pytest.fixture
def sensing(make_graph: Callable[..., Any]) -> Any:
    graph = make_graph(scale_source="depth")
    graph.wait_until_active()
    return graph


def test_a_depth_image_comes_with_its_image(sensing: Any, fakes: SimpleNamespace) -> None:
    send = Sender(sensing, Image, "depth/image")
    depth_m = sloping(fakes)
    depth_m[3, 4] = 0.0
    for index, delay_ns in enumerate((0, 15_000_000, -15_000_000)):
        send(depth_of(fakes.image_of(index), depth_m, delay_ns))
        sensing.step(index)
    expected = np.where(depth_m > 0, depth_m, np.nan)
    for frame in sensing.engine.frames:
        np.testing.assert_allclose(frame.depth_m, expected, atol=6e-4)
    assert sensing.node.status.scale_input.used == 3


def test_an_image_without_its_depth_goes_on_without(sensing: Any, fakes: SimpleNamespace) -> None:
    send = Sender(sensing, Image, "depth/image")
    sensing.step(0)
    send(depth_of(fakes.image_of(1), sloping(fakes), delay_ns=60_000_000))  # between two images
    sensing.step(1)
    assert [frame.depth_m for frame in sensing.engine.frames] == [None, None]
    values = values_of(sensing.diagnostics()["scale"])
    assert (values["frames_with_input"], values["frames_without_input"]) == ("0", "2")


def wrong_encoding(message: Image) -> None:
    message.encoding = "rgb8"


def cut_short(message: Image) -> None:
    message.data = message.data[:100]


def other_frame(message: Image) -> None:
    message.header.frame_id = "depth_optical_frame"


def other_shape(message: Image) -> None:
    message.height //= 2


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (wrong_encoding, "got 'rgb8'"),
        (cut_short, "got 100; the message was cut short"),
        (other_frame, "expected frame_id 'camera_optical_frame' as the image has, got 'depth_optical_frame'"),
        (other_shape, "expected the shape of the image, 48x32, got 48x16"),
    ],
)
def test_a_bad_depth_image_is_dropped_counted_and_named(
    sensing: Any, fakes: SimpleNamespace, spoil: Callable[[Image], None], told: str
) -> None:
    send = Sender(sensing, Image, "depth/image")
    message = depth_of(fakes.image_of(0), sloping(fakes))
    spoil(message)
    send(message)
    sensing.step(0)
    assert sensing.engine.frames[-1].depth_m is None
    assert sensing.node.status.scale_input.drops["unusable"] == 1
    values = values_of(sensing.diagnostics()["scale"])
    assert values["input_dropped"] == "1"
    assert told in values["last_drop"]
    send(depth_of(fakes.image_of(1), sloping(fakes)))
    sensing.step(1)
    assert sensing.engine.frames[-1].depth_m is not None


def test_depth_of_another_camera_is_dropped(sensing: Any, fakes: SimpleNamespace) -> None:
    send = Sender(sensing, Image, "depth/image")
    info = sensing.client.create_publisher(CameraInfo, "depth/camera_info", 1)
    sensing.spin_until(lambda: info.get_subscription_count() > 0, "depth/camera_info")
    sensing.publish_info(fakes.camera_info_of(focal_px=40.0))
    info.publish(fakes.camera_info_of(focal_px=30.0))
    sensing.spin_until(lambda: sensing.node._run._scale_inputs._depth_info is not None, "the calibration")
    send(depth_of(fakes.image_of(0), sloping(fakes)))
    sensing.step(0)
    assert sensing.engine.frames[-1].depth_m is None
    assert "fx 40.0 against 30.0" in sensing.node.status.scale_input.last_drop


def test_depth_goes_with_the_image_when_distortion_is_removed(sensing: Any, fakes: SimpleNamespace) -> None:
    send = Sender(sensing, Image, "depth/image")
    bent = fakes.camera_info_of(focal_px=40.0)
    bent.d = [-0.6, 0.0, 0.0, 0.0, 0.0]
    sensing.publish_info(bent)
    # the image carries the same slope as the depth, so that both must come out alike
    depth_m = sloping(fakes)
    image = fakes.image_of(0)
    grey = np.round(20 * depth_m).astype(np.uint8)
    image.data = array("B", np.repeat(grey[..., None], 3, axis=-1).tobytes())
    send(depth_of(image, depth_m))
    sensing.send(image)
    frame = sensing.engine.frames[-1]
    assert np.isfinite(frame.depth_m).mean() > 0.9
    seen = frame.image_rgb[..., 0] / 20.0
    inside = np.isfinite(frame.depth_m[2:-2, 2:-2])
    np.testing.assert_allclose(frame.depth_m[2:-2, 2:-2][inside], seen[2:-2, 2:-2][inside], atol=0.13)
    assert np.nanmax(np.abs(frame.depth_m - depth_m)) > 0.3


def test_diagnostics_tell_whether_lengths_are_metres(sensing: Any, fakes: SimpleNamespace) -> None:
    sensing.step(0)
    status = sensing.diagnostics()["scale"]
    assert values_of(status)["metric"] == "not sure yet"
    assert status.level == DiagnosticStatus.WARN
    Sender(sensing, Image, "depth/image")(depth_of(fakes.image_of(1), sloping(fakes)))
    sensing.node.status.scene.scale_std = 0.02
    status = sensing.diagnostics()["scale"]
    assert (status.level, values_of(status)["metric"]) == (DiagnosticStatus.OK, "yes")
    assert values_of(status)["scale_std"] == "0.02"
    assert values_of(status)["input_topic"] == "/depth/image"


def test_a_silent_depth_topic_is_named(sensing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomato_ros.ros.diagnostics.SILENCE_S", 0.0)
    status = sensing.diagnostics()["scale"]
    assert status.level == DiagnosticStatus.WARN
    assert "nothing on '/depth/image'" in status.message
    assert "0 publishers" in status.message


def test_another_odometry_places_the_camera_at_the_images_time(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph(scale_source="odometry")
    graph.wait_until_active()
    send = Sender(graph, Odometry, "odom_prior")
    start = pose_exp([1.0, 2.0, 0.0, 0.0, 0.0, 0.5])
    step = pose_exp([0.4, 0.0, 0.0, 0.0, 0.0, 0.2])
    send(odometry(fakes.START_NS - 30_000_000, start))
    send(odometry(fakes.START_NS + 10_000_000, start @ step))
    graph.step(0)
    quarters = start @ pose_exp([0.75 * 0.4, 0.0, 0.0, 0.0, 0.0, 0.75 * 0.2])
    np.testing.assert_allclose(graph.engine.frames[0].prior_from_camera, quarters @ assumed_mount(), atol=1e-6)
    send(odometry(fakes.START_NS + fakes.FRAME_NS, start @ step @ step))
    graph.step(1)
    expected = start @ step @ step @ assumed_mount()
    np.testing.assert_allclose(graph.engine.frames[1].prior_from_camera, expected, atol=1e-9)


def test_an_odometry_that_cannot_place_the_camera_is_named(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph(scale_source="odometry")
    graph.wait_until_active()
    send = Sender(graph, Odometry, "odom_prior")
    send(odometry(fakes.START_NS, np.eye(4), child="imu_link"))
    graph.step(0)
    assert graph.engine.frames[0].prior_from_camera is None
    assert "'imu_link'" in graph.node.status.scale_input.last_drop
    nothing = odometry(fakes.START_NS + fakes.FRAME_NS, np.eye(4))
    nothing.pose.pose.orientation.w = 0.0
    send(nothing)
    graph.step(1)
    assert graph.engine.frames[1].prior_from_camera is None
    assert dict(graph.node.status.scale_input.drops) == {"unplaced": 1, "unusable": 1}


def test_an_odometry_that_jumps_costs_one_frame_and_is_named(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph(scale_source="odometry")
    graph.wait_until_active()
    send = Sender(graph, Odometry, "odom_prior")
    step, jump = pose_exp([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]), pose_exp([100.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    pose = np.eye(4)
    for index in range(6):
        pose = (jump if index == 3 else np.eye(4)) @ pose @ step
        send(odometry(fakes.START_NS + index * fakes.FRAME_NS, pose))
        graph.step(index)
    priors = [frame.prior_from_camera for frame in graph.engine.frames]
    assert [prior is None for prior in priors] == [False, False, False, True, False, False]
    ways = [prior[0, 3] for prior in priors if prior is not None]
    np.testing.assert_allclose(ways, [0.1, 0.2, 0.3, 0.5, 0.6], atol=1e-9)
    assert dict(graph.node.status.scale_input.drops) == {"jumped": 1}
    assert "jumped by 100.1 m" in values_of(graph.diagnostics()["scale"])["last_drop"]


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 3000.0])
def test_depth_that_is_none_does_not_count_as_used(sensing: Any, fakes: SimpleNamespace, value: float) -> None:
    nothing = np.full(fakes.SOURCE_WH[::-1], value, np.float32)
    Sender(sensing, Image, "depth/image")(image_message(nothing, "32FC1", fakes.image_of(0).header))
    sensing.step(0)
    assert sensing.engine.frames[-1].depth_m is None
    came = sensing.node.status.scale_input
    assert (came.used, dict(came.drops)) == (0, {"unusable": 1})
    assert "0.0 %" in came.last_drop


# --- another odometry on TF


START, STEP = pose_exp([1.0, 2.0, 0.0, 0.0, 0.0, 0.5]), pose_exp([0.4, 0.0, 0.0, 0.0, 0.0, 0.2])
MOUNT = pose_exp([0.3, 0.0, 0.5, -1.2, 1.3, -1.1])


class TransformSender:
    """Publishes TF and waits until the node has heard it."""

    def __init__(self, graph: Any, *, static: bool = False) -> None:
        self.graph, self.static = graph, static
        topic = "/tf_static" if static else "/tf"
        self.publisher = graph.client.create_publisher(TFMessage, topic, tf_qos(latched=static))
        graph.spin_until(lambda: self.publisher.get_subscription_count() > 0, topic)

    def __call__(self, parent: str, child: str, stamp_ns: int, pose: np.ndarray) -> None:
        header = Header(stamp=time_from_stamp_ns(stamp_ns), frame_id=parent)
        count = self.heard()
        self.publisher.publish(TFMessage(transforms=[transform_message(pose, header, child)]))
        self.graph.spin_until(lambda: self.heard() > count, "the transform")

    def heard(self) -> int:
        inputs = self.graph.node._run._scale_inputs
        return len(inputs._transforms._links) if self.static else self.graph.node.status.scale_input.messages_in


@pytest.fixture
def make_tf_graph(make_graph: Callable[..., Any]) -> Callable[..., Any]:
    def make(prior_frame: str = "odom_wheel", **options: Any) -> Any:
        graph = make_graph(scale_source="tf", prior_frame=prior_frame, **options)
        graph.wait_until_active()
        return graph

    return make


def test_tf_places_the_camera_at_the_images_time(make_tf_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    """Wheels move the base, the mount is static; the node's own odom -> base_link runs beside."""
    graph = make_tf_graph()
    send, send_static = TransformSender(graph), TransformSender(graph, static=True)
    send_static("base_link", "mast", 0, MOUNT)
    send_static("mast", fakes.CAMERA_FRAME, 0, assumed_mount())
    send("odom_wheel", "base_link", fakes.START_NS - 30_000_000, START)
    send("odom_wheel", "base_link", fakes.START_NS + 10_000_000, START @ STEP)
    graph.step(0)
    quarters = START @ pose_exp([0.75 * 0.4, 0.0, 0.0, 0.0, 0.0, 0.75 * 0.2])
    np.testing.assert_allclose(graph.engine.frames[0].prior_from_camera, quarters @ MOUNT @ assumed_mount(), atol=1e-6)
    send("odom_wheel", "base_link", fakes.START_NS + fakes.FRAME_NS, START @ STEP @ STEP)
    graph.step(1)
    expected = START @ STEP @ STEP @ MOUNT @ assumed_mount()
    np.testing.assert_allclose(graph.engine.frames[1].prior_from_camera, expected, atol=1e-9)
    values = values_of(graph.diagnostics()["scale"])
    assert (values["source"], values["input_topic"], values["frames_with_input"]) == ("tf", "/tf", "2")
    assert (values["input_messages"], values["input_publishers"], values["input_dropped"]) == ("3", "1", "0")


def test_without_a_mount_on_tf_the_assumed_one_is_used(
    make_tf_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_tf_graph()
    TransformSender(graph)("odom_wheel", "base_link", fakes.START_NS, START)
    graph.step(0)
    np.testing.assert_allclose(graph.engine.frames[0].prior_from_camera, START @ assumed_mount(), atol=1e-9)


def test_tf_is_heard_on_when_the_mount_is_known(
    make_tf_graph: Callable[..., Any], fakes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomato_ros.ros.run.RIVAL_WATCH_S", 0.0)
    graph = make_tf_graph()
    TransformSender(graph, static=True)("base_link", fakes.CAMERA_FRAME, 0, MOUNT)
    send = TransformSender(graph)
    send("odom_wheel", "base_link", fakes.START_NS, START)
    graph.step(0)
    graph.spin_until(lambda: not graph.node._run.listener.hears_dynamic, "the mount to be known")
    send("odom_wheel", "base_link", fakes.START_NS + fakes.FRAME_NS, START @ STEP)
    graph.step(1)
    np.testing.assert_allclose(graph.engine.frames[1].prior_from_camera, START @ STEP @ MOUNT, atol=1e-9)
    graph.node.trigger_deactivate()
    graph.spin_until(lambda: send.publisher.get_subscription_count() == 0, "the subscription to go")


def test_missing_old_and_broken_tf_is_counted_and_named_and_the_node_goes_on(
    make_tf_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_tf_graph()
    came, send = graph.node.status.scale_input, TransformSender(graph)
    graph.step(0)
    assert dict(came.drops) == {"unplaced": 1}
    assert "TF does not join 'odom_wheel' with" in came.last_drop
    send("odom_wheel", "base_link", fakes.START_NS, START)
    graph.step(1)
    assert came.unmatched == 1
    status = graph.diagnostics()["scale"]
    assert status.level == DiagnosticStatus.WARN
    assert "TF 'odom_wheel' -> 'base_link' ends 0.100 s before the image" in values_of(status)["last_drop"]
    header = Header(stamp=time_from_stamp_ns(fakes.START_NS + 2 * fakes.FRAME_NS), frame_id="odom_wheel")
    broken = transform_message(np.eye(4), header, "base_link")
    broken.transform.rotation.w = 0.0
    count = came.messages_in
    send.publisher.publish(TFMessage(transforms=[broken]))
    graph.spin_until(lambda: came.messages_in > count, "the transform")
    graph.step(2)
    assert dict(came.drops) == {"unplaced": 1, "unusable": 1}
    assert "quaternion" in came.last_drop
    assert [frame.prior_from_camera for frame in graph.engine.frames] == [None] * 3
    assert graph.node.status.engine.errors == 0
    send("odom_wheel", "base_link", fakes.START_NS + 3 * fakes.FRAME_NS, START @ STEP)
    graph.step(3)
    assert (came.used, came.unmatched) == (1, 1)


def test_a_prior_frame_that_hangs_on_the_nodes_own_transform_is_refused(
    make_tf_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_tf_graph(prior_frame="map")
    send = TransformSender(graph)
    for index in range(3):
        stamp_ns = fakes.START_NS + index * fakes.FRAME_NS
        send("map", "odom", stamp_ns, START)
        graph.step(index)
    assert [frame.prior_from_camera for frame in graph.engine.frames] == [None] * 3
    assert dict(graph.node.status.scale_input.drops) == {"unplaced": 3}
    status = graph.diagnostics()["scale"]
    assert status.level == DiagnosticStatus.WARN
    assert "TF 'odom' -> 'base_link', which this node sends itself" in values_of(status)["last_drop"]


def test_the_same_odom_frame_of_another_node_is_taken_where_this_one_sends_none(
    make_tf_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_tf_graph(prior_frame="odom", publish_tf=False)
    TransformSender(graph)("odom", "base_link", fakes.START_NS, START)
    graph.step(0)
    np.testing.assert_allclose(graph.engine.frames[0].prior_from_camera, START @ assumed_mount(), atol=1e-9)


@pytest.mark.parametrize(("prior_frame", "told"), [("", "needs prior_frame"), ("odom", "this node sends")])
def test_a_prior_frame_that_can_tell_nothing_stops_the_node_with_a_reason(
    make_graph: Callable[..., Any], prior_frame: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        make_graph(scale_source="tf", prior_frame=prior_frame)


def test_after_a_jump_in_time_tf_of_before_is_forgotten(
    make_tf_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_tf_graph()
    send = TransformSender(graph)
    send("odom_wheel", "base_link", fakes.START_NS + 9 * fakes.FRAME_NS, START)
    graph.step(9)
    graph.step(0)  # a bag begins again: the second of its frames confirms it
    graph.step(1)
    send("odom_wheel", "base_link", fakes.START_NS + 2 * fakes.FRAME_NS, START @ STEP)
    graph.step(2)
    assert graph.engine.frames[1].prior_from_camera is None
    np.testing.assert_allclose(graph.engine.frames[2].prior_from_camera, START @ STEP @ assumed_mount(), atol=1e-9)


def test_silence_on_tf_is_named_whatever_the_node_sends_itself(
    make_tf_graph: Callable[..., Any], fakes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make_tf_graph()
    graph.step(0)
    graph.spin_for(0.1)
    assert graph.node.status.scale_input.messages_in == 0
    monkeypatch.setattr("pomato_ros.ros.diagnostics.SILENCE_S", 0.0)
    status = graph.diagnostics()["scale"]
    assert status.level == DiagnosticStatus.WARN
    assert "nothing on '/tf'" in status.message
    assert "(0 publishers)" in status.message


def test_nothing_is_subscribed_that_nobody_asked_for(graph: Any, fakes: SimpleNamespace) -> None:
    for topic in ("/depth/image", "/depth/camera_info", "/odom_prior"):
        assert graph.client.count_subscribers(topic) == 0
    graph.step(0)
    assert values_of(graph.diagnostics()["scale"])["input_topic"] == ""
