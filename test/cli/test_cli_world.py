import json
from pathlib import Path

import pytest
import torch

from pomato_ros.cli import world as command
from pomato_ros.cli.main import USAGE_ERROR, main
from pomato_ros.synthetic.world import TRAIN_WORLD, WORLDS, WorldConfig


def test_the_last_line_of_a_measurement_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "BENCH_SIZE_WH", (16, 12))
    monkeypatch.setattr(command, "BENCH_FRAMES", 2)
    assert main(["world", "--throughput", "--world", "looks"]) == 0
    measured = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (measured["world"], measured["device"], measured["frames"]) == ("looks", "cpu", 2 * measured["clips"])
    seconds = measured["drawing_s"] + measured["rendering_s"]
    assert measured["frames_per_s"] == pytest.approx(measured["frames"] / seconds, rel=0.05)
    assert measured["clips_per_s"] == pytest.approx(measured["clips"] / seconds, rel=0.05)


def test_a_preview_shows_the_world_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[tuple[list[int], WorldConfig]] = []
    monkeypatch.setattr(command, "contact_sheet", lambda seeds, world, path: shown.append((list(seeds), world)))
    sheet = str(tmp_path / "sheets" / "sheet.png")
    assert main(["world", "--preview", sheet, "--world", "driving", "--seeds", "3", "2"]) == 0
    assert main(["world", "--preview", sheet, "--seeds", "0", "1"]) == 0
    assert shown == [([3, 4], WORLDS["driving"]), ([0], TRAIN_WORLD)]


def test_a_world_that_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--throughput", "--world", "moon"]) == USAGE_ERROR
    assert "majority" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["world", "--throughput", "--device", "cuda"]) == 1
    assert "failed" in capsys.readouterr().out
