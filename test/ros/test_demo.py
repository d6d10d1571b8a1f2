"""The demonstration end to end: three real processes on a graph of their own, an engine that knows the truth."""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from pomato_ros.cli.demo import demo, missing_outputs, missing_sentence, run_demo
from pomato_ros.cli.demo_playback import DemoError, DemoPlan
from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.sample import camera_info_yaml

FRAMES = 10
WIDTH, HEIGHT = 64, 48
ENGINE = Path(__file__).with_name("truth_engine_node.py")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wall that a camera passes by, something moving in front of it, and the truth at half the frames' size."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "frames").mkdir()
    for index in range(FRAMES):
        texture = np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = cv2.resize(texture, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), picture)
    stamps = [1_000_000_000 + 66_666_667 * index for index in range(FRAMES)]
    (folder / "stamps.txt").write_text("\n".join(map(str, stamps)))
    focal = 50.0
    (folder / "camera_info.yaml").write_text(
        camera_info_yaml(Intrinsics(focal, focal, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, WIDTH, HEIGHT), "clip")
    )
    write_truth(folder / "truth.npz", stamps, focal / 2)
    return folder


def write_truth(path: Path, stamps: list[int], focal_px: float) -> None:
    width, height = WIDTH // 2, HEIGHT // 2
    depth = np.tile(np.linspace(2.0, 3.0, width, dtype=np.float16), (FRAMES, height, 1))
    moving = np.zeros((FRAMES, height, width), bool)
    moving[:, 8:16, 10:20] = True
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    angle = np.linspace(0.0, 1.0, FRAMES)
    poses[:, :3, 3] = np.stack([np.sin(angle), 0.1 * angle, 1.0 - np.cos(angle)], axis=-1)
    matrix = np.array([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])
    np.savez(
        path,
        depth_m=depth,
        moving_bits=np.packbits(moving, axis=-1),
        world_from_camera=poses,
        camera_matrix=matrix,
        stamps_ns=np.array(stamps, np.int64),
    )


def plan_of(clip: Path, out: Path, *arguments: str) -> DemoPlan:
    command = (sys.executable, str(ENGINE), "--exit-on-failure", "--ros-args", *arguments)
    return DemoPlan(
        video=clip,
        out=out,
        rate_hz=4.0,
        max_frames=0,
        max_side_px=0,
        node_command=command,
        domain_id=1 + (int(os.environ["ROS_DOMAIN_ID"]) + 50) % 100,
    )


def test_truth_in_truth_out(clip: Path, tmp_path: Path) -> None:
    summary = run_demo(plan_of(clip, tmp_path, "-p", f"checkpoint:={clip}"), Console(quiet=True))
    assert missing_outputs(tmp_path, summary) == []
    assert summary["frames_in"] == FRAMES
    assert FRAMES - 3 <= summary["steps"] <= FRAMES
    assert summary["steps"] + summary["frames_passed_over"] == FRAMES
    assert summary["depth_absrel"] == pytest.approx(0.0, abs=1e-6)
    assert summary["ate_over_path"] == pytest.approx(0.0, abs=1e-9)
    assert summary["mask_iou"] == 1.0
    assert 0.0 < summary["latency_ms_p50"] <= summary["latency_ms_p95"]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    picture = cv2.imread(str(tmp_path / "scene.png"))
    assert picture is not None
    assert picture.shape[1] > 1000


def test_a_node_that_cannot_start_ends_the_demonstration_with_its_reason(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no truth at /nowhere"):
        run_demo(plan_of(clip, tmp_path, "-p", "checkpoint:=/nowhere"), Console(quiet=True))


def test_a_clip_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(out=tmp_path, video=tmp_path / "nothing") == 1
    assert "no video or folder" in capsys.readouterr().out


def test_missing_topics_and_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    missing = missing_outputs(tmp_path, {"topics": {"/pomato/points": 0, "/tf": 3}})
    assert missing == ["/pomato/points", "recording.mcap", "scene.png"]


def test_a_run_that_was_lost_throughout_is_told() -> None:
    assert "lost throughout" in missing_sentence(["/tf"])
    assert "lost" not in missing_sentence(["/pomato/points"])
