"""Waiting for other nodes of the graph."""

from rclpy.node import Node


def full_name(node: Node, name: str) -> str:
    """The absolute name of a node that ``node`` calls ``name``: relative names are in its own namespace."""
    return name if name.startswith("/") else f"{node.get_namespace().rstrip('/')}/{name}"


def is_subscriber(node: Node, topic: str, name: str) -> bool:
    """Whether the node ``name`` subscribes to ``topic`` (absolute); a lifecycle node does so once it is active."""
    wanted = full_name(node, name)
    subscribers = node.get_subscriptions_info_by_topic(topic)
    return any(f"{info.node_namespace.rstrip('/')}/{info.node_name}" == wanted for info in subscribers)
