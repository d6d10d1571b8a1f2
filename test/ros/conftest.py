"""A fake engine that knows the answer, and a small graph of real nodes in a context of their own."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from pomato_ros.config import PomatoConfig
from pomato_ros.ros import topics
from pomato_ros.ros.conversions.images import image_message
from pomato_ros.ros.conversions.stamps import time_from_stamp_ns
from pomato_ros.ros.node import PomatoNode
from pomato_ros.structures import Frame, Intrinsics, ObjectSet, SceneEstimate, TrackingState, TrackSet

SOURCE_WH = (48, 32)
MODEL_WH = (20, 16)  # half the source's size, with two columns cut off at each side
DEPTH_M = 2.0
START_NS = 1_700_000_000_123_456_789
FRAME_NS = 100_000_001
CAMERA_FRAME = "camera_optical_frame"
TIMEOUT_S = 10.0
FIRST_DOMAIN = int(os.environ["ROS_DOMAIN_ID"])
DOMAINS = (1 + (FIRST_DOMAIN + step) % 100 for step in itertools.count())


class FakeEngine:
    """Sees a flat wall two metres away with a moving patch; the camera moves as it is told."""

    def __init__(self, config: PomatoConfig) -> None:
        self.config = config
        self.frames: list[Frame] = []
        self.waiting: list[Frame] = []
        self.resets = 0
        self.pose_of_step: Callable[[int], np.ndarray | None] = lambda step: np.eye(4)
        self.error: Exception | None = None
        self.tracks_are_read = True
        self.hold = threading.Event()
        self.hold.set()

    def step(self, frame: Frame) -> SceneEstimate | None:
        self.hold.wait(TIMEOUT_S)
        if self.error is not None:
            raise self.error
        self.frames.append(frame)
        return make_scene(frame, self.pose_of_step(len(self.frames) - 1), self.config.window.window_size)

    def advance(self, frame: Frame) -> tuple[SceneEstimate, ...]:
        self.waiting.append(frame)
        if len(self.waiting) < self.config.window.window_hop:
            return ()
        together, self.waiting = self.waiting, []
        return tuple(scene for scene in map(self.step, together) if scene is not None)

    @property
    def frames_waiting(self) -> int:
        return len(self.waiting)

    def set_track_output_enabled(self, enabled: bool) -> None:
        self.tracks_are_read = enabled

    def reset(self) -> None:
        self.waiting = []
        self.resets += 1

    def update_config(self, config: PomatoConfig) -> None:
        self.config = config

    def describe(self) -> dict[str, Any]:
        return {
            "checkpoint": "fake.safetensors",
            "sha256": "0" * 64,
            "parameters": 0,
            "temporal_length": 12,
            "image_size_px": MODEL_WH[0],
            "device": "cpu",
            "precision": "fp32",
        }


def make_scene(frame: Frame, world_from_camera: np.ndarray | None, window_size: int) -> SceneEstimate:
    width, height = MODEL_WH
    mask = np.zeros((height, width), bool)
    mask[4:8, 2:6] = True
    points = np.zeros((height, width, 3), np.float32)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    points[..., 0], points[..., 1], points[..., 2] = columns / 10, rows / 10, DEPTH_M
    points[0, 0] = np.nan
    model_from_source = np.array([[0.5, 0.0, -2.25], [0.0, 0.5, -0.25], [0.0, 0.0, 1.0]])
    lost = world_from_camera is None
    return SceneEstimate(
        stamp_ns=frame.stamp_ns,
        state=TrackingState.LOST if lost else TrackingState.TRACKING,
        frames_in_window=window_size,
        image_rgb=np.full((height, width, 3), (10, 20, 30), np.uint8),
        intrinsics=Intrinsics(15.0, 16.0, 9.5, 7.5, width, height),
        intrinsics_known=frame.intrinsics is not None,
        model_from_source=model_from_source,
        source_size_wh=(frame.image_rgb.shape[1], frame.image_rgb.shape[0]),
        points_camera=points,
        confidence=np.full((height, width), 2.5, np.float32),
        dynamic_mask=mask,
        world_from_camera=world_from_camera,
        pose_covariance=None if lost else np.eye(6) * 1e-4,
        pose_inlier_ratio=0.0 if lost else 0.9,
        metres_per_unit=1.5,
        tracks=make_tracks(),
        stage_seconds={"preprocess": 0.001, "model": 0.002, "scene": 0.003},
        objects=make_objects(),
    )


def make_tracks() -> TrackSet:
    return TrackSet(
        ids=np.array([41, 7], np.int64),
        positions_world=np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 3.0]]),
        velocities_world=np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        pixels=np.array([[5.0, 6.0], [np.nan, np.nan]], np.float32),
        confidence=np.array([2.0, 3.0], np.float32),
        visible=np.array([True, False]),
        dynamic=np.array([False, True]),
        age_frames=np.array([4, 9], np.int64),
    )


def make_objects() -> ObjectSet:
    """Number 3 is seen, one metre along each axis of the world; number 12 is hidden."""
    corners = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(-1, 3)
    return ObjectSet(
        ids=np.array([3, 12], np.int64),
        centres_world=np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 9.0]]),
        sizes_world=np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]),
        velocities_world=np.array([[0.0, 0.0, 1.0], [0.5, 0.0, 0.0]]),
        velocity_std=np.array([0.1, 0.2]),
        visible=np.array([True, False]),
        age_frames=np.array([5, 9], np.int64),
        track_counts=np.array([6, 0], np.int64),
        points_world=(corners * [1.0, 0.5, 2.0] + [1.0, 2.0, 4.0]).astype(np.float32),
        point_rows=np.zeros(8, np.int64),
    )


def moved(translation: tuple[float, float, float], yaw_left_rad: float = 0.0) -> np.ndarray:
    """A camera pose in the first camera's optical frame; a left turn is about minus y there."""
    cosine, sine = np.cos(yaw_left_rad), np.sin(yaw_left_rad)
    pose = np.eye(4)
    pose[:3, :3] = [[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]]
    pose[:3, 3] = translation
    return pose


