"""Everything that a reconstruction leaves on disk: trajectories, clouds, COLMAP model, web page, summary."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomato_ros.mapping.reconstruct import MappedFrame, Reconstruction
from pomato_ros.mapping.static_map import PointCloud, StaticMap
from pomato_ros.sinks.point_files import write_ply, write_whole
from pomato_ros.sinks.trajectory_files import write_colmap, write_kitti, write_tum
from pomato_ros.sinks.web_page import MOVING_POINTS, PageContent, write_page

COLMAP_POINTS = 50_000


@dataclass(frozen=True, slots=True)
class MovingPoints:
    """What moves, frame by frame, thinned."""

    points: list[NDArray[np.float32]]  # (m, 3) each, world
    colours: list[NDArray[np.uint8]]  # (m, 3) each


Viewer = Callable[[Reconstruction, PointCloud, MovingPoints], None]


def write_reconstruction(
    reconstruction: Reconstruction,
    out: Path,
    title: str,
    facts: Mapping[str, Any],
    viewer: Viewer | None = None,
) -> dict[str, Any]:
    """Write all files into ``out`` and give the summary, which is written last.

    ``trajectory.tum``, ``trajectory.kitti``, ``static.ply``, ``moving.ply``, ``colmap/``, ``index.html``,
    ``summary.json``. ``viewer`` writes a file of its own from what was fused.
    """
    stamps_ns, poses = reconstruction.trajectory
    static, moving = fuse(reconstruction)
    write_tum(out / "trajectory.tum", stamps_ns, poses)
    write_kitti(out / "trajectory.kitti", poses)
    write_ply(out / "static.ply", static.points_world, static.colours_rgb)
    write_ply(out / "moving.ply", _joined(moving.points, np.float32), _joined(moving.colours, np.uint8))
    first = next(reconstruction.frames())
    height, width = first.depth.shape
    step = max(1, len(static.points_world) // COLMAP_POINTS)
    names = [f"{number:06d}.png" for number in range(len(poses))]
    cloud = static.points_world[::step], static.colours_rgb[::step]
    write_colmap(out / "colmap", names, poses, first.camera_matrix, (width, height), *cloud)
    if viewer is not None:
        viewer(reconstruction, static, moving)
    summary = {
        **facts,
        "frames": len(reconstruction),
        "chunks": len(reconstruction.files),
        "unit": "metre" if reconstruction.metric else "arbitrary",
        "path_length": float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1).sum()),
        "static_points": len(static.points_world),
        "moving_points": sum(map(len, moving.points)),
        "focal_px": float(first.camera_matrix[0, 0]),
    }
    shown = {name.replace("_", " "): _shown(value) for name, value in summary.items()}
    content = PageContent(
        title, static.points_world, static.colours_rgb, moving.points, moving.colours, poses, stamps_ns, shown
    )
    write_page(out / "index.html", content)
    write_whole(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    return summary


def fuse(reconstruction: Reconstruction) -> tuple[PointCloud, MovingPoints]:
    """The static map, carved where it was seen through, and what moves; both passes read one chunk at a time."""
    static, moving = StaticMap(), MovingPoints([], [])
    for frame in reconstruction.frames():
        static.add(frame)
        points, colours = _moving(frame)
        moving.points.append(points)
        moving.colours.append(colours)
    static.carve(reconstruction.frames())
    return static.cloud(), moving


def _moving(frame: MappedFrame) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points and colours of what moves, evenly thinned."""
    chosen = frame.moving & (np.nan_to_num(frame.depth) > 0)
    step = max(1, int(chosen.sum()) // MOVING_POINTS)
    points = frame.points_world()[chosen][::step]
    return points.astype(np.float32), frame.image_rgb[chosen][::step]


def _joined(parts: list[Any], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros((0, 3), dtype)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
