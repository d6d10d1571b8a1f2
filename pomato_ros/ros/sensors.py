"""The sensors of the metric backends: what the node subscribes for them, and what a frame gets of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from pomato_ros.config import PomatoConfig
from pomato_ros.ros import topics
from pomato_ros.ros.backend_choice import sensor_name
from pomato_ros.ros.depth_frames import ColourImage, DepthFrames
from pomato_ros.ros.rectify import Rectifier
from pomato_ros.ros.right_frames import RightFrames
from pomato_ros.ros.status import NodeStatus, SensorStatus
from pomato_ros.ros.streams import StreamMonitor
from pomato_ros.structures import PoseArray

Subscribe = Callable[[topics.Topic, str, Callable[[Any], None], StreamMonitor | None], Any]


class Sensors:
    """Depth camera or right camera, as the backend needs; both absent for a network."""

    def __init__(
        self, config: PomatoConfig, status: NodeStatus, find_pose: Callable[[str, str], PoseArray | None]
    ) -> None:
        """``find_pose(target, source)`` is target <- source (4, 4) from TF, or None."""
        status.depth, status.right = SensorStatus(), SensorStatus()
        images, backend = status.input.stream, config.model.backend
        self._config, self._status = config, status
        self._depth = DepthFrames(config, status.depth, images, find_pose) if backend == "rgbd" else None
        self._right = RightFrames(config, status.right, images) if backend == "stereo" else None

    @property
    def used(self) -> bool:
        """Whether the backend has any."""
        return self._depth is not None or self._right is not None

    def subscribe(self, listen: Subscribe, resolve: Callable[[str], str]) -> list[Any]:
        """The subscriptions; ``listen(topic, name, on_message, stream)`` makes one, ``resolve`` remaps a name."""
        if self._depth is not None:
            compressed = self._config.sensor.depth_transport == "compressedDepth"
            topic = topics.DEPTH_INPUT_COMPRESSED if compressed else topics.DEPTH_INPUT
            name = sensor_name(topic.name, resolve)
            return [
                listen(topic, name, self._depth.on_message, self._status.depth.stream),
                listen(topics.DEPTH_INPUT_INFO, "", self._depth.on_camera_info, self._depth.infos),
            ]
        if self._right is not None:
            compressed = self._config.input.image_transport == "compressed"
            topic = topics.RIGHT_INPUT_COMPRESSED if compressed else topics.RIGHT_INPUT
            name = sensor_name(topic.name, resolve)
            return [
                listen(topic, name, self._right.on_message, self._status.right.stream),
                listen(topics.RIGHT_INPUT_INFO, "", self._right.on_camera_info, None),
            ]
        return []

    def clear(self) -> None:
        """Time jumped."""
        for one in (self._depth, self._right):
            if one is not None:
                one.clear()

    def depth_m(self, image: ColourImage) -> NDArray[np.float32] | None:
        """As :meth:`DepthFrames.depth_m`; None without a depth camera."""
        return None if self._depth is None else self._depth.depth_m(image)

    def right(
        self, stamp_ns: int, left_info: CameraInfo | None, left: Rectifier | None
    ) -> tuple[NDArray[np.uint8], float] | None:
        """As :meth:`RightFrames.right`; None without a right camera."""
        return None if self._right is None else self._right.right(stamp_ns, left_info, left)
