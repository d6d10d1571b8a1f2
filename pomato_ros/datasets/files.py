"""Reads the files datasets are made of; every failure names the file, what it should be and what to do."""

import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.errors import DataError
from pomato_ros.structures import Intrinsics

ROTATION_TOLERANCE = 1e-3  # by which R R^T of a stored pose may miss the identity
READ_ERRORS = (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error)


def require_file(path: Path, what: str) -> Path:
    """``path``, which must be a file.

    Raises:
        FileNotFoundError: it is not; ``what`` says what it should hold.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected {what}: fetch this part of the dataset too")
    return path


def list_files(folder: Path, pattern: str, what: str) -> list[Path]:
    """The files in ``folder`` that match, by name.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} in {folder}; expected {what} there: fetch this part of the dataset too")
    return found


def pick(items: Sequence[Any], frames: Sequence[int], name: str) -> list[Any]:
    """The items of a sequence with the numbers ``frames``.

    Raises:
        IndexError: a number is not one of the sequence's.
    """
    wrong = [frame for frame in frames if not 0 <= frame < len(items)]
    if wrong or not frames:
        raise IndexError(f"{name} has frames 0 to {len(items) - 1}, asked for {list(frames)}")
    return [items[frame] for frame in frames]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A colour image (h, w, 3), RGB; transparency is dropped.

    Raises:
        OSError: it is missing or broken.
    """
    bgr = cv2.imread(str(require_file(path, "a colour image")), cv2.IMREAD_COLOR)
    if bgr is None:
        raise OSError(f"could not read {path}: expected a PNG or JPEG image; fetch it again")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def read_png(path: Path, dtype: type[np.generic], channels: int) -> NDArray[Any]:
    """A PNG that holds numbers: (h, w) of ``dtype`` for one channel, (h, w, c) with c at least ``channels`` else.

    Channels come in the file's order (red first).

    Raises:
        OSError: it is missing or broken.
        DataError: it has another type or too few channels.
    """
    stored = cv2.imread(str(require_file(path, "a PNG of numbers")), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise OSError(f"could not read {path}: expected a PNG image; fetch it again")
    found = 1 if stored.ndim == 2 else stored.shape[2]
    if stored.dtype != dtype or (found != 1 if channels == 1 else found < channels):
        raise DataError(
            f"{path}: expected {channels} channel(s) of {np.dtype(dtype)}, got {found} of {stored.dtype}; "
            "it may have been converted on the way, use the original file"
        )
    return np.asarray(stored if channels == 1 else stored[..., 2::-1])


def read_npy(path: Path, what: str) -> NDArray[Any]:
    """The array in an ``.npy`` file.

    Raises:
        OSError: it is missing or broken.
    """
    try:
        return np.asarray(np.load(require_file(path, what), allow_pickle=False))
    except FileNotFoundError:
        raise
    except READ_ERRORS as error:
        raise OSError(f"could not read {path} ({error}): expected {what}; fetch it again") from error


def read_npz(path: Path, key: str, what: str) -> NDArray[Any]:
    """One array of an ``.npz`` file.

    Raises:
        OSError: it is missing, broken or has no such array.
    """
    try:
        with np.load(require_file(path, what), allow_pickle=False) as arrays:
            return np.asarray(arrays[key])
    except FileNotFoundError:
        raise
    except READ_ERRORS as error:
        raise OSError(f"could not read '{key}' of {path} ({error}): expected {what}; fetch it again") from error


def read_npz_rows(path: Path, key: str, rows: Sequence[int], what: str) -> NDArray[Any]:
    """Rows of an array's first axis, in the order asked for, without holding the whole array in memory.

    An array without rows, which stands for what a sequence lacks, gives an empty array.

    Raises:
        OSError: the file is missing, broken or has no such array.
        DataError: the array has fewer rows.
    """
    require_file(path, what)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, by_columns, dtype = read_header(stream)
            if not shape or not math.prod(shape):
                return np.zeros(0)
            if by_columns or dtype.hasobject:
                raise EOFError(f"stored as {dtype} of shape {shape}, not row by row")
            row_bytes = math.prod(shape[1:]) * dtype.itemsize
            first_byte = stream.tell()
            found = {}
            for row in sorted(set(rows) & set(range(shape[0]))):
                stream.seek(first_byte + row * row_bytes)
                found[row] = np.frombuffer(stream.read(row_bytes), dtype).reshape(shape[1:])
    except READ_ERRORS as error:
        raise OSError(f"could not read '{key}' of {path} ({error}): expected {what}; fetch it again") from error
    if set(rows) - set(found):
        raise DataError(f"{path}: expected '{key}' to have {max(rows) + 1} rows or more, got {shape[0]}")
    return np.stack([found[row] for row in rows])


def parse_json(text: str | bytes, path: Path) -> Any:
    """The content of the JSON file ``path``.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got something else ({error}); fetch it again") from error


def metric_depth(depth_m: NDArray[Any], far_m: float) -> NDArray[np.float32]:
    """Depth (h, w) with 0 wherever it is none: not finite, not in front, or ``far_m`` and farther (sky)."""
    known = np.isfinite(depth_m) & (depth_m > 0) & (depth_m < far_m)
    return np.where(known, depth_m, 0.0).astype(np.float32)


def check_pose(pose: NDArray[np.float64], source: str) -> NDArray[np.float64]:
    """A pose (4, 4) that is a rotation and a translation; ``source`` says where it was read.

    Raises:
        DataError: it is not rigid, or mirrors.
    """
    rotation = pose[:3, :3] if pose.shape == (4, 4) else np.full((3, 3), np.nan)
    orthonormal = np.abs(rotation @ rotation.T - np.eye(3)).max() < ROTATION_TOLERANCE
    if not (np.isfinite(pose).all() and orthonormal and np.linalg.det(rotation) > 0):
        raise DataError(
            f"{source}: expected a right-handed rigid pose (4, 4), got {np.array2string(pose, precision=4)}; "
            "the file is broken or follows another convention"
        )
    return pose


def corner_intrinsics(fx: float, fy: float, cx: float, cy: float, size_wh: tuple[int, int]) -> Intrinsics:
    """A camera whose principal point is measured from the image's corner, so that W / 2 is the middle.

    All five datasets write it so; here pixel centres are at integers and the middle is (W - 1) / 2.
    """
    return Intrinsics(float(fx), float(fy), float(cx) - 0.5, float(cy) - 0.5, *size_wh)
