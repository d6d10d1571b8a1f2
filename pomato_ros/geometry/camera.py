"""Pinhole cameras: projection, resizing and cropping, and the focal length hidden in a pointmap.

Integer pixel coordinates are pixel centres; camera frames are optical (x right, y down, z forward).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.structures import Intrinsics

IRLS_STEPS = 10
MIN_RESIDUAL_PX = 1e-8


def project(points_camera: ArrayLike, camera_matrix: ArrayLike) -> NDArray[np.float64]:
    """Points (..., 3) in the camera's frame -> pixels (..., 2) of (x, y); NaN for points not in front of it."""
    points_camera = np.asarray(points_camera, dtype=np.float64)
    depth = points_camera[..., 2:]
    rays = points_camera / np.where(depth > 0, depth, np.nan)
    pixels: NDArray[np.float64] = rays @ np.asarray(camera_matrix, dtype=np.float64)[:2].T
    return pixels


def unproject(pixels: ArrayLike, depth: ArrayLike, camera_matrix: ArrayLike) -> NDArray[np.float64]:
    """Pixels (..., 2) and their depth along the optical axis (...) -> points (..., 3) in the camera's frame.

    ``camera_matrix``: (3, 3), its rows fx, skew, cx; 0, fy, cy; 0, 0, 1.
    """
    pixels, depth = np.asarray(pixels, dtype=np.float64), np.asarray(depth, dtype=np.float64)
    (fx, skew, cx), (_, fy, cy), _ = np.asarray(camera_matrix, dtype=np.float64).tolist()
    along_y = (pixels[..., 1] - cy) / fy
    points = np.empty((*np.broadcast_shapes(along_y.shape, depth.shape), 3))
    points[..., 0] = (pixels[..., 0] - cx - skew * along_y) / fx * depth
    points[..., 1], points[..., 2] = along_y * depth, depth
    return points


@lru_cache(maxsize=4)
def pixel_rays(intrinsics: Intrinsics) -> NDArray[np.float32]:
    """(h, w, 3) points at depth 1 on the rays of all pixels; read-only."""
    rays = np.ones((intrinsics.height_px, intrinsics.width_px, 3), np.float32)
    rays[..., 0] = (np.arange(intrinsics.width_px) - intrinsics.cx_px) / intrinsics.fx_px
    rays[..., 1] = ((np.arange(intrinsics.height_px) - intrinsics.cy_px) / intrinsics.fy_px)[:, None]
    rays.setflags(write=False)
    return rays


def points_on_rays(depth_m: NDArray[np.float32], intrinsics: Intrinsics) -> NDArray[np.float32]:
    """(h, w, 3) points at depth (h, w) along the optical axis; NaN stays NaN."""
    return np.asarray(pixel_rays(intrinsics) * depth_m[..., None], np.float32)


def resize_homography(scale_x: float, scale_y: float) -> NDArray[np.float64]:
    """(3, 3) from pixels of an image to pixels of its resized copy: ``x -> scale * (x + 0.5) - 0.5``."""
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5], [0.0, 0.0, 1.0]])


def crop_homography(left_px: int, top_px: int) -> NDArray[np.float64]:
    """(3, 3) from pixels of an image to pixels of a crop that starts at (left, top)."""
    return np.array([[1.0, 0.0, -left_px], [0.0, 1.0, -top_px], [0.0, 0.0, 1.0]])


def transform_pixels(b_from_a: ArrayLike, pixels_a: ArrayLike) -> NDArray[np.float64]:
    """Pixels (..., 2) of image a through a (3, 3) pixel homography -> pixels (..., 2) of image b."""
    pixels_a = np.asarray(pixels_a, dtype=np.float64)
    b_from_a = np.asarray(b_from_a, dtype=np.float64)
    homogeneous = pixels_a @ b_from_a[:, :2].T + b_from_a[:, 2]
    return homogeneous[..., :2] / homogeneous[..., 2:]


