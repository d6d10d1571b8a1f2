"""PointOdyssey: a miniature in its format gives the clip back; what is broken is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pomato_ros.datasets.point_odyssey import PointOdysseySequence, find_sequences
from pomato_ros.synthetic.clip import Clip

DEPTH_ERROR_M = 0.5 * 1000 / 65535
ERROR_M = 1.01 * DEPTH_ERROR_M * np.linalg.norm([1.0, 1.0, 0.7])  # at the corner of the image
FRAMES = 5


@pytest.fixture
def arrays(clip: Clip, point_tracks: Any) -> dict[str, NDArray[Any]]:
    """The content of anno.npz."""
    k = clip.intrinsics
    camera = [[k.fx_px, 0, k.cx_px + 0.5], [0, k.fy_px, k.cy_px + 0.5], [0, 0, 1]]
    points = point_tracks.points_world
    return {
        "trajs_2d": np.zeros((*points.shape[:2], 2), np.float32),
        "trajs_3d": points.astype(np.float32),
        "valids": np.ones(points.shape[:2], np.float32),
        "visibs": point_tracks.visible.astype(np.float32),
        "intrinsics": np.tile(np.array(camera, np.float64), (FRAMES, 1, 1)),
        "extrinsics": np.linalg.inv(clip.world_from_camera.numpy()),
    }


@pytest.fixture
def root(
    tmp_path: Path, clip: Clip, sky: NDArray[np.bool_], arrays: dict[str, NDArray[Any]], write_rgb: Callable[..., None]
) -> Path:
    """A training split of one sequence."""
    folder = tmp_path / "train" / "robot"
    write_rgb(folder / "rgbs" / f"rgb_{t:05d}.jpg" for t in range(FRAMES))
    (folder / "depths").mkdir()
    for t, depth in enumerate(clip.depth_m.numpy()):
        code = np.where(sky, 65535, np.rint(depth / 1000 * 65535)).astype(np.uint16)
        assert cv2.imwrite(str(folder / "depths" / f"depth_{t:05d}.png"), code)
    np.savez_compressed(folder / "anno.npz", **arrays)
    return tmp_path


def sequence_of(root: Path) -> PointOdysseySequence:
    (sequence,) = find_sequences(root)
    return sequence


def test_a_miniature_gives_the_clip_back(
    root: Path, assert_same: Callable[..., None], assert_same_motion: Callable[..., None]
) -> None:
    sequence = sequence_of(root)
    assert sequence.name == "robot"
    assert len(sequence) == FRAMES
    recorded = sequence.read(range(FRAMES))
    assert_same(recorded, list(range(FRAMES)), ERROR_M, 0.0, lossy_rgb=True)
    assert_same_motion(recorded, ERROR_M, 0.0)
    assert recorded.agreement(0, 1) > 0.8


def test_frames_come_in_the_order_asked_for(root: Path, assert_same: Callable[..., None]) -> None:
    assert_same(sequence_of(root).read([3, 1, 3]), [3, 1, 3], ERROR_M, 0.0, lossy_rgb=True)


def test_rows_are_read_from_plain_and_from_compressed_archives(root: Path, arrays: dict[str, NDArray[Any]]) -> None:
    compressed = sequence_of(root).read([4, 0])
    np.savez(root / "train" / "robot" / "anno.npz", **arrays)
    plain = sequence_of(root).read([4, 0])
    assert compressed.tracks is not None
    assert plain.tracks is not None
    np.testing.assert_array_equal(plain.tracks.points_world, compressed.tracks.points_world)
    np.testing.assert_array_equal(plain.tracks.points_world, arrays["trajs_3d"][[4, 0]])


def test_a_track_counts_only_where_it_is_valid(root: Path, arrays: dict[str, NDArray[Any]], clip: Clip) -> None:
    pixels = clip.depth_m[
        0
    ].numel()  # those of frame 0 begin the first tracks; frame 2's, which cover it too, go unseen
    arrays["valids"][1, : pixels // 4] = 0
    arrays["trajs_3d"][1, pixels // 4 : pixels // 2] = np.inf
    arrays["visibs"][:, pixels:] = 0
    np.savez(root / "train" / "robot" / "anno.npz", **arrays)
    recorded = sequence_of(root).read([0, 1, 2])
    half = clip.depth_m.shape[1] // 2
    assert not recorded.pair(1, 0).valid_match[:half].any()
    assert recorded.pair(1, 0).valid_match[half:].all()
    assert recorded.pair(2, 0).valid_match[3:].all()
    assert recorded.pair(1, 0).points_match.isfinite().all()


def test_a_sequence_without_tracks_gives_no_matching_truth(root: Path, arrays: dict[str, NDArray[Any]]) -> None:
    for nothing in (np.zeros((0, 0, 3)), np.array(None)):
        np.savez(root / "train" / "robot" / "anno.npz", **(arrays | {"trajs_3d": nothing}))
        recorded = sequence_of(root).read([0, 1])
        assert recorded.tracks is None
        assert not recorded.pair(0, 1).valid_match.any()
        assert recorded.pair(0, 1).valid_2.any()


def test_what_is_missing_or_broken_is_named(root: Path, arrays: dict[str, NDArray[Any]]) -> None:
    folder = root / "train" / "robot"
    with pytest.raises(FileNotFoundError, match="sequence folders of PointOdyssey"):
        find_sequences(root, "test")
    with pytest.raises(IndexError, match="frames 0 to 4, asked for \\[5\\]"):
        sequence_of(root).read([5])
    np.savez(folder / "anno.npz", **{key: value[:3] for key, value in arrays.items()})
    with pytest.raises(ValueError, match="'intrinsics' to have 5 rows or more, got 3"):
        sequence_of(root).read([1, 4])
    np.savez(folder / "anno.npz", **{key: value for key, value in arrays.items() if key != "extrinsics"})
    with pytest.raises(OSError, match=r"could not read 'extrinsics' of .*anno.npz"):
        sequence_of(root).read([1])
    np.savez(folder / "anno.npz", **(arrays | {"extrinsics": 2 * arrays["extrinsics"]}))
    with pytest.raises(ValueError, match=r"extrinsics 1: expected a right-handed rigid pose"):
        sequence_of(root).read([1])
    np.savez(folder / "anno.npz", **(arrays | {"extrinsics": np.asfortranarray(arrays["extrinsics"])}))
    with pytest.raises(OSError, match="not row by row"):
        sequence_of(root).read([1])
    (folder / "anno.npz").write_bytes((folder / "anno.npz").read_bytes()[:1000])
    with pytest.raises(OSError, match=r"anno.npz .*fetch it again"):
        sequence_of(root).read([1])


def test_broken_images_are_named(root: Path) -> None:
    folder = root / "train" / "robot"
    eight_bit = np.zeros((32, 48), np.uint8)
    assert cv2.imwrite(str(folder / "depths" / "depth_00002.png"), eight_bit)
    with pytest.raises(ValueError, match=r"depth_00002.png: expected 1 channel\(s\) of uint16, got 1 of uint8"):
        sequence_of(root).read([2])
    (folder / "depths" / "depth_00001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"depth_00001.png is missing"):
        sequence_of(root).read([1])
    (folder / "rgbs" / "rgb_00000.jpg").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"could not read .*rgb_00000.jpg"):
        sequence_of(root).read([0])
