"""TartanAir: a miniature in its format gives the clip back; what is broken is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pomato_ros.datasets.tartanair import find_sequences
from pomato_ros.synthetic.clip import Clip

FRAMES = 5
PRECISION = 1e-5


@pytest.fixture
def root(tmp_path: Path, clip: Clip, sky: NDArray[np.bool_], write_rgb: Callable[..., None]) -> Path:
    """Two environments, one of them with its name twice."""
    for folder in (tmp_path / "ocean" / "Hard" / "P001", tmp_path / "office" / "office" / "Easy" / "P000"):
        write_rgb(folder / "image_left" / f"{t:06d}_left.png" for t in range(FRAMES))
        (folder / "depth_left").mkdir()
        for t, depth in enumerate(clip.depth_m.numpy()):
            np.save(folder / "depth_left" / f"{t:06d}_left_depth.npy", np.where(sky, np.float32(10000.0), depth))
        np.savetxt(folder / "pose_left.txt", pose_lines(clip))
    return tmp_path


def pose_lines(clip: Clip) -> NDArray[np.float64]:
    """(t, 7): position and quaternion of a body (forward, right, down) in a world with z down."""
    lines = []
    for pose in clip.world_from_camera.numpy():
        right, down, forward = pose[:3, :3].T
        down_world_from_body = np.diag([1, -1, -1]) @ np.stack((forward, right, down), axis=-1)
        position = np.diag([1, -1, -1]) @ pose[:3, 3]
        lines.append([*position, *Rotation.from_matrix(down_world_from_body).as_quat()])
    return np.array(lines)


def test_a_miniature_gives_the_clip_back(root: Path, clip: Clip, assert_same: Callable[..., None]) -> None:
    sequences = find_sequences(root)
    assert [sequence.name for sequence in sequences] == ["ocean/Hard/P001", "office/office/Easy/P000"]
    for sequence in sequences:
        assert len(sequence) == FRAMES
        assert_same(sequence.read(range(FRAMES)), list(range(FRAMES)), 0.0, PRECISION)
        assert_same(sequence.read([4, 2]), [4, 2], 0.0, PRECISION)


def test_the_world_stands_still(root: Path) -> None:
    recorded = find_sequences(root)[0].read([0, 3])
    pair = recorded.pair(0, 1)
    assert torch.equal(pair.points_match, pair.points_2)
    assert torch.equal(pair.valid_match, pair.valid_2)
    assert not pair.moving.any()
    assert recorded.agreement(0, 1) > 0.6


def test_what_is_missing_or_broken_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no TartanAir in"):
        find_sequences(root / "ocean")
    folder = root / "ocean" / "Hard" / "P001"
    lines = (folder / "pose_left.txt").read_text().splitlines()
    (folder / "pose_left.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"pose_left.txt for each of 5 images, got 4"):
        find_sequences(root)[0].read([0])
    (folder / "pose_left.txt").write_text("\n".join([*lines[:-1], "1 2 3 0 0 0 0"]))
    with pytest.raises(ValueError, match=r"pose_left.txt: expected lines 'tx ty tz qx qy qz qw'"):
        find_sequences(root)[0].read([0])
    (folder / "pose_left.txt").write_text("\n".join([*lines[:-1], "1 2 3"]))
    with pytest.raises(ValueError, match=r"pose_left.txt: expected lines 'tx ty tz qx qy qz qw'"):
        find_sequences(root)[0].read([0])
    (folder / "pose_left.txt").write_text("\n".join(lines))
    (folder / "depth_left" / "000003_left_depth.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(OSError, match=r"could not read .*000003_left_depth.npy"):
        find_sequences(root)[0].read([3])
    np.save(folder / "depth_left" / "000002_left_depth.npy", np.ones((4, 6), np.float32))
    with pytest.raises(ValueError, match="images and depth maps must have one size"):
        find_sequences(root)[0].read([2])
