"""`pomato evaluate oracle --page` and `ablation` as a user calls them."""

import json
from pathlib import Path

import pytest

from pomato_ros.cli.main import main
from pomato_ros.evaluation import oracle_sets
from pomato_ros.evaluation.mask_ablation import SCORES, variants


def test_the_oracle_writes_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle_sets.oracle_sequences, "__defaults__", (("ordinary",),))
    words = ["oracle", "--sequences", "1", "--frames", "12", "--page", str(tmp_path), "--json"]
    assert main(["evaluate", *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert summary["sequences"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html",
        "overview.png",
        f"ordinary-{summary['first_seed']}.png",
    }


def test_the_ablation_ends_with_one_flat_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ablation", "--sequences", "1", "--frames", "12", "--save", str(tmp_path), "--json"]
    assert main(["evaluate", *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(SCORES) <= set(summary)
    assert {f"without_{name}_mask_iou" for name in list(variants())[1:]} <= set(summary)
    assert summary["paper_mask_iou_majority"] < summary["mask_iou_majority"]
    assert len(list(tmp_path.glob("ablation-*.json"))) == 1
