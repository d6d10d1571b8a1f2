"""TAPVid-3D clips (Aria Digital Twin and Panoptic Studio): one ``.npz`` a clip.

``images_jpeg_bytes`` (t,) JPEG files, ``queries_xyt`` (n, 3), ``tracks_XYZ`` (t, n, 3) metres in the camera of each
frame, ``visibility`` (t, n), ``fx_fy_cx_cy`` (4,). Images may be an array of Python objects; only byte strings are
accepted in it, whatever else the file's pickle may hold.
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.datasets.files import READ_ERRORS, require_file
from pomato_ros.datasets.papers.sequence import PaperSequence, TrackTruth
from pomato_ros.structures import Frame, Intrinsics

RATE_HZ = 30.0
ALLOWED = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def find_sequences(root: Path) -> list[PaperSequence]:
    """All clips below ``root``.

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted(root.glob("**/*.npz"))
    if not files:
        raise FileNotFoundError(f"no TAPVid-3D clip in {root}: expected files NAME.npz")
    return [read_clip(file) for file in files]


def read_clip(path: Path) -> PaperSequence:
    """One clip; only queries of the first frame are kept, as the protocols have it.

    Raises:
        OSError: the file is broken or lacks an array.
        ValueError: it holds something else than it should.
    """
    require_file(path, "a clip of TAPVid-3D")
    try:
        with np.load(path, allow_pickle=False) as stored:
            queries, tracks = stored["queries_xyt"].astype(np.float64), stored["tracks_XYZ"].astype(np.float64)
            visible, camera = stored["visibility"].astype(bool), stored["fx_fy_cx_cy"].astype(np.float64)
        images = read_bytes_array(path, "images_jpeg_bytes")
    except READ_ERRORS as error:
        raise OSError(f"could not read {path} ({error}): expected a clip of TAPVid-3D; fetch it again") from error
    if tracks.shape != (len(images), len(queries), 3) or visible.shape != tracks.shape[:2]:
        raise ValueError(
            f"{path}: expected tracks ({len(images)}, {len(queries)}, 3) with visibility, got {tracks.shape}, "
            f"{visible.shape}"
        )
    first = queries[:, 2] == 0
    fx, fy, cx, cy = (float(value) for value in camera)

    def read_frame(number: int) -> Frame:
        image = decode(images[number], path)
        intrinsics = Intrinsics(fx, fy, cx, cy, image.shape[1], image.shape[0])
        return Frame(round((number + 1) * 1e9 / RATE_HZ), image, intrinsics)

    truth = TrackTruth(queries[first, :2], tracks[:, first], visible[:, first], (fx, fy))
    return PaperSequence(path.stem, len(images), read_frame, tracks=truth)


def decode(content: bytes, path: Path) -> NDArray[np.uint8]:
    """(h, w, 3) RGB of a JPEG file.

    Raises:
        OSError: it is none.
    """
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise OSError(f"{path}: expected JPEG images in images_jpeg_bytes; fetch it again")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def read_bytes_array(path: Path, key: str) -> list[bytes]:
    """Byte strings of an array, of objects or of fixed length; nothing else is ever built.

    Raises:
        ValueError: it holds something else.
    """
    with zipfile.ZipFile(path) as archive:
        content = archive.read(f"{key}.npy")
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    values = np.load(io.BytesIO(content), allow_pickle=False) if b"|O" not in content[:128] else _objects(stream)
    entries = [bytes(value) if isinstance(value, bytes | np.bytes_) else None for value in np.ravel(values).tolist()]
    if any(entry is None for entry in entries):
        raise ValueError(f"{path}: expected only byte strings in {key}")
    return [entry for entry in entries if entry is not None]


class _BytesOnly(pickle.Unpickler):
    """Builds arrays of byte strings and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that such an array needs."""
        if (module, name) not in ALLOWED:
            raise ValueError(f"refused to load {module}.{name}: only byte strings are expected")
        return super().find_class(module, name)


def _objects(stream: io.BytesIO) -> Any:
    return _BytesOnly(stream).load()
