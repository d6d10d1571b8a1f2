"""Crops that keep the principal point central: the camera is turned, not the image cut (MASt3R's augmentation)."""

from dataclasses import dataclass

import cv2
import numpy as np

from pomato_ros.structures import FloatArray, Intrinsics, PoseArray


@dataclass(frozen=True, slots=True)
class TurnedView:
    """A camera at the same place that looks elsewhere; its principal point is in the middle of its image."""

    intrinsics: Intrinsics
    turned_from_camera: PoseArray  # (3, 3) rotation
    turned_from_pixels: PoseArray  # (3, 3) homography ``K' R K^-1`` of pixels


def turn_towards(
    intrinsics: Intrinsics, pixel_xy: tuple[float, float], size_wh: tuple[int, int], focal_px: float, roll_rad: float
) -> TurnedView:
    """Look at a pixel, with another focal length and turned about the new optical axis.

    Args:
        intrinsics: of the whole image.
        pixel_xy: what comes into the middle.
        size_wh: of the new image, px.
        focal_px: of the new image.
        roll_rad: about its optical axis.
    """
    inverse = np.linalg.inv(intrinsics.matrix())
    forward = inverse @ np.array([*pixel_xy, 1.0])
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    upright = np.stack((right, np.cross(forward, right), forward))
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ upright
    width, height = size_wh
    turned = Intrinsics(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, width, height)
    return TurnedView(turned, rotation, turned.matrix() @ rotation @ inverse)


def warp_maps(view: TurnedView, maps: FloatArray, nearest: bool = False) -> FloatArray:
    """Maps (h, w, c) of the image in the new one, NaN where the old image does not reach; ``nearest`` for points."""
    size = view.intrinsics.width_px, view.intrinsics.height_px
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    warped = cv2.warpPerspective(maps, view.turned_from_pixels, size, flags=how, borderValue=(np.nan,) * 4)
    return np.asarray(warped, np.float32).reshape(size[1], size[0], -1)


def turn_points(view: TurnedView, points: FloatArray) -> FloatArray:
    """Points (..., 3) of the camera in the turned one."""
    return np.asarray(points @ view.turned_from_camera.T, np.float32)
