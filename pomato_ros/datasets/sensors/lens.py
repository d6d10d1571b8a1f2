"""Removes the lens distortion of recorded images: colours interpolated, depth from the nearest pixel."""

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray


class Lens:
    """A radial-tangential lens (Brown 1966, OpenCV's k1 k2 p1 p2 k3) in front of a pinhole camera.

    Rectified images keep the size and by default the camera matrix of the raw ones; pixels that no ray of the raw image
    reaches are invalid.
    """

    def __init__(
        self,
        raw: Intrinsics,
        distortion: tuple[float, ...] = (),
        rectified: Intrinsics | None = None,
        rectified_from_raw: PoseArray | None = None,
    ) -> None:
        """``distortion``: empty for none; ``rectified_from_raw``: (3, 3) rotation of a rectified stereo pair."""
        self.raw = raw
        self.rectified = rectified or raw
        self._distortion = np.array(distortion, dtype=np.float64)
        self.rectified_from_raw = np.eye(3) if rectified_from_raw is None else rectified_from_raw

    @cached_property
    def _maps(self) -> tuple[FloatArray, FloatArray] | None:
        """Where each rectified pixel is in the raw image, x and y; None: they are the same."""
        if (
            not self._distortion.any()
            and np.allclose(self.rectified_from_raw, np.eye(3))
            and self.rectified == self.raw
        ):
            return None
        size_wh = (self.rectified.width_px, self.rectified.height_px)
        maps = cv2.initUndistortRectifyMap(
            self.raw.matrix(), self._distortion, self.rectified_from_raw, self.rectified.matrix(), size_wh, cv2.CV_32FC1
        )
        return maps[0], maps[1]

    def rectify(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) without distortion, bilinear; black beyond the raw image."""
        if self._maps is None:
            return image_rgb
        return np.asarray(cv2.remap(image_rgb, *self._maps, interpolation=cv2.INTER_LINEAR), np.uint8)

    def rectify_depth(self, depth_m: FloatArray) -> FloatArray:
        """(h, w) depth registered to the raw image, without distortion; 0 beyond it."""
        if self._maps is None:
            return depth_m
        return np.asarray(cv2.remap(depth_m, *self._maps, interpolation=cv2.INTER_NEAREST), np.float32)

    @cached_property
    def valid(self) -> MaskArray | None:
        """(h, w) rectified pixels that lie in the raw image; None: all of them."""
        if self._maps is None:
            return None
        x, y = self._maps
        inside: MaskArray = (x >= 0) & (x <= self.raw.width_px - 1) & (y >= 0) & (y <= self.raw.height_px - 1)
        return None if inside.all() else inside
