"""Every message of one step, each built only when it is asked for, all with the source image's stamp."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from pomato_ros.config import PomatoConfig
from pomato_ros.ros import topics
from pomato_ros.ros.conversions.camera_info import camera_info_from_intrinsics, source_intrinsics
from pomato_ros.ros.conversions.cloud import cloud_message, point_records
from pomato_ros.ros.conversions.images import MOVING_LEVEL, image_message, mask_levels, to_source_size
from pomato_ros.ros.conversions.objects import detection_array_message
from pomato_ros.ros.conversions.poses import odometry_message, path_message, pose_stamped_message
from pomato_ros.ros.conversions.stamps import time_from_stamp_ns
from pomato_ros.ros.conversions.tracks import track_array_message, trail_markers
from pomato_ros.ros.debug_image import draw_debug_image
from pomato_ros.ros.history import History
from pomato_ros.ros.perception import StepResult
from pomato_ros.ros.status import NodeStatus

TRAIL_WIDTH_M = 0.012


class StepMessages:
    """The messages of one step, by topic."""

    def __init__(self, result: StepResult, config: PomatoConfig, history: History, status: NodeStatus) -> None:
        """``history`` already contains ``result``."""
        self._result = result
        self._scene = result.scene
        self._config = config
        self._history = history
        self._status = status

    def build(self, topic: topics.Topic) -> Any:
        """The message for one of :data:`~pomato_ros.ros.topics.SCENE_OUTPUTS`."""
        return BUILDERS[topic](self)

    def camera_header(self) -> Header:
        """Stamp of the source image, in its frame."""
        return Header(stamp=time_from_stamp_ns(self._scene.stamp_ns), frame_id=self._result.camera_frame)

    def odom_header(self) -> Header:
        """Stamp of the source image, in the odometry frame."""
        return Header(stamp=time_from_stamp_ns(self._scene.stamp_ns), frame_id=self._config.frames.odom_frame)

    @cached_property
    def records(self) -> NDArray[np.void]:
        """Organised point records, every n-th row and column."""
        step, scene = self._config.output.points_stride, self._scene
        points, rgb = scene.points_camera[::step, ::step], scene.image_rgb[::step, ::step]
        return point_records(points, rgb, scene.confidence[::step, ::step], scene.dynamic_mask[::step, ::step])

    @cached_property
    def static_depth(self) -> NDArray[np.float32]:
        """Depth with movers as NaN."""
        return np.where(self._scene.dynamic_mask, np.float32(np.nan), self._scene.depth)

    def points(self) -> Any:
        """The organised cloud."""
        return cloud_message(self.records, self.camera_header())

    def static_points(self) -> Any:
        """Valid points that stand still."""
        return cloud_message(self._valid_records(dynamic=False), self.camera_header())

    def dynamic_points(self) -> Any:
        """Valid points that move."""
        return cloud_message(self._valid_records(dynamic=True), self.camera_header())

    def depth_image(self) -> Any:
        """Depth of everything."""
        return self._depth_message(self._scene.depth)

    def static_depth_image(self) -> Any:
        """Depth of what stands still."""
        return self._depth_message(self.static_depth)

    def depth_info(self) -> Any:
        """The camera of both depth images."""
        at_source = self._config.output.depth_resolution == "source"
        return self.source_info() if at_source else self.model_info()

    def model_info(self) -> Any:
        """The camera of the network's image."""
        return camera_info_from_intrinsics(self._scene.intrinsics, self.camera_header())

    def source_info(self) -> Any:
        """The camera of the source image, without distortion."""
        scene = self._scene
        intrinsics = source_intrinsics(scene.intrinsics, scene.model_from_source, scene.source_size_wh)
        return camera_info_from_intrinsics(intrinsics, self.camera_header())

    def mask_image(self) -> Any:
        """What moves, at the source image's size; static where the network saw nothing."""
        levels = self._at_source(mask_levels(self._scene.dynamic_mask), 0.0)
        return image_message(np.where(levels > 0, MOVING_LEVEL, 0), "mono8", self.camera_header())

    def confidence_image(self) -> Any:
        """Confidence of every pixel."""
        return image_message(self._scene.confidence, "32FC1", self.camera_header())

    def odometry(self) -> Any:
        """Pose and twist of the base."""
        return odometry_message(self._result.odometry, self.odom_header(), self._config.frames.base_frame)

    def path(self) -> Any:
        """Poses so far, each with its own stamp."""
        frame = self._config.frames.odom_frame
        poses = self._history.path(
            lambda stamp_ns, pose: pose_stamped_message(
                pose, Header(stamp=time_from_stamp_ns(stamp_ns), frame_id=frame)
            )
        )
        return path_message(poses, self.odom_header())

    def tracks(self) -> Any:
        """Every live track."""
        return track_array_message(self._scene.tracks, self._result.odom_from_world, self.odom_header())

    def track_markers(self) -> Any:
        """Trails of the live tracks."""
        tracks = self._scene.tracks
        dynamic_ids = set(tracks.ids[tracks.dynamic].tolist())
        return trail_markers(self._history.trails(), dynamic_ids, self.odom_header(), TRAIL_WIDTH_M)

    def objects(self) -> Any:
        """Every moving object that is seen."""
        return detection_array_message(self._scene.objects, self._result.odom_from_world, self.odom_header())

    def debug_image(self) -> Any:
        """The picture that tells how the node is."""
        status = self._status
        picture = draw_debug_image(self._scene, status.engine.rate.rate_hz(), status.output.latency.last_ms())
        return image_message(picture, "bgr8", self.camera_header())

    def _valid_records(self, *, dynamic: bool) -> NDArray[np.void]:
        records = self.records
        valid = np.isfinite(records["x"]) & np.isfinite(records["y"]) & np.isfinite(records["z"])
        return records[valid & (records["dynamic"].astype(bool) == dynamic)]

    def _depth_message(self, depth: NDArray[np.float32]) -> Any:
        if self._config.output.depth_resolution == "source":
            depth = self._at_source(depth, float("nan"))
        return image_message(depth, "32FC1", self.camera_header())

    def _at_source(self, pixels: NDArray[Any], outside: float) -> NDArray[Any]:
        return to_source_size(pixels, self._scene.model_from_source, self._scene.source_size_wh, outside)


BUILDERS: Mapping[topics.Topic, Callable[[StepMessages], Any]] = {
    topics.POINTS: StepMessages.points,
    topics.STATIC_POINTS: StepMessages.static_points,
    topics.DYNAMIC_POINTS: StepMessages.dynamic_points,
    topics.DEPTH_IMAGE: StepMessages.depth_image,
    topics.DEPTH_INFO: StepMessages.depth_info,
    topics.STATIC_DEPTH_IMAGE: StepMessages.static_depth_image,
    topics.STATIC_DEPTH_INFO: StepMessages.depth_info,
    topics.MASK_IMAGE: StepMessages.mask_image,
    topics.MASK_INFO: StepMessages.source_info,
    topics.CONFIDENCE_IMAGE: StepMessages.confidence_image,
    topics.ODOMETRY: StepMessages.odometry,
    topics.PATH: StepMessages.path,
    topics.TRACKS: StepMessages.tracks,
    topics.TRACK_MARKERS: StepMessages.track_markers,
    topics.OBJECTS: StepMessages.objects,
    topics.DEBUG_IMAGE: StepMessages.debug_image,
}
