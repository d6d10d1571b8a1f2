"""Publishes what a step says: TF first, then each topic that somebody listens to."""

import time
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions

from pomato_ros.config import PomatoConfig
from pomato_ros.ros.history import History
from pomato_ros.ros.perception import StepResult
from pomato_ros.ros.qos_events import incompatible_qos_recorder
from pomato_ros.ros.status import NodeStatus
from pomato_ros.ros.step_messages import StepMessages
from pomato_ros.ros.topics import DYNAMIC_POINTS, OBJECTS, SCENE_OUTPUTS, TRACK_READERS
from pomato_ros.ros.transforms import OdometryBroadcaster


class Outputs:
    """All publishers of the node but diagnostics; :meth:`publish` is called by the worker."""

    def __init__(self, node: LifecycleNode, config: PomatoConfig, status: NodeStatus) -> None:
        """Create the publishers; they send nothing until the node is active."""
        self._node = node
        self._status = status
        self.config = config  # replaced when a dynamic parameter changes
        self.history = History(config.output.path_max, config.output.trail_length)
        self._epoch: tuple[int, int] | None = None
        self._dynamic_is_empty = False
        frames = config.frames
        self.broadcaster = OdometryBroadcaster(node, frames.odom_frame, frames.base_frame, inverted=frames.invert_tf)
        status.output.tf_available = self.broadcaster.available
        self._publishers = {topic: self._create(topic) for topic in SCENE_OUTPUTS}
        if OBJECTS not in self._publishers:
            node.get_logger().info("no ~/objects: vision_msgs is not installed (ros-<distro>-vision-msgs)")

    def _create(self, topic: Any) -> Any:
        name = self._node.resolve_topic_name(topic.name)
        recorder = incompatible_qos_recorder(self._status.input.qos_conflicts, name, "subscriber wants", "publisher")
        return self._node.create_lifecycle_publisher(
            topic.message_type,
            topic.name,
            topic.qos(),
            event_callbacks=PublisherEventCallbacks(incompatible_qos=recorder),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def destroy(self) -> None:
        """Remove all publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}
        self.broadcaster.destroy()

    def publish(self, result: StepResult) -> None:
        """Send one step and note how long it took since the image came."""
        started_s = time.monotonic()
        self._enter_epoch(result)
        self.history.add(result)
        self._send_transform(result)
        messages = StepMessages(result, self.config, self.history, self._status)
        wanted = [topic for topic, publisher in self._publishers.items() if self._wants(topic, publisher)]
        for topic in wanted:
            message = messages.build(topic)
            if self._says_something(topic, message):
                self._publishers[topic].publish(message)
        self._note(result, tuple(topic.name for topic in wanted), time.monotonic() - started_s)

    def _wants(self, topic: Any, publisher: Any) -> bool:
        """A latched topic is kept for late subscribers, but like all others built only while somebody listens."""
        if topic.name == "~/debug/image" and not self.config.output.publish_debug:
            return False
        return bool(publisher.get_subscription_count())

    def _says_something(self, topic: Any, message: Any) -> bool:
        """Whether to send a message: of the moving points an empty cloud only once, to clear what was shown before."""
        if topic is not DYNAMIC_POINTS:
            return True
        was_empty, self._dynamic_is_empty = self._dynamic_is_empty, message.width == 0
        return not (was_empty and self._dynamic_is_empty)

    def tracks_are_read(self) -> bool:
        """Whether somebody listens to what tracks are in."""
        return any(self._wants(topic, self._publishers[topic]) for topic in TRACK_READERS)

    def start_over(self) -> None:
        """Forget the last run."""
        self._epoch = None
        self.history.clear()

    def _enter_epoch(self, result: StepResult) -> None:
        """Clear what belongs to the time before a reset, and the newest TF stamp where time itself jumped."""
        epoch = (result.epoch, result.timeline)
        if self._epoch is not None and self._epoch[0] != result.epoch:
            self.history.clear()
        if self._epoch is None or self._epoch[1] != result.timeline:
            self.broadcaster.forget_stamps()
        self._epoch = epoch

    def _send_transform(self, result: StepResult) -> None:
        if not self.config.frames.publish_tf or result.odometry.lost:
            return
        sent = self.broadcaster.send(result.odometry.stamp_ns, result.odometry.odom_from_base)
        self._status.output.tf_sent += sent
        self._status.output.tf_refused += not sent

    def _note(self, result: StepResult, topics: tuple[str, ...], seconds: float) -> None:
        output = self._status.output
        output.messages.add_seconds(seconds)
        output.latency.add_seconds((time.monotonic_ns() - result.received_ns) * 1e-9)
        output.topics_with_subscribers = topics
        clock = self._node.get_clock()
        output.ros_time_is_simulated = bool(clock.ros_time_is_active)
        output.age_ms = (clock.now().nanoseconds - result.scene.stamp_ns) * 1e-6
