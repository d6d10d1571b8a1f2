"""Records every output of the node, and what it was fed, into one MCAP file until it is interrupted."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile

from pomato_ros.errors import PomatoError
from pomato_ros.ros.recording import RecordingWriter, type_name_of
from pomato_ros.ros.signals import init_interruptible, own_arguments
from pomato_ros.ros.topics import (
    CAMERA_INFO,
    DIAGNOSTICS,
    IMAGE,
    ODOMETRY,
    SCENE_OUTPUTS,
    TF_STATIC_TOPIC,
    TF_TOPIC,
    Topic,
    tf_qos,
)
from pomato_ros.ros.transforms import tf_message_type
from pomato_ros.ros.usage import usage_text
from pomato_ros.ros.waiting import full_name

QUEUE = 200
REPORT_PERIOD_S = 0.5
LONGEST_SPIN_S = 0.1  # between two checks for a signal


@dataclass(frozen=True, slots=True)
class RecordedTopic:
    """How one topic is subscribed to, and what its own publishers are expected to offer."""

    message_type: Any
    qos: QoSProfile
    offered: QoSProfile


def recorded_topics(
    node_name: str, image: str = "/image", camera_info: str = "/camera_info"
) -> dict[str, RecordedTopic]:
    """Every topic to record by its absolute name: the outputs of a node, its images and their calibration."""
    recorded = {
        name: RecordedTopic(topic.message_type, deep(topic, reliable=True), deep(topic, reliable=True))
        for name, topic in ((image, IMAGE), (camera_info, CAMERA_INFO))
    }
    for topic in (*SCENE_OUTPUTS, DIAGNOSTICS):
        recorded[topic.name.replace("~", node_name)] = RecordedTopic(topic.message_type, deep(topic), topic.qos())
    message_type = tf_message_type()
    if message_type is not None:
        for name, latched in ((TF_TOPIC, False), (TF_STATIC_TOPIC, True)):
            recorded[name] = RecordedTopic(message_type, tf_qos(latched=latched), tf_qos(latched=latched))
    return recorded


def deep(topic: Topic, *, reliable: bool | None = None) -> QoSProfile:
    """A topic's own quality of service with a queue deep enough to lose nothing."""
    wanted = topic.reliable if reliable is None else reliable
    return Topic(topic.name, None, "", depth=QUEUE, reliable=wanted, latched=topic.latched).qos()


class Recorder(Node):
    """Subscribes without decoding and writes what comes."""

    def __init__(self, path: Path, node_name: str = "pomato", **node_options: Any) -> None:
        """Record into ``path`` the node ``node_name``, absolute or in this node's own namespace.

        Raises:
            RecordingError: The file cannot be written.
        """
        super().__init__("recorder", **node_options)
        self.node_name = full_name(self, node_name)
        self.counts: Counter[str] = Counter()
        self._channels: dict[str, int] = {}
        self._writer = open_recording(path)
        image, camera_info = self.resolve_topic_name(IMAGE.name), self.resolve_topic_name(CAMERA_INFO.name)
        self._topics = recorded_topics(self.node_name, image, camera_info)
        for name, topic in self._topics.items():
            self.create_subscription(topic.message_type, name, self._make_callback(name), topic.qos, raw=True)

    def _make_callback(self, topic: str) -> Callable[[bytes, Any], None]:
        def write(data: bytes, info: Any) -> None:
            received_ns = time.time_ns()
            published_ns = int(info["source_timestamp"]) or received_ns
            self.counts[topic] += 1
            self._writer.write(self._channel(topic), data, received_ns, published_ns)

        return write

    def _channel(self, name: str) -> int:
        """The topic's channel, made when its first message comes: only then its publishers' offers are known."""
        if name not in self._channels:
            topic = self._topics[name]
            offered = [info.qos_profile for info in self.get_publishers_info_by_topic(name)] or [topic.offered]
            self._channels[name] = self._writer.add_topic(name, type_name_of(topic.message_type), offered)
        return self._channels[name]

    def close(self) -> None:
        """Finish the file, with a channel for each topic that stayed silent."""
        for name in self._topics:
            self._channel(name)
        self._writer.close()
        self.destroy_node()


class RecordingError(PomatoError, OSError):
    """The recording cannot be written; the message says why."""


def open_recording(path: Path) -> RecordingWriter:
    """A new recording."""
    try:
        return RecordingWriter(path.expanduser())
    except (OSError, RuntimeError) as error:
        raise RecordingError(f"expected a file that can be written at '{path}': {error}") from error


def report(recorder: Recorder) -> None:
    """Say to a parent process how far things are: one JSON object on a line of standard output."""
    outputs = [topic.name.replace("~", recorder.node_name) for topic in SCENE_OUTPUTS]
    facts = {
        "steps": recorder.counts[ODOMETRY.name.replace("~", recorder.node_name)],
        "messages": recorder.counts.total(),
        "hears_node": all(recorder.count_publishers(name) for name in outputs),
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    topics = [
        ("image", "sensor_msgs/Image", "in: the images of the node"),
        ("camera_info", "sensor_msgs/CameraInfo", "in: their calibration"),
        ("all outputs of --node", "", "in, with /tf, /tf_static and /diagnostics"),
    ]
    parser = argparse.ArgumentParser(
        prog="recorder",
        description=__doc__,
        epilog=usage_text(topics, {}),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("recording.mcap"), help="file to write")
    parser.add_argument("--node", default="pomato", help="name of the node to record, absolute or in this namespace")
    parser.add_argument("--progress", action="store_true", help="write progress as JSON lines to standard output")
    return parser


def spin(recorder: Recorder) -> int:
    """Record until an interrupt: 0, or 1 where the file takes no more."""
    try:
        while rclpy.ok():
            rclpy.spin_once(recorder, timeout_sec=LONGEST_SPIN_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except OSError as error:
        recorder.get_logger().fatal(f"the recording stops after {recorder.counts.total()} messages: {error}")
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``ros2 run pomato_ros recorder``: records until SIGINT or SIGTERM; 1 if the file cannot be written."""
    argv = list(sys.argv if arguments is None else arguments)
    options = make_parser().parse_args(own_arguments(argv))
    init_interruptible(argv)
    try:
        recorder = Recorder(options.out, options.node)
    except RecordingError as error:
        rclpy.logging.get_logger("recorder").fatal(str(error))
        rclpy.try_shutdown()
        return 1
    if options.progress:
        recorder.create_timer(REPORT_PERIOD_S, lambda: report(recorder))
    status = spin(recorder)
    try:
        recorder.close()
    except OSError as error:
        rclpy.logging.get_logger("recorder").fatal(f"'{options.out}' cannot be finished: {error}")
        status = 1
    rclpy.try_shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
