"""What a depth map says at places between and around its pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import FloatArray, MaskArray, PoseArray

OCCLUSION_SHARE = 0.1  # what is this share of its depth behind the surface at its pixel is hidden
MOST_AT_ONCE = 5000  # places whose surroundings are one image: OpenCV takes none that is wider than 32,766 pixels
ONE_SURFACE = 0.05  # neighbours whose depths differ by a larger share are not interpolated between


def inside(pixels: PoseArray, shape: tuple[int, ...]) -> MaskArray:
    """(n,) of ``pixels`` (n, 2) that fall on a pixel of a map (h, w); what is no number does not."""
    height, width = shape[:2]
    x, y = pixels.T
    with np.errstate(invalid="ignore"):
        return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)


def nearest_pixels(pixels: PoseArray, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (n,) and columns (n,) of the map's pixels nearest to ``pixels`` (n, 2); of the first for NaN."""
    height, width = shape[:2]
    places = np.fmin(np.fmax(pixels.T, 0.0), ((width - 1.0,), (height - 1.0,)))  # what is no number becomes one
    columns, rows = np.rint(places).astype(np.int64)
    return rows, columns


def depth_at(depth_m: FloatArray, pixels: PoseArray) -> PoseArray:
    """(n,) depth at ``pixels`` (n, 2) inside a map (h, w): interpolated on one surface, the nearest pixel's at an edge.

    The inverse depth of a plane is linear in the image.
    """
    height, width = depth_m.shape
    if height < 2 or width < 2:
        return depth_m[nearest_pixels(pixels, depth_m.shape)].astype(np.float64)
    places = np.fmin(np.fmax(pixels.T, 0.0), ((width - 1.0,), (height - 1.0,)))  # what is no number becomes one
    corner = np.minimum(places.astype(np.int64), ((width - 2,), (height - 2,)))
    right, down = places - corner
    first = corner[1] * width + corner[0]
    flat = depth_m.ravel()
    around = flat.take(first + np.array(((0,), (1,), (width,), (width + 1,)))).astype(np.float64)
    with np.errstate(all="ignore"):
        at_edge = np.flatnonzero(~(around.max(axis=0) < (1.0 + ONE_SURFACE) * around.min(axis=0)))
        inverse = np.divide(1.0, around, out=around)
        upper, lower = inverse[::2] + right * (inverse[1::2] - inverse[::2])
        depth: PoseArray = 1.0 / (upper + down * (lower - upper))
    if len(at_edge):
        x, y = np.rint(places.take(at_edge, axis=1)).astype(np.int64)
        depth[at_edge] = flat.take(y * width + x)
    return depth


def jumps(depth_m: FloatArray, side_px: int, ratio: float) -> MaskArray:
    """(h, w) pixels within ``side_px`` / 2 of which depth differs by more than ``ratio``, or there is none."""
    square = np.ones((side_px, side_px), np.uint8)
    depth = np.where(np.isfinite(depth_m), depth_m, np.float32(0.0)).astype(np.float32, copy=False)
    nearest: FloatArray = cv2.erode(depth, square)
    farthest: FloatArray = cv2.dilate(depth, square)
    return (farthest > np.float32(ratio) * nearest) | (nearest <= 0)


def jumps_at(
    depth_m: FloatArray, rows: NDArray[np.int64], columns: NDArray[np.int64], side_px: int, ratio: float
) -> MaskArray:
    """(n,) :func:`jumps` at a few pixels of the map, which are given by rows (n,) and columns (n,)."""
    height, width = depth_m.shape
    reach = np.arange(side_px) - side_px // 2
    y, x = (rows[:, None] + reach).clip(0, height - 1), (columns[:, None] + reach).clip(0, width - 1)
    around = depth_m[y[:, :, None], x[:, None, :]]  # (n, side, side)
    around = np.where(np.isfinite(around), around, np.float32(0.0))
    nearest, farthest = around.min(axis=(1, 2)), around.max(axis=(1, 2))
    at_jump: MaskArray = (farthest > np.float32(ratio) * nearest) | (nearest <= 0)
    return at_jump


def visible_at(
    pixels: PoseArray, depth_m: PoseArray, surface_m: FloatArray, must_touch: MaskArray | None = None
) -> MaskArray:
    """(n,) points at ``pixels`` (n, 2) and ``depth_m`` (n,) inside the image and not behind ``surface_m`` (h, w).

    Those that ``must_touch`` (n,) it are not far before it, either.
    """
    surface = surface_m[nearest_pixels(pixels, surface_m.shape)]
    with np.errstate(invalid="ignore"):
        before = depth_m - surface
        reach = OCCLUSION_SHARE * surface
        visible = inside(pixels, surface_m.shape) & (before < reach)
        return visible if must_touch is None else visible & ((before > -reach) | ~must_touch)


def sample(maps: FloatArray, pixels: PoseArray, blur_px: int = 1) -> PoseArray:
    """Values (n, c) of ``maps`` (h, w, c) between the centres of pixels, at ``pixels`` (n, 2) inside the image.

    With ``blur_px`` 3 or 5, of the medians over squares of that side; they are taken only where they are read, in a
    strip of all that lies around the pixels. What is not finite is read as it is.
    """
    if not len(pixels):
        return np.zeros((0, maps.shape[-1]))
    if len(pixels) > MOST_AT_ONCE:
        parts = np.array_split(pixels, -(-len(pixels) // MOST_AT_ONCE))
        return np.concatenate([sample(maps, part, blur_px) for part in parts])
    corner = np.floor(pixels.T)  # (2, n)
    right, down = pixels.T - corner
    margin = blur_px // 2
    reach = np.arange(-margin, margin + 2, dtype=np.float32)
    x, y = np.empty((2, len(reach), len(pixels), len(reach)), np.float32)
    x[:], y[:] = corner[0, :, None] + reach, (corner[1] + reach[:, None])[..., None]
    wide = len(reach), -1
    strip = cv2.remap(
        maps, x.reshape(wide), y.reshape(wide), cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    ).reshape(*wide, maps.shape[-1])
    around = strip.reshape(*x.shape, -1)  # (side, n, side, c)
    middle = slice(margin, margin + 2)
    corners = around[middle, :, middle]
    if margin:
        strip = cv2.medianBlur(strip.astype(np.float32, copy=False), blur_px)
        medians = strip.reshape(around.shape)[middle, :, middle]
        flat = around.ravel()
        if np.isfinite(np.dot(flat, flat)):
            corners = medians
        else:
            usable = np.isfinite(around).all(axis=(0, 2, 3))
            corners = np.where(usable[None, :, None, None], medians, corners)
    left_side, right_side = corners.transpose(2, 0, 3, 1).astype(np.float64, order="C")  # (2, c, n), the upper first
    upper, lower = left_side + right * (right_side - left_side)
    between: PoseArray = upper + down * (lower - upper)
    return between.T
