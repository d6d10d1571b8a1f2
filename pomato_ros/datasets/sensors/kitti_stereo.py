"""Rectified stereo folders like KITTI odometry's: left and right images, calib.txt, poses.txt, times.txt."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.datasets.files import list_files, read_rgb, require_file
from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.datasets.sensors.stamps import stamp_ns
from pomato_ros.structures import Frame, Intrinsics, PoseArray

FRAME_INTERVAL_NS = 100_000_000  # 10 Hz, where times.txt does not say
FOLDERS = (("image_left", "image_right", 0, 1), ("image_2", "image_3", 2, 3), ("image_0", "image_1", 0, 1))
LEAST_BASELINE_M = 1e-3


def read_kitti_stereo(folder: Path, disparity_offset_px: float = 0.0) -> SensorSequence:
    """The drive in ``folder``.

    Args:
        folder: holds ``image_left`` and ``image_right`` (or KITTI's ``image_2/3``, ``image_0/1``), ``calib.txt`` with
            projections of left and right (or P0 to P3), and optionally ``poses.txt`` (rows of 3x4, left camera to
            first camera) and ``times.txt``.
        disparity_offset_px: true minus measured disparity, of a pair whose right images are off their calibration
            along x; right images are shifted left by it.

    Raises:
        ValueError: other numbers of images, or files that hold something else.
        OSError: a file is missing.
    """
    left_name, right_name, left_row, right_row = next((n for n in FOLDERS if (folder / n[0]).is_dir()), FOLDERS[0])
    left = list_files(folder / left_name, "*.*", "left images")
    right = list_files(folder / right_name, "*.*", "right images")
    if len(left) != len(right):
        raise ValueError(f"{folder}: expected as many right as left images, got {len(left)} and {len(right)}")
    projections = read_projections(folder / "calib.txt")
    left_projection, right_projection = projections[left_row], projections[right_row]
    baseline_m = float(left_projection[0, 3] / left_projection[0, 0] - right_projection[0, 3] / right_projection[0, 0])
    if baseline_m < LEAST_BASELINE_M:
        raise ValueError(
            f"{folder}/calib.txt: expected the right camera to the right of the left one (P[0, 3] = -fx * baseline), "
            f"got a baseline of {baseline_m:g} m; left and right may be swapped"
        )
    height, width = read_rgb(left[0]).shape[:2]
    (fx, _, cx, _), (_, fy, cy, _), _ = left_projection.tolist()
    camera = Intrinsics(fx, fy, cx, cy, width, height)
    stamps = read_times(folder / "times.txt", len(left))

    def read_frame(t: int) -> Frame:
        right_rgb = shift_left(read_rgb(right[t]), disparity_offset_px)
        return Frame(stamps[t], read_rgb(left[t]), camera, right_rgb=right_rgb, baseline_m=baseline_m)

    return SensorSequence(
        name=folder.name,
        layout="kitti",
        stamps_ns=stamps,
        read_frame=read_frame,
        world_from_camera=read_poses(folder / "poses.txt", len(left)),
        facts={"baseline_m": baseline_m, "disparity_offset_px": disparity_offset_px},
    )


def shift_left(image_rgb: NDArray[np.uint8], pixels: float) -> NDArray[np.uint8]:
    """The image moved left by a fraction of pixels, cubic; the last columns are repeated."""
    if not pixels:
        return image_rgb
    matrix = np.array([[1.0, 0.0, -pixels], [0.0, 1.0, 0.0]])
    size_wh = image_rgb.shape[1::-1]
    moved = cv2.warpAffine(image_rgb, matrix, size_wh, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def read_projections(path: Path) -> NDArray[np.float64]:
    """(n, 3, 4) projection matrices in their order, n at least 2; rows may begin with a name such as ``P0:``."""
    rows = [line.split() for line in require_file(path, "projection matrices").read_text().splitlines() if line.strip()]
    rows = [row[1:] if row[0].endswith(":") else row for row in rows if row[0] != "Tr:"]
    if len(rows) < 2 or any(len(row) != 12 for row in rows):
        raise ValueError(f"{path}: expected two rows of 12 numbers or more, got rows of {[len(row) for row in rows]}")
    return np.array(rows, dtype=np.float64).reshape(-1, 3, 4)


def read_poses(path: Path, count: int) -> PoseArray | None:
    """``world_from_camera`` (t, 4, 4), world being the first left camera; None: there is no file."""
    if not path.is_file():
        return None
    rows = np.loadtxt(path, dtype=np.float64, ndmin=2)
    if rows.shape != (count, 12):
        raise ValueError(f"{path}: expected {count} rows of 12 numbers, one an image, got {rows.shape}")
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    return poses


def read_times(path: Path, count: int) -> tuple[int, ...]:
    """Stamp of each image in ns, above 0; without a file those of 10 Hz."""
    if not path.is_file():
        return tuple((t + 1) * FRAME_INTERVAL_NS for t in range(count))
    seconds = [format(float(word), ".9f") for word in path.read_text().split()]
    if len(seconds) < count:
        raise ValueError(f"{path}: expected {count} times, one an image, got {len(seconds)}")
    return tuple(stamp_ns(word) + FRAME_INTERVAL_NS for word in seconds[:count])
