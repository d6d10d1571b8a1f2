"""A stereo drive with known poses (KITTI odometry): depth and odometry of one camera against stereo and truth.

True depth is what semi-global matching finds in the two images, where matching from the other side agrees. It errs by
some percent itself and leaves out what it does not see, so small differences say nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.errors import DataError
from pomato_ros.evaluation import opencv_baseline
from pomato_ros.evaluation.davis import SizedPerceiver, read_image
from pomato_ros.evaluation.evaluate import run_frames
from pomato_ros.evaluation.grading import Grade, Scores, SequenceTruth, grade, grade_trivial, has_truth
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame, Intrinsics

KITTI_FOLDER = "kitti_stereo"
FRAME_INTERVAL_NS = 100_000_000
DISPARITIES_PX = 128  # from the nearest thing that is matched, a multiple of 16
BLOCK_PX = 5
AGREEMENT_PX = 1.0  # between matching from the left and from the right
SGBM_STEPS = 16.0  # OpenCV gives disparities in sixteenths of a pixel


@dataclass(frozen=True, slots=True)
class StereoDrive:
    """A drive on disk, all of it but the images."""

    left: tuple[Path, ...]
    right: tuple[Path, ...]
    camera_matrix: NDArray[np.float64]  # (3, 3), both cameras
    baseline_m: float
    world_from_camera: NDArray[np.float64]  # (t, 4, 4), left camera


@dataclass(frozen=True, slots=True)
class KittiResult:
    """One drive."""

    frames: int
    system: Grade
    baseline: Scores
    opencv: Grade
    depth_known: float  # share of pixels that stereo has a depth for


def read_drive(folder: Path) -> StereoDrive:
    """The drive in ``folder``: ``image_left``, ``image_right``, ``calib.txt`` (two 3x4 projections), ``poses.txt``.

    Raises:
        DataError: the numbers of images and poses differ, or a file holds something else.
        OSError: a file is missing.
    """
    left, right = (tuple(sorted((folder / f"image_{side}").glob("*.*"))) for side in ("left", "right"))
    projections = np.loadtxt(folder / "calib.txt", dtype=np.float64, ndmin=2)
    rows = np.loadtxt(folder / "poses.txt", dtype=np.float64, ndmin=2)
    if projections.shape != (2, 12) or rows.shape[1:] != (12,):
        raise DataError(
            f"{folder}: expected rows of 12 numbers, two in calib.txt, got {projections.shape}, {rows.shape}"
        )
    if not len(left) == len(right) == len(rows) or len(left) < 3:
        raise DataError(
            f"{folder}: expected as many left and right images as poses, three or more, got {len(left)}, {len(right)} "
            f"and {len(rows)}"
        )
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    left_projection, right_projection = projections.reshape(2, 3, 4)
    baseline_m = float(-right_projection[0, 3] / right_projection[0, 0])
    return StereoDrive(left, right, left_projection[:, :3], baseline_m, poses)


def evaluate_kitti(engine: SizedPerceiver, folder: Path) -> KittiResult:
    """The left camera's images through the engine and through the OpenCV pipeline, at the network's size."""
    drive = read_drive(folder)
    frames = [frame_of_drive(drive, t) for t in range(len(drive.left))]
    prepared = [prepare_frame(frame, engine.image_size_px) for frame in frames]
    width, height = prepared[0].image_rgb.shape[1::-1]
    depth_m = np.zeros((len(frames), height, width))
    for t, (frame, seen) in enumerate(zip(frames, prepared, strict=True)):
        source_m = stereo_depth_m(frame.image_rgb, read_image(drive.right[t]), drive)
        depth_m[t] = cv2.warpPerspective(source_m, seen.model_from_source, (width, height), flags=cv2.INTER_NEAREST)
    truth = SequenceTruth(depth_m, drive.world_from_camera, moving=None)
    camera = prepared[0].intrinsics
    assert camera is not None  # frame_of_drive gives one
    run = run_frames(engine, frames, len(frames), (height, width))
    classical = opencv_baseline.perceive([frame.image_rgb for frame in prepared], camera.matrix())
    return KittiResult(
        frames=len(frames),
        system=grade(run, truth),
        baseline=grade_trivial(run, truth),
        opencv=grade(classical, truth),
        depth_known=float(has_truth(depth_m).mean()),
    )


def frame_of_drive(drive: StereoDrive, t: int) -> Frame:
    """A left image as a calibrated camera would give it."""
    image_rgb = read_image(drive.left[t])
    (fx_px, _, cx_px), (_, fy_px, cy_px) = drive.camera_matrix[:2]
    height_px, width_px = image_rgb.shape[:2]
    camera = Intrinsics(float(fx_px), float(fy_px), float(cx_px), float(cy_px), width_px, height_px)
    return Frame((t + 1) * FRAME_INTERVAL_NS, image_rgb, camera)


def stereo_depth_m(
    left_rgb: NDArray[np.uint8], right_rgb: NDArray[np.uint8], drive: StereoDrive
) -> NDArray[np.float64]:
    """Depth (h, w) of the left image ``f B / d`` in metres; 0 where the two sides do not agree on the disparity d."""
    left, right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left_rgb, right_rgb))
    of_left = disparity_px(left, right)
    of_right = disparity_px(right[:, ::-1].copy(), left[:, ::-1].copy())[:, ::-1]
    columns = np.arange(left.shape[1])
    partner = np.clip(np.round(columns - of_left).astype(np.int64), 0, left.shape[1] - 1)
    agreed = np.abs(np.take_along_axis(of_right, partner, axis=1) - of_left) <= AGREEMENT_PX
    known = agreed & (of_left > 0.0)
    depth_m = drive.camera_matrix[0, 0] * drive.baseline_m / np.where(known, of_left, 1.0)
    return np.where(known, depth_m, 0.0)


def disparity_px(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Disparity (h, w) of the left image by semi-global block matching; not above 0 where none was found.

    The matcher leaves out as many columns on the left as it tries disparities, so both images are widened there.
    """
    left, right = (cv2.copyMakeBorder(image, 0, 0, DISPARITIES_PX, 0, cv2.BORDER_CONSTANT) for image in (left, right))
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=DISPARITIES_PX,
        blockSize=BLOCK_PX,
        P1=8 * BLOCK_PX**2,
        P2=32 * BLOCK_PX**2,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )
    return matcher.compute(left, right)[:, DISPARITIES_PX:].astype(np.float64) / SGBM_STEPS