def image_of(index: int, wh: tuple[int, int] = SOURCE_WH, frame_id: str = CAMERA_FRAME) -> Image:
    """The image number ``index`` of a clip, all one grey."""
    header = Header(stamp=time_from_stamp_ns(START_NS + index * FRAME_NS), frame_id=frame_id)
    return image_message(np.full((wh[1], wh[0], 3), (index * 7) % 256, np.uint8), "rgb8", header)


def camera_info_of(wh: tuple[int, int] = SOURCE_WH, focal_px: float = 40.0) -> CameraInfo:
    """A camera without distortion."""
    message = CameraInfo(width=wh[0], height=wh[1], distortion_model="plumb_bob", d=[0.0] * 5)
    cx, cy = (wh[0] - 1) / 2, (wh[1] - 1) / 2
    message.k = [focal_px, 0.0, cx, 0.0, focal_px, cy, 0.0, 0.0, 1.0]
    message.header.frame_id = CAMERA_FRAME
    return message


class Graph:
    """A node under test and a client, spun by the test itself in one thread."""

    def __init__(self, overrides: dict[str, Any], engine_factory: Callable[[PomatoConfig], Any] | None = None) -> None:
        self._engine_factory = self._make_engine if engine_factory is None else engine_factory
        self.context = Context()
        # a domain of its own: endpoints of a graph that is just going away are counted as services that are half there,
        # and may stay so
        rclpy.init(context=self.context, domain_id=next(DOMAINS))
        self.executor = SingleThreadedExecutor(context=self.context)
        self.engines: list[FakeEngine] = []
        self.prepare: Callable[[FakeEngine], None] = lambda engine: None
        self.client = Node("client", context=self.context)
        self.executor.add_node(self.client)
        self.node = self._make_node({"tf_timeout": 0.0, **overrides})
        self.executor.add_node(self.node)
        self.received: dict[str, list[Any]] = {}
        self.image_publisher = self.client.create_publisher(Image, "image", 10)
        self.info_publisher: Any = None

    def _make_node(self, parameters: dict[str, Any]) -> PomatoNode:
        try:
            return PomatoNode(
                engine_factory=self._engine_factory,
                context=self.context,
                parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
            )
        except Exception:
            rclpy.shutdown(context=self.context)
            raise

    def _make_engine(self, config: PomatoConfig) -> FakeEngine:
        engine = FakeEngine(config)
        self.prepare(engine)
        self.engines.append(engine)
        return engine

    @property
    def engine(self) -> FakeEngine:
        return self.engines[-1]

    def listen(self, name: str, message_type: Any, qos: QoSProfile) -> list[Any]:
        messages = self.received.setdefault(name, [])
        self.client.create_subscription(message_type, name.replace("~", "/pomato"), messages.append, qos)
        return messages

    def listen_to_all(self) -> None:
        for topic in (*topics.SCENE_OUTPUTS, topics.DIAGNOSTICS):
            self.listen(topic.name, topic.message_type, topic.qos())

    def spin_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {TIMEOUT_S} s in vain for {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.01)

    def wait_until_active(self) -> None:
        self.spin_until(lambda: self.node.status.lifecycle == "active", "the node to become active")
        self.spin_until(lambda: self.image_publisher.get_subscription_count() > 0, "the node's subscription")

    def wait_until_connected(self) -> None:
        """Every listener of the client has met its publisher."""
        subscriptions = list(self.client.subscriptions)
        self.spin_until(
            lambda: all(self.client.count_publishers(subscription.topic_name) for subscription in subscriptions),
            "discovery",
        )
        publishers = self.node._outputs._publishers
        wanted = [topic for topic in publishers if topic.name in self.received]
        self.spin_until(lambda: all(publishers[topic].get_subscription_count() for topic in wanted), "matching")

    def publish_info(self, message: CameraInfo) -> None:
        if self.info_publisher is None:
            self.info_publisher = self.client.create_publisher(CameraInfo, "camera_info", 1)
            self.spin_until(lambda: self.info_publisher.get_subscription_count() > 0, "camera_info to connect")
        before = self.node._run.newest_camera_info
        self.info_publisher.publish(message)
        self.spin_until(lambda: self.node._run.newest_camera_info is not before, "camera_info")

    def send(self, message: Image) -> None:
        """Publish an image and wait until the worker is done with it."""
        status = self.node.status
        came = status.input.frames_in
        done = self._finished()
        self.image_publisher.publish(message)
        self.spin_until(lambda: status.input.frames_in > came, "the image to arrive")
        self.spin_until(lambda: self._finished() > done, "the worker")

    def _finished(self) -> int:
        status = self.node.status
        return status.engine.steps + status.engine.errors + status.input.drops.total()

    def step(self, index: int, **image_options: Any) -> None:
        """Send image ``index`` and wait for every message of its step."""
        published = {name: len(messages) for name, messages in self.received.items() if name.startswith("~")}
        sent = self.node.status.output.messages
        self.send(image_of(index, **image_options))
        self.spin_until(lambda: sent.last_ms() is not None, "outputs")
        self.spin_until(
            lambda: all(len(self.received[name]) > count for name, count in published.items()), "all outputs"
        )

    def diagnostics(self) -> dict[str, Any]:
        """The next diagnostics, by component: status and its values by key."""
        messages = self.received.get("/diagnostics")
        if messages is None:
            messages = self.listen("/diagnostics", topics.DIAGNOSTICS.message_type, topics.DIAGNOSTICS.qos())
        count = len(messages) + 1
        self.spin_until(lambda: len(messages) > count, "diagnostics")
        return {status.name.removeprefix("pomato: "): status for status in messages[-1].status}

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        client = self.client.create_client(service_type, name)
        self.spin_until(client.service_is_ready, name)
        future = client.call_async(request)
        self.spin_until(future.done, f"an answer of {name}")
        return future.result()

    def close(self) -> None:
        for engine in self.engines:
            engine.hold.set()
        self.node.destroy_node()
        self.client.destroy_node()
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


