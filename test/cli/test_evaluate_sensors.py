"""`pomato evaluate rgbd` and `stereo` as a user calls them."""

import json
from pathlib import Path

import pytest

from pomato_ros.cli.main import main
from pomato_ros.evaluation.suites import rgbd

KEYS = {
    "rgbd": {
        *[
            "ate_over_path",
            "ate_over_path_median",
            "mask_iou",
            "mask_false_positive",
            "mask_false_positive_driving",
            "apd_m",
        ],
        *["track_id", "track_occlusion", "nees", "still_drift_m", "majority_ate_over_path", "majority_mask_iou"],
    },
    "stereo": {"ate_over_path", "depth_absrel_confident", "depth_coverage", "mask_iou", "apd_m"},
}


@pytest.mark.parametrize("backend", list(KEYS))
def test_a_sensors_suite_ends_with_every_key_that_scripts_rely_on(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rgbd.run_suite, "__defaults__", (lambda result: None, ("ordinary",)))
    words = ["--sequences", "1", "--frames", "4", "--save", str(tmp_path), "--json"]
    assert main(["evaluate", backend, *words]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert KEYS[backend] <= set(summary)
    assert summary["backend"] == backend
    assert summary["depth_absrel_confident"] < 0.1
    assert len(list(tmp_path.glob(f"{backend}-*.json"))) == 1


def test_no_sequences_and_no_data_scores_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "rgbd", "--sequences", "0", "--json"]) == 0
    assert "ate_over_path" not in json.loads(capsys.readouterr().out.strip().splitlines()[-1])
