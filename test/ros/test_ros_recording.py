import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from nav_msgs.msg import Odometry
from pomato_ros.msg import Track, TrackArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image

from pomato_ros.ros.recorder import Recorder, RecordingError, open_recording, recorded_topics
from pomato_ros.ros.recording import (
    RecordingWriter,
    message_class,
    message_definition,
    offered_qos_text,
    read_recording,
    type_name_of,
)
from pomato_ros.ros.topics import SCENE_OUTPUTS

BEST_EFFORT = QoSReliabilityPolicy.BEST_EFFORT
QOS_FIELDS = {"history", "depth", "reliability", "durability", "deadline", "lifespan", "liveliness"}
QOS_FIELDS |= {"liveliness_lease_duration", "avoid_ros_namespace_conventions"}


def write(path: Path, topic: str, messages: list[object]) -> None:
    writer = RecordingWriter(path)
    channel = writer.add_topic(topic, type_name_of(type(messages[0])))
    for index, message in enumerate(messages):
        writer.write(channel, serialize_message(message), 100 + index, 10 + index)
    writer.close()


def tracks() -> TrackArray:
    message = TrackArray(tracks=[Track(id=7, confidence=2.5, visible=True, age=3), Track(id=9, dynamic=True)])
    message.header.stamp.sec, message.header.stamp.nanosec = 5, 123_456_789
    message.tracks[1].velocity.y = -1.5
    return message


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    odometry = Odometry(child_frame_id="base_link")
    odometry.pose.covariance = [float(value) for value in range(36)]
    write(tmp_path / "a.mcap", "/odometry", [odometry, Odometry()])
    records = list(read_recording(tmp_path / "a.mcap"))
    assert [record.message for record in records] == [odometry, Odometry()]
    assert [(record.received_ns, record.published_ns) for record in records] == [(100, 10), (101, 11)]


def test_another_reader_understands_the_file_by_its_definitions_alone(tmp_path: Path) -> None:
    """Foxglove has no installed messages either: it reads them by the definitions inside the file."""
    write(tmp_path / "a.mcap", "/tracks", [tracks()])
    with (tmp_path / "a.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        message = next(iter(reader.iter_decoded_messages())).decoded_message
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 123_456_789)
    assert [(track.id, track.visible, track.dynamic, track.age) for track in message.tracks] == [
        (7, True, False, 3),
        (9, False, True, 0),
    ]
    assert message.tracks[1].velocity.y == -1.5


def test_every_recorded_type_has_a_complete_definition() -> None:
    for topic in recorded_topics("/pomato").values():
        name = type_name_of(topic.message_type)
        assert message_class(name) is topic.message_type
        text = message_definition(name)
        assert text.count("MSG: ") == text.count("=" * 80)


def test_all_outputs_and_inputs_are_recorded() -> None:
    recorded = recorded_topics("/robot/pomato")
    assert {topic.name.replace("~", "/robot/pomato") for topic in SCENE_OUTPUTS} <= set(recorded)
    assert {"/image", "/camera_info", "/tf", "/tf_static", "/diagnostics"} <= set(recorded)


def offered_in(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What each channel says that its publishers offered."""
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    return {
        channel.topic: yaml.safe_load(channel.metadata["offered_qos_profiles"]) for channel in summary.channels.values()
    }


def test_a_recording_keeps_what_the_publishers_of_each_topic_offer(tmp_path: Path) -> None:
    """`ros2 bag play` offers it again: /tf_static must be latched, whoever records it."""
    rclpy.init(args=[])
    recorder = Recorder(tmp_path / "a.mcap", parameter_overrides=[])
    publisher = recorder.create_publisher(Image, "/image", QoSProfile(depth=3, reliability=BEST_EFFORT))
    reliable = recorder.create_publisher(CameraInfo, "/camera_info", 7)
    try:
        while not recorder.counts["/camera_info"]:
            reliable.publish(CameraInfo())
            rclpy.spin_once(recorder, timeout_sec=0.05)
    finally:
        recorder.close()
        rclpy.shutdown()
    assert publisher is not None
    offered = offered_in(tmp_path / "a.mcap")
    assert set(offered) == set(recorded_topics("/pomato"))
    assert offered["/tf_static"][0]["durability"] == "transient_local"
    assert offered["/pomato/path"][0]["durability"] == "transient_local"
    assert offered["/tf"][0]["durability"] == "volatile"
    assert offered["/camera_info"][0]["reliability"] == "reliable"
    assert all(set(entry) == QOS_FIELDS for entries in offered.values() for entry in entries)
    assert all(entry["depth"] >= 1 for entries in offered.values() for entry in entries)


def test_humble_reads_policies_by_number_and_jazzy_by_name() -> None:
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    for distribution, durability, reliability in (("humble", 1, 1), ("jazzy", "transient_local", "reliable")):
        (entry,) = yaml.safe_load(offered_qos_text([latched], distribution))
        assert (entry["durability"], entry["reliability"]) == (durability, reliability)
        assert entry["history"] == (1 if distribution == "humble" else "keep_last")
        assert set(entry) == QOS_FIELDS
    assert "&" not in offered_qos_text([latched, latched])  # no YAML anchors


def test_a_recorder_in_a_namespace_hears_what_the_node_there_hears(tmp_path: Path) -> None:
    rclpy.init(args=["--ros-args", "-r", "image:=/camera/image_raw"])
    recorder = Recorder(tmp_path / "a.mcap", namespace="front")
    try:
        heard = {subscription.topic_name for subscription in recorder.subscriptions}
    finally:
        recorder.close()
        rclpy.shutdown()
    assert {"/camera/image_raw", "/front/camera_info", "/front/pomato/odometry", "/tf_static"} <= heard


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recorder_on_a_silent_graph_ends_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "a.mcap"
    command = [sys.executable, "-m", "pomato_ros.ros.recorder", "--progress", "--out", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("{")  # it spins
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert list(read_recording(path)) == []


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="nowhere"):
        open_recording(tmp_path / "nowhere" / "a.mcap")


def test_selected_topics_only(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", "/tracks", [tracks()])
    assert list(read_recording(tmp_path / "a.mcap", {"/other"})) == []


def test_numbers_inside_a_message_survive_exactly(tmp_path: Path) -> None:
    odometry = Odometry()
    odometry.pose.pose.position.x = float(np.nextafter(1.0, 2.0))
    write(tmp_path / "a.mcap", "/odometry", [odometry])
    assert next(read_recording(tmp_path / "a.mcap")).message.pose.pose.position.x == np.nextafter(1.0, 2.0)
