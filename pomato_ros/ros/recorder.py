"""Records every output of the node, and what it was fed, into one MCAP file until it is interrupted."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile

from pomato_ros.ros.recording import RecordingWriter, type_name_of
from pomato_ros.ros.signals import init_interruptible
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

QUEUE = 200
REPORT_PERIOD_S = 0.5


def recorded_topics(node_name: str) -> dict[str, tuple[Any, QoSProfile]]:
    """Type and quality of service of every topic to record, by its absolute name."""
    inputs = {f"/{topic.name}": (topic.message_type, deep(topic, reliable=True)) for topic in (IMAGE, CAMERA_INFO)}
    outputs = {topic.name.replace("~", node_name): (topic.message_type, deep(topic)) for topic in SCENE_OUTPUTS}
    recorded = {**inputs, **outputs, DIAGNOSTICS.name: (DIAGNOSTICS.message_type, deep(DIAGNOSTICS))}
    message_type = tf_message_type()
    if message_type is not None:
        recorded[TF_TOPIC] = (message_type, tf_qos(latched=False))
        recorded[TF_STATIC_TOPIC] = (message_type, tf_qos(latched=True))
    return recorded


def deep(topic: Topic, *, reliable: bool | None = None) -> QoSProfile:
    """A topic's own quality of service with a queue deep enough to lose nothing."""
    wanted = topic.reliable if reliable is None else reliable
    return Topic(topic.name, None, "", depth=QUEUE, reliable=wanted, latched=topic.latched).qos()


class Recorder(Node):
    """Subscribes without decoding and writes what comes."""

    def __init__(self, path: Path, node_name: str, **node_options: Any) -> None:
        """Record the node ``node_name`` (absolute) into ``path``."""
        super().__init__("recorder", **node_options)
        self.counts: Counter[str] = Counter()
        self._writer = RecordingWriter(path)
        for topic, (message_type, qos) in recorded_topics(node_name).items():
            channel = self._writer.add_topic(topic, type_name_of(message_type))
            self.create_subscription(message_type, topic, self._make_callback(topic, channel), qos, raw=True)

    def _make_callback(self, topic: str, channel: int) -> Callable[[bytes, Any], None]:
        def write(data: bytes, info: Any) -> None:
            received_ns = time.time_ns()
            published_ns = int(info["source_timestamp"]) or received_ns
            self.counts[topic] += 1
            self._writer.write(channel, data, received_ns, published_ns)

        return write

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
        self.destroy_node()


def report(recorder: Recorder, node_name: str) -> None:
    """Tell a parent process how far things are: one JSON object on a line of standard output."""
    outputs = [topic.name.replace("~", node_name) for topic in SCENE_OUTPUTS]
    facts = {
        "steps": recorder.counts[ODOMETRY.name.replace("~", node_name)],
        "messages": recorder.counts.total(),
        "hears_node": all(recorder.count_publishers(name) for name in outputs),
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``ros2 run pomato_ros recorder``: records until SIGINT or SIGTERM."""
    argv = list(sys.argv if arguments is None else arguments)
    init_interruptible(argv)
    parser = argparse.ArgumentParser(prog="recorder", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("recording.mcap"), help="file to write")
    parser.add_argument("--node", default="/pomato", help="absolute name of the node to record")
    parser.add_argument("--progress", action="store_true", help="write progress as JSON lines to standard output")
    options = parser.parse_args(rclpy.utilities.remove_ros_args(argv)[1:])
    recorder = Recorder(options.out, options.node)
    if options.progress:
        recorder.create_timer(REPORT_PERIOD_S, lambda: report(recorder, options.node))
    try:
        rclpy.spin(recorder)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        recorder.close()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