class NodeProcess:
    """A node in a process of its own, as it runs on a robot, and a client that spins only when asked to."""

    def __init__(self, script: str, parameters: dict[str, Any], log: Path) -> None:
        self.domain_id = next(DOMAINS)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain_id)
        self.client = Node("client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.client)
        self.diagnoses: list[Any] = []
        self.clients: dict[str, Any] = {}
        topic = topics.DIAGNOSTICS
        self.client.create_subscription(topic.message_type, topic.name, self.diagnoses.append, topic.qos())
        self.image_publisher = self.client.create_publisher(Image, "image", 10)
        self.log = log
        options = [f"{name}:={json.dumps(value)}" for name, value in {"tf_timeout": 0.0, **parameters}.items()]
        arguments = [word for option in options for word in ("-p", option)]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name(script)), "--ros-args", *arguments],
                env={**os.environ, "ROS_DOMAIN_ID": str(self.domain_id)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def spin_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 3 * TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"the node ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, (
                f"waited {timeout_s} s in vain for {what}: {self.log.read_text()[-2000:]}"
            )
            self.executor.spin_once(timeout_sec=0.02)

    def wait_until_active(self) -> None:
        self.spin_until(lambda: self.image_publisher.get_subscription_count() > 0, "the node's subscription")

    def call(self, service_type: Any, name: str, request: Any, again_after_s: float = 3 * TIMEOUT_S) -> Any:
        """An answer; a request that only reads may be sent again: an answer may come before its reader is known."""
        if name not in self.clients:
            self.clients[name] = self.client.create_client(service_type, name)
            self.spin_until(self.clients[name].service_is_ready, name)
            settled_s = time.monotonic() + 0.5  # the server may know the client's half for answers only a little later
            self.spin_until(lambda: time.monotonic() > settled_s, "the service to know its client")
        asked_s, futures = time.monotonic(), [self.clients[name].call_async(request)]

        def answered() -> bool:
            if time.monotonic() > asked_s + again_after_s * len(futures):
                futures.append(self.clients[name].call_async(request))
            return any(future.done() for future in futures)

        self.spin_until(answered, f"an answer of {name}")
        return next(future.result() for future in futures if future.done())

    def diagnosis(self, component: str) -> Any:
        """The next status of a component."""
        count = len(self.diagnoses) + 1
        self.spin_until(lambda: len(self.diagnoses) > count, "diagnostics")
        return next(one for one in self.diagnoses[-1].status if one.name.endswith(f": {component}"))

    def value(self, component: str, key: str) -> str:
        return {pair.key: pair.value for pair in self.diagnosis(component).values}[key]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.client.destroy_node()
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., NodeProcess]]:
    """Starts node processes with the engine of this file and given parameters; ends them after the module's tests."""
    processes: list[NodeProcess] = []
    folder = tmp_path_factory.mktemp("nodes")

    def start(**parameters: Any) -> NodeProcess:
        processes.append(NodeProcess("known_engine_node.py", parameters, folder / f"node{len(processes)}.log"))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


