"""A depth camera or a stereo pair in the node: backend auto, pairing, registration, bad input, and metric output."""

import struct
import time
from array import array
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pomato_ros.engine import Engine
from pomato_ros.evaluation.suites.rendered import BASELINE_M, RenderedSequence, RenderPlan, rendered_sequence
from pomato_ros.ros import topics
from pomato_ros.ros.conversions.camera_info import camera_info_from_intrinsics
from pomato_ros.ros.conversions.cloud import cloud_records
from pomato_ros.ros.conversions.images import image_message
from pomato_ros.ros.conversions.poses import transform_message
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time, time_from_stamp_ns
from pomato_ros.ros.topics import tf_qos
from pomato_ros.structures import Intrinsics
from pomato_ros.training.config import HELD_OUT_SEED

Depth = Callable[[int, np.ndarray], Image]


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


class Rig:
    """A graph whose client also publishes a second sensor; every message is awaited."""

    def __init__(self, graph: Any, fakes: SimpleNamespace) -> None:
        self.graph, self.fakes = graph, fakes
        self.publishers: dict[str, Any] = {}

    def advertise(self, message_type: Any, topic: str) -> Any:
        self.publishers[topic] = self.graph.client.create_publisher(message_type, topic, 10)
        return self.publishers[topic]

    def wait_until_active(self) -> None:
        self.graph.wait_until_active()
        for topic, publisher in self.publishers.items():
            self.graph.spin_until(lambda p=publisher: p.get_subscription_count() > 0, topic)

    def send(self, topic: str, message: Any, sensor: Any) -> None:
        count = sensor.stream.arrived
        self.publishers[topic].publish(message)
        self.graph.spin_until(lambda: sensor.stream.arrived > count, topic)

    def info(self, topic: str, message: CameraInfo) -> None:
        if topic not in self.publishers:
            publisher = self.advertise(CameraInfo, topic)
            self.graph.spin_until(lambda: publisher.get_subscription_count() > 0, topic)
        run = self.graph.node._run
        holder = run._sensors._depth or run._sensors._right
        self.publishers[topic].publish(message)
        self.graph.spin_until(lambda: holder._info is not None and holder._info.k[0] == message.k[0], topic)

    @property
    def status(self) -> Any:
        return self.graph.node.status


def depth_image(depth_m: np.ndarray, stamp_ns: int, frame_id: str, encoding: str = "16UC1") -> Image:
    """A depth image of either encoding."""
    height, width = depth_m.shape
    kind, factor = ("<u2", 1000.0) if encoding == "16UC1" else ("<f4", 1.0)
    data = np.nan_to_num(np.round(depth_m * factor), nan=0.0) if encoding == "16UC1" else depth_m
    header = Header(stamp=time_from_stamp_ns(stamp_ns), frame_id=frame_id)
    message = Image(header=header, height=height, width=width, encoding=encoding, step=np.dtype(kind).itemsize * width)
    message.data = array("B", data.astype(kind).tobytes())
    return message


