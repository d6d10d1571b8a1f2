"""Depth of the image's pixels from the depth camera of the backend rgbd, registered where it is another camera's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import UnusableFrame
from pomato_ros.geometry.registration import DepthRegistration
from pomato_ros.ros.conversions.camera_info import calibration_from_camera_info, camera_info_key
from pomato_ros.ros.conversions.depth_decoding import (
    at_image_size,
    check_has_depth,
    check_registered,
    depth_samples,
    usable_depth,
)
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.pairing import SecondSensor
from pomato_ros.ros.rectify import Rectifier
from pomato_ros.ros.status import SensorStatus
from pomato_ros.ros.streams import StreamMonitor
from pomato_ros.sources.rgbd import check_unit, measurable_range
from pomato_ros.structures import Intrinsics, PoseArray

DEPTH_DROPS = ("undecodable", "unit", "empty", "size", "unplaced")


@dataclass(frozen=True, slots=True)
class ColourImage:
    """The image that depth is wanted for."""

    stamp_ns: int
    frame_id: str
    size_wh: tuple[int, int]
    rectifier: Rectifier | None  # None: not calibrated


class DepthFrames(SecondSensor):
    """Takes depth messages on the executor's thread and answers the worker."""

    def __init__(
        self,
        config: PomatoConfig,
        status: SensorStatus,
        images: StreamMonitor,
        find_pose: Callable[[str, str], PoseArray | None],
    ) -> None:
        """``images`` is the stream of the colour images; ``find_pose(target, source)`` is target <- source from TF."""
        super().__init__("depth image", config, status, images)
        self._find_pose = find_pose
        self._range_m = measurable_range(config)
        self.infos = StreamMonitor()  # of the depth camera's calibration
        self._camera: tuple[object, Rectifier | None] = (None, None)  # by size and calibration
        self._registration: tuple[object, DepthRegistration] | None = None

    def depth_m(self, image: ColourImage) -> NDArray[np.float32] | None:
        """(h, w) depth of the rectified image's pixels, metres, NaN or 0 where unknown; None if none can be used."""
        message = self._messages.take(image.stamp_ns)
        if message is None:
            return None
        kind = "undecodable"
        try:
            samples = depth_samples(message, self._config.input.max_pixels)
            kind = "unit"
            check_unit(samples, self._range_m)
            kind = "empty"
            depth_m = usable_depth(samples)
            check_has_depth(depth_m)
            kind = "size"
            return self._at_image(depth_m, message.header.frame_id, image)
        except UnplacedError as error:
            self._drop("unplaced", str(error))
        except (InputError, UnusableFrame) as error:
            self._drop(kind, str(error))
        return None

    def _at_image(self, depth_m: NDArray[np.float32], frame: str, image: ColourImage) -> NDArray[np.float32]:
        """Depth of another camera, or of the image's own, at the image's rectified pixels.

        Raises:
            InputError: it cannot be brought there.
        """
        own = self._depth_camera((depth_m.shape[1], depth_m.shape[0]))
        same_frame = not frame or not image.frame_id or frame == image.frame_id
        if same_frame and (own is None or self._is_aligned(image)):
            self._status.used_as = "aligned with the image"
            aligned = at_image_size(depth_m, image.size_wh)
            return aligned if image.rectifier is None else image.rectifier.rectify_depth(aligned)
        if own is None or image.rectifier is None:
            raise UnplacedError(
                f"depth image: expected frame_id '{image.frame_id}' as the image has, got '{frame}', and camera_info "
                "of both to register it; publish depth/camera_info and camera_info, or align depth in the driver"
            )
        pose = np.eye(4) if same_frame else self._find_pose(image.frame_id, frame)
        if pose is None:
            raise UnplacedError(
                f"depth image: TF does not join its frame '{frame}' with the image's '{image.frame_id}'; publish "
                "their static transform, or align depth in the driver"
            )
        by = "camera_info, in one frame" if same_frame else f"TF from '{frame}'"
        self._status.used_as = f"registered by {by}"
        registration = self._registered(own.intrinsics, image.rectifier.intrinsics, pose)
        return registration.register(own.rectify_depth(depth_m))

    def _is_aligned(self, image: ColourImage) -> bool:
        """Whether the depth camera's calibration is the image's."""
        if self._info is None or image.rectifier is None:
            return True
        try:
            check_registered(self._info, image.rectifier.raw_intrinsics)
        except InputError:
            return False
        return True

    def _depth_camera(self, size_wh: tuple[int, int]) -> Rectifier | None:
        """The depth camera; None where nobody says what it is.

        Raises:
            InputError: its calibration is of another size, or still to come.
        """
        info = self._info
        if info is None and self.infos.publishers:
            raise UnplacedError(
                f"depth image: its calibration on '{self.infos.topic}' has a publisher, but none came yet"
            )
        if info is None:
            return None
        key = (size_wh, camera_info_key(info))
        if key != self._camera[0]:
            calibration = calibration_from_camera_info(info, size_wh)
            rectify = self._config.input.rectify
            made = None if calibration is None else Rectifier(calibration, remove_distortion=rectify)
            self._camera = (key, made)
        return self._camera[1]

    def _registered(self, depth: Intrinsics, colour: Intrinsics, colour_from_depth: PoseArray) -> DepthRegistration:
        """The registration of these cameras, made once."""
        key = (depth, colour, colour_from_depth.tobytes())
        if self._registration is None or self._registration[0] != key:
            self._registration = (key, DepthRegistration(depth, colour, colour_from_depth))
        return self._registration[1]


class UnplacedError(InputError):
    """Nothing says where the depth camera is."""