def transform_intrinsics(b_from_a: ArrayLike, intrinsics_a: Intrinsics, size_b_wh: tuple[int, int]) -> Intrinsics:
    """The camera after its image went through a resize and crop ``b_from_a`` (3, 3); rays through pixels stay."""
    matrix = np.asarray(b_from_a, dtype=np.float64) @ intrinsics_a.matrix()
    return Intrinsics(
        fx_px=float(matrix[0, 0]),
        fy_px=float(matrix[1, 1]),
        cx_px=float(matrix[0, 2]),
        cy_px=float(matrix[1, 2]),
        width_px=size_b_wh[0],
        height_px=size_b_wh[1],
    )


def half_size_principal_point(height: int, width: int) -> tuple[float, float]:
    """(W/2, H/2), where the published method puts the principal point."""
    return width / 2, height / 2


def focal_by_irls(
    points_camera: ArrayLike,
    principal_point: tuple[float, float],
    weights: ArrayLike | None = None,
) -> float:
    """Focal length in pixels that best explains a pointmap in its own camera (Weiszfeld's method).

    Minimises the sum over pixels of ``w * |uv - f * (x/z, y/z)|``, uv measured from the principal point: least squares
    first, then ten steps of least squares weighted by ``1 / max(residual, 1e-8)``.

    Args:
        points_camera: (h, w, 3).
        principal_point: (x, y) in px.
        weights: (h, w), zero or False where a pixel must not count; None counts all alike.

    Raises:
        ValueError: no pixel with weight looks along anything but the optical axis, so no focal length follows.
    """
    uv, ray = _centred_pixels_and_rays(points_camera, principal_point)
    base = np.ones(len(uv)) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    along, energy = (uv * ray).sum(axis=-1), (ray * ray).sum(axis=-1)
    if not (base * energy).sum() > 0:
        raise ValueError(
            "no usable pixel to read a focal length from; expected finite points with z != 0 and weight > 0"
        )
    focal_px = (base * along).sum() / (base * energy).sum()
    for _ in range(IRLS_STEPS):
        residual = np.linalg.norm(uv - focal_px * ray, axis=-1)
        weight = base / np.maximum(residual, MIN_RESIDUAL_PX)
        focal_px = (weight * along).sum() / (weight * energy).sum()
    return float(focal_px)


def focal_by_median(
    points_camera: ArrayLike,
    principal_point: tuple[float, float],
    mask: ArrayLike | None = None,
) -> float:
    """Focal length in pixels: the (lower) median of the votes ``u z / x`` and ``v z / y`` of all pixels.

    Arguments as in :func:`focal_by_irls`.

    Raises:
        ValueError: no pixel can vote.
    """
    points = np.asarray(points_camera, dtype=np.float64)
    uv = (pixel_grid(*points.shape[:2]) - principal_point).reshape(-1, 2)
    points = points.reshape(-1, 3)
    if mask is not None:
        chosen = np.asarray(mask, dtype=bool).ravel()
        uv, points = uv[chosen], points[chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        votes = (uv * points[:, 2:] / points[:, :2]).ravel()
    votes = np.sort(votes[~np.isnan(votes)])
    if not votes.size:
        raise ValueError("no pixel can vote for a focal length; expected finite points off the optical axis")
    return float(votes[(votes.size - 1) // 2])


def clip_focal(focal_px: float, height: int, width: int, minimum: float, maximum: float) -> float:
    """``focal_px`` kept within ``minimum`` and ``maximum`` times the one that sees the long side under 60 deg."""
    unit_px = max(height, width) / (2 * math.tan(math.radians(30)))
    return min(max(focal_px, minimum * unit_px), maximum * unit_px)


def _centred_pixels_and_rays(
    points_camera: ArrayLike, principal_point: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 2) pixels relative to the principal point and (n, 2) of (x/z, y/z), zero where that is not finite."""
    points = np.asarray(points_camera, dtype=np.float64)
    uv = pixel_grid(*points.shape[:2]) - principal_point
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ray = points[..., :2] / points[..., 2:]
    return uv.reshape(-1, 2), np.where(np.isfinite(ray), ray, 0.0).reshape(-1, 2)
