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
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.frame_publisher import (
    PARAMETERS,
    FramePublisher,
    PlaybackClock,
    PlaybackError,
    Report,
    TimedFrame,
    Timeline,
    camera_info_message,
    make_parser,
)
from pomato_ros.ros.frame_source import CameraFile, SourceError, SourceFrame
from pomato_ros.ros.topics import tf_qos

STAMPS = [1_000_000_000, 1_066_666_667, 1_133_333_333]
IDENTITY = tuple(np.eye(3).ravel().tolist())
CAMERA = CameraFile(
    40, 30, "plumb_bob", (0.1,) * 5, (50.0, 0, 19.5, 0, 52.0, 14.5, 0, 0, 1.0), IDENTITY, (50.0, *([0.0] * 11))
)


def source_frame(offset_ns: int | None) -> SourceFrame:
    return SourceFrame(np.zeros((2, 2, 3), np.uint8), offset_ns)


def placed(timeline: Timeline, offsets_ns: tuple[int, ...]) -> list[TimedFrame]:
    return [timeline.place(source_frame(offset)) for offset in offsets_ns]


RECORDED = (0, 100_000_000, 250_000_000)


@pytest.mark.parametrize(("rate_hz", "due"), [(0.0, [0.0, 0.1, 0.25]), (2.0, [0.0, 0.5, 1.0])])
def test_stamps_agree_with_the_pace_of_playing(rate_hz: float, due: list[float]) -> None:
    frames = placed(Timeline(rate_hz), RECORDED)
    assert [frame.due_s for frame in frames] == pytest.approx(due)
    assert [frame.stamp_offset_ns * 1e-9 for frame in frames] == pytest.approx(due)


def test_with_a_clock_of_its_own_a_clip_keeps_its_stamps_at_any_pace() -> None:
    for rate_hz, due in ((0.0, [0.0, 0.1, 0.25]), (2.0, [0.0, 0.5, 1.0])):
        frames = placed(Timeline(rate_hz, keep_recorded_stamps=True), RECORDED)
        assert [frame.stamp_offset_ns for frame in frames] == list(RECORDED)
        assert [frame.due_s for frame in frames] == pytest.approx(due)


def test_the_clock_is_at_a_frames_stamp_when_it_is_due_and_never_before_it_or_past_the_next() -> None:
    clock = PlaybackClock(1000)
    assert clock.now_ns(5.0) == 1000
    clock.approach(1000, 10.0)
    assert [clock.now_ns(9.0), clock.now_ns(10.0), clock.now_ns(99.0)] == [1000, 1000, 1000]
    clock.approach(3000, 20.0)
    assert [clock.now_ns(time_s) for time_s in (10.0, 15.0, 19.999, 20.0, 30.0)] == [1000, 2000, 2999, 3000, 3000]


def test_stamps_go_on_rising_over_loops() -> None:
    timeline = Timeline(0.0)
    stamps = []
    for _ in range(3):
        timeline.begin_loop()
        stamps += [frame.stamp_offset_ns for frame in placed(timeline, (0, 100, 200))]
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
        self.times_ns: list[int] = []
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.spin)

    def listen(self) -> None:
        self.node.create_subscription(Image, "image", self.images.append, 10)
        self.node.create_subscription(CameraInfo, "camera_info", self.infos.append, 10)
        self.node.create_subscription(
            Clock, "/clock", lambda message: self.times_ns.append(stamp_ns_from_time(message.clock)), 100
        )
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
    assert [stamp - stamps[0] for stamp in stamps] == [0, 20_000_000, 40_000_000]  # 50 images a second
    assert not listener.times_ns
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


def test_with_publish_clock_the_stamps_are_the_recordings_and_the_clock_leads_to_them(
    listener: Listener, make_publisher: Callable[..., FramePublisher]
) -> None:
    publisher = make_publisher(publish_clock=True)
    listener.listen()
    publisher.play(Report(enabled=False))
    listener.wait_for_images(3)
    stamps = [stamp_ns_from_time(image.header.stamp) for image in listener.images]
    assert [stamp - stamps[0] for stamp in stamps] == [stamp - STAMPS[0] for stamp in STAMPS]
    assert listener.times_ns == sorted(listener.times_ns)
    assert stamps[0] <= listener.times_ns[-1] <= stamps[-1]


def test_frames_that_cannot_be_read_are_left_out_and_counted(
    clip: Path, listener: Listener, make_publisher: Callable[..., FramePublisher]
) -> None:
    (clip / "1.png").write_bytes(b"")
    publisher = make_publisher()
    listener.listen()
    publisher.play(Report(enabled=False))
    listener.wait_for_images(2)
    assert publisher.skipped == 1
    assert [image.data[0] for image in listener.images] == [0, 2]


@pytest.mark.parametrize(("name", "value"), [("rate", -1.0), ("rate", float("nan")), ("max_frames", -1)])
def test_numbers_that_make_no_sense_are_refused_by_name(
    make_publisher: Callable[..., FramePublisher], name: str, value: float
) -> None:
    with pytest.raises(PlaybackError, match=f"{name}: expected"):
        make_publisher(**{name: value})


def test_the_help_names_every_parameter_and_how_to_set_one() -> None:
    text = make_parser().format_help()
    assert all(f"  {name} " in text for name in PARAMETERS)
    assert all(words in text for words in ("--ros-args -p", "/tf_static", "camera_info"))


def test_a_node_of_the_same_name_elsewhere_is_another_node(
    listener: Listener, make_publisher: Callable[..., FramePublisher]
) -> None:
    listener.listen()
    with pytest.raises(PlaybackError, match="'/front/listener' among them"):
        make_publisher(wait_for_node="/front/listener", wait_timeout=0.5).play(Report(enabled=False))
