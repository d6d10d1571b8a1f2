"""EuRoC MAV folders: mav0/cam0 and cam1 with sensor.yaml, state_groundtruth_estimate0; rectified here."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from pomato_ros.datasets.files import read_rgb, require_file
from pomato_ros.datasets.sensors.lens import Lens
from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.datasets.sensors.stamps import interpolate_poses, nearest_pairs
from pomato_ros.geometry.rigid import invert, pose_from
from pomato_ros.structures import Frame, Intrinsics, PoseArray

MAX_OFFSET_NS = 1_000_000  # between left and right, which one clock triggers
MAX_POSE_GAP_NS = 100_000_000
TRUTH = "state_groundtruth_estimate0"


@dataclass(frozen=True, slots=True)
class RawCamera:
    """One camera as ``sensor.yaml`` describes it."""

    intrinsics: Intrinsics
    distortion: tuple[float, ...]  # radial-tangential k1 k2 p1 p2
    body_from_camera: PoseArray  # (4, 4)


def read_euroc(folder: Path) -> SensorSequence:
    """The flight in ``folder``, which is or holds ``mav0``; both cameras rectified, the left one is the reference.

    Raises:
        ValueError: a file holds something else.
        OSError: a file is missing.
    """
    root = folder / "mav0" if (folder / "mav0").is_dir() else folder
    cameras = [read_raw_camera(root / name / "sensor.yaml") for name in ("cam0", "cam1")]
    left, right, baseline_m = rectified_lenses(*cameras)
    files = [listed_images(root / name) for name in ("cam0", "cam1")]
    stamps = [list(images) for images in files]
    pairs = [(stamps[0][a], stamps[1][b]) for a, b, _ in nearest_pairs(stamps[0], stamps[1], MAX_OFFSET_NS)]

    def read_frame(t: int) -> Frame:
        left_ns, right_ns = pairs[t]
        return Frame(
            stamp_ns=left_ns,
            image_rgb=left.rectify(read_rgb(files[0][left_ns])),
            intrinsics=left.rectified,
            right_rgb=right.rectify(read_rgb(files[1][right_ns])),
            baseline_m=baseline_m,
            valid=left.valid,
        )

    left_ns = [pair[0] for pair in pairs]
    return SensorSequence(
        name=folder.name,
        layout="euroc",
        stamps_ns=tuple(left_ns),
        read_frame=read_frame,
        world_from_camera=true_poses(root / TRUTH / "data.csv", left_ns, cameras[0], left),
        facts={"baseline_m": baseline_m},
    )


def read_raw_camera(path: Path) -> RawCamera:
    """The camera in a ``sensor.yaml``.

    Raises:
        ValueError: it is not a pinhole camera with radial-tangential distortion.
    """
    stored: dict[str, Any] = yaml.safe_load(require_file(path, "a camera's calibration").read_text())
    kind = (stored.get("camera_model"), stored.get("distortion_model"))
    if kind != ("pinhole", "radial-tangential"):
        raise ValueError(f"{path}: expected a pinhole camera with radial-tangential distortion, got {kind}")
    fx, fy, cx, cy = map(float, stored["intrinsics"])
    width, height = map(int, stored["resolution"])
    return RawCamera(
        Intrinsics(fx, fy, cx, cy, width, height),
        tuple(map(float, stored["distortion_coefficients"])),
        np.array(stored["T_BS"]["data"], dtype=np.float64).reshape(4, 4),
    )


def rectified_lenses(left: RawCamera, right: RawCamera) -> tuple[Lens, Lens, float]:
    """Both lenses after stereo rectification (Bouguet's, in OpenCV), and the baseline in metres."""
    right_from_left = invert(right.body_from_camera) @ left.body_from_camera
    size_wh = (left.intrinsics.width_px, left.intrinsics.height_px)
    left_turn, right_turn, left_projection, right_projection, *_ = cv2.stereoRectify(
        left.intrinsics.matrix(),
        np.array(left.distortion),
        right.intrinsics.matrix(),
        np.array(right.distortion),
        size_wh,
        right_from_left[:3, :3],
        right_from_left[:3, 3:],
        flags=cv2.CALIB_ZERO_DISPARITY,
        alpha=0.0,
    )
    fx, cx, cy = left_projection[0, 0], left_projection[0, 2], left_projection[1, 2]
    camera = Intrinsics(float(fx), float(left_projection[1, 1]), float(cx), float(cy), *size_wh)
    lenses = [
        Lens(raw.intrinsics, raw.distortion, camera, turn) for raw, turn in ((left, left_turn), (right, right_turn))
    ]
    return lenses[0], lenses[1], float(-right_projection[0, 3] / right_projection[0, 0])


def listed_images(folder: Path) -> dict[int, Path]:
    """Path of each image of a camera by its stamp in ns, by time: from ``data.csv`` or from the names in ``data``."""
    listed = folder / "data.csv"
    if not listed.is_file():
        return {int(path.stem): path for path in sorted((folder / "data").glob("*.png"), key=lambda p: int(p.stem))}
    with listed.open(newline="") as lines:
        rows = [row for row in csv.reader(lines) if row and not row[0].startswith("#")]
    return {int(row[0]): folder / "data" / row[1].strip() for row in sorted(rows, key=lambda row: int(row[0]))}


def true_poses(path: Path, stamps_ns: list[int], camera: RawCamera, lens: Lens) -> PoseArray | None:
    """(t, 4, 4) of the rectified left camera in the world; None: there is no file."""
    if not path.is_file():
        return None
    with path.open(newline="") as lines:
        rows = [row for row in csv.reader(lines) if row and not row[0].startswith("#")]
    values = np.array([[float(value) for value in row[1:8]] for row in rows])  # position, quaternion wxyz
    turns = Rotation.from_quat(values[:, [4, 5, 6, 3]]).as_matrix()
    stamps = np.array([int(row[0]) for row in rows], dtype=np.int64)
    body = interpolate_poses(stamps, pose_from(turns, values[:, :3]), stamps_ns, MAX_POSE_GAP_NS)
    raw_from_rectified = pose_from(lens.rectified_from_raw.T, np.zeros(3))
    return np.asarray(body @ camera.body_from_camera @ raw_from_rectified, np.float64)
