"""MPI Sintel: ``training/{final,clean}/NAME/frame_0001.png``, depth and cameras beside them.

``depth/NAME/frame_0001.dpt``: float 202021.25, int width, int height, float metres row by row.
``camdata_left/NAME/frame_0001.cam``: float 202021.25, 3x3 doubles of the intrinsics, 3x4 of camera from world.
"""

from pathlib import Path

import numpy as np

from pomato_ros.datasets.files import corner_intrinsics, list_files, read_rgb, require_file
from pomato_ros.datasets.papers.sequence import PaperSequence
from pomato_ros.geometry.rigid import invert
from pomato_ros.structures import FloatArray, Frame, Intrinsics, PoseArray

TAG = 202021.25
RATE_HZ = 24.0


def find_sequences(root: Path, render: str = "final") -> list[PaperSequence]:
    """All sequences below ``root``, which is or holds ``training``.

    Raises:
        FileNotFoundError: there is none.
    """
    base = root / "training" if (root / "training").is_dir() else root
    folders = sorted(path for path in (base / render).glob("*") if path.is_dir())
    if not folders:
        raise FileNotFoundError(f"no Sintel in {root}: expected training/{render}/NAME/frame_0001.png")
    return [_sequence(base, folder) for folder in folders]


def _sequence(base: Path, folder: Path) -> PaperSequence:
    images = list_files(folder, "frame_*.png", "Sintel's images")
    cameras = [base / "camdata_left" / folder.name / f"{image.stem}.cam" for image in images]
    depths = [base / "depth" / folder.name / f"{image.stem}.dpt" for image in images]
    read = [read_camera(path) for path in cameras]

    def read_frame(number: int) -> Frame:
        image = read_rgb(images[number])
        matrix, size_wh = read[number][0], (image.shape[1], image.shape[0])
        return Frame(round((number + 1) * 1e9 / RATE_HZ), image, _intrinsics(matrix, size_wh))

    poses = np.stack([pose for _, pose in read])
    return PaperSequence(folder.name, len(images), read_frame, lambda number: read_depth(depths[number]), poses)


def read_depth(path: Path) -> FloatArray:
    """(h, w) metres.

    Raises:
        ValueError: it is no depth file.
    """
    content = require_file(path, "a depth map of Sintel").read_bytes()
    tag, size = np.frombuffer(content, "<f4", 1), np.frombuffer(content, "<i4", 2, 4)
    if tag[0] != np.float32(TAG) or len(content) != 12 + 4 * int(size[0]) * int(size[1]):
        raise ValueError(f"{path}: expected a .dpt file of Sintel; fetch it again")
    return np.frombuffer(content, "<f4", offset=12).reshape(int(size[1]), int(size[0])).copy()


def read_camera(path: Path) -> tuple[PoseArray, PoseArray]:
    """Intrinsics (3, 3) and world from camera (4, 4).

    Raises:
        ValueError: it is no camera file.
    """
    content = require_file(path, "a camera of Sintel").read_bytes()
    if len(content) != 4 + 8 * 21 or np.frombuffer(content, "<f4", 1)[0] != np.float32(TAG):
        raise ValueError(f"{path}: expected a .cam file of Sintel; fetch it again")
    numbers = np.frombuffer(content, "<f8", 21, 4)
    camera_from_world = np.eye(4)
    camera_from_world[:3] = numbers[9:].reshape(3, 4)
    return numbers[:9].reshape(3, 3).copy(), invert(camera_from_world)


def _intrinsics(matrix: PoseArray, size_wh: tuple[int, int]) -> Intrinsics:
    return corner_intrinsics(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], size_wh)
