"""`pomato bench` on a short clip and a network that nobody trained."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pomato_ros.cli.bench import read_frames
from pomato_ros.cli.main import main
from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.checkpoint import save_weights
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.trunk import initialise
from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.sample import camera_info_yaml

TINY = NetworkConfig(
    enc_embed_dim=32,
    enc_depth=2,
    enc_num_heads=2,
    dec_embed_dim=32,
    dec_depth=4,
    dec_num_heads=2,
    dpt_layer_dims=(8, 8, 8, 8),
    dpt_feature_dim=8,
    dpt_last_dim=8,
    temporal_length=12,
    group_norm_groups=4,
)


INTRINSICS = Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48)
FRAMES = 3


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A few calibrated images of noise, 20 ms apart."""
    noise = np.random.default_rng(0)
    for index in range(FRAMES):
        cv2.imwrite(str(tmp_path / f"{index}.png"), noise.integers(0, 255, (48, 64, 3), np.uint8))
    (tmp_path / "stamps.txt").write_text("".join(f"{20_000_000 * index}\n" for index in range(FRAMES)))
    (tmp_path / "camera_info.yaml").write_text(camera_info_yaml(INTRINSICS, "noise"))
    return tmp_path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = Pomato(TINY)
    initialise(network, torch.Generator().manual_seed(0))
    save_weights(tmp_path / "tiny.safetensors", network, 64, {})
    return tmp_path / "tiny.safetensors"


def test_bench_ends_with_one_flat_json_object(
    weights: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", str(weights), "--video", str(clip_folder), "--steps", "2", "--threads", "1", "--json"]
    assert main(["bench", *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert summary["frames_in"] == FRAMES == summary["steps"] + summary["frames_passed_over"]
    assert summary["model_ms"] < summary["step_ms_p50"]
    assert all(value is None or isinstance(value, int | float | str) for value in summary.values())


def test_frames_of_a_folder_are_rgb_and_calibrated(clip_folder: Path) -> None:
    frames = read_frames(clip_folder)
    bgr = cv2.imread(str(clip_folder / "1.png"))
    np.testing.assert_array_equal(frames[1].image_rgb, bgr[..., ::-1])
    assert [frame.stamp_ns for frame in frames] == [0, 20_000_000, 40_000_000]
    assert frames[0].intrinsics == INTRINSICS


def test_a_clip_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--video", "no-such-clip"]) == 1
    assert "no-such-clip" in capsys.readouterr().out


def test_the_check_compares_the_network_with_its_slow_twin(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--check", "--weights", str(weights), "--size", "64x48", "--precision", "fp32", "--threads", "1"]
    words += ["--window", "6"]
    assert main(["bench", *words, "--steps", "3", "--twin-steps", "1", "--save", str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert summary["max_rel_error"] <= 1e-5
    assert (summary["steps_timed"], summary["slow_twin_steps"], summary["image_size"]) == (3, 1, "64x48")
    assert (summary["window_size"], summary["overlap"]) == (6, 4)
    assert len(list(tmp_path.glob("check-tiny-*.json"))) == 1


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--preset", "nano"], "--preset has random weights"),
        (["--check", "--preset", "huge"], "unknown preset 'huge'; known: nano"),
        (["--check", "--size", "64"], "expected a size like 512x288, got '64'"),
        (["--check", "--size", "65x48"], "must be a multiple of 16 px, got 65x48"),
        (["--check", "--window", "13"], "window_size must be at most 12 with these weights, got 13"),
        (["--window", "4"], "overlap must be smaller than window_size 4, got 4"),
        (["--mode", "sideways"], "mode must be one of"),
    ],
)
def test_a_check_that_cannot_be_made_says_why(
    words: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) != 0
    captured = capsys.readouterr()
    assert advice in " ".join((captured.out + captured.err).split())
