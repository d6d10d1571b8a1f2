"""Files that the save services write: a coloured cloud as PLY and a trajectory in TUM's text format."""

from pathlib import Path

import numpy as np

from pomato_ros.geometry.rigid import quaternion_xyzw_from_matrix
from pomato_ros.ros.conversions.stamps import NANOSECONDS_PER_SECOND
from pomato_ros.structures import PoseArray, SceneEstimate

PLY_DTYPE = np.dtype(
    [
        *((name, "<f4") for name in ("x", "y", "z")),
        *((name, "u1") for name in ("red", "green", "blue")),
        ("confidence", "<f4"),
        ("dynamic", "u1"),
    ]
)
PLY_TYPES = {np.dtype("<f4"): "float", np.dtype("u1"): "uchar"}


def save_cloud(scene: SceneEstimate, odom_from_optical: PoseArray, folder: Path) -> Path:
    """Write the valid points of a step, in the odometry frame, as binary PLY; the new file's path."""
    valid = np.isfinite(scene.points_camera).all(axis=-1)
    points = scene.points_camera[valid] @ odom_from_optical[:3, :3].T + odom_from_optical[:3, 3]
    vertices = np.zeros(len(points), PLY_DTYPE)
    for axis, name in enumerate("xyz"):
        vertices[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = scene.image_rgb[valid][:, channel]
    vertices["confidence"] = scene.confidence[valid]
    vertices["dynamic"] = scene.dynamic_mask[valid]
    path = new_file(folder, f"cloud_{scene.stamp_ns}.ply")
    write_whole(path, ply_header(len(vertices)) + vertices.tobytes())
    return path


def ply_header(count: int) -> bytes:
    """The header of a binary PLY file of ``count`` points."""
    properties = [f"property {PLY_TYPES[PLY_DTYPE[name]]} {name}" for name in PLY_DTYPE.names or ()]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *properties, "end_header", ""]
    return "\n".join(lines).encode("ascii")


def save_trajectory(trajectory: list[tuple[int, PoseArray]], folder: Path) -> Path:
    """Write stamped poses odom <- base as lines of ``seconds tx ty tz qx qy qz qw``; the new file's path."""
    lines = [trajectory_line(stamp_ns, pose) for stamp_ns, pose in trajectory]
    path = new_file(folder, f"trajectory_{trajectory[-1][0]}.txt")
    write_whole(path, "\n".join(["# timestamp tx ty tz qx qy qz qw", *lines, ""]).encode("ascii"))
    return path


def trajectory_line(stamp_ns: int, pose: PoseArray) -> str:
    """One pose; the stamp is written from integers, so that no digit is lost."""
    sec, nanosec = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    values = np.concatenate([pose[:3, 3], quaternion_xyzw_from_matrix(pose[:3, :3])])
    return f"{sec}.{nanosec:09d} " + " ".join(f"{value:.9f}" for value in values)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there, as on a disk that becomes full.

    Raises:
        OSError: It cannot be written; nothing of it is left.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def new_file(folder: Path, name: str) -> Path:
    """A path inside ``folder``, which is made if it is missing; ``~`` is the home."""
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        folder = folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
