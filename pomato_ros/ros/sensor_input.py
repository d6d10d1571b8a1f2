"""One subscription of a sensor's topic, of any kind: heard as its publishers offer it, every message accounted for.

A reliable subscription hears nothing of a best-effort publisher, and a best-effort one loses most images above half a
megabyte of a publisher with Fast DDS defaults. So reliability, and for calibrations durability, follow the publishers.
"""

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.parameters import overrides_of
from pomato_ros.ros.qos_events import incompatible_qos_recorder
from pomato_ros.ros.streams import StreamMonitor
from pomato_ros.ros.topics import Topic

RELIABLE, BEST_EFFORT = QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT
LATCHED, VOLATILE = QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSDurabilityPolicy.VOLATILE


class SensorInput:
    """Subscribes on construction; all methods and callbacks belong to the executor's thread."""

    def __init__(
        self,
        node: Node,
        topic: Topic,
        name: str,
        on_message: Callable[[Any], None],
        stream: StreamMonitor,
        conflicts: dict[str, str],
    ) -> None:
        """Listen to ``name``.

        Args:
            node: owns the subscription.
            topic: message type, queue length, and whether a latched message is worth asking for.
            name: absolute name, already remapped.
            on_message: called with each message; must be quick.
            stream: accounts for the messages.
            conflicts: by topic, one sentence for each pair of ends that cannot talk to each other.
        """
        self._node, self._topic, self._name = node, topic, name
        self._on_message, self._stream, self._conflicts = on_message, stream, conflicts
        self._record_conflict = incompatible_qos_recorder(conflicts, name, "publisher offers", "subscription")
        given = overrides_of(node)
        self._set_by_user = {
            kind
            for kind in (QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
            if f"qos_overrides.{name}.subscription.{kind.name.lower()}" in given
        }
        stream.topic = name
        self._wanted: tuple[QoSReliabilityPolicy, QoSDurabilityPolicy] = (RELIABLE, VOLATILE)
        self._match_soon = node.create_guard_condition(self.match)
        self._subscription: Any = self._subscribe()
        self.match()

    def match(self) -> None:
        """Listen as the publishers of this moment offer; call it again now and then, since publishers come and go."""
        if self._subscription is None:
            return
        offers = [info.qos_profile for info in self._node.get_publishers_info_by_topic(self._name)]
        self._stream.publishers = len(offers)
        if not offers:
            return
        reliable = all(offer.reliability == RELIABLE for offer in offers)
        latched = self._topic.latched_if_offered and all(offer.durability == LATCHED for offer in offers)
        wanted = (RELIABLE if reliable else BEST_EFFORT, LATCHED if latched else VOLATILE)
        if wanted != self._wanted:
            self._wanted = wanted
            self._node.destroy_subscription(self._subscription)
            if not self._set_by_user:
                self._conflicts.pop(self._name, None)
            self._subscription = self._subscribe()

    def destroy(self) -> None:
        """Stop listening."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._node.destroy_guard_condition(self._match_soon)
            self._subscription = None
            self._stream.reliable = None

    def _subscribe(self) -> Any:
        reliability, durability = self._wanted
        qos = QoSProfile(depth=self._topic.depth, reliability=reliability, durability=durability)
        policies = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, *sorted(self._set_by_user)]
        events: dict[str, Any] = {
            "incompatible_qos": self._on_incompatible,
            "matched": lambda _event: self._match_soon.trigger(),
        }
        accounts = {"message_lost": lambda event: self._stream.note_lost(event.total_count_change)}
        for callbacks in (events | accounts, events, {}):  # not every middleware reports all of them
            try:
                subscription = self._node.create_subscription(
                    self._topic.message_type,
                    self._name,
                    self._take,
                    qos,
                    event_callbacks=SubscriptionEventCallbacks(**callbacks),
                    qos_overriding_options=QoSOverridingOptions(policies),
                )
            except UnsupportedEventTypeError:
                continue
            self._stream.reliable = subscription.qos_profile.reliability == RELIABLE
            return subscription
        raise RuntimeError(f"no subscription of '{self._name}': the middleware supports none of its events")

    def _take(self, message: Any, info: Any) -> None:
        number = info.get("publication_sequence_number") if self._stream.publishers <= 1 else None
        self._stream.note(stamp_ns_from_time(message.header.stamp), number)
        self._on_message(message)

    def _on_incompatible(self, event: Any) -> None:
        self._record_conflict(event)
        self._match_soon.trigger()
