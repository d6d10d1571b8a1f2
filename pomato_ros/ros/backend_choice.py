"""Which backend `backend: auto` becomes: that of the sensor that is connected when the node is activated."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node

from pomato_ros.config import AUTO, MONOCULAR, PomatoConfig
from pomato_ros.ros import topics

DISCOVERY_S = 0.5  # longest wait for publishers of a node that has just joined the graph
SETTLED_S = 0.2  # after the first publisher is seen, for those of the same driver
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """A backend and why it was chosen."""

    backend: str
    reason: str

    def applied(self, config: PomatoConfig) -> PomatoConfig:
        """``config`` with this backend."""
        return config.with_values({"backend": self.backend})


def sensor_topics(config: PomatoConfig) -> dict[str, str]:
    """By backend, the topic of the sensor that it needs beside the image; relative, not yet remapped."""
    compressed = config.sensor.depth_transport == "compressedDepth"
    depth = topics.DEPTH_INPUT_COMPRESSED if compressed else topics.DEPTH_INPUT
    right = topics.RIGHT_INPUT_COMPRESSED if config.input.image_transport == "compressed" else topics.RIGHT_INPUT
    return {"rgbd": depth.name, "stereo": right.name}


def choose_backend(
    config: PomatoConfig, resolve: Callable[[str], str], publishers: Callable[[str], int]
) -> BackendChoice:
    """The backend of a node with these options on this graph.

    A sensor is there where its topic has a publisher, or where the topic was remapped, which nobody does without one.

    Args:
        config: of the node.
        resolve: the absolute name of a relative topic, remapped.
        publishers: how many publish an absolute topic.
    """
    if config.model.backend != AUTO:
        return BackendChoice(config.model.backend, "set by the parameter backend")
    if config.scale.scale_source != "model":
        return BackendChoice(MONOCULAR, f"auto: scale_source {config.scale.scale_source} gives metres to a network")
    if config.model.checkpoint:
        return BackendChoice(MONOCULAR, "auto: checkpoint names weights of a network")
    for backend, topic in sensor_topics(config).items():
        name = sensor_name(topic, resolve)
        if publishers(name):
            return BackendChoice(backend, f"auto: '{name}' has a publisher")
        if is_remapped(topic, resolve):
            return BackendChoice(backend, f"auto: the topic was remapped to '{name}', without a publisher yet")
    names = " and ".join(f"'{sensor_name(topic, resolve)}'" for topic in sensor_topics(config).values())
    return BackendChoice(MONOCULAR, f"auto: nobody published {names} at activation")


def sensor_name(topic: str, resolve: Callable[[str], str]) -> str:
    """The absolute name of a sensor's topic; a transport's suffix is put behind the name that was remapped."""
    for transport in ("/compressedDepth", "/compressed"):
        if topic.endswith(transport):
            return resolve(topic.removesuffix(transport)) + transport
    return resolve(topic)


def is_remapped(topic: str, resolve: Callable[[str], str]) -> bool:
    """Whether a topic is called otherwise than in the node's namespace."""
    name = topic.removesuffix("/compressedDepth").removesuffix("/compressed")
    return resolve(name) != resolve("x").removesuffix("x") + name


def choice_on_graph(node: Node, config: PomatoConfig) -> BackendChoice:
    """The backend as the graph is now."""
    return choose_backend(config, node.resolve_topic_name, node.count_publishers)


def wait_for_discovery(node: Node, config: PomatoConfig) -> None:
    """Return when the publishers of a running driver are known, or after half a second at most; only auto waits."""
    if config.model.backend != AUTO or choice_on_graph(node, config).backend != MONOCULAR:
        return
    watched = [topics.IMAGE.name, f"{topics.IMAGE.name}/compressed", topics.CAMERA_INFO.name]
    names = [sensor_name(name, node.resolve_topic_name) for name in watched]
    deadline_s = time.monotonic() + DISCOVERY_S
    while time.monotonic() < deadline_s:
        if any(node.count_publishers(name) for name in names):
            deadline_s = min(deadline_s, time.monotonic() + SETTLED_S)
            names = []
        if choice_on_graph(node, config).backend != MONOCULAR:
            return
        time.sleep(POLL_S)
