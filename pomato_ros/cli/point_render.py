"""Draws coloured points and lines in perspective, far to near, without a graphics card."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

NEAR_M = 0.05
LARGEST_SPLAT_PX = 9
Points = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """A virtual pinhole camera: optical axes, looking along z."""

    camera_from_world: NDArray[np.float64]  # (4, 4)
    focal_px: float
    centre_px: tuple[float, float]
    size_wh: tuple[int, int]

    def project(self, points_world: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (n, 2) and depths (n,) of points (n, 3); pixels behind the camera are NaN."""
        points = points_world @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3]
        depth = points[:, 2]
        safe = np.where(depth > NEAR_M, depth, np.nan)
        return self.focal_px * points[:, :2] / safe[:, None] + np.array(self.centre_px), depth

    def fitted(self, points_world: Points, fill: float) -> "Viewpoint":
        """The same camera zoomed and shifted so that points (n, 3) fill that share of the picture."""
        pixels, _ = self.project(points_world)
        low, high = np.nanmin(pixels, axis=0), np.nanmax(pixels, axis=0)
        zoom = fill * float(np.min(np.array(self.size_wh) / np.maximum(high - low, 1.0)))
        centre = (np.array(self.size_wh) - 1) / 2 - zoom * ((low + high) / 2 - np.array(self.centre_px))
        return replace(self, focal_px=zoom * self.focal_px, centre_px=(float(centre[0]), float(centre[1])))


def look_at(eye: Points, target: Points, up: Points, field_of_view_deg: float, size_wh: tuple[int, int]) -> Viewpoint:
    """A viewpoint at ``eye`` with ``target`` in the middle of the picture and ``up`` upwards; all (3,)."""
    forward = np.asarray(target, np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3], camera_from_world[:3, 3] = rotation, -rotation @ eye
    focal_px = size_wh[0] / 2 / np.tan(np.radians(field_of_view_deg) / 2)
    return Viewpoint(camera_from_world, focal_px, ((size_wh[0] - 1) / 2, (size_wh[1] - 1) / 2), size_wh)


def draw_points(
    canvas: NDArray[np.uint8], view: Viewpoint, points: Points, colours: NDArray[np.uint8], radius_m: float
) -> None:
    """Paint points (n, 3) as squares of ``radius_m`` onto the (h, w, 3) canvas, nearer ones over farther ones."""
    pixels, depth = view.project(points)
    width, height = view.size_wh
    margin = LARGEST_SPLAT_PX
    with np.errstate(invalid="ignore"):  # NaN is nowhere
        near_view = ((pixels > -margin) & (pixels < np.array([width, height]) + margin)).all(axis=1)
    inside = np.flatnonzero(near_view)
    order = inside[np.argsort(-depth[inside], kind="stable")]
    half_px = np.clip(view.focal_px * radius_m / depth[order], 0.5, LARGEST_SPLAT_PX / 2)
    nearest = np.full((height, width), np.inf)
    for row_shift in range(-(LARGEST_SPLAT_PX // 2), LARGEST_SPLAT_PX // 2 + 1):
        for column_shift in range(-(LARGEST_SPLAT_PX // 2), LARGEST_SPLAT_PX // 2 + 1):
            reached = half_px >= max(abs(row_shift), abs(column_shift))
            chosen = order[reached]
            at = np.rint(pixels[chosen]).astype(np.int64) + np.array([column_shift, row_shift])
            paint(canvas, nearest, at, depth[chosen], colours[chosen])


def paint(
    canvas: NDArray[np.uint8],
    nearest: NDArray[np.float64],
    at: NDArray[np.int64],
    depth: NDArray[np.float64],
    colours: NDArray[np.uint8],
) -> None:
    """Set pixels ``at`` (n, 2) where ``depth`` (n,), sorted far to near, is nearer than what is there."""
    height, width = nearest.shape
    inside = ((at >= 0) & (at < (width, height))).all(axis=1)
    columns, rows = at[inside].T
    depth, colours = depth[inside], colours[inside]
    wins = depth < nearest[rows, columns]
    # Of several points on one pixel the last written is the nearest, since they are sorted far to near.
    nearest[rows[wins], columns[wins]] = depth[wins]
    canvas[rows[wins], columns[wins]] = colours[wins]


def draw_line(
    canvas: NDArray[np.uint8], view: Viewpoint, points: Points, colour: tuple[int, int, int], width_px: int
) -> None:
    """Paint a line through points (n, 3) over everything; stretches behind the camera are left out."""
    pixels, _ = view.project(np.asarray(points))
    for start, end in zip(pixels[:-1], pixels[1:], strict=True):
        if np.isfinite(start).all() and np.isfinite(end).all() and np.abs([start, end]).max() < 1e5:
            ends = [tuple(int(round(float(value))) for value in pixel) for pixel in (start, end)]
            cv2.line(canvas, ends[0], ends[1], colour, width_px, cv2.LINE_AA)


def frustum_lines(
    world_from_camera: NDArray[np.float64], camera_matrix: NDArray[np.float64], size_wh: tuple[int, int], depth_m: float
) -> list[NDArray[np.float64]]:
    """Lines (n, 3) that draw a camera as a pyramid ``depth_m`` deep."""
    width, height = size_wh
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64)
    rays = corners @ np.linalg.inv(camera_matrix).T * depth_m
    corners_world = rays @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
    centre = world_from_camera[:3, 3]
    rim = np.concatenate([corners_world, corners_world[:1]])
    return [rim, *(np.stack([centre, corner]) for corner in corners_world)]
