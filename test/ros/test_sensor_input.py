"""Images of drivers as they come out of the box: other processes, Fast DDS defaults, either reliability."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pomato_ros.ros.streams import StreamMonitor

DRIVER = Path(__file__).with_name("driver_process.py")
FRAMES = 48
BEST_EFFORT = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
PERIOD_NS = 100_000_000


@pytest.fixture
def start_driver() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts driver processes on a graph's domain and ends those that still run."""
    running: list[subprocess.Popen[bytes]] = []

    def start(graph: Any, reliability: str, wh: tuple[int, int], count: int = FRAMES) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in name}
        environment["ROS_DOMAIN_ID"] = str(graph.context.get_domain_id())
        command = [sys.executable, str(DRIVER), reliability, *map(str, wh), str(count), "15"]
        running.append(subprocess.Popen(command, env=environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def finished(graph: Any, driver: subprocess.Popen[bytes]) -> None:
    """Spin until the driver has sent everything."""
    while driver.poll() is None:
        graph.executor.spin_once(timeout_sec=0.02)
    assert driver.returncode == 0


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.mark.parametrize("wh", [(640, 480), (1280, 720)])
def test_nothing_is_lost_of_a_stock_driver(graph: Any, start_driver: Callable[..., Any], wh: tuple[int, int]) -> None:
    graph.client.destroy_publisher(graph.image_publisher)
    finished(graph, start_driver(graph, "reliable", wh))
    stream = graph.node.status.input.stream
    graph.spin_until(lambda: stream.arrived == FRAMES, "all images")
    assert (stream.lost.total, stream.skipped.total, stream.reliable) == (0, 0, True)


def test_a_best_effort_driver_is_heard(graph: Any, start_driver: Callable[..., Any]) -> None:
    graph.client.destroy_publisher(graph.image_publisher)
    finished(graph, start_driver(graph, "best_effort", (320, 240)))
    stream = graph.node.status.input.stream
    assert stream.reliable is False
    assert stream.arrived + stream.lost.total == FRAMES
    assert stream.arrived > FRAMES // 2
    assert values_of(graph.diagnostics()["input"])["reliability"] == "best effort"


def test_what_a_best_effort_driver_loses_is_named_with_its_remedy(graph: Any, start_driver: Callable[..., Any]) -> None:
    graph.client.destroy_publisher(graph.image_publisher)
    finished(graph, start_driver(graph, "best_effort", (1280, 720)))
    stream = graph.node.status.input.stream
    assert FRAMES - 2 <= stream.arrived + stream.lost.total <= FRAMES  # the last ones are missed by nobody
    assert stream.lost.total > 0.1 * FRAMES
    status = graph.diagnostics()["input"]
    assert status.level != DiagnosticStatus.OK
    assert "lost" in status.message
    assert "config/fastdds.xml" in status.message
    assert int(values_of(status)["frames_lost"]) == stream.lost.total


def test_reliability_follows_publishers_that_come_and_go(graph: Any, fakes: SimpleNamespace) -> None:
    stream = graph.node.status.input.stream
    assert stream.reliable is True
    other = graph.client.create_publisher(Image, "image", BEST_EFFORT)
    graph.spin_until(lambda: stream.reliable is False, "a subscription that hears both")
    graph.spin_until(lambda: other.get_subscription_count() == 1, "the other publisher to be met")
    graph.spin_until(lambda: graph.image_publisher.get_subscription_count() == 1, "the first publisher to be met")
    graph.send(fakes.image_of(0))
    other.publish(fakes.image_of(1))
    graph.spin_until(lambda: stream.arrived == 2, "the image of the other")
    graph.client.destroy_publisher(other)
    graph.spin_until(lambda: stream.reliable is True, "a reliable subscription")
    graph.spin_until(lambda: graph.image_publisher.get_subscription_count() == 1, "the first publisher to be met again")
    graph.send(fakes.image_of(2))
    assert graph.node.status.input.qos_conflicts == {}


def test_a_calibration_that_was_latched_before_the_node_came_is_used(make_graph: Any, fakes: SimpleNamespace) -> None:
    graph = make_graph(autostart=False)
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    graph.client.create_publisher(CameraInfo, "camera_info", latched).publish(fakes.camera_info_of(focal_px=40.0))
    graph.node.trigger_configure()
    graph.node.trigger_activate()
    graph.wait_until_active()
    graph.spin_until(lambda: graph.node._run.newest_camera_info is not None, "the latched calibration")
    graph.step(0)
    assert graph.engine.frames[0].intrinsics.fx_px == 40.0
    graph.client.create_publisher(CameraInfo, "camera_info", 1).publish(fakes.camera_info_of(focal_px=55.0))
    graph.spin_until(lambda: graph.node._run.newest_camera_info.k[0] == 55.0 or publish_again(graph, fakes), "another")


def publish_again(graph: Any, fakes: SimpleNamespace) -> bool:
    """A publisher that keeps nothing sends now and then; False."""
    for publisher in graph.client.publishers:
        if publisher.topic_name == "/camera_info":
            publisher.publish(fakes.camera_info_of(focal_px=55.0))
    return False


@pytest.mark.parametrize(("transport", "told"), [("raw", "compressed"), ("compressed", "raw")])
def test_images_of_the_other_transport_are_pointed_at(
    make_graph: Any, monkeypatch: pytest.MonkeyPatch, transport: str, told: str
) -> None:
    monkeypatch.setattr("pomato_ros.ros.diagnostics.SILENCE_S", 0.0)
    graph = make_graph(image_transport=transport)
    graph.spin_until(lambda: graph.node.status.lifecycle == "active", "the node to become active")
    if transport == "raw":
        graph.client.destroy_publisher(graph.image_publisher)
        graph.client.create_publisher(CompressedImage, "image/compressed", 1)
    graph.spin_until(lambda: bool(graph.node.status.input.other_transport), "the other topic")
    status = graph.diagnostics()["input"]
    assert status.level == DiagnosticStatus.ERROR
    assert f"set image_transport: {told}" in status.message


def test_images_that_the_camera_left_out_are_named(graph: Any, fakes: SimpleNamespace) -> None:
    for index in (0, 1, 2, 3, 4, 7, 8, 11, 12):
        graph.send(fakes.image_of(index))
    stream = graph.node.status.input.stream
    assert (stream.arrived, stream.skipped.total, stream.lost.total) == (9, 4, 0)
    status = graph.diagnostics()["input"]
    assert status.level == DiagnosticStatus.WARN
    assert "4 of 13 images were never published" in status.message


def monitor_of(*messages: tuple[int, int | None]) -> StreamMonitor:
    """What is made of messages at multiples of a period, each with its number."""
    monitor = StreamMonitor()
    for period, number in messages:
        monitor.note(period * PERIOD_NS, number)
    return monitor


def test_missing_numbers_are_overtaken_unless_they_are_reported_lost() -> None:
    monitor = monitor_of((0, 1), (1, 2), (2, 3), (5, 6))
    assert (monitor.taken, monitor.arrived, monitor.skipped.total) == (4, 6, 0)
    monitor.note_lost(3)
    monitor.note(9 * PERIOD_NS, 10)
    assert (monitor.arrived, monitor.lost.total, monitor.skipped.total) == (7, 3, 0)
    assert monitor.period_s == pytest.approx(0.1)


def test_without_numbers_gaps_in_stamps_are_the_cameras() -> None:
    monitor = monitor_of(*((period, None) for period in (0, 1, 2, 3, 6)))
    assert (monitor.arrived, monitor.skipped.total) == (5, 2)


def test_a_slow_camera_has_no_gaps() -> None:
    monitor = monitor_of(*((25 * index, index) for index in range(5)))
    assert (monitor.skipped.total, monitor.period_s) == (0, pytest.approx(2.5))
