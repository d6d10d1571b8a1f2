"""One run of the node, from activate to deactivate: subscriptions, TF, and the worker between them and the outputs."""

import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo

from pomato_ros.config import PomatoConfig
from pomato_ros.ros import topics
from pomato_ros.ros.camera_transform import CAMERA_LINK, CameraTransform
from pomato_ros.ros.frames import assumed_mount
from pomato_ros.ros.intake import NewestFrame
from pomato_ros.ros.outputs import Outputs
from pomato_ros.ros.perception import Engine, Perception
from pomato_ros.ros.scale_inputs import ScaleInputs
from pomato_ros.ros.sensor_input import SensorInput
from pomato_ros.ros.sensors import Sensors
from pomato_ros.ros.status import NodeStatus, ScaleInputStatus, SceneStatus
from pomato_ros.ros.streams import StreamMonitor
from pomato_ros.ros.transforms import Mount, TransformListener, find_mount
from pomato_ros.ros.worker import Worker
from pomato_ros.structures import PoseArray

CAMERA_INFO_GRACE_S = 1.0  # a camera_info that is being published may still be on its way when the first image comes
RIVAL_WATCH_S = 5.0  # how long /tf is watched for another publisher of odom -> base


class Run:
    """Made on activate, stopped on deactivate; methods are called from the executor's thread unless they say else."""

    def __init__(
        self, node: LifecycleNode, engine: Engine, outputs: Outputs, config: PomatoConfig, status: NodeStatus
    ) -> None:
        """Subscribe and start the worker."""
        self._node = node
        self._config = config
        self._status = status
        self._camera_transforms: dict[str, CameraTransform] = {}  # by image frame
        self._frames_waited_for: set[str] = set()
        self._listen_again = threading.Event()
        self._camera_info_came = threading.Event()
        self.newest_camera_info: CameraInfo | None = None
        self.newest_frame = NewestFrame()
        outputs.start_over()
        status.scene, status.scale_input = SceneStatus(), ScaleInputStatus()
        self._scale_inputs = ScaleInputs(config, status.scale_input, self._find_pose)
        self._sensors = Sensors(config, status, self._find_sensor)
        self.listener = TransformListener(
            node,
            outputs.broadcaster.has_sent,
            config.frames.odom_frame,
            config.frames.base_frame,
            also=self._scale_inputs.on_transforms if config.scale.scale_source == "tf" else None,
        )
        self._perception = Perception(
            engine,
            config,
            status,
            self._find_mount,
            self._forget_transforms,
            self._scale_inputs,
            self._sensors,
            outputs.tracks_are_read,
        )
        engine.reset()
        self._worker = Worker(self._perception, self.newest_frame, self._camera_info, outputs.publish, status)
        self._worker.max_rate_hz = config.window.max_rate_hz
        status.input.stream.forget_stamps()
        self._inputs = self._subscribe()
        if config.scale.scale_source == "tf":
            status.scale_input.stream.topic = topics.TF_TOPIC
            status.scale_input.own_publishers = int(outputs.broadcaster.available)
        self._watched_since_s = status.active_since_s = time.monotonic()
        self._worker.start()

    def stop(self) -> None:
        """Unsubscribe and wait for the step at hand."""
        for one in self._inputs:
            one.destroy()
        self.listener.tree.close()  # a worker that waits for a mount waits no longer
        self._worker.stop()
        self._perception.give_up_waiting("the node was deactivated")
        self.listener.destroy()
        for transform in self._camera_transforms.values():
            transform.withdraw()
        self._status.active_since_s = None

    def reset(self) -> None:
        """Clear window, tracks, pose and scale before the next frame."""
        self._worker.ask_reset()

    def jump_in_time(self) -> None:
        """The ROS clock jumped back or changed: clear everything, dynamic TF too."""
        self._forget_transforms()
        self._listen_to_transforms_again()
        self._worker.ask_reset(time_jumped=True)

    def change_config(self, config: PomatoConfig) -> None:
        """A dynamic parameter changed."""
        self._config = config
        self._worker.change_config(config)

    def watch(self) -> None:
        """Once a second: hear the inputs as publishers offer them now, and see what is on TF."""
        for one in self._inputs:
            one.match()
        self._worker.revive()
        came = self._status.input
        came.other_transport = self._other_transport()
        metres = self._status.scale_input
        if self._config.scale.scale_source == "tf":
            metres.stream.publishers = max(0, self._node.count_publishers(topics.TF_TOPIC) - metres.own_publishers)
        self._watch_transforms()

    def _other_transport(self) -> str:
        """The topic of the same images in the form that is not subscribed, if somebody publishes it."""
        name = self._status.input.stream.topic
        compressed = self._config.input.image_transport == "compressed"
        other = name.removesuffix("/compressed") if compressed else f"{name}/compressed"
        return other if self._node.count_publishers(other) else ""

    def _watch_transforms(self) -> None:
        """Warn once of another publisher of our odometry; leave /tf, which is busy, once the mount is known."""
        if self._listen_again.is_set():
            self._listen_to_transforms_again()
        mount = self._status.mount
        if self.listener.rival and not mount.other_odometry:
            names = sorted({info.node_name for info in self._node.get_publishers_info_by_topic(topics.TF_TOPIC)})
            mount.other_odometry = (
                f"somebody else also publishes TF {self.listener.rival} (on /tf: {', '.join(names)}): set publish_tf "
                "false, or invert_tf true with another odom_frame"
            )
            self._node.get_logger().warning(mount.other_odometry)
        watched_s = time.monotonic() - self._watched_since_s
        if watched_s > RIVAL_WATCH_S and self._status.engine.steps > 0 and not mount.assumed:
            self.listener.stop_dynamic()

    def _forget_transforms(self) -> None:
        """Time jumped: old transforms are wrong, and the mount may be waited for again. Called by any thread."""
        self.listener.tree.clear_dynamic()
        self._frames_waited_for.clear()
        self._listen_again.set()

    def _listen_to_transforms_again(self) -> None:
        self._listen_again.clear()
        self._watched_since_s = time.monotonic()
        self.listener.start_dynamic()

    def _subscribe(self) -> list[SensorInput]:
        compressed = self._config.input.image_transport == "compressed"
        image_topic = topics.IMAGE_COMPRESSED if compressed else topics.IMAGE
        # A remapping of `image` does not cover `image/compressed`: resolve first, then append.
        image_name = self._node.resolve_topic_name(topics.IMAGE.name) + ("/compressed" if compressed else "")
        info_name = self._node.resolve_topic_name(topics.CAMERA_INFO.name)
        came = self._status.input
        came.camera_info_topic = info_name
        return [
            self._listen(image_topic, image_name, self._on_image, came.stream),
            self._listen(topics.CAMERA_INFO, info_name, self._on_camera_info),
            *self._subscribe_for_scale(),
            *self._sensors.subscribe(self._listen, self._node.resolve_topic_name),
        ]

    def _subscribe_for_scale(self) -> list[SensorInput]:
        """The topics that ``scale_source`` needs; a metric backend needs none."""
        if self._sensors.used:
            return []
        inputs, stream = self._scale_inputs, self._status.scale_input.stream
        if self._config.scale.scale_source == "depth":
            return [
                self._listen(topics.DEPTH_INPUT, "", inputs.on_message, stream),
                self._listen(topics.DEPTH_INPUT_INFO, "", inputs.on_depth_info),
            ]
        if self._config.scale.scale_source == "odometry":
            return [self._listen(topics.ODOMETRY_PRIOR, "", inputs.on_message, stream)]
        return []

    def _listen(
        self, topic: topics.Topic, name: str, on_message: Callable[[Any], None], stream: StreamMonitor | None = None
    ) -> SensorInput:
        """A subscription of ``name`` (absolute), or of the topic's own name where it is empty."""
        name = name or self._node.resolve_topic_name(topic.name)
        stream = StreamMonitor() if stream is None else stream
        return SensorInput(self._node, topic, name, on_message, stream, self._status.input.qos_conflicts)

    def _on_image(self, message: Any) -> None:
        """Store only: the worker takes the newest."""
        came = self._status.input
        if not came.paused:
            came.frames_passed_over += self.newest_frame.put(message)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.newest_camera_info = message
        self._camera_info_came.set()

    def _camera_info(self) -> CameraInfo | None:
        """The newest calibration; waits a moment for a first one that is being published. Called by the worker."""
        topic = self._status.input.camera_info_topic
        if not self._camera_info_came.is_set() and self._node.count_publishers(topic) > 0:
            self._camera_info_came.wait(CAMERA_INFO_GRACE_S)
            self._camera_info_came.set()
        return self.newest_camera_info

    def _find_mount(self, camera_frame: str) -> Mount:
        """How the camera sits on the base; waits for TF once a frame. Called by the worker."""
        frames = self._config.frames
        timeout_s = frames.tf_timeout if camera_frame not in self._frames_waited_for else 0.0
        self._frames_waited_for.add(camera_frame)
        deadline_s = time.monotonic() + timeout_s
        if frames.publish_camera_tf == CAMERA_LINK:
            self._offer_camera_link(camera_frame, timeout_s)
        remaining_s = max(0.0, deadline_s - time.monotonic())
        mount = find_mount(self.listener.tree, frames.base_frame, camera_frame, remaining_s)
        if frames.publish_camera_tf == "auto":
            self._send_assumed(mount, camera_frame)
        status = self._status.mount
        if mount.warning and mount.warning != status.warning:
            self._node.get_logger().warning(mount.warning)
        status.assumed, status.warning = mount.assumed, mount.warning
        status.source = "assumed, looking forward" if mount.assumed else f"TF {frames.base_frame} <- {camera_frame}"
        return mount

    def _find_pose(self, target: str, camera_frame: str) -> PoseArray | None:
        """Target <- camera from TF, or by the assumed mount where there is none. Called by the worker."""
        pose = self.listener.tree.wait_for(target, camera_frame, 0.0)
        if pose is None and target == self._config.frames.base_frame and self._status.mount.assumed:
            return assumed_mount()
        return pose

    def _find_sensor(self, camera_frame: str, sensor_frame: str) -> PoseArray | None:
        """Camera <- another sensor from TF; waits for it once a frame. Called by the worker."""
        timeout_s = self._config.frames.tf_timeout if sensor_frame not in self._frames_waited_for else 0.0
        self._frames_waited_for.add(sensor_frame)
        return self.listener.tree.wait_for(camera_frame, sensor_frame, timeout_s)

    def _camera_transform(self, camera_frame: str) -> CameraTransform:
        if camera_frame not in self._camera_transforms:
            frames = self._config.frames
            made = CameraTransform(self._node, self.listener.tree, frames.odom_frame, frames.base_frame)
            self._camera_transforms[camera_frame] = made
            self.listener.is_own_static = made.is_ours
        return self._camera_transforms[camera_frame]

    def _send_assumed(self, mount: Mount, camera_frame: str) -> None:
        """Let others see the camera where this node assumes it, until somebody sends a mount of its own."""
        if mount.assumed:
            self._camera_transform(camera_frame).join_base(camera_frame)
        elif camera_frame in self._camera_transforms:
            self._camera_transforms.pop(camera_frame).withdraw()

    def _offer_camera_link(self, camera_frame: str, timeout_s: float) -> None:
        """Send camera_link -> image frame, unless somebody else is heard to do so in time."""
        if camera_frame in self._camera_transforms:
            return
        transform = self._camera_transform(camera_frame)
        parent = self.listener.tree.wait_for_parent(camera_frame, timeout_s)
        if parent is None:
            transform.join_camera_link(camera_frame)
        elif parent != CAMERA_LINK:
            self._node.get_logger().warning(
                f"publish_camera_tf is {CAMERA_LINK}, but '{camera_frame}' already hangs on '{parent}': sending nothing"
            )