@pytest.fixture
def rgbd(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> Rig:
    rig = Rig(make_graph(backend="rgbd"), fakes)
    rig.advertise(Image, "depth/image")
    rig.wait_until_active()
    rig.graph.publish_info(fakes.camera_info_of())
    return rig


def wall(fakes: SimpleNamespace, depth_m: float = 2.0) -> np.ndarray:
    return np.full(fakes.SOURCE_WH[::-1], depth_m, np.float32)


def stamp_of(fakes: SimpleNamespace, index: int) -> int:
    return int(stamp_ns_from_time(fakes.image_of(index).header.stamp))


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_of_either_unit_comes_in_metres(rgbd: Rig, fakes: SimpleNamespace, encoding: str) -> None:
    depth_m = np.fromfunction(lambda y, x: 1.0 + 0.01 * x + 0.1 * y, fakes.SOURCE_WH[::-1]).astype(np.float32)
    rgbd.send("depth/image", depth_image(depth_m, stamp_of(fakes, 0), fakes.CAMERA_FRAME, encoding), rgbd.status.depth)
    rgbd.graph.step(0)
    np.testing.assert_allclose(rgbd.graph.engine.frames[0].depth_m, depth_m, atol=6e-4)
    values = values_of(rgbd.graph.diagnostics()["depth"])
    assert (values["topic"], values["received"], values["paired"], values["offset_ms"]) == (
        "/depth/image",
        "1",
        "1",
        "0",
    )
    assert values["used_as"] == "aligned with the image"


def compressed_depth(depth_m: np.ndarray, stamp_ns: int, frame_id: str, encoding: str) -> CompressedImage:
    """As compressed_depth_image_transport writes it: for 32FC1 inverse depth with A = 100 and B = 1."""
    a, b = 100.0, 1.0
    values = depth_m * 1000.0 if encoding == "16UC1" else a / depth_m + b
    png = cv2.imencode(".png", np.round(values).astype(np.uint16))[1].tobytes()
    message = CompressedImage(format=f"{encoding}; compressedDepth png")
    message.header = Header(stamp=time_from_stamp_ns(stamp_ns), frame_id=frame_id)
    message.data = array("B", struct.pack("<iff", 0, a, b) + png)
    return message


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_compressed_depth_comes_in_metres(
    make_graph: Callable[..., Any], fakes: SimpleNamespace, encoding: str
) -> None:
    rig = Rig(make_graph(backend="rgbd", depth_transport="compressedDepth"), fakes)
    topic = "depth/image/compressedDepth"
    rig.advertise(CompressedImage, topic)
    rig.wait_until_active()
    rig.graph.publish_info(fakes.camera_info_of())
    rig.send(topic, compressed_depth(wall(fakes), stamp_of(fakes, 0), fakes.CAMERA_FRAME, encoding), rig.status.depth)
    rig.graph.step(0)
    np.testing.assert_allclose(rig.graph.engine.frames[0].depth_m, wall(fakes), rtol=0.01)
    broken = compressed_depth(wall(fakes), stamp_of(fakes, 1), fakes.CAMERA_FRAME, encoding)
    broken.format = f"{encoding}; compressedDepth rvl"
    broken.data = broken.data[:12] + array("B", bytes(100))
    rig.send(topic, broken, rig.status.depth)
    rig.graph.step(1)
    assert rig.graph.engine.frames[1].depth_m is None
    assert "set the publisher's format to png" in rig.status.depth.last_drop


def test_depth_of_another_camera_is_registered_by_tf(rgbd: Rig, fakes: SimpleNamespace) -> None:
    """A depth camera 0.2 m to the left of the image's sees a wall at 2 m with a step to 1 m in its right half."""
    broadcaster = rgbd.graph.client.create_publisher(TFMessage, "/tf_static", tf_qos(latched=True))
    camera_from_depth = np.eye(4)
    camera_from_depth[0, 3] = -0.2
    broadcaster.publish(
        TFMessage(transforms=[transform_message(camera_from_depth, Header(frame_id=fakes.CAMERA_FRAME), "depth_frame")])
    )
    tree = rgbd.graph.node._run.listener.tree
    rgbd.graph.spin_until(lambda: tree.wait_for(fakes.CAMERA_FRAME, "depth_frame", 0.0) is not None, "TF")
    camera = Intrinsics(60.0, 60.0, 35.5, 23.5, 72, 48)
    rgbd.info("depth/camera_info", camera_info_from_intrinsics(camera, Header()))
    depth_m = np.full((48, 72), 2.0, np.float32)
    depth_m[:, 36:] = 1.0
    rgbd.send("depth/image", depth_image(depth_m, stamp_of(fakes, 0), "depth_frame"), rgbd.status.depth)
    rgbd.graph.step(0)
    seen = rgbd.graph.engine.frames[0].depth_m
    assert seen.shape == fakes.SOURCE_WH[::-1]
    row = seen[16]
    edge = (fakes.SOURCE_WH[0] - 1) / 2 + 40.0 * (
        (36 - 35.5 - 0.5) / 60.0 - 0.2
    )  # of the near half, focal length 40 px
    for column, depth in enumerate(row):
        if depth > 0:
            assert depth == pytest.approx(1.0 if column > edge - 1 else 2.0, abs=1e-3) or abs(column - edge) < 2
    assert {1.0, 2.0} <= {round(float(depth), 3) for depth in row}
    assert rgbd.status.depth.used_as == "registered by TF from 'depth_frame'"


def test_depth_of_another_size_in_one_frame_is_registered_by_its_camera_info(rgbd: Rig, fakes: SimpleNamespace) -> None:
    camera = Intrinsics(30.0, 30.0, 31.5, 23.5, 64, 48)  # a wider view
    rgbd.info("depth/camera_info", camera_info_from_intrinsics(camera, Header()))
    message = depth_image(np.full((48, 64), 1.5, np.float32), stamp_of(fakes, 0), fakes.CAMERA_FRAME)
    rgbd.send("depth/image", message, rgbd.status.depth)
    rgbd.graph.step(0)
    seen = rgbd.graph.engine.frames[0].depth_m
    assert np.allclose(seen[2:-2, 2:-2], 1.5, atol=1e-3)
    assert rgbd.status.depth.used_as == "registered by camera_info, in one frame"


def other_size(fakes: SimpleNamespace, stamp_ns: int) -> Image:
    return depth_image(np.full((20, 48), 2.0), stamp_ns, fakes.CAMERA_FRAME)


def other_frame(fakes: SimpleNamespace, stamp_ns: int) -> Image:
    return depth_image(wall(fakes), stamp_ns, "nowhere")


def all_zero(fakes: SimpleNamespace, stamp_ns: int) -> Image:
    return depth_image(wall(fakes, 0.0), stamp_ns, fakes.CAMERA_FRAME)


def all_nan(fakes: SimpleNamespace, stamp_ns: int) -> Image:
    return depth_image(wall(fakes, np.nan), stamp_ns, fakes.CAMERA_FRAME, "32FC1")


def millimetres(fakes: SimpleNamespace, stamp_ns: int) -> Image:
    return depth_image(wall(fakes, 2000.0), stamp_ns, fakes.CAMERA_FRAME, "32FC1")


def metres(fakes: SimpleNamespace, stamp_ns: int) -> Image:
    return depth_image(wall(fakes, 0.002), stamp_ns, fakes.CAMERA_FRAME)


def wrong_encoding(fakes: SimpleNamespace, stamp_ns: int) -> Image:
    message = depth_image(wall(fakes), stamp_ns, fakes.CAMERA_FRAME)
    message.encoding = "rgb8"
    return message


@pytest.mark.parametrize(
    ("make", "kind", "remedy"),
    [
        (other_size, "size", "register it to the camera"),
        (other_frame, "unplaced", "publish depth/camera_info"),
        (all_zero, "empty", "the sensor is covered or dead"),
        (all_nan, "empty", "the sensor is covered or dead"),
        (millimetres, "unit", "1000 times too large"),
        (metres, "unit", "1000 times too small"),
        (wrong_encoding, "undecodable", "expected 16UC1"),
    ],
)
def test_bad_depth_is_counted_and_named_and_the_frame_goes_on(
    rgbd: Rig, fakes: SimpleNamespace, make: Callable[..., Image], kind: str, remedy: str
) -> None:
    rgbd.send("depth/image", make(fakes, stamp_of(fakes, 0)), rgbd.status.depth)
    rgbd.graph.step(0)
    status = rgbd.graph.diagnostics()["depth"]
    assert rgbd.graph.engine.frames[0].depth_m is None
    assert dict(rgbd.status.depth.drops) == {kind: 1}
    assert values_of(status)[f"dropped_{kind}"] == "1"
    assert remedy in values_of(status)["last_drop"]
    good = depth_image(wall(fakes), stamp_of(fakes, 1), fakes.CAMERA_FRAME)
    rgbd.send("depth/image", good, rgbd.status.depth)
    rgbd.graph.step(1)
    assert rgbd.graph.engine.frames[1].depth_m is not None
    assert rgbd.status.engine.errors == 0


def test_depth_at_a_lower_rate_lets_frames_go_on_without_waiting(rgbd: Rig, fakes: SimpleNamespace) -> None:
    for index in range(12):
        if index % 3 == 0:
            rgbd.send(
                "depth/image", depth_image(wall(fakes), stamp_of(fakes, index), fakes.CAMERA_FRAME), rgbd.status.depth
            )
        rgbd.graph.step(index)
    has_depth = [frame.depth_m is not None for frame in rgbd.graph.engine.frames]
    assert has_depth == [index % 3 == 0 for index in range(12)]
    assert (rgbd.status.depth.paired, rgbd.status.depth.unpaired) == (4, 8)
    assert "normal for a slower sensor" in values_of(rgbd.graph.diagnostics()["depth"])["last_unpaired"]


def test_depth_is_paired_within_half_an_interval_or_the_given_offset(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    for offset, expected in ((0.0, [True, False]), (0.08, [True, True])):
        rig = Rig(make_graph(backend="rgbd", depth_max_offset=offset), fakes)
        rig.advertise(Image, "depth/image")
        rig.wait_until_active()
        rig.graph.publish_info(fakes.camera_info_of())
        for index in range(6):  # the interval between images becomes known: 100 ms
            rig.graph.step(index)
        for index, later_ns in ((6, 30_000_000), (7, 70_000_000)):
            message = depth_image(wall(fakes), stamp_of(fakes, index) + later_ns, fakes.CAMERA_FRAME)
            rig.send("depth/image", message, rig.status.depth)
            rig.graph.step(index)
        assert [frame.depth_m is not None for frame in rig.graph.engine.frames[6:]] == expected


def test_depth_whose_calibration_is_still_to_come_is_not_taken_for_aligned(rgbd: Rig, fakes: SimpleNamespace) -> None:
    rgbd.advertise(CameraInfo, "depth/camera_info")
    infos = rgbd.graph.node._run._sensors._depth.infos
    rgbd.graph.spin_until(lambda: infos.publishers > 0, "the calibration's publisher")
    rgbd.send("depth/image", depth_image(wall(fakes), stamp_of(fakes, 0), fakes.CAMERA_FRAME), rgbd.status.depth)
    rgbd.graph.step(0)
    assert rgbd.graph.engine.frames[0].depth_m is None
    assert "none came yet" in rgbd.status.depth.last_drop


def test_the_first_frame_keeps_its_depth_while_the_mount_is_waited_for(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    rig = Rig(make_graph(backend="rgbd", tf_timeout=0.5), fakes)
    rig.advertise(Image, "depth/image")
    rig.wait_until_active()
    rig.graph.publish_info(fakes.camera_info_of())
    for index in range(12):
        message = depth_image(wall(fakes), stamp_of(fakes, index), fakes.CAMERA_FRAME)
        rig.send("depth/image", message, rig.status.depth)
        if index == 0:
            rig.graph.image_publisher.publish(fakes.image_of(0))
            rig.graph.spin_until(lambda: rig.status.depth.paired == 1, "the pair")
    rig.graph.spin_until(lambda: len(rig.graph.engine.frames) == 1, "the first step")
    assert rig.graph.engine.frames[0].depth_m is not None


def test_after_a_jump_in_time_depth_goes_on(rgbd: Rig, fakes: SimpleNamespace) -> None:
    for index in (8, 9, 0, 1, 2, 3):  # a bag begins again: the second of its frames confirms it
        message = depth_image(wall(fakes), stamp_of(fakes, index), fakes.CAMERA_FRAME)
        rgbd.send("depth/image", message, rgbd.status.depth)
        rgbd.graph.step(index)
    frames = rgbd.graph.engine.frames
    assert [frame.depth_m is not None for frame in frames][-2:] == [True, True]
    assert rgbd.status.input.time_jumps == 1


def test_a_silent_depth_camera_is_named_and_does_not_delay_the_images(
    rgbd: Rig, fakes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgbd.send("depth/image", depth_image(wall(fakes), stamp_of(fakes, 0), fakes.CAMERA_FRAME), rgbd.status.depth)
    for index in range(20):
        rgbd.graph.step(index)
    assert len(rgbd.graph.engine.frames) == 20
    monkeypatch.setattr("pomato_ros.ros.diagnostics.SILENCE_S", 0.0)
    time.sleep(0.05)
    status = rgbd.graph.diagnostics()["depth"]
    assert status.level == DiagnosticStatus.WARN
    assert "no depth images on '/depth/image'" in status.message


# -- backend auto ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("topic", "backend"), [("depth/image", "rgbd"), ("right/image", "stereo"), (None, "pomato")])
def test_auto_takes_the_sensor_that_is_connected(
    make_graph: Callable[..., Any], fakes: SimpleNamespace, topic: str | None, backend: str
) -> None:
    rig = Rig(make_graph(autostart=False), fakes)
    graph = rig.graph
    if topic:
        rig.advertise(Image, topic)
        graph.spin_until(lambda: graph.node.count_publishers(f"/{topic}") > 0, "discovery")
    graph.node.trigger_configure()
    graph.node.trigger_activate()
    assert graph.engine.config.model.backend == backend
    values = values_of(graph.diagnostics()["model"])
    assert values["backend"] == backend
    assert (topic or "nobody published") in values["backend_reason"]


def test_a_sensor_that_comes_later_is_hinted_at_and_used_after_activation(
    make_graph: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    graph = make_graph()
    graph.wait_until_active()
    assert graph.engine.config.model.backend == "pomato"
    rig = Rig(graph, fakes)
    rig.advertise(Image, "depth/image")
    graph.spin_until(lambda: graph.node.status.engine.backend_hint != "", "the hint")
    assert "deactivate and activate to change" in graph.diagnostics()["model"].message
    graph.node.trigger_deactivate()
    graph.node.trigger_activate()
    assert graph.engine.config.model.backend == "rgbd"
    assert "hint" not in graph.diagnostics()["model"].message


def test_what_the_user_says_of_the_backend_or_a_network_wins(make_graph: Callable[..., Any]) -> None:
    for parameters in ({"backend": "pomato"}, {"scale_source": "depth"}, {"checkpoint": "mine.safetensors"}):
        graph = make_graph(autostart=False, **parameters)
        publisher = graph.client.create_publisher(Image, "depth/image", 1)
        graph.spin_until(lambda g=graph: g.node.count_publishers("/depth/image") > 0, "discovery")
        graph.node.trigger_configure()
        graph.node.trigger_activate()
        assert graph.engine.config.model.backend == "pomato"
        graph.client.destroy_publisher(publisher)


# -- stereo ------------------------------------------------------------------------------------------------------------


def right_info(fakes: SimpleNamespace, baseline_m: float = 0.1) -> CameraInfo:
    message = fakes.camera_info_of()
    width, height = fakes.SOURCE_WH
    message.p = [40.0, 0.0, (width - 1) / 2, -40.0 * baseline_m, 0.0, 40.0, (height - 1) / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


@pytest.fixture
def stereo(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> Rig:
    rig = Rig(make_graph(backend="stereo"), fakes)
    rig.advertise(Image, "right/image")
    rig.wait_until_active()
    rig.graph.publish_info(right_info(fakes, baseline_m=0.0))
    return rig


def test_a_right_image_comes_with_the_baseline_of_its_camera_info(stereo: Rig, fakes: SimpleNamespace) -> None:
    stereo.info("right/camera_info", right_info(fakes))
    stereo.send("right/image", fakes.image_of(0), stereo.status.right)
    stereo.graph.step(0)
    frame = stereo.graph.engine.frames[0]
    np.testing.assert_array_equal(frame.right_rgb, frame.image_rgb)
    assert frame.baseline_m == pytest.approx(0.1)
    values = values_of(stereo.graph.diagnostics()["right"])
    assert (values["paired"], values["baseline_m"], values["used_as"]) == ("1", "0.1", "rectified already")


@pytest.mark.parametrize(
    ("baseline_m", "kind", "remedy"),
    [
        (None, "no_camera_info", "right/camera_info"),
        (0.0, "baseline", "the baseline is missing"),
        (-0.1, "baseline", "exchange left and right"),
        (100.0, "baseline", "expected a baseline between"),
    ],
)
def test_a_pair_without_a_sound_baseline_is_named_and_the_frame_goes_on(
    stereo: Rig, fakes: SimpleNamespace, baseline_m: float | None, kind: str, remedy: str
) -> None:
    if baseline_m is not None:
        stereo.info("right/camera_info", right_info(fakes, baseline_m))
    stereo.send("right/image", fakes.image_of(0), stereo.status.right)
    stereo.graph.step(0)
    assert stereo.graph.engine.frames[0].right_rgb is None
    values = values_of(stereo.graph.diagnostics()["right"])
    assert values[f"dropped_{kind}"] == "1"
    assert remedy in values["last_drop"]


def test_raw_images_of_a_pair_are_turned_to_common_rows(stereo: Rig, fakes: SimpleNamespace) -> None:
    """A right camera rolled by 90 degrees about its axis: after rectification its columns are rows again."""
    info = right_info(fakes)
    info.r = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # rectified <- raw
    stereo.info("right/camera_info", info)
    width, height = fakes.SOURCE_WH
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, 30:] = 200  # bright at the right of the raw image, so x_raw > 0: y_rectified = x_raw
    header = fakes.image_of(0).header
    stereo.send("right/image", image_message(picture, "rgb8", header), stereo.status.right)
    stereo.graph.step(0)
    turned = stereo.graph.engine.frames[0].right_rgb
    assert turned[height - 4, width // 2].max() == 200
    assert turned[4, width // 2].max() == 0
    assert stereo.status.right.used_as == "rectified by camera_info"


# -- chance ------------------------------------------------------------------------------------------------------------


def random_info(draws: np.random.Generator, message: CameraInfo) -> CameraInfo:
    """Some of its numbers are replaced by ones that no camera has."""
    strange = (0.0, -1.0, 1e-300, 1e300, np.nan, np.inf, 5.0)
    for values in (message.k, message.p, message.r):
        if draws.random() < 0.5:
            values[int(draws.integers(len(values)))] = float(draws.choice(strange))
    if draws.random() < 0.3:
        message.d = draws.choice(strange, int(draws.integers(0, 15))).astype(float).tolist()
        message.distortion_model = str(draws.choice(["plumb_bob", "equidistant", "rational_polynomial", ""]))
    if draws.random() < 0.3:
        message.width, message.height = (int(size) for size in draws.integers(0, 100, 2))
    return message


def random_image(draws: np.random.Generator, header: Header) -> Image:
    """Any encoding, size, step and length of data; half of them fit together."""
    width, height = (
        int(size) for size in draws.choice([48, 32, 0, 1, 7, 2**31], 2, p=[0.4, 0.4, 0.05, 0.05, 0.05, 0.05])
    )
    encoding = str(draws.choice(["16UC1", "32FC1", "mono16", "rgb8", "mono8", "bgra8", "8UC7", ""]))
    step = int(draws.choice([width * 2, width * 4, 0, 2**20])) % 2**32
    length = min(step * height, 10_000) if draws.random() < 0.7 else int(draws.integers(0, 5000))
    message = Image(header=header, width=width, height=height, encoding=encoding, step=step)
    message.is_bigendian = int(draws.integers(2))
    message.data = array("B", draws.integers(0, 256, length, dtype=np.uint8).tobytes())
    return message


@pytest.mark.parametrize("backend", ["rgbd", "stereo"])
def test_random_messages_of_a_sensor_are_survived(
    make_graph: Callable[..., Any], fakes: SimpleNamespace, backend: str
) -> None:
    draws = np.random.default_rng(5)
    rig = Rig(make_graph(backend=backend), fakes)
    topic, sensor = ("depth/image", "depth") if backend == "rgbd" else ("right/image", "right")
    rig.advertise(Image, topic)
    rig.advertise(CameraInfo, topic.replace("image", "camera_info"))
    rig.wait_until_active()
    rig.graph.publish_info(right_info(fakes, 0.0))
    run = rig.graph.node._run
    for index in range(120):
        rig.publishers[topic.replace("image", "camera_info")].publish(random_info(draws, right_info(fakes)))
        header = fakes.image_of(index).header
        header.frame_id = str(draws.choice([fakes.CAMERA_FRAME, "", "nowhere"]))
        rig.send(topic, random_image(draws, header), getattr(rig.status, sensor))
        rig.graph.step(index)
    assert run is rig.graph.node._run
    assert rig.status.engine.errors == rig.status.engine.worker_restarts == 0
    assert getattr(rig.status, sensor).drops.total() > 60


# -- the real engine ---------------------------------------------------------------------------------------------------

FRAMES = 12


@pytest.fixture(scope="module")
def sequence() -> RenderedSequence:
    plan = RenderPlan(HELD_OUT_SEED, sequences=1, frames=FRAMES, size_wh=(160, 120), cache=None)
    return rendered_sequence(plan, "ordinary", HELD_OUT_SEED + 3, right=True)  # a mover covers 12 % of it


@pytest.mark.parametrize("backend", ["rgbd", "stereo"])
def test_everything_published_is_metric(
    make_graph: Callable[..., Any], fakes: SimpleNamespace, sequence: RenderedSequence, backend: str
) -> None:
    """Depth within 5 % of the truth and the path within 5 % of its length, of real messages through the real engine."""
    rig = Rig(make_graph(engine_factory=Engine, sensor_image_size=160, num_threads=1, publish_camera_tf="auto"), fakes)
    graph = rig.graph
    topic = "depth/image" if backend == "rgbd" else "right/image"
    rig.advertise(Image, topic)
    info_topic = topic.replace("image", "camera_info")
    rig.advertise(CameraInfo, info_topic)
    graph.spin_until(lambda: graph.node.status.lifecycle == "active", "activation")
    if graph.node.status.engine.backend != backend:  # the publisher came a moment after
        graph.node.trigger_deactivate()
        graph.node.trigger_activate()
    rig.wait_until_active()
    depths = graph.listen("~/depth/image", Image, topics.DEPTH_IMAGE.qos())
    paths = graph.listen("~/odometry", topics.ODOMETRY.message_type, topics.ODOMETRY.qos())
    clouds = graph.listen("~/points", topics.POINTS.message_type, topics.POINTS.qos())
    masks = graph.listen("~/dynamic_mask/image", Image, topics.MASK_IMAGE.qos())
    transforms = graph.listen("/tf", TFMessage, tf_qos(latched=False))
    graph.wait_until_connected()
    clip = sequence.clip
    camera = camera_info_from_intrinsics(clip.intrinsics, Header(frame_id=fakes.CAMERA_FRAME))
    graph.publish_info(camera)
    if backend == "stereo":
        camera.p[3] = -clip.intrinsics.fx_px * BASELINE_M
    rig.info(info_topic, camera)
    for t in range(FRAMES):
        header = Header(stamp=time_from_stamp_ns(fakes.START_NS + clip.stamps_ns[t]), frame_id=fakes.CAMERA_FRAME)
        if backend == "rgbd":
            sensed = sequence.sensed_m[t].numpy()
            rig.send(
                topic, depth_image(sensed, fakes.START_NS + clip.stamps_ns[t], fakes.CAMERA_FRAME), rig.status.depth
            )
        else:
            rig.send(topic, image_message(sequence.right_rgb[t].numpy(), "rgb8", header), rig.status.right)
        graph.send(image_message(clip.images[t].numpy(), "rgb8", header))
    graph.spin_until(lambda: len(paths) == len(depths) == len(masks) == len(clouds) == FRAMES, "all outputs")
    assert graph.node.status.engine.errors == graph.node.status.input.drops.total() == 0
    seen = np.frombuffer(bytes(depths[-1].data), np.float32).reshape(depths[-1].height, depths[-1].width)
    truth = cv2.resize(clip.depth_m[-1].numpy(), seen.shape[::-1], interpolation=cv2.INTER_NEAREST)
    known = np.isfinite(seen) & (seen > 0)
    assert known.mean() > 0.3
    assert np.median(np.abs(seen[known] / truth[known] - 1.0)) < 0.05
    cloud_m = cloud_records(clouds[-1])["z"].reshape(seen.shape)  # in the camera's own frame, z forward
    np.testing.assert_allclose(cloud_m[known], seen[known], rtol=1e-5)
    pictures = [np.frombuffer(bytes(mask.data), np.uint8).reshape(mask.height, mask.width) for mask in masks]
    moving = np.stack(pictures) > 0
    truly = sequence.moving()
    judged = slice(FRAMES // 2, None)  # what moves needs a few frames to show
    shared, either = (moving & truly)[judged].sum(), (moving | truly)[judged].sum()
    assert moving.shape == truly.shape
    assert shared > 0.6 * either
    true_path = sequence.first_from_camera()
    centres = np.array([[p.pose.pose.position.x, p.pose.pose.position.y, p.pose.pose.position.z] for p in paths])
    in_optical = np.stack([-centres[:, 1], -centres[:, 2], centres[:, 0]], axis=1)  # the assumed mount
    length_m = np.linalg.norm(np.diff(true_path[:, :3, 3], axis=0), axis=1).sum()
    assert np.linalg.norm(in_optical - true_path[:, :3, 3], axis=1).max() < 0.05 * length_m + 0.01
    assert transforms
    values = values_of(graph.diagnostics()["scale"])
    assert values["metric"] == "yes"
    part = values_of(graph.diagnostics()["depth" if backend == "rgbd" else "right"])
    assert float(part["valid_share"]) > 0.3
    assert part["paired"] == str(FRAMES)


def test_exchanged_images_of_a_pair_are_named(
    make_graph: Callable[..., Any], fakes: SimpleNamespace, sequence: RenderedSequence
) -> None:
    rig = Rig(make_graph(engine_factory=Engine, backend="stereo", sensor_image_size=160, num_threads=1), fakes)
    rig.advertise(Image, "right/image")
    rig.wait_until_active()
    clip = sequence.clip
    camera = camera_info_from_intrinsics(clip.intrinsics, Header(frame_id=fakes.CAMERA_FRAME))
    rig.graph.publish_info(camera)
    camera.p[3] = -clip.intrinsics.fx_px * BASELINE_M
    rig.info("right/camera_info", camera)
    for t in range(2):
        header = Header(stamp=time_from_stamp_ns(fakes.START_NS + clip.stamps_ns[t]), frame_id=fakes.CAMERA_FRAME)
        rig.send("right/image", image_message(clip.images[t].numpy(), "rgb8", header), rig.status.right)
        rig.graph.send(image_message(sequence.right_rgb[t].numpy(), "rgb8", header))
    status = rig.graph.diagnostics()["right"]
    assert status.level == DiagnosticStatus.WARN
    assert "the pair is swapped: exchange left and right" in status.message
    assert values_of(status)["swapped"] == "true"
