"""Recordings written to disk in each layout come back with their images, depth in metres, stamps and poses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pomato_ros.datasets.sensors.layouts import open_sequence, recognise_layout
from pomato_ros.datasets.sensors.lens import Lens
from pomato_ros.datasets.sensors.stamps import interpolate_poses, nearest_pairs, stamp_ns
from pomato_ros.geometry.rigid import pose_from, rotation_exp
from pomato_ros.structures import Intrinsics

SIZE_WH = (32, 24)


def colour(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def tum_folder(folder: Path, depth_shift_s: float = 0.004) -> Path:
    for t in range(4):
        save(folder / "rgb" / f"{100 + 0.1 * t:.6f}.png", colour(t))
        depth = np.full(SIZE_WH[::-1], 5000 * (t + 1), np.uint16)
        depth[0, 0] = 0
        save(folder / "depth" / f"{100 + 0.1 * t + depth_shift_s:.6f}.png", depth)
    rows = [f"{99.9 + 0.05 * i:.4f} {i * 0.5} 0 0 0 0 0 1" for i in range(10)]
    (folder / "groundtruth.txt").write_text("# a comment\n" + "\n".join(rows) + "\n")
    return folder


def test_tum_depth_is_in_metres_and_poses_are_interpolated_at_the_colour_stamps(tmp_path: Path) -> None:
    sequence = open_sequence(tum_folder(tmp_path / "rgbd_freiburg3_walk"))
    assert sequence.layout == "tum_rgbd"
    assert sequence.facts["camera"] == "freiburg3"
    assert sequence.stamps_ns == (100_000_000_000, 100_100_000_000, 100_200_000_000, 100_300_000_000)
    frame = sequence.read_frame(2)
    assert frame.depth_m is not None
    np.testing.assert_allclose(np.unique(frame.depth_m), [0.0, 3.0])
    np.testing.assert_array_equal(frame.image_rgb, colour(2)[..., ::-1])
    assert sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera[:, 0, 3], [1.0, 2.0, 3.0, 4.0], atol=1e-9)


def test_images_without_a_depth_image_near_in_time_are_left_out(tmp_path: Path) -> None:
    folder = tum_folder(tmp_path / "recording")
    (folder / "depth" / "100.104000.png").unlink()
    assert len(open_sequence(folder)) == 3
    with pytest.raises(ValueError, match="found no pair"):
        open_sequence(tum_folder(tmp_path / "late", depth_shift_s=0.045))


def test_bonn_uses_its_own_camera(tmp_path: Path) -> None:
    sequence = open_sequence(tum_folder(tmp_path / "any"), "bonn")
    assert sequence.facts["camera"] == "bonn"
    assert sequence.read_frame(0).valid is not None  # its lens is distorted


def test_seven_scenes_marks_missing_depth_and_reads_camera_to_world_poses(tmp_path: Path) -> None:
    pose = pose_from(rotation_exp([0.1, 0.2, 0.3]), [1.0, 2.0, 3.0])
    for t in range(2):
        depth = np.full(SIZE_WH[::-1], 1500, np.uint16)
        depth[0] = 65535
        save(tmp_path / f"frame-{t:06d}.color.png", colour(t))
        save(tmp_path / f"frame-{t:06d}.depth.png", depth)
        np.savetxt(tmp_path / f"frame-{t:06d}.pose.txt", pose)
    sequence = open_sequence(tmp_path)
    frame = sequence.read_frame(1)
    assert frame.depth_m is not None
    assert sequence.world_from_camera is not None
    assert not frame.depth_m[0].any()
    np.testing.assert_allclose(frame.depth_m[1:], 1.5)
    np.testing.assert_allclose(sequence.world_from_camera[1], pose, atol=1e-6)


def kitti_folder(folder: Path, right_offset: float) -> Path:
    for t in range(3):
        save(folder / "image_left" / f"{t:06d}.png", colour(t))
        save(folder / "image_right" / f"{t:06d}.png", colour(t + 10))
    row = "100 0 15.5 {} 0 100 11.5 0 0 0 1 0"
    (folder / "calib.txt").write_text(f"P0: {row.format(0)}\nP1: {row.format(right_offset)}\n")
    np.savetxt(folder / "poses.txt", np.tile(np.eye(4)[:3].ravel(), (3, 1)))
    return folder


def test_kitti_baseline_comes_from_the_projections(tmp_path: Path) -> None:
    sequence = open_sequence(kitti_folder(tmp_path, -50.0))
    frame = sequence.read_frame(1)
    assert frame.baseline_m == pytest.approx(0.5)
    np.testing.assert_array_equal(frame.right_rgb, colour(11)[..., ::-1])


def test_a_corrected_disparity_shifts_the_right_image_to_the_left(tmp_path: Path) -> None:
    plain = open_sequence(kitti_folder(tmp_path, -50.0)).read_frame(0).right_rgb
    moved = open_sequence(tmp_path, disparity_offset_px=2.0).read_frame(0).right_rgb
    assert plain is not None
    assert moved is not None
    np.testing.assert_array_equal(moved[:, :-2], plain[:, 2:])


def test_swapped_projections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="swapped"):
        open_sequence(kitti_folder(tmp_path, 50.0))


def test_euroc_poses_are_those_of_the_rectified_left_camera(tmp_path: Path) -> None:
    body_from_left = pose_from(rotation_exp([0.0, 0.0, 1.5]), [0.1, 0.0, 0.0])
    body_from_right = body_from_left @ pose_from(rotation_exp([0.0, 0.01, 0.02]), [0.11, 0.0, 0.0])
    for name, pose in (("cam0", body_from_left), ("cam1", body_from_right)):
        for t in range(2):
            save(tmp_path / "mav0" / name / "data" / f"{1000 + t * 50_000_000}.png", colour(t))
        described = {
            "camera_model": "pinhole",
            "distortion_model": "radial-tangential",
            "intrinsics": [40.0, 40.0, 15.5, 11.5],
            "distortion_coefficients": [-0.1, 0.02, 0.0, 0.0],
            "resolution": list(SIZE_WH),
            "T_BS": {"rows": 4, "cols": 4, "data": pose.ravel().tolist()},
        }
        (tmp_path / "mav0" / name / "sensor.yaml").write_text(yaml.safe_dump(described))
    truth = tmp_path / "mav0" / "state_groundtruth_estimate0" / "data.csv"
    truth.parent.mkdir()
    truth.write_text("#stamp\n0,1,2,3,1,0,0,0\n90000000,1,2,3,1,0,0,0\n")
    sequence = open_sequence(tmp_path)
    assert sequence.facts["baseline_m"] == pytest.approx(0.11, rel=1e-3)
    assert sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera[0, :3, 3], [1.1, 2.0, 3.0], atol=1e-9)
    right_axis = sequence.world_from_camera[0, :3, 0]  # the rectified x axis is the baseline
    np.testing.assert_allclose(right_axis, body_from_left[:3, :3] @ [1.0, 0.0, 0.0], atol=1e-6)
    assert sequence.world_from_camera[1, 0, 3] == pytest.approx(1.1)


def test_a_folder_of_no_layout_is_named(tmp_path: Path) -> None:
    assert recognise_layout(tmp_path) is None
    with pytest.raises(ValueError, match="no known layout"):
        open_sequence(tmp_path)


def test_stamps_lose_no_nanosecond() -> None:
    assert stamp_ns("1305031229.528748123") == 1305031229528748123
    assert stamp_ns("7") == 7_000_000_000


def test_pairs_are_the_nearest_and_each_stamp_is_used_once() -> None:
    pairs = nearest_pairs([0, 10, 20], [9, 11, 19, 40], 5)
    assert pairs == [(1, 0, -1), (2, 2, -1)]


def test_poses_outside_the_trajectory_or_in_its_gaps_are_unknown() -> None:
    stamps = np.array([0, 10, 100])
    poses = np.tile(np.eye(4), (3, 1, 1))
    found = interpolate_poses(stamps, poses, [-1, 5, 50, 101], max_gap_ns=20)
    np.testing.assert_array_equal(np.isfinite(found).all(axis=(1, 2)), [False, True, False, False])


def test_a_lens_takes_distorted_pixels_back_to_the_pinhole_ray() -> None:
    raw = Intrinsics(40.0, 40.0, 31.5, 23.5, 64, 48)
    distortion = (0.2, -0.1, 0.001, -0.002, 0.0)
    columns = np.tile(np.arange(64, dtype=np.float32), (48, 1))
    image = np.repeat((columns * 4)[..., None], 3, axis=-1).astype(np.uint8)
    lens = Lens(raw, distortion)
    point = np.array([[[0.2, 0.1, 1.0]]])
    (x, y), (u, v) = (
        cv2.projectPoints(point, np.zeros(3), np.zeros(3), raw.matrix(), np.array(lens_distortion))[0].ravel()
        for lens_distortion in ((0.0, 0.0, 0.0, 0.0), distortion)
    )
    seen = lens.rectify(image)[round(y), round(x), 0]
    slope = 4.0 * (u - round(u))
    assert seen == pytest.approx(4.0 * u, abs=4.0 + abs(slope))
    assert v == pytest.approx(y, abs=2.0)
    assert Lens(raw).valid is None


@pytest.mark.parametrize(("name", "frames"), [("tum_fr1_rpy", 180), ("seven_scenes", 90), ("kitti_stereo", 51)])
def test_real_recordings_are_read(name: str, frames: int, request: pytest.FixtureRequest) -> None:
    folder = request.config.getoption("--data") / name
    if not folder.is_dir():
        pytest.skip(f"no recording at {folder}; give --data DIR")
    sequence = open_sequence(folder)
    frame = sequence.read_frame(1)
    assert len(sequence) == frames
    assert sequence.world_from_camera is not None
    assert np.isfinite(sequence.world_from_camera).all()
    assert frame.intrinsics is not None
    assert frame.image_rgb.shape[:2] == (frame.intrinsics.height_px, frame.intrinsics.width_px)
    if frame.depth_m is not None:
        measured = frame.depth_m[frame.depth_m > 0]
        assert 0.3 < np.median(measured) < 5.0
