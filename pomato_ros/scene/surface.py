"""What a depth map says at places between and around its pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import FloatArray, MaskArray, PoseArray

OCCLUSION_SHARE = 0.1  # what is this share of its depth behind the surface at its pixel is hidden
ONE_SURFACE = 0.05  # neighbours whose depths differ by a larger share are not interpolated between


def inside(pixels: PoseArray, shape: tuple[int, ...]) -> MaskArray:
    """(n,) of ``pixels`` (n, 2) that fall on a pixel of a map (h, w); what is no number does not."""
    height, width = shape[:2]
    x, y = pixels.T
    with np.errstate(invalid="ignore"):
        return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)


def nearest_pixels(pixels: PoseArray, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (n,) and columns (n,) of the map's pixels nearest to ``pixels`` (n, 2); of the first for no number."""
    height, width = shape[:2]
    x, y = np.where(np.isfinite(pixels), pixels, 0.0).T
    columns, rows = np.rint(x.clip(0, width - 1)), np.rint(y.clip(0, height - 1))
    return rows.astype(np.int64), columns.astype(np.int64)


def depth_at(depth_m: FloatArray, pixels: PoseArray) -> PoseArray:
    """(n,) depth at ``pixels`` (n, 2) inside a map (h, w): interpolated on one surface, the nearest pixel's at an edge.

    The inverse depth of a plane is linear in the image.
    """
    height, width = depth_m.shape
    nearest = depth_m[nearest_pixels(pixels, depth_m.shape)].astype(np.float64)
    if height < 2 or width < 2:
        return nearest
    corner = np.floor(np.where(np.isfinite(pixels), pixels, 0.0)).astype(np.int64).clip(0, (width - 2, height - 2))
    right, down = (pixels - corner).clip(0.0, 1.0).T
    first = corner[:, 1] * width + corner[:, 0]
    around = depth_m.ravel()[np.stack((first, first + 1, first + width, first + width + 1))].astype(np.float64)
    with np.errstate(all="ignore"):
        whole = around.max(axis=0) < (1.0 + ONE_SURFACE) * around.min(axis=0)
        upper_left, upper_right, lower_left, lower_right = 1.0 / around
        upper = upper_left + right * (upper_right - upper_left)
        lower = lower_left + right * (lower_right - lower_left)
        between = 1.0 / (upper + down * (lower - upper))
    return np.where(whole, between, nearest)


def jumps(depth_m: FloatArray, side_px: int, ratio: float) -> MaskArray:
    """(h, w) pixels within ``side_px`` / 2 of which depth differs by more than ``ratio``, or there is none."""
    square = np.ones((side_px, side_px), np.uint8)
    depth = np.where(np.isfinite(depth_m), depth_m, np.float32(0.0)).astype(np.float32, copy=False)
    nearest: FloatArray = cv2.erode(depth, square)
    farthest: FloatArray = cv2.dilate(depth, square)
    return (farthest > np.float32(ratio) * nearest) | (nearest <= 0)


def visible_at(pixels: PoseArray, depth_m: PoseArray, surface_m: FloatArray) -> MaskArray:
    """(n,) points at ``pixels`` (n, 2) and ``depth_m`` (n,) inside the image and not behind ``surface_m`` (h, w)."""
    surface = surface_m[nearest_pixels(pixels, surface_m.shape)]
    with np.errstate(invalid="ignore"):
        return inside(pixels, surface_m.shape) & (depth_m < surface * (1 + OCCLUSION_SHARE))


def uncovered_at(pixels: PoseArray, depth_m: PoseArray, surface_m: FloatArray) -> MaskArray:
    """(n,) points inside the image that lie on the surface, neither behind it nor far before it."""
    surface = surface_m[nearest_pixels(pixels, surface_m.shape)]
    with np.errstate(invalid="ignore"):
        return inside(pixels, surface_m.shape) & (np.abs(depth_m - surface) < OCCLUSION_SHARE * surface)


def sample(maps: FloatArray, pixels: PoseArray, blur_px: int = 1) -> PoseArray:
    """Values (n, c) of ``maps`` (h, w, c) between the centres of pixels, at ``pixels`` (n, 2) inside the image.

    With ``blur_px`` 5, of the medians over squares of that side; they are taken only where they are read, in a strip of
    all that lies around the pixels. What is not finite is read as it is.
    """
    height, width, channels = maps.shape
    corner = np.floor(pixels).astype(int)
    share = (pixels - corner)[:, None, :]
    margin = blur_px // 2
    reach = np.arange(-margin, margin + 2)
    x = (corner[:, 0, None] + reach).clip(0, width - 1)
    y = (corner[:, 1, None] + reach).clip(0, height - 1)
    around = maps.reshape(-1, channels).take(y.T[:, :, None] * width + x, axis=0)  # (side, n, side, c)
    middle = slice(margin, margin + 2)
    corners = around[middle, :, middle].astype(np.float64)
    if margin:
        side = len(reach)
        strip = cv2.medianBlur(np.ascontiguousarray(around.reshape(side, -1, channels), np.float32), blur_px)
        medians = strip.reshape(around.shape)[middle, :, middle]
        usable = np.isfinite(around).all(axis=(0, 2, 3))
        corners = np.where(usable[None, :, None, None], medians, corners)
    upper, lower = corners[:, :, 0] + share[..., 0] * (corners[:, :, 1] - corners[:, :, 0])
    return upper + share[..., 1] * (lower - upper)
