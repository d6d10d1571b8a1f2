"""What is known of one chunk of frames after it was solved, and its file."""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import transform


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """Frames of one chunk in a world of its own; all images have one size and camera.

    Attributes:
        stamps_ns: (n,).
        images_rgb: (n, h, w, 3) uint8.
        world_from_camera: (n, 4, 4).
        camera_matrix: (3, 3).
        depth: (n, h, w) float32 along the optical axis, NaN or 0 where unknown.
        confidence: (n, h, w) float32; 0 where another view contradicts.
        moving: (n, h, w).
        metric: the unit is the metre; else it is arbitrary.
        cost: of what was minimised, before and after.
    """

    stamps_ns: NDArray[np.int64]
    images_rgb: NDArray[np.uint8]
    world_from_camera: NDArray[np.float64]
    camera_matrix: NDArray[np.float64]
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    moving: NDArray[np.bool_]
    metric: bool
    cost: tuple[float, float]

    def points_world(self, row: int, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
        """(m, 3) points of some pixels of a frame, in the world of the chunk."""
        depth = self.depth[row, rows, columns].astype(np.float64)
        rays = np.stack((columns, rows, np.ones(len(rows))), axis=-1) @ np.linalg.inv(self.camera_matrix).T
        return transform(self.world_from_camera[row], rays * depth[:, None])


def save_chunk(result: ChunkResult, path: Path) -> None:
    """Write ``path`` as a whole or not at all."""
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, **{each.name: getattr(result, each.name) for each in fields(result)})
    os.replace(unfinished, path)


def load_chunk(path: Path) -> ChunkResult:
    """Read what :func:`save_chunk` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {each.name: stored[each.name] for each in fields(ChunkResult)}
    metric, (before, after) = bool(arrays.pop("metric")), arrays.pop("cost")
    return ChunkResult(**arrays, metric=metric, cost=(float(before), float(after)))
