"""Coloured points as binary PLY."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PLY_DTYPE = np.dtype(
    [*((name, "<f4") for name in ("x", "y", "z")), *((name, "u1") for name in ("red", "green", "blue"))]
)


def write_ply(path: Path, points: NDArray[np.floating], colours_rgb: NDArray[np.uint8]) -> None:
    """Write points (n, 3) and colours (n, 3) as a whole or not at all."""
    vertices = np.zeros(len(points), PLY_DTYPE)
    for axis, name in enumerate("xyz"):
        vertices[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours_rgb[:, channel]
    properties = [f"property {'float' if PLY_DTYPE[n] == '<f4' else 'uchar'} {n}" for n in PLY_DTYPE.names or ()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *properties, "end_header", ""]
    write_whole(path, "\n".join(header).encode("ascii") + vertices.tobytes())


def read_ply(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points (n, 3) and colours (n, 3) of a file that :func:`write_ply` wrote.

    Raises:
        ValueError: it is none.
    """
    content = path.read_bytes()
    header, mark, body = content.partition(b"end_header\n")
    if not mark or not header.startswith(b"ply\nformat binary_little_endian"):
        raise ValueError(f"{path}: expected a binary PLY file of coloured points")
    vertices = np.frombuffer(body, PLY_DTYPE)
    points = np.stack([vertices[name] for name in "xyz"], axis=-1)
    return points, np.stack([vertices[name] for name in ("red", "green", "blue")], axis=-1)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that is either whole or not there, as on a disk that becomes full; its folder is made.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
