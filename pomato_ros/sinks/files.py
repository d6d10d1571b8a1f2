"""Files that any tool reads: a coloured cloud as PLY, a trajectory in TUM's text format; whole or not there."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import quaternion_xyzw_from_matrix
from pomato_ros.structures import PoseArray, SceneEstimate

NS_PER_S = 1_000_000_000
PLY_DTYPE = np.dtype(
    [
        *((name, "<f4") for name in ("x", "y", "z")),
        *((name, "u1") for name in ("red", "green", "blue")),
        ("confidence", "<f4"),
        ("dynamic", "u1"),
    ]
)
PLY_TYPES = {np.dtype("<f4"): "float", np.dtype("u1"): "uchar"}
TRAJECTORY_HEADER = "# timestamp tx ty tz qx qy qz qw"


def cloud_vertices(scene: SceneEstimate, fixed_from_camera: PoseArray) -> NDArray[np.void]:
    """(n,) of :data:`PLY_DTYPE`: the valid points of a scene in a fixed frame; ``fixed_from_camera`` (4, 4) optical."""
    valid = np.isfinite(scene.points_camera).all(axis=-1)
    points = scene.points_camera[valid] @ fixed_from_camera[:3, :3].T + fixed_from_camera[:3, 3]
    vertices = np.zeros(len(points), PLY_DTYPE)
    for axis, name in enumerate("xyz"):
        vertices[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = scene.image_rgb[valid][:, channel]
    vertices["confidence"] = scene.confidence[valid]
    vertices["dynamic"] = scene.dynamic_mask[valid]
    return vertices


def ply_bytes(vertices: NDArray[np.void]) -> bytes:
    """A binary PLY file of vertices (n,) of :data:`PLY_DTYPE`."""
    return ply_header(len(vertices)) + vertices.tobytes()


def ply_header(count: int) -> bytes:
    """The header of a binary PLY file of ``count`` points."""
    properties = [f"property {PLY_TYPES[PLY_DTYPE[name]]} {name}" for name in PLY_DTYPE.names or ()]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *properties, "end_header", ""]
    return "\n".join(lines).encode("ascii")


def trajectory_bytes(trajectory: Iterable[tuple[int, PoseArray]]) -> bytes:
    """A text file of stamped poses (4, 4), rows of ``seconds tx ty tz qx qy qz qw``."""
    lines = [trajectory_line(stamp_ns, pose) for stamp_ns, pose in trajectory]
    return "\n".join([TRAJECTORY_HEADER, *lines, ""]).encode("ascii")


def trajectory_line(stamp_ns: int, pose: PoseArray) -> str:
    """One pose; the stamp is written from integers, so that no digit is lost."""
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
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