@pytest.fixture
def make_graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Graph]]:
    """Builds graphs with given parameters and closes them afterwards; diagnostics come ten times as often."""
    monkeypatch.setattr("pomato_ros.ros.node.DIAGNOSTICS_PERIOD_S", 0.1)
    monkeypatch.setattr("pomato_ros.ros.backend_choice.DISCOVERY_S", 0.02)
    graphs: list[Graph] = []

    def make(*, engine_factory: Callable[[PomatoConfig], Any] | None = None, **overrides: Any) -> Graph:
        graphs.append(Graph(overrides, engine_factory))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()


@pytest.fixture
def graph(make_graph: Callable[..., Graph]) -> Graph:
    """A graph with default parameters whose node is active."""
    graph = make_graph()
    graph.wait_until_active()
    return graph


@pytest.fixture(scope="session")
def fakes() -> SimpleNamespace:
    """What tests need of this module: messages, poses and the numbers behind them."""
    return SimpleNamespace(
        image_of=image_of,
        camera_info_of=camera_info_of,
        moved=moved,
        make_tracks=make_tracks,
        make_objects=make_objects,
        make_scene=make_scene,
        SOURCE_WH=SOURCE_WH,
        MODEL_WH=MODEL_WH,
        DEPTH_M=DEPTH_M,
        START_NS=START_NS,
        FRAME_NS=FRAME_NS,
        CAMERA_FRAME=CAMERA_FRAME,
    )
