from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from nav_msgs.msg import Odometry
from pomato_ros.msg import Track, TrackArray
from rclpy.serialization import serialize_message

from pomato_ros.ros.recorder import recorded_topics
from pomato_ros.ros.recording import (
    RecordingWriter,
    message_class,
    message_definition,
    read_recording,
    type_name_of,
)
from pomato_ros.ros.topics import SCENE_OUTPUTS


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
    for message_type, _ in recorded_topics("/pomato").values():
        name = type_name_of(message_type)
        assert message_class(name) is message_type
        text = message_definition(name)
        assert text.count("MSG: ") == text.count("=" * 80)


def test_all_outputs_and_inputs_are_recorded() -> None:
    recorded = recorded_topics("/robot/pomato")
    assert {topic.name.replace("~", "/robot/pomato") for topic in SCENE_OUTPUTS} <= set(recorded)
    assert {"/image", "/camera_info", "/tf", "/tf_static", "/diagnostics"} <= set(recorded)


def test_selected_topics_only(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", "/tracks", [tracks()])
    assert list(read_recording(tmp_path / "a.mcap", {"/other"})) == []


def test_numbers_inside_a_message_survive_exactly(tmp_path: Path) -> None:
    odometry = Odometry()
    odometry.pose.pose.position.x = float(np.nextafter(1.0, 2.0))
    write(tmp_path / "a.mcap", "/odometry", [odometry])
    assert next(read_recording(tmp_path / "a.mcap")).message.pose.pose.position.x == np.nextafter(1.0, 2.0)
