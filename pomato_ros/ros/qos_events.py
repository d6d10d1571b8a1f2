"""Says in diagnostics, in words, that two ends of a topic cannot talk to each other."""

from collections.abc import Callable
from typing import Any

from rclpy.qos import QoSPolicyKind


def incompatible_qos_recorder(
    conflicts: dict[str, str], topic: str, other_end: str, our_kind: str
) -> Callable[[Any], None]:
    """A callback that writes one sentence about an incompatible counterpart of ``topic`` into ``conflicts``."""

    def record(event: Any) -> None:
        policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        conflicts[topic] = (
            f"{topic}: a {other_end} another {policy} ({event.total_count} such); nothing passes between them. "
            f"Set qos_overrides.{topic}.{our_kind}.{policy}, or change the other end"
        )

    return record
