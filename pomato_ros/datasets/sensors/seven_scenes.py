"""7-Scenes folders: frame-NNNNNN.color, .depth.png (mm, registered) and .pose.txt (camera to world, metres)."""

from pathlib import Path

import numpy as np

from pomato_ros.datasets.files import check_pose, list_files, read_png, read_rgb
from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.structures import Frame, Intrinsics, PoseArray

FRAME_INTERVAL_NS = 33_333_333
NO_DEPTH = 65535
CAMERA = (585.0, 585.0, 320.0, 240.0)  # fx fy cx cy, px, of 640x480: the data set's page


def read_seven_scenes(folder: Path) -> SensorSequence:
    """The sequence in ``folder``; stamps are those of 30 Hz, since none are stored. The room is at rest.

    Raises:
        ValueError: a file holds something else.
        OSError: a file is missing.
    """
    colour = list_files(folder, "frame-*.color.*", "colour images of 7-Scenes")
    names = [path.name.split(".")[0] for path in colour]
    height, width = read_rgb(colour[0]).shape[:2]
    camera = read_camera(folder / "intrinsics.txt", width, height)
    poses = np.stack([read_pose(folder / f"{name}.pose.txt") for name in names])

    def read_frame(t: int) -> Frame:
        stored = read_png(folder / f"{names[t]}.depth.png", np.uint16, 1)
        depth_m = np.where(stored == NO_DEPTH, 0, stored).astype(np.float32) * np.float32(1e-3)
        return Frame((t + 1) * FRAME_INTERVAL_NS, read_rgb(colour[t]), camera, depth_m)

    return SensorSequence(
        name=folder.name,
        layout="seven_scenes",
        stamps_ns=tuple((t + 1) * FRAME_INTERVAL_NS for t in range(len(names))),
        read_frame=read_frame,
        world_from_camera=poses,
        read_mask=lambda _: np.zeros((height, width), bool),
        facts={"scene": "static"},
    )


def read_camera(path: Path, width: int, height: int) -> Intrinsics:
    """The camera in a file of a 3x3 matrix; without the file the data set's own."""
    if not path.is_file():
        return Intrinsics(*CAMERA, width, height)
    matrix = np.loadtxt(path, dtype=np.float64, ndmin=2)
    if matrix.shape != (3, 3):
        raise ValueError(f"{path}: expected a camera matrix (3, 3), got {matrix.shape}")
    return Intrinsics(float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]), width, height)


def read_pose(path: Path) -> PoseArray:
    """``world_from_camera`` (4, 4), its rotation made orthonormal; NaN where tracking had failed."""
    pose = np.loadtxt(path, dtype=np.float64, ndmin=2)
    if pose.shape != (4, 4):
        raise ValueError(f"{path}: expected a pose (4, 4), got {pose.shape}")
    if not np.isfinite(pose).all():
        return np.full((4, 4), np.nan)
    check_pose(pose, str(path))
    left, _, right = np.linalg.svd(pose[:3, :3])
    pose[:3, :3] = left @ right
    return pose
