"""The points of a scene as PLY vertices with confidence and what moves."""

import numpy as np
from numpy.typing import NDArray

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
