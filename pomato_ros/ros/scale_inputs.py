"""What tells metres beside the images: a depth image aligned with them, or another odometry (``scale_source``).

The other odometry speaks in messages of its own (``odometry``) or on TF (``tf``).
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from pomato_ros.config import PomatoConfig
from pomato_ros.geometry.rigid import interpolate
from pomato_ros.ros.conversions.depth_decoding import at_image_size, check_has_depth, check_registered, decode_depth
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.conversions.poses import matrix_from_pose
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.prior_guard import ContinuousOdometry, DepthUnit
from pomato_ros.ros.status import ScaleInputStatus
from pomato_ros.ros.time_buffer import TimeIndexedBuffer
from pomato_ros.ros.transform_history import UNMATCHED, UNPLACED, UNUSABLE, NoTransformError, TransformHistory
from pomato_ros.structures import Intrinsics, PoseArray

LOG = logging.getLogger(__name__)
DEPTH_TOLERANCE_NS = 20_000_000  # registered depth has the image's own stamp; some drivers are a little off
ODOMETRY_GAP_NS = 500_000_000  # poses farther apart are not joined by a line
JUMPED = "jumped"
WAIT_S = 0.1  # for what belongs to an image and comes after it


class ScaleInputs:
    """Takes the messages in on the executor's thread and answers the worker."""

    def __init__(
        self, config: PomatoConfig, status: ScaleInputStatus, find_pose: Callable[[str, str], PoseArray | None]
    ) -> None:
        """``find_pose(target, source)`` is target <- source (4, 4) from TF, or None."""
        self._max_pixels = config.input.max_pixels
        self._status = status
        self._find_pose = find_pose
        self._scale, self._frames = config.scale, config.frames
        own = (self._frames.odom_frame, self._frames.base_frame)
        self._transforms = TransformHistory(own if self._frames.publish_tf else None)
        self._limits = config.robustness
        self._odometry, self._depth_unit = ContinuousOdometry(), DepthUnit()
        self._messages = TimeIndexedBuffer()
        self._depth_info: CameraInfo | None = None
        self._logged: object = None

    def on_message(self, message: Image | Odometry) -> None:
        """A depth image or an odometry came."""
        self._messages.put(stamp_ns_from_time(message.header.stamp), message)

    def on_depth_info(self, message: CameraInfo) -> None:
        """The depth image's calibration came."""
        self._depth_info = message

    def on_transforms(self, message: Any, static: bool) -> None:
        """A TFMessage came, maybe one that this node sent itself."""
        others = self._transforms.add(message.transforms, static=static)
        if others and not static:
            self._status.stream.note_arrival()

    def clear(self) -> None:
        """Time jumped."""
        self._messages.clear()
        self._odometry.clear()
        self._depth_unit.clear()
        self._transforms.clear_dynamic()

    def depth_m(
        self, stamp_ns: int, camera_frame: str, image_wh: tuple[int, int], camera: Intrinsics | None
    ) -> NDArray[np.float32] | None:
        """(h, w) depth of an image's pixels in metres, NaN where invalid; None if there is none that can be used.

        Args:
            stamp_ns: of the image.
            camera_frame: of the image; depth of another frame is not aligned with it.
            image_wh: size of the image.
            camera: intrinsics of the image as it came, None if they are not known.
        """
        found = self._messages.nearest(stamp_ns, DEPTH_TOLERANCE_NS, WAIT_S)
        if found is None:
            self._status.unmatched += 1
            return None
        message = found[1]
        try:
            self._check_aligned(message, camera_frame, camera)
            depth_m = at_image_size(decode_depth(message, self._max_pixels), image_wh)
            check_has_depth(depth_m)
            self._depth_unit.check(depth_m)
        except InputError as error:
            self._drop(UNUSABLE, str(error))
            return None
        self._status.used += 1
        return depth_m

    def prior_from_camera(self, stamp_ns: int, camera_frame: str) -> PoseArray | None:
        """(4, 4) where the other odometry has the camera at a time; None if it does not say.

        Between two of its poses the camera goes on a screw; a pose of the very time needs no second one.
        """
        from_tf = self._scale.scale_source == "tf"
        pose = (self._prior_from_tf if from_tf else self._prior_from_odometry)(stamp_ns, camera_frame)
        if pose is None:
            return None
        try:
            pose = self._odometry.take(stamp_ns, pose, self._limits.max_speed, self._limits.max_angular_speed)
        except InputError as error:
            self._drop(JUMPED, str(error), JUMPED)
            return None
        self._status.used += 1
        return pose

    def _prior_from_tf(self, stamp_ns: int, camera_frame: str) -> PoseArray | None:
        try:
            prior_from_camera = self._moving_pose(stamp_ns, camera_frame)
        except NoTransformError as error:
            if error.kind == UNMATCHED:
                self._status.unmatched += 1
                self._tell(str(error), (error.kind, error.frames))
            else:
                self._drop(error.kind, str(error), (error.kind, error.frames))
            return None
        return prior_from_camera

    def _moving_pose(self, stamp_ns: int, camera_frame: str) -> PoseArray:
        """``prior_frame`` <- camera from TF, over the assumed mount where TF has none.

        Raises:
            NoTransformError: TF does not tell.
        """
        prior, base = self._scale.prior_frame, self._frames.base_frame
        try:
            return self._transforms.moving_pose(prior, camera_frame, stamp_ns, ODOMETRY_GAP_NS, WAIT_S)
        except NoTransformError as error:
            base_from_camera = self._find_pose(base, camera_frame)  # the assumed mount, where it is assumed
            if error.kind != UNPLACED or base_from_camera is None:
                raise
        prior_from_base = self._transforms.moving_pose(prior, base, stamp_ns, ODOMETRY_GAP_NS, WAIT_S)
        return np.asarray(prior_from_base @ base_from_camera, np.float64)

    def _prior_from_odometry(self, stamp_ns: int, camera_frame: str) -> PoseArray | None:
        before, after = self._messages.around(stamp_ns, WAIT_S)
        if before is None or after is None or after[0] - before[0] > ODOMETRY_GAP_NS:
            self._status.unmatched += 1
            return None
        frame = before[1].child_frame_id
        child_from_camera = self._find_pose(frame, camera_frame)
        if child_from_camera is None or after[1].child_frame_id != frame:
            self._drop(UNPLACED, f"odom_prior is of '{frame}', but TF does not join that with '{camera_frame}'")
            return None
        try:
            first, last = (matrix_from_pose(message.pose.pose) for _, message in (before, after))
        except ValueError as error:
            self._drop(UNUSABLE, f"odom_prior: {error}")
            return None
        between = after[0] - before[0]
        odom_from_child = interpolate(first, last, (stamp_ns - before[0]) / between) if between else first
        return np.asarray(odom_from_child @ child_from_camera, np.float64)

    def _check_aligned(self, message: Any, camera_frame: str, camera: Intrinsics | None) -> None:
        """Refuse depth that is not of the image's pixels."""
        frame = message.header.frame_id
        if frame and camera_frame and frame != camera_frame:
            raise InputError(
                f"depth image: expected frame_id '{camera_frame}' as the image has, got '{frame}'; register it to the "
                "camera (depth_image_proc/register, or align_depth of the driver)"
            )
        if self._depth_info is not None and camera is not None:
            check_registered(self._depth_info, camera)

    def _drop(self, kind: str, reason: str, subject: object = None) -> None:
        """Count what cannot be used, and tell."""
        self._status.drops[kind] += 1
        self._tell(reason, reason if subject is None else subject)

    def _tell(self, reason: str, subject: object) -> None:
        """Name in diagnostics why a frame has no scale; log it when it is about another subject than the last."""
        self._status.last_drop, self._status.drop_is_news = reason, True
        if subject != self._logged:
            LOG.warning("no scale from this frame (repetitions are only counted): %s", reason)
            self._logged = subject
