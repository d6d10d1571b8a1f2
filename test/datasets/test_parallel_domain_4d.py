"""ParallelDomain-4D: a miniature in its format gives the clip back; what is broken is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pomato_ros.datasets.parallel_domain_4d import ParallelDomain4DSequence, find_sequences
from pomato_ros.synthetic.clip import Clip

FRAMES = 5
PRECISION = 1e-5
CAMERA = "yaw-60"
CALIBRATION = "ca11b"


def scene_json(clip: Clip) -> dict[str, Any]:
    """Samples and data as DGP has them: the camera's images, and a lidar's sweep."""
    data, samples = [], []
    for t, pose in enumerate(clip.world_from_camera.numpy()):
        x, y, z = pose[:3, 3]
        qx, qy, qz, qw = Rotation.from_matrix(pose[:3, :3]).as_quat()
        time = f"{10 * t + 5:018d}"
        image = {
            "filename": f"rgb/{CAMERA}/{time}.png",
            "height": clip.depth_m.shape[1],
            "width": clip.depth_m.shape[2],
            "channels": 4,
            "annotations": {"2": f"semantic_segmentation_2d/{CAMERA}/{time}.png", "6": f"depth/{CAMERA}/{time}.npz"},
            "pose": {
                "translation": {"x": x, "y": y, "z": z},
                "rotation": {"qw": qw, "qx": qx, "qy": qy, "qz": qz},
            },
            "metadata": {},
        }
        data.append({"id": {"name": CAMERA}, "key": f"image{t}", "datum": {"image": image}})
        data.append({"id": {"name": "velodyne"}, "key": f"sweep{t}", "datum": {"point_cloud": {}}})
        samples.append({"calibration_key": CALIBRATION, "datum_keys": [f"image{t}", f"sweep{t}"]})
    return {"name": "scene", "data": data[::-1], "samples": samples}


def calibration_json(clip: Clip) -> dict[str, Any]:
    k = clip.intrinsics
    pinhole = {"fx": k.fx_px, "fy": k.fy_px, "cx": k.cx_px + 0.5, "cy": k.cy_px + 0.5, "skew": 0.0, "fisheye": 0}
    return {
        "names": ["velodyne", CAMERA],
        "intrinsics": [dict.fromkeys(pinhole, 0.0), pinhole],
        "extrinsics": [{}, {}],
    }


@pytest.fixture
def root(tmp_path: Path, clip: Clip, sky: NDArray[np.bool_], write_rgb: Callable[..., None]) -> Path:
    """One scene, one camera."""
    folder = tmp_path / "scene_000007"
    write_rgb((folder / "rgb" / CAMERA / f"{10 * t + 5:018d}.png" for t in range(FRAMES)), alpha=True)
    (folder / "depth" / CAMERA).mkdir(parents=True)
    (folder / "calibration").mkdir()
    for t, depth in enumerate(clip.depth_m.numpy()):
        far = np.where(sky, np.float32(65000.0), depth)
        np.savez_compressed(folder / "depth" / CAMERA / f"{10 * t + 5:018d}.npz", data=far)
    (folder / "scene_5ce4e.json").write_text(json.dumps(scene_json(clip)))
    (folder / "calibration" / f"{CALIBRATION}.json").write_text(json.dumps(calibration_json(clip)))
    return tmp_path


def sequence_of(root: Path) -> ParallelDomain4DSequence:
    (sequence,) = find_sequences(root)
    return sequence


def test_a_miniature_gives_the_clip_back(root: Path, assert_same: Callable[..., None]) -> None:
    sequence = sequence_of(root)
    assert sequence.name == f"scene_000007/{CAMERA}"
    assert len(sequence) == FRAMES
    recorded = sequence.read(range(FRAMES))
    assert_same(recorded, list(range(FRAMES)), 0.0, PRECISION)
    assert_same(sequence.read([4, 0]), [4, 0], 0.0, PRECISION)
    assert recorded.agreement(0, 1) > 0.8


def test_nothing_is_said_of_motion(root: Path) -> None:
    pair = sequence_of(root).read([0, 1]).pair(0, 1)
    assert not pair.valid_match.any()
    assert pair.valid_2.any()


def test_frames_that_lack_a_file_are_left_out(root: Path, assert_same: Callable[..., None]) -> None:
    (root / "scene_000007" / "depth" / CAMERA / f"{15:018d}.npz").unlink()
    (root / "scene_000007" / "rgb" / CAMERA / f"{35:018d}.png").unlink()
    sequence = sequence_of(root)
    assert len(sequence) == 3
    assert_same(sequence.read([0, 1, 2]), [0, 2, 4], 0.0, PRECISION)


def test_what_is_missing_or_broken_is_named(root: Path, clip: Clip) -> None:
    folder = root / "scene_000007"
    with pytest.raises(FileNotFoundError, match="no ParallelDomain-4D in"):
        find_sequences(folder)
    calibration = folder / "calibration" / f"{CALIBRATION}.json"
    bent = calibration_json(clip)
    bent["intrinsics"][1]["k2"] = 0.1
    calibration.write_text(json.dumps(bent))
    with pytest.raises(ValueError, match=r"expected yaw-60 to be a pinhole, got \{'k2': 0.1\}"):
        sequence_of(root).read([0])
    calibration.write_text(json.dumps(calibration_json(clip) | {"names": ["velodyne", "camera0"]}))
    with pytest.raises(ValueError, match="expected intrinsics of yaw-60"):
        sequence_of(root).read([0])
    calibration.unlink()
    with pytest.raises(FileNotFoundError, match=r"ca11b.json is missing"):
        sequence_of(root).read([0])
    np.savez(folder / "depth" / CAMERA / f"{5:018d}.npz", depth=np.ones((32, 48)))
    with pytest.raises(OSError, match="could not read 'data' of"):
        sequence_of(root).read([0])
    scene = scene_json(clip)
    del scene["samples"]
    (folder / "scene_5ce4e.json").write_text(json.dumps(scene))
    with pytest.raises(ValueError, match=r"scene_5ce4e.json: expected DGP's samples .*'samples'"):
        sequence_of(root).read([0])
    (folder / "scene_5ce4e.json").write_text("{")
    with pytest.raises(ValueError, match="expected JSON"):
        sequence_of(root).read([0])
    (folder / "scene_5ce4e.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"scene_\*.json"):
        sequence_of(root).read([0])
