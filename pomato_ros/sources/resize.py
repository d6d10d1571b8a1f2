"""Brings a frame of a sensor to the size that its source works at, whole and undistorted, with its camera."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import UnusableFrame
from pomato_ros.geometry.camera import resize_homography, transform_intrinsics
from pomato_ros.structures import Frame, Intrinsics, MaskArray, PreparedFrame

LEAST_SIDE_PX = 32
USUAL_SHAPE = 4 / 3  # long over short side


@dataclass(frozen=True, slots=True)
class Resizing:
    """From source images of one size to working images."""

    source_wh: tuple[int, int]
    working_wh: tuple[int, int]

    @property
    def shrinks(self) -> bool:
        """Whether there is anything to do."""
        return self.source_wh != self.working_wh

    def image(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) of the working size, each pixel the mean of what it covers."""
        if not self.shrinks:
            return np.ascontiguousarray(image_rgb)
        return np.asarray(cv2.resize(image_rgb, self.working_wh, interpolation=cv2.INTER_AREA), np.uint8)

    def mask(self, mask: MaskArray) -> MaskArray:
        """(h, w) pixels that cover pixels of the mask only."""
        if not self.shrinks:
            return mask
        share = cv2.resize(mask.astype(np.float32), self.working_wh, interpolation=cv2.INTER_AREA)
        return np.asarray(share > np.float32(0.999))


def long_side_for(options: PomatoConfig, source_wh: tuple[int, int]) -> int:
    """Long side of the working image, px: as asked for, else with the number of pixels of a 4:3 image."""
    if options.window.image_size:
        return options.window.image_size
    shape = max(1.0, max(source_wh) / min(source_wh) / USUAL_SHAPE)
    return round(options.sensor.sensor_image_size * shape**0.5)


def plan_resizing(source_wh: tuple[int, int], long_side_px: int) -> Resizing:
    """The long side to ``long_side_px``, in proportion; smaller images stay as they are.

    Raises:
        UnusableFrame: too little would be left.
    """
    scale = min(1.0, long_side_px / max(source_wh))
    working_wh = (round(scale * source_wh[0]), round(scale * source_wh[1]))
    if min(working_wh) < LEAST_SIDE_PX:
        raise UnusableFrame(
            f"expected an image of at least {LEAST_SIDE_PX} px a side at a long side of {long_side_px} px, got "
            f"{source_wh[0]}x{source_wh[1]} px, which gives {working_wh[0]}x{working_wh[1]}; use a larger image_size"
        )
    return Resizing(source_wh, working_wh)


def working_frame(frame: Frame, options: PomatoConfig, backend: str) -> tuple[PreparedFrame, Intrinsics, Resizing]:
    """A frame at its working size, its camera there, and how maps of the same pixels get there.

    Raises:
        UnusableFrame: not an 8-bit RGB image, too small, or a camera that is not calibrated.
    """
    image = frame.image_rgb
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UnusableFrame(f"expected an image (h, w, 3) of uint8, got {image.shape} of {image.dtype}")
    if frame.intrinsics is None:
        raise UnusableFrame(
            f"backend {backend} needs a calibrated camera, got an image without intrinsics; publish its camera_info"
        )
    source_wh = image.shape[1], image.shape[0]
    resizing = plan_resizing(source_wh, long_side_for(options, source_wh))
    by_x, by_y = (resizing.working_wh[axis] / resizing.source_wh[axis] for axis in (0, 1))
    working_from_source = resize_homography(by_x, by_y)
    camera = transform_intrinsics(working_from_source, frame.intrinsics, resizing.working_wh)
    prepared = PreparedFrame(
        stamp_ns=frame.stamp_ns,
        image_rgb=resizing.image(image),
        intrinsics=camera,
        model_from_source=working_from_source,
        source_size_wh=resizing.source_wh,
        prior_from_camera=frame.prior_from_camera,
        valid=None if frame.valid is None else resizing.mask(frame.valid),
    )
    return prepared, camera, resizing
