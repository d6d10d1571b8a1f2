"""Depth of one camera seen from another: forward projection with a z-buffer, in a few vectorised operations.

A depth pixel (u, v) with depth z lies in the other camera at ``p = z A + b`` with ``A = K_c R K_d^-1 [u v 1]^T`` and
``b = K_c t``, thus at pixel ``p_xy / p_z`` with depth ``p_z``. Of points that fall on one pixel the nearest is kept.
"""

import cv2
import numpy as np

from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.structures import FloatArray, Intrinsics, PoseArray

GAP_PX = 3  # side of the largest gap between projected pixels that is closed; odd
NEAREST_M = 1e-3


class DepthRegistration:
    """Moves depth images of one camera onto the pixels of another one of any size and field of view."""

    def __init__(self, depth_camera: Intrinsics, colour_camera: Intrinsics, colour_from_depth: PoseArray) -> None:
        """Precompute the rays.

        Args:
            depth_camera: of the depth image, without distortion.
            colour_camera: of the image to register to, without distortion.
            colour_from_depth: (4, 4) the depth camera in the colour camera, metres.
        """
        self.depth_camera, self.colour_camera = depth_camera, colour_camera
        self._grid_camera = registration_grid(depth_camera, colour_camera)
        matrix = self._grid_camera.matrix()
        matrix[:2, 2] += 1.5  # truncated, it is one more than the nearest pixel, for negative ones too
        pixels = pixel_grid(depth_camera.height_px, depth_camera.width_px).reshape(-1, 2).astype(np.float64)
        homogeneous = np.concatenate((pixels, np.ones((len(pixels), 1))), axis=1)
        turned = matrix @ colour_from_depth[:3, :3] @ np.linalg.inv(depth_camera.matrix())
        self._rays = np.ascontiguousarray((turned @ homogeneous.T).astype(np.float32))  # (3, n)
        self._offset = (matrix @ colour_from_depth[:3, 3]).astype(np.float32)

    def register(self, depth_m: FloatArray) -> FloatArray:
        """(h, w) of the depth camera, metres, NaN or 0 where invalid -> (H, W) of the colour camera, 0 where unknown.

        Raises:
            ValueError: the depth image does not have the size of its camera.
        """
        expected = (self.depth_camera.height_px, self.depth_camera.width_px)
        if depth_m.shape != expected:
            raise ValueError(f"expected a depth image {expected} as its camera has it, got {depth_m.shape}")
        projected = close_gaps(self.project(depth_m))
        projected[np.isinf(projected)] = 0.0
        size_wh = (self.colour_camera.width_px, self.colour_camera.height_px)
        if projected.shape == size_wh[::-1]:
            return projected
        return np.asarray(cv2.resize(projected, size_wh, interpolation=cv2.INTER_NEAREST), np.float32)

    def project(self, depth_m: FloatArray) -> FloatArray:
        """(h', w') depth on the registration grid, the nearest point of each pixel; infinite where no point falls."""
        height, width = self._grid_camera.height_px, self._grid_camera.width_px
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            depth = depth_m.reshape(-1)
            z = self._rays[2] * depth + self._offset[2]
            inverse = np.float32(1.0) / z
            column = ((self._rays[0] * depth + self._offset[0]) * inverse).astype(np.int32) - 1
            row = ((self._rays[1] * depth + self._offset[1]) * inverse).astype(np.int32) - 1
        seen = (depth > NEAREST_M) & (z > NEAREST_M)
        seen &= (column.view(np.uint32) < width) & (row.view(np.uint32) < height)
        place = row * np.int32(width) + column
        image = np.full(height * width, np.inf, np.float32)
        np.minimum.at(image, place[seen].astype(np.intp), z[seen])
        return image.reshape(height, width)


def registration_grid(depth_camera: Intrinsics, colour_camera: Intrinsics) -> Intrinsics:
    """The colour camera at the size at which a depth pixel covers about one of its pixels, at most its own size."""
    scale = min(1.0, depth_camera.fx_px / colour_camera.fx_px, depth_camera.fy_px / colour_camera.fy_px)
    width, height = (max(1, round(scale * side)) for side in (colour_camera.width_px, colour_camera.height_px))
    by_x, by_y = width / colour_camera.width_px, height / colour_camera.height_px
    return Intrinsics(
        fx_px=colour_camera.fx_px * by_x,
        fy_px=colour_camera.fy_px * by_y,
        cx_px=(colour_camera.cx_px + 0.5) * by_x - 0.5,
        cy_px=(colour_camera.cy_px + 0.5) * by_y - 0.5,
        width_px=width,
        height_px=height,
    )


def close_gaps(depth_m: FloatArray) -> FloatArray:
    """Depth (h, w) with gaps narrower than :data:`GAP_PX` filled by the farther of what surrounds them; inf is a gap.

    The morphological opening of depth; measured pixels keep their value.
    """
    opened = cv2.morphologyEx(depth_m, cv2.MORPH_OPEN, np.ones((GAP_PX, GAP_PX), np.uint8))
    return np.where(np.isinf(depth_m), opened, depth_m)
