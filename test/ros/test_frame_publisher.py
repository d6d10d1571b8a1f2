import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.frame_publisher import FramePublisher, PlaybackError, Report, Timeline, camera_info_message
from pomato_ros.ros.frame_source import CameraFile, SourceError, SourceFrame
from pomato_ros.ros.topics import tf_qos

STAMPS = [1_000_000_000, 1_066_666_667, 1_133_333_333]
IDENTITY = tuple(np.eye(3).ravel().tolist())
CAMERA = CameraFile(
    40, 30, "plumb_bob", (0.1,) * 5, (50.0, 0, 19.5, 0, 52.0, 14.5, 0, 0, 1.0), IDENTITY, (50.0, *([0.0] * 11))
)


def source_frame(offset_ns: int | None) -> SourceFrame:
    return SourceFrame(np.zeros((2, 2, 3), np.uint8), offset_ns)


def test_stamps_keep_the_recording_whatever_the_rate() -> None:
    for rate_hz, due in ((0.0, [0.0, 0.1, 0.25]), (2.0, [0.0, 0.5, 1.0])):
        timeline = Timeline(rate_hz)
        placed = [timeline.place(source_frame(offset)) for offset in (0, 100_000_000, 250_000_000)]
        assert [frame.stamp_offset_ns for frame in placed] == [0, 100_000_000, 250_000_000]
        assert [frame.due_s for frame in placed] == pytest.approx(due)


def test_stamps_go_on_rising_over_loops() -> None:
    timeline = Timeline(0.0)
    stamps = []
    for _ in range(3):
        timeline.begin_loop()
        stamps += [timeline.place(source_frame(offset)).stamp_offset_ns for offset in (0, 100, 200)]
    assert stamps == [0, 100, 200, 300, 400, 500, 600, 700, 800]


def test_live_frames_are_due_at_once_and_stamped_as_they_come() -> None:
    timeline = Timeline(0.0)
    stamps = [timeline.place(source_frame(None)).stamp_offset_ns for _ in range(5)]
    assert stamps == sorted(set(stamps))


def test_a_resized_image_gets_a_resized_calibration() -> None:
    point = np.array([0.2, -0.1, 1.0])
    full = np.reshape(camera_info_message(CAMERA, (40, 30), Header()).k, (3, 3)) @ point
    half = np.reshape(camera_info_message(CAMERA, (20, 15), Header()).k, (3, 3)) @ point
    np.testing.assert_allclose(half[:2], (full[:2] + 0.5) / 2 - 0.5)  # pixel centres are at integers


def test_without_a_calibration_the_camera_says_that_it_has_none() -> None:
    message = camera_info_message(None, (40, 30), Header())
    assert (message.width, message.height, message.k[0]) == (40, 30, 0.0)


class Listener:
    """Collects what a frame publisher sends, in a context of its own."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("listener", context=self.context)
        self.images: list[Image] = []
        self.infos: list[CameraInfo] = []
        self.transforms: list[TFMessage] = []
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.spin)

    def listen(self) -> None:
        self.node.create_subscription(Image, "image", self.images.append, 10)
        self.node.create_subscription(CameraInfo, "camera_info", self.infos.append, 10)
        self.node.create_subscription(TFMessage, "/tf_static", self.transforms.append, tf_qos(latched=True))
        self.thread.start()

    def wait_for_images(self, count: int) -> None:
        deadline_s = time.monotonic() + 10.0
        while len(self.images) < count or len(self.infos) < count or not self.transforms:
            assert time.monotonic() < deadline_s, f"waited in vain for {count} images"
            time.sleep(0.01)

    def spin(self) -> None:
        while not self.closing.is_set():
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        self.closing.set()
        if self.thread.ident:
            self.thread.join()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((30, 40, 3), (index, 100, 200), np.uint8))
    (tmp_path / "stamps.txt").write_text("\n".join(map(str, STAMPS)))
    return tmp_path


@pytest.fixture
def make_publisher(clip: Path) -> Iterator[Callable[..., FramePublisher]]:
    rclpy.init(args=[])
    publishers: list[FramePublisher] = []

    def make(**parameters: Any) -> FramePublisher:
        values = {"video": str(clip), "rate": 50.0, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        publishers.append(FramePublisher(parameter_overrides=overrides))
        return publishers[-1]

    yield make
    for publisher in publishers:
        publisher.destroy_node()
    rclpy.try_shutdown()


def test_a_clip_is_published_once_with_calibration_and_mount(
    listener: Listener, make_publisher: Callable[..., FramePublisher]
) -> None:
    publisher = make_publisher()
    listener.listen()
    publisher.play(Report(enabled=False))
    listener.wait_for_images(3)
    stamps = [stamp_ns_from_time(image.header.stamp) for image in listener.images]
    assert [stamp - stamps[0] for stamp in stamps] == [stamp - STAMPS[0] for stamp in STAMPS]
    assert [image.data[0] for image in listener.images] == [0, 1, 2]
    assert {image.encoding for image in listener.images} == {"bgr8"}
    assert [info.header for info in listener.infos] == [image.header for image in listener.images]
    sent = listener.transforms[0].transforms[0]
    assert (sent.header.frame_id, sent.child_frame_id) == ("base_link", listener.images[0].header.frame_id)


def test_a_publisher_that_nobody_hears_gives_up_and_says_so(make_publisher: Callable[..., FramePublisher]) -> None:
    publisher = make_publisher(wait_timeout=0.2)
    with pytest.raises(PlaybackError, match="expected 1 subscribers on '/image'"):
        publisher.play(Report(enabled=False))


def test_a_publisher_waits_for_the_named_node(
    listener: Listener, make_publisher: Callable[..., FramePublisher]
) -> None:
    listener.listen()
    with pytest.raises(PlaybackError, match="'pomato' among them"):
        make_publisher(wait_for_node="pomato", wait_timeout=0.5).play(Report(enabled=False))
    make_publisher(wait_for_node="listener").play(Report(enabled=False))
    listener.wait_for_images(1)


def test_a_number_is_a_camera(make_publisher: Callable[..., FramePublisher], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(name: str, _rate_hz: float) -> None:
        asked.append(name)
        raise SourceError("no such camera")

    monkeypatch.setattr("pomato_ros.ros.frame_publisher.open_source", refuse)
    with pytest.raises(SourceError):
        make_publisher(video=0)
    assert asked == ["0"]


def test_progress_is_json_lines(
    listener: Listener, make_publisher: Callable[..., FramePublisher], capsys: pytest.CaptureFixture[str]
) -> None:
    publisher = make_publisher(max_frames=2)
    listener.listen()
    publisher.play(Report(enabled=True))
    assert capsys.readouterr().out.splitlines() == ['{"published": 1, "total": 2}', '{"published": 2, "total": 2}']
