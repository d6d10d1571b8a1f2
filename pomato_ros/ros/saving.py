"""Files that the save services write: a coloured cloud as PLY and a trajectory in TUM's text format."""

from pathlib import Path

import numpy as np

from pomato_ros.sinks.point_files import write_whole
from pomato_ros.sinks.scene_cloud import PLY_DTYPE, cloud_vertices, ply_bytes
from pomato_ros.sinks.trajectory_files import write_tum
from pomato_ros.structures import PoseArray, SceneEstimate

__all__ = ["PLY_DTYPE", "new_file", "save_cloud", "save_trajectory", "write_whole"]


def save_cloud(scene: SceneEstimate, odom_from_optical: PoseArray, folder: Path) -> Path:
    """Write the valid points of a step, in the odometry frame, as binary PLY; the new file's path."""
    path = new_file(folder, f"cloud_{scene.stamp_ns}.ply")
    write_whole(path, ply_bytes(cloud_vertices(scene, odom_from_optical)))
    return path


def save_trajectory(trajectory: list[tuple[int, PoseArray]], folder: Path) -> Path:
    """Write stamped poses odom <- base as lines of ``seconds tx ty tz qx qy qz qw``; the new file's path."""
    path = new_file(folder, f"trajectory_{trajectory[-1][0]}.txt")
    write_tum(path, [stamp_ns for stamp_ns, _ in trajectory], np.stack([pose for _, pose in trajectory]))
    return path


def new_file(folder: Path, name: str) -> Path:
    """A path inside ``folder``, which is made if it is missing; ``~`` is the home."""
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        folder = folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
