"""`pomato run` takes a recording through the engine and leaves every file that scripts rely on."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.cli.main import main
from pomato_ros.sinks.trajectory_files import read_tum
from pomato_ros.synthetic.sensors import sense_depth
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 5


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered clip as the TUM benchmark would store it."""
    world = dataclasses.replace(
        TRAIN_WORLD, open_ground_probability=0.0, plain_probability=0.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0)
    )
    clip, folder = render_clip(31, world, FRAMES, (160, 120)), tmp_path_factory.mktemp("recording")
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir()
    rows = []
    for t, stamp_ns in enumerate(clip.stamps_ns):
        stamp = f"{1 + stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"
        cv2.imwrite(str(folder / "rgb" / f"{stamp}.png"), clip.images[t].numpy()[..., ::-1])
        depth = np.rint(np.nan_to_num(sense_depth(clip, t)) * 5000.0).astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"{stamp}.png"), depth)
        x, y, z = clip.world_from_camera[t, :3, 3].tolist()
        rows.append(f"{stamp} {x} {y} {z} 0 0 0 1")  # positions are what the summary compares
    (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
    camera = clip.intrinsics
    (folder / "camera.txt").write_text(f"{camera.fx_px} {camera.fy_px} {camera.cx_px} {camera.cy_px}\n")
    return folder


def test_a_recording_becomes_trajectory_masks_clouds_tracks_summary_and_picture(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(recording), "--out", str(tmp_path), "--cloud-every", "2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    summary = json.loads((tmp_path / "summary.json").read_text())
    stamps, poses = read_tum(tmp_path / "trajectory.tum")
    assert printed == summary
    assert (summary["backend"], summary["layout"], summary["frames"]) == ("rgbd", "tum_rgbd", FRAMES)
    assert summary["frames_with_pose"] == len(stamps) == FRAMES
    assert summary["ate_m"] < 0.05
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-6)
    assert len(list((tmp_path / "masks").glob("*.png"))) == FRAMES
    assert len(list((tmp_path / "clouds").glob("*.ply"))) == 3
    for name in ("map.ply", "tracks.csv", "scene.png"):
        assert (tmp_path / name).stat().st_size > 100


def test_frames_that_cannot_be_used_are_counted_with_their_reason(recording: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    for kind in ("rgb", "depth"):
        (broken / kind).mkdir(parents=True)
    for t, path in enumerate(sorted((recording / "rgb").iterdir())):
        (broken / "rgb" / path.name).write_bytes(path.read_bytes())
        far = np.full((120, 160), 5000 if t != 2 else 60, np.uint16)  # 12 mm: metres read as millimetres
        cv2.imwrite(str(broken / "depth" / path.name), far)
    (broken / "camera.txt").write_text("150 150 79.5 59.5\n")
    assert main(["run", str(broken), "--out", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames_refused"] == 1
    assert "too small" in summary["refused_because"]


def test_a_source_that_is_not_there_ends_with_a_status(tmp_path: Path) -> None:
    assert main(["run", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 1
