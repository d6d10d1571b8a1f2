"""Carla: a miniature in its format gives the clip back; what is broken is named."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pomato_ros.datasets.carla import CarlaSequence, PoseConvention, find_sequences, read_depth
from pomato_ros.synthetic.clip import Clip

FRAMES = 5
ERROR_M = 1e-4  # depth comes in steps of 0.06 mm
ERROR_SHARE = 1e-5


def unreal_poses(clip: Clip) -> NDArray[np.float64]:
    """(t, 4, 4) of the camera's axes forward, right, up and its place, in a world whose y points the other way."""
    poses = []
    for pose in clip.world_from_camera.numpy():
        right, down, forward = pose[:3, :3].T
        unreal = np.eye(4)
        unreal[:3] = np.stack((forward, right, -down, pose[:3, 3]), axis=-1) * [[1], [-1], [1]]
        poses.append(unreal)
    return np.stack(poses)


@pytest.fixture
def root(tmp_path: Path, clip: Clip, sky: NDArray[np.bool_], write_rgb: Callable[..., None]) -> Path:
    """One sequence."""
    folder = tmp_path / "sample" / "0001"
    names = [f"{t:06d}.png" for t in range(1, FRAMES + 1)]
    write_rgb(folder / "Middle_RGB" / name for name in names)
    (folder / "Middle_RawDepth").mkdir()
    (folder / "camera_data").mkdir()
    for name, depth in zip(names, clip.depth_m.numpy(), strict=True):
        code = np.where(sky, 2**24 - 1, np.rint(depth.astype(np.float64) / 1000 * (2**24 - 1))).astype(np.int64)
        red, green, blue = code % 256, code // 256 % 256, code // 65536
        bgra = np.stack((blue, green, red, np.full_like(red, 255)), axis=-1).astype(np.uint8)
        assert cv2.imwrite(str(folder / "Middle_RawDepth" / name), bgra)
    k = clip.intrinsics
    matrix = np.array([[k.fx_px, 0, k.cx_px + 0.5], [0, k.fy_px, k.cy_px + 0.5], [0, 0, 1]])
    np.save(folder / "camera_data" / "intrinsics.npy", matrix)
    np.save(folder / "camera_data" / "extrinsics.npy", unreal_poses(clip))
    return tmp_path


def sequence_of(root: Path) -> CarlaSequence:
    (sequence,) = find_sequences(root)
    return sequence


def test_a_miniature_gives_the_clip_back(root: Path, assert_same: Callable[..., None]) -> None:
    sequence = sequence_of(root)
    assert sequence.name == "sample/0001"
    assert len(sequence) == FRAMES
    recorded = sequence.read(range(FRAMES))
    assert_same(recorded, list(range(FRAMES)), ERROR_M, ERROR_SHARE)
    assert_same(sequence.read([4, 0]), [4, 0], ERROR_M, ERROR_SHARE)
    assert recorded.agreement(0, 1) > 0.8
    assert not recorded.pair(0, 1).valid_match.any()


def test_the_world_is_the_clips_own(root: Path, clip: Clip) -> None:
    np.testing.assert_allclose(sequence_of(root).read(range(FRAMES)).world_from_camera, clip.world_from_camera)


@pytest.mark.parametrize("convention", PoseConvention)
def test_every_convention_of_poses_can_be_read(
    root: Path, clip: Clip, convention: PoseConvention, assert_same: Callable[..., None]
) -> None:
    stored = unreal_poses(clip) if "unreal" in convention.value else clip.world_from_camera.numpy()
    if "camera_from_world" in convention.value:
        stored = np.linalg.inv(stored)
    np.save(root / "sample" / "0001" / "camera_data" / "extrinsics.npy", stored)
    (sequence,) = find_sequences(root, convention)
    assert_same(sequence.read([0, 4]), [0, 4], ERROR_M, ERROR_SHARE)


def test_agreement_tells_the_right_convention_from_the_others(root: Path) -> None:
    score = {kind: find_sequences(root, kind)[0].read([0, 4]).agreement(0, 1) for kind in PoseConvention}
    right = score.pop(PoseConvention.UNREAL_WORLD_FROM_CAMERA)
    assert right > 1.5 * np.nanmax(list(score.values()))


def test_depth_follows_the_simulators_documentation(tmp_path: Path) -> None:
    """(R + G 256 + B 256^2) / (256^3 - 1) of 1000 m."""
    assert cv2.imwrite(str(tmp_path / "depth.png"), np.array([[[3, 2, 1], [255, 255, 255]]], np.uint8))  # B, G, R
    expected = [1000 * (1 + 2 * 256 + 3 * 65536) / (256**3 - 1), 1000.0]
    np.testing.assert_allclose(read_depth(tmp_path / "depth.png"), [expected])


def test_what_is_missing_or_broken_is_named(root: Path, clip: Clip) -> None:
    folder = root / "sample" / "0001"
    with pytest.raises(FileNotFoundError, match="no Carla sequence in"):
        find_sequences(root / "nowhere")
    extrinsics = folder / "camera_data" / "extrinsics.npy"
    np.save(extrinsics, unreal_poses(clip)[1:])
    with pytest.raises(ValueError, match=r"each of 5 images, got an array of \(4, 4, 4\)"):
        sequence_of(root).read([0])
    np.save(extrinsics, unreal_poses(clip) * 2)
    with pytest.raises(ValueError, match=r"pose 0: expected a right-handed rigid pose"):
        sequence_of(root).read([0])
    np.save(extrinsics, unreal_poses(clip))
    camera = np.load(folder / "camera_data" / "intrinsics.npy")
    np.save(folder / "camera_data" / "intrinsics.npy", np.eye(4))
    with pytest.raises(ValueError, match=r"camera matrix \(3, 3\), got an array of \(4, 4\)"):
        sequence_of(root).read([0])
    np.save(folder / "camera_data" / "intrinsics.npy", camera)
    assert cv2.imwrite(str(folder / "Middle_RawDepth" / "000002.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(ValueError, match=r"000002.png: expected 3 channel\(s\) of uint8, got 1 of uint8"):
        sequence_of(root).read([1])
    extrinsics.unlink()
    with pytest.raises(FileNotFoundError, match="no Carla sequence"):
        find_sequences(root)
