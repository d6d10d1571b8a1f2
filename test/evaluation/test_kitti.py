"""A miniature drive past a wall: stereo finds its depth, and whoever says so is right in any unit."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.evaluation.kitti import evaluate_kitti, frame_of_drive, read_drive, stereo_depth_m
from pomato_ros.evaluation.recorded import evaluate_recorded, find_recordings
from pomato_ros.evaluation.recorded_report import KITTI_SCORES, kitti_table, summarise_recorded
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame, SceneEstimate
from pomato_ros.synthetic.clip import Clip

HEIGHT, WIDTH, FRAMES = 96, 320, 4
FOCAL_PX, BASELINE_M, DISPARITY_PX = 200.0, 0.5, 10
WALL_M = FOCAL_PX * BASELINE_M / DISPARITY_PX


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drive = tmp_path_factory.mktemp("drive") / "kitti_stereo"
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH + DISPARITY_PX)).astype(np.uint8)
    wall = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.2), None, 0, 255, cv2.NORM_MINMAX)
    for side, start in (("left", 0), ("right", DISPARITY_PX)):  # what is at x on the left is at x - d on the right
        (drive / f"image_{side}").mkdir(parents=True)
        for t in range(FRAMES):
            cv2.imwrite(str(drive / f"image_{side}" / f"{t:06d}.png"), wall[:, start : start + WIDTH])
    projection = np.array([[FOCAL_PX, 0, 159.5, 0], [0, FOCAL_PX, 47.5, 0], [0, 0, 1, 0]])
    right = projection.copy()
    right[0, 3] = -FOCAL_PX * BASELINE_M
    np.savetxt(drive / "calib.txt", np.stack((projection.ravel(), right.ravel())))
    poses = np.tile(np.eye(4)[:3], (FRAMES, 1, 1))
    poses[:, :, 3] = [(0.1 * t, 0.02 * t * t, t) for t in range(FRAMES)]
    np.savetxt(drive / "poses.txt", poses.reshape(FRAMES, 12))
    return drive


class Wall:
    """Sees the wall three times as far, and the camera where it is, three times as far too."""

    image_size_px = 128

    def __init__(self, scene: SceneEstimate, world_from_camera: np.ndarray) -> None:
        self.scene, self.poses, self.count = scene, world_from_camera, 0

    def reset(self) -> None:
        self.count = 0

    def step(self, frame: Frame) -> SceneEstimate | None:
        seen = prepare_frame(frame, self.image_size_px)
        pose = self.poses[self.count].copy()
        pose[:3, 3] *= 3.0
        self.count += 1
        size = seen.image_rgb.shape[:2]
        return dataclasses.replace(
            self.scene,
            points_camera=np.full((*size, 3), 3.0 * WALL_M, np.float32),
            confidence=np.ones(size, np.float32),
            dynamic_mask=np.zeros(size, bool),
            world_from_camera=pose,
        )


@pytest.fixture
def engine(folder: Path, clip: Clip, truthful_engine: Callable) -> Wall:
    scene = truthful_engine().step(Frame(clip.stamps_ns[0], clip.images[0].numpy()))
    return Wall(scene, read_drive(folder).world_from_camera)


def test_a_drive_is_read_as_it_was_written(folder: Path) -> None:
    drive = read_drive(folder)
    assert drive.baseline_m == pytest.approx(BASELINE_M)
    assert len(drive.left) == len(drive.right) == len(drive.world_from_camera) == FRAMES
    np.testing.assert_allclose(drive.world_from_camera[3, :3, 3], (0.3, 0.18, 3.0))
    camera = frame_of_drive(drive, 0).intrinsics
    assert camera is not None
    np.testing.assert_allclose(camera.matrix(), drive.camera_matrix)


def test_stereo_finds_the_wall_where_it_is_and_says_nothing_where_one_side_sees_it_only(folder: Path) -> None:
    drive = read_drive(folder)
    left, right = (cv2.cvtColor(cv2.imread(str(files[0])), cv2.COLOR_BGR2RGB) for files in (drive.left, drive.right))
    depth_m = stereo_depth_m(left, right, drive)
    known = depth_m > 0
    assert known[:, 2 * DISPARITY_PX : -2 * DISPARITY_PX].mean() > 0.9
    np.testing.assert_allclose(np.median(depth_m[known]), WALL_M, rtol=0.02)
    assert not known[:, : DISPARITY_PX - 2].any()


def test_the_truth_is_right_in_any_unit(folder: Path, engine: Wall) -> None:
    result = evaluate_kitti(engine, folder)
    assert result.frames == FRAMES
    assert result.depth_known > 0.4
    assert result.system.scores.depth_absrel < 0.02
    assert result.system.scores.ate_over_path == pytest.approx(0.0, abs=1e-6)
    assert result.system.scores.rpe_rot_deg == pytest.approx(0.0, abs=1e-4)
    assert result.system.scores.ate_se3_over_path > result.baseline.ate_se3_over_path
    assert result.opencv.scores.ate_over_path == pytest.approx(result.baseline.ate_over_path)  # nothing seems to move


def test_a_drive_beside_nothing_else_is_scored_and_told(folder: Path, engine: Wall) -> None:
    recordings = find_recordings(folder.parent)
    done: list[int] = []
    results = evaluate_recorded(engine, recordings, lambda: done.append(1))
    assert len(done) == recordings.count == 1
    summary = summarise_recorded(results)
    keys = [f"{side}kitti_{name.key}" for side in ("", "baseline_", "opencv_") for name in KITTI_SCORES]
    assert set(keys) <= set(summary)
    assert results.kitti is not None
    assert kitti_table(results.kitti).row_count == len(KITTI_SCORES)


def test_a_drive_with_a_pose_missing_is_refused(folder: Path, tmp_path: Path) -> None:
    short = tmp_path / "kitti_stereo"
    short.mkdir()
    for name in ("image_left", "image_right", "calib.txt"):
        (short / name).symlink_to(folder / name)
    np.savetxt(short / "poses.txt", np.loadtxt(folder / "poses.txt")[:-1])
    with pytest.raises(ValueError, match="as many left and right images as poses"):
        read_drive(short)


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="davis/NAME or kitti_stereo"):
        find_recordings(tmp_path)


def test_the_real_recordings_are_what_their_description_says(data_dir: Path) -> None:
    recordings = find_recordings(data_dir)
    assert [path.name for path in recordings.davis] == ["car-roundabout", "dog", "soapbox"]
    assert recordings.kitti is not None
    drive = read_drive(recordings.kitti)
    assert len(drive.left) == 51
    assert drive.baseline_m == pytest.approx(0.537, abs=1e-3)
