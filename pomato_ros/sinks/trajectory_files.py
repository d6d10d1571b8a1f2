"""Trajectories as TUM and KITTI write them, and a reconstruction as COLMAP's text model."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import invert, matrix_from_quaternion_xyzw, pose_from, quaternion_xyzw_from_matrix
from pomato_ros.sinks.point_files import write_whole

NS_PER_S = 1_000_000_000
CAMERA_ID = 1


def write_tum(path: Path, stamps_ns: Iterable[int], world_from_camera: NDArray[np.float64]) -> None:
    """Lines ``seconds tx ty tz qx qy qz qw``; seconds are written from integers, so that no digit is lost."""
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for stamp_ns, pose in zip(stamps_ns, world_from_camera, strict=True):
        values = np.concatenate([pose[:3, 3], quaternion_xyzw_from_matrix(pose[:3, :3])])
        lines.append(f"{int(stamp_ns) // NS_PER_S}.{int(stamp_ns) % NS_PER_S:09d} " + _numbers(values))
    write_whole(path, "\n".join([*lines, ""]))


def read_tum(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Stamps (n,) in ns and poses (n, 4, 4).

    Raises:
        ValueError: a line has another form.
    """
    stamps, rows = [], []
    for line in path.read_text(encoding="ascii").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 8:
            raise ValueError(f"{path}: expected lines 'seconds tx ty tz qx qy qz qw', got {line!r}")
        whole, _, part = words[0].partition(".")
        stamps.append(int(whole) * NS_PER_S + int((part + "0" * 9)[:9]))
        rows.append([float(word) for word in words[1:]])
    values = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return np.array(stamps, np.int64), pose_from(matrix_from_quaternion_xyzw(values[:, 3:]), values[:, :3])


def write_kitti(path: Path, world_from_camera: NDArray[np.float64]) -> None:
    """Rows of 3x4 matrices: each camera in the first one."""
    relative = invert(world_from_camera[0]) @ world_from_camera
    write_whole(path, "".join(_numbers(pose[:3].ravel()) + "\n" for pose in relative))


def write_colmap(
    folder: Path,
    names: Iterable[str],
    world_from_camera: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
    size_wh: tuple[int, int],
    points_world: NDArray[np.floating],
    colours_rgb: NDArray[np.uint8],
) -> None:
    """``cameras.txt``, ``images.txt``, ``points3D.txt``; COLMAP puts pixel centres at halves, so the centre moves."""
    fx, fy, cx, cy = camera_matrix[0, 0], camera_matrix[1, 1], camera_matrix[0, 2] + 0.5, camera_matrix[1, 2] + 0.5
    camera = f"{CAMERA_ID} PINHOLE {size_wh[0]} {size_wh[1]} " + _numbers(np.array([fx, fy, cx, cy]))
    write_whole(folder / "cameras.txt", f"# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n{camera}\n")
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    for number, (name, pose) in enumerate(zip(names, invert(world_from_camera), strict=True), start=1):
        x, y, z, w = quaternion_xyzw_from_matrix(pose[:3, :3])
        lines += [f"{number} {_numbers(np.array([w, x, y, z, *pose[:3, 3]]))} {CAMERA_ID} {name}", ""]
    write_whole(folder / "images.txt", "\n".join([*lines, ""]))
    rows = [
        f"{number} {_numbers(point)} {int(red)} {int(green)} {int(blue)} 0"
        for number, (point, (red, green, blue)) in enumerate(zip(points_world, colours_rgb, strict=True), start=1)
    ]
    write_whole(folder / "points3D.txt", "\n".join(["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]", *rows, ""]))


def _numbers(values: NDArray[np.floating]) -> str:
    return " ".join(f"{value:.9g}" for value in values)
