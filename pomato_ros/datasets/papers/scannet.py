"""ScanNet as its exporter writes it: ``SCENE/{color/0.jpg, depth/0.png (mm), pose/0.txt}``, ``intrinsic/``."""

from pathlib import Path

import cv2
import numpy as np

from pomato_ros.datasets.files import list_files, read_png, read_rgb, require_file
from pomato_ros.datasets.papers.sequence import PaperSequence
from pomato_ros.structures import FloatArray, Frame, Intrinsics, PoseArray

RATE_HZ = 30.0


def find_sequences(root: Path) -> list[PaperSequence]:
    """All scenes below ``root``.

    Raises:
        FileNotFoundError: there is none.
    """
    folders = sorted(path.parent for path in root.glob("**/color") if path.is_dir())
    if not folders:
        raise FileNotFoundError(
            f"no ScanNet in {root}: expected SCENE/color/0.jpg, SCENE/depth/0.png, SCENE/pose/0.txt"
        )
    return [_sequence(folder) for folder in folders]


def _sequence(folder: Path) -> PaperSequence:
    images = sorted(list_files(folder / "color", "*.jpg", "ScanNet's images"), key=lambda path: int(path.stem))
    matrix = read_matrix(folder / "intrinsic" / "intrinsic_color.txt")
    poses = np.stack([read_matrix(folder / "pose" / f"{image.stem}.txt") for image in images])

    def read_frame(number: int) -> Frame:
        image = read_rgb(images[number])
        (fx, cx), (fy, cy) = matrix[0, [0, 2]], matrix[1, [1, 2]]
        camera = Intrinsics(float(fx), float(fy), float(cx), float(cy), image.shape[1], image.shape[0])
        return Frame(round((number + 1) * 1e9 / RATE_HZ), image, camera)

    def read_depth(number: int) -> FloatArray:
        height, width = read_rgb(images[number]).shape[:2]
        stored = read_png(folder / "depth" / f"{images[number].stem}.png", np.uint16, 1)
        depth_m = stored.astype(np.float32) * np.float32(1e-3)
        return np.asarray(cv2.resize(depth_m, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)

    return PaperSequence(folder.name, len(images), read_frame, read_depth, poses)


def read_matrix(path: Path) -> PoseArray:
    """(4, 4); NaN where the camera was lost, which ScanNet writes as infinities.

    Raises:
        ValueError: it is no matrix.
    """
    matrix = np.loadtxt(require_file(path, "a 4x4 matrix of ScanNet"), dtype=np.float64, ndmin=2)
    if matrix.shape != (4, 4):
        raise ValueError(f"{path}: expected a matrix (4, 4), got {matrix.shape}; fetch it again")
    return matrix if np.isfinite(matrix).all() else np.full((4, 4), np.nan)
