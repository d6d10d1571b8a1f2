"""MCAP files of ROS 2 messages, as Foxglove and ``ros2 bag`` read them."""

import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message

PROFILE, SCHEMA_ENCODING, MESSAGE_ENCODING = "ros2", "ros2msg", "cdr"
SEPARATOR = "=" * 80
QOS_KEY = "offered_qos_profiles"
# The two policies of each kind that are recorded, in the order of rmw's numbers 1 and 2.
POLICIES = {
    "history": ("keep_last", "keep_all"),
    "reliability": ("reliable", "best_effort"),
    "durability": ("transient_local", "volatile"),
    "liveliness": ("automatic", "manual_by_topic"),
}
NUMBERED_POLICIES = ("foxy", "galactic", "humble", "iron")
INFINITE = {"sec": 9223372036, "nsec": 854775807}  # RMW_DURATION_INFINITE
PRIMITIVES = frozenset(
    ("bool", "byte", "char", "string", "wstring", "float32", "float64")
    + tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
)


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One message of a recording."""

    topic: str
    received_ns: int  # when the recorder got it
    published_ns: int  # when its publisher sent it, same machine
    message: Any


def offered_qos_text(profiles: Sequence[QoSProfile], distribution: str = "") -> str:
    """The value of ``offered_qos_profiles`` as rosbag2 writes it: a YAML list, policies by name since Jazzy.

    Args:
        profiles: what the publishers of a topic offer.
        distribution: of the rosbag2 that is to read it; empty: the one that this process runs in.
    """
    by_number = (distribution or os.environ.get("ROS_DISTRO", "")) in NUMBERED_POLICIES
    return yaml.safe_dump([qos_entry(profile, by_number=by_number) for profile in profiles], sort_keys=False)


def qos_entry(profile: QoSProfile, *, by_number: bool = False) -> dict[str, Any]:
    """One quality of service as rosbag2 spells it."""
    second = {
        "history": profile.history == QoSHistoryPolicy.KEEP_ALL,
        "reliability": profile.reliability == QoSReliabilityPolicy.BEST_EFFORT,
        "durability": profile.durability != QoSDurabilityPolicy.TRANSIENT_LOCAL,
        "liveliness": False,
    }
    policies = {name: (index + 1 if by_number else POLICIES[name][index]) for name, index in second.items()}
    return {
        "history": policies["history"],
        "depth": max(1, int(profile.depth)),  # discovery does not carry it: 0 stands for unknown
        "reliability": policies["reliability"],
        "durability": policies["durability"],
        "deadline": dict(INFINITE),
        "lifespan": dict(INFINITE),
        "liveliness": policies["liveliness"],
        "liveliness_lease_duration": dict(INFINITE),
        "avoid_ros_namespace_conventions": False,
    }


class RecordingWriter:
    """Writes serialised messages as they come."""

    def __init__(self, path: Path) -> None:
        """Begin a new file, replacing an old one."""
        self._file = path.open("wb")
        self._writer = Writer(self._file, compression=CompressionType.ZSTD)
        self._writer.start(profile=PROFILE, library="pomato_ros")
        self._schemas: dict[str, int] = {}

    def add_topic(self, topic: str, type_name: str, offered: Sequence[QoSProfile] = ()) -> int:
        """Announce a topic of type ``package/msg/Name``; the channel that :meth:`write` wants.

        ``offered`` are the qualities of service of its publishers: ``ros2 bag play`` offers them again, and latched
        topics such as /tf_static stay latched.
        """
        if type_name not in self._schemas:
            definition = message_definition(type_name).encode("utf-8")
            self._schemas[type_name] = self._writer.register_schema(type_name, SCHEMA_ENCODING, definition)
        metadata = {QOS_KEY: offered_qos_text(offered)} if offered else {}
        return self._writer.register_channel(topic, MESSAGE_ENCODING, self._schemas[type_name], metadata)

    def write(self, channel: int, data: bytes, received_ns: int, published_ns: int) -> None:
        """Add one message in CDR."""
        self._writer.add_message(channel, log_time=received_ns, data=data, publish_time=published_ns)

    def close(self) -> None:
        """Write the index and close the file."""
        self._writer.finish()
        self._file.close()


def read_recording(path: Path, topics: set[str] | None = None) -> Iterator[RecordedMessage]:
    """The messages of a recording in the order they were received, of some or of all topics."""
    with path.open("rb") as file:
        for schema, channel, record in make_reader(file).iter_messages(topics=topics):
            if schema is None:
                continue
            message = deserialize_message(record.data, message_class(schema.name))
            yield RecordedMessage(channel.topic, record.log_time, record.publish_time, message)


def message_class(type_name: str) -> Any:
    """The Python class of ``package/msg/Name``."""
    package, _, name = type_name.partition("/msg/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def type_name_of(message_type: Any) -> str:
    """``package/msg/Name`` of a message class."""
    package = message_type.__module__.partition(".")[0]
    return f"{package}/msg/{message_type.__name__}"


def message_definition(type_name: str) -> str:
    """The text of a message and of every message inside it, in the layout of ROS 2 bags."""
    texts = {type_name: definition_text(type_name)}
    pending = [type_name]
    while pending:
        current = pending.pop()
        for inner in inner_types(texts[current], current.partition("/")[0]):
            if inner not in texts:
                texts[inner] = definition_text(inner)
                pending.append(inner)
    first, *others = texts.items()
    parts = [first[1], *(f"{SEPARATOR}\nMSG: {name.replace('/msg/', '/')}\n{text}" for name, text in others)]
    return "\n".join(parts)


def definition_text(type_name: str) -> str:
    """The installed .msg file of one message."""
    package, _, name = type_name.partition("/msg/")
    return (Path(get_package_share_directory(package)) / "msg" / f"{name}.msg").read_text(encoding="utf-8")


def inner_types(text: str, package: str) -> list[str]:
    """The message types that the fields of a definition have."""
    types = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        base = words[0].partition("[")[0].partition("<")[0]
        if base not in PRIMITIVES:
            types.append(full_type_name(base, package))
    return types


def full_type_name(name: str, package: str) -> str:
    """``package/msg/Name`` of a type as a definition writes it: ``Name``, ``package/Name`` or ``Header``."""
    if "/" in name:
        return f"{name.split('/')[0]}/msg/{name.split('/')[-1]}"
    return "std_msgs/msg/Header" if name == "Header" else f"{package}/msg/{name}"
