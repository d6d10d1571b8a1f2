"""`pomato evaluate` and `pomato world` as a user calls them, with true pointmaps in place of weights."""

import json
from pathlib import Path

import cv2
import pytest

import pomato_ros
from pomato_ros.cli.main import main
from pomato_ros.evaluation import oracle_sets
from pomato_ros.evaluation.oracle_report import DEMANDS


def test_evaluate_ends_with_one_flat_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--out", str(tmp_path), "--save", str(tmp_path)]
    words = ["truth", "--sequences", "1", "--frames", "12", *folders, "--json"]
    assert main(["evaluate", *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert summary["depth_absrel"] < 0.02 < summary["baseline_depth_absrel"]
    assert summary["apd12"] == pytest.approx(100.0)
    assert summary["split"] == "same"
    assert summary["first_seed"] == (3 << 30) + 1000
    assert cv2.imread(str(tmp_path / "evaluation.png")).shape[1] > 1000
    assert len(list(tmp_path.glob("truth-*.json"))) == 1


def test_the_oracle_ends_with_every_score_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomato_ros.evaluation.oracle_sets.STILL_SECONDS", 2)
    words = ["oracle", "--sequences", "1", "--frames", "24", "--save", str(tmp_path), "--json"]
    assert main(["evaluate", *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    asked = {demand.key for demand in DEMANDS}
    assert asked <= set(summary)
    missing = {key for key in asked if summary[key] is None}
    assert missing == set(summary["not_scored"].split())
    assert "track_id" in missing  # 24 frames are not five windows
    assert len(list(tmp_path.glob("oracle-*.json"))) == 1


def test_the_oracle_takes_metres_from_both_priors_and_other_seeds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle_sets.oracle_sequences, "__defaults__", (("ordinary",),))
    words = ["oracle", "--sequences", "1", "--frames", "12", "--prior", "both", "--skip", "7", "--json"]
    assert main(["evaluate", *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert summary["first_seed"] == (3 << 30) + 1007
    assert summary["scale_prior"].startswith("depth: ")
    assert summary["fixed_scale_prior"].startswith("fixed: ")
    assert 0 <= summary["scale_error"] < 0.05
    assert summary["fixed_scale_error"] >= 0
    assert main(["evaluate", "oracle", "--prior", "rumour"]) == 2


def test_the_bundled_network_is_scored_in_the_oracles_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle_sets.oracle_sequences, "__defaults__", (("ordinary",),))
    words = ["network", "--sequences", "1", "--frames", "12", "--save", str(tmp_path), "--json"]
    assert main(["evaluate", *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert summary["weights_sha256"] in (Path(pomato_ros.__file__).parent / "weights" / "nano.md").read_text()
    assert {demand.key for demand in DEMANDS} <= set(summary)
    assert len(list(tmp_path.glob("network-*.json"))) == 1
    assert main(["evaluate", "network", "--prior", "fixed"]) == 2
    assert main(["evaluate", "network", "--weights", str(tmp_path / "none.safetensors")]) == 1


def test_a_split_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "truth", "--split", "night"]) == 1
    assert "expected a split among same, looks, driving, majority, all" in capsys.readouterr().out


def test_a_folder_without_recordings_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "recorded", str(tmp_path)]) == 1
    assert "no recordings in" in capsys.readouterr().out


def test_evaluate_says_what_is_wrong_with_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--weights", str(tmp_path / "none.safetensors")]) == 1
    assert "no weights file" in capsys.readouterr().out


def test_a_subcommand_that_is_not_there_is_named_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "orakle"]) == 2
    assert "oracle" in capsys.readouterr().err


def test_world_writes_a_contact_sheet_of_the_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("pomato_ros.cli.world.contact_sheet", lambda seeds, config, path: drawn.append((seeds, path)))
    sheet = tmp_path / "new" / "sheet.png"
    assert main(["world", "--preview", str(sheet), "--seeds", "3", "2"]) == 0
    assert drawn == [(range(3, 5), sheet)]
    assert sheet.parent.is_dir()


def test_world_asks_for_something_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world"]) == 2
    assert "--throughput" in capsys.readouterr().err
