"""What `pomato node --help` says beside its own options: topics from the table, parameters from the config."""

from pomato_ros.config import iter_options
from pomato_ros.ros import topics
from pomato_ros.ros.recording import type_name_of
from pomato_ros.ros.usage import usage_text


def node_usage() -> str:
    """Every topic of the node with its type, and every parameter with its default."""
    listed = [topic for topic in vars(topics).values() if isinstance(topic, topics.Topic) and topic.message_type]
    rows = [
        (topic.name, type_name_of(topic.message_type).replace("/msg/", "/"), f"{direction(topic)}: {topic.description}")
        for topic in listed
    ]
    parameters = {info.name: (str(info.default), info.description) for info in iter_options()}
    return usage_text(rows, parameters)


def direction(topic: topics.Topic) -> str:
    """Whether a topic is read or written."""
    return "out" if topic.name.startswith(("~/", topics.DIAGNOSTICS.name)) else "in"
