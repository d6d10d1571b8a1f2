"""A map of what stands still: voxels of averaged points, seen often enough and not seen through."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.mapping.reconstruct import MappedFrame

VOXELS_ACROSS = 256  # along the median depth of the first frame, where no size is given
LEAST_FRAMES = 2  # that have seen a voxel
GROWN_PX = 2  # moving regions are widened by it, since edges of movers are seldom masked whole
JUMP = 0.1  # share of depth between neighbouring pixels at which a surface ends
SEEN_THROUGH = 0.15  # share by which a ray goes beyond a voxel to carve it
CARVE_SHARE = 0.5  # of the views that see a voxel or through it


@dataclass(frozen=True, slots=True)
class PointCloud:
    """Points with colours."""

    points_world: NDArray[np.float32]  # (n, 3)
    colours_rgb: NDArray[np.uint8]  # (n, 3)


class StaticMap:
    """Voxels that hold the mean of the points that fell into them; memory grows with what was seen, not with time."""

    def __init__(self, voxel: float | None = None, min_confidence: float = 0.0) -> None:
        """``voxel``: edge length in the unit of the world; None: from the first frame's depth."""
        self._voxel = voxel
        self._min_confidence = min_confidence
        self._rows: dict[tuple[int, int, int], int] = {}
        self._sums = np.zeros((0, 6))
        self._counts = np.zeros(0)
        self._frames = np.zeros(0, np.int64)
        self._through = np.zeros(0, np.int64)

    def add(self, frame: MappedFrame) -> None:
        """Fuse the pixels of a frame that rest and lie on a smooth surface."""
        if self._voxel is None:
            self._voxel = float(np.nanmedian(frame.depth)) / VOXELS_ACROSS
        chosen = usable_pixels(frame, self._min_confidence)
        points = frame.points_world()[chosen]
        rows, inverse = self._rows_of(np.floor(points / self._voxel).astype(np.int64))
        values = np.concatenate((points, frame.image_rgb[chosen].astype(np.float64)), axis=1)
        np.add.at(self._sums, rows[inverse], values)
        np.add.at(self._counts, rows[inverse], 1)
        self._frames[rows] += 1

    def carve(self, frames: Iterable[MappedFrame]) -> None:
        """Count for each voxel the views that look through it: what left leaves the map."""
        centres = self._sums[:, :3] / np.maximum(self._counts, 1)[:, None]
        for frame in frames:
            self._through[seen_through(frame, centres)] += 1

    def cloud(self) -> PointCloud:
        """The voxels that enough frames saw, less those that most views saw through."""
        kept = (self._frames >= LEAST_FRAMES) & (self._through <= CARVE_SHARE * (self._frames + self._through))
        means = self._sums[kept] / self._counts[kept][:, None]
        return PointCloud(means[:, :3].astype(np.float32), np.clip(np.rint(means[:, 3:]), 0, 255).astype(np.uint8))

    def _rows_of(self, voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """Rows of the distinct voxels (n, 3), made where they are new, and which of them each one is."""
        distinct, inverse = np.unique(voxels, axis=0, return_inverse=True)
        rows = np.array([self._rows.setdefault((x, y, z), len(self._rows)) for x, y, z in distinct.tolist()], np.int64)
        missing = len(self._rows) - len(self._counts)
        if missing:
            self._sums = np.concatenate((self._sums, np.zeros((missing, 6))))
            self._counts = np.concatenate((self._counts, np.zeros(missing)))
            self._frames = np.concatenate((self._frames, np.zeros(missing, np.int64)))
            self._through = np.concatenate((self._through, np.zeros(missing, np.int64)))
        return rows, inverse.reshape(-1)


def usable_pixels(frame: MappedFrame, min_confidence: float) -> NDArray[np.bool_]:
    """(h, w) pixels at rest with a depth, away from movers and from jumps in depth."""
    grown = cv2.dilate(frame.moving.astype(np.uint8), np.ones((2 * GROWN_PX + 1,) * 2, np.uint8)) > 0
    depth = np.nan_to_num(frame.depth)
    slope = np.maximum(np.abs(cv2.Sobel(depth, cv2.CV_32F, 1, 0)), np.abs(cv2.Sobel(depth, cv2.CV_32F, 0, 1))) / 8
    return np.asarray((depth > 0) & (frame.confidence > min_confidence) & ~grown & (slope < JUMP * depth))


def seen_through(frame: MappedFrame, points_world: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) points in front of the surface that the frame sees in their pixel."""
    rotation, position = frame.world_from_camera[:3, :3], frame.world_from_camera[:3, 3]
    camera = (points_world - position) @ rotation
    ahead = camera[:, 2] > 1e-6
    pixels = np.full((len(points_world), 2), -1.0)
    pixels[ahead] = (camera[ahead] @ frame.camera_matrix.T)[:, :2] / camera[ahead, 2:]
    column, row = np.rint(pixels.clip(-1, 1e6)).astype(int).T
    height, width = frame.depth.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    surface = np.full(len(points_world), np.nan)
    surface[inside] = np.where(frame.moving, np.nan, frame.depth)[row[inside], column[inside]]
    with np.errstate(invalid="ignore"):
        return np.asarray(camera[:, 2] < (1 - SEEN_THROUGH) * surface)
