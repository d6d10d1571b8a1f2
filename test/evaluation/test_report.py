"""The summary is flat JSON with every promised key; means, pools and ratios are what they claim."""

import dataclasses
import io
import json
import math

import pytest
from rich.console import Console

from pomato_ros.evaluation.evaluate import MaskCounts, Scores, SequenceResult
from pomato_ros.evaluation.report import SCORE_NAMES, sequence_table, summarise, summary_table

PROMISED = {
    "sequences",
    "split",
    "depth_absrel",
    "depth_delta1",
    "ate_over_path",
    "rpe_rot_ratio",
    "mask_iou",
    "apd12",
    "apd12_gain",
    "lost_frames",
}


def result(seed: int, **changes: object) -> SequenceResult:
    made = SequenceResult(
        seed=seed,
        frames=24,
        scores=Scores(depth_absrel=0.1, depth_delta1=0.9, ate_over_path=0.02, rpe_rot_deg=0.1, apd12=50.0),
        baseline=Scores(depth_absrel=0.4, depth_delta1=0.3, ate_over_path=0.3, rpe_rot_deg=1.0, apd12=20.0),
        mask=MaskCounts(both=10, either=30, moving=20, total=1000),
        apd12_true_start=25.0,
        depth_coverage=1.0,
        frames_without_scene=0,
        lost_frames=1,
        seconds=2.0,
    )
    return dataclasses.replace(made, **changes)


def test_every_promised_key_and_its_baseline_is_there_and_flat() -> None:
    summary = json.loads(json.dumps(summarise([result(1), result(2)], "held_out"), allow_nan=False))
    assert set(summary) >= PROMISED | {f"baseline_{name.key}" for name in SCORE_NAMES}
    assert all(value is None or isinstance(value, int | float | str) for value in summary.values())
    assert (summary["sequences"], summary["frames"], summary["lost_frames"]) == (2, 48, 2)
    assert summary["apd12_gain"] == pytest.approx(30.0)


def test_masks_are_pooled_over_pixels_not_averaged_over_sequences() -> None:
    large = result(2, mask=MaskCounts(both=900, either=1000, moving=950, total=1000))
    summary = summarise([result(1), large], "held_out")
    assert summary["mask_iou"] == pytest.approx(910 / 1030, rel=1e-5)
    assert summary["baseline_mask_iou"] == summary["baseline_mask_iou_all_moving"] == pytest.approx(970 / 2000)
    assert summary["baseline_mask_iou_all_static"] == 0.0


def test_where_nothing_moves_all_static_is_right() -> None:
    summary = summarise([result(1, mask=MaskCounts(both=0, either=0, moving=0, total=1000))], "held_out")
    assert summary["mask_iou"] == summary["baseline_mask_iou"] == 1.0


def test_the_rotation_ratio_is_of_means_so_that_a_camera_at_rest_does_not_rule_it() -> None:
    at_rest = result(
        2,
        scores=dataclasses.replace(result(2).scores, rpe_rot_deg=0.01),
        baseline=dataclasses.replace(result(2).baseline, rpe_rot_deg=1e-9),
    )
    assert summarise([result(1), at_rest], "held_out")["rpe_rot_ratio"] == pytest.approx(0.11, rel=1e-5)


def test_what_cannot_be_scored_is_left_out_of_means_and_null_if_nothing_is_left() -> None:
    nowhere = result(2, scores=dataclasses.replace(result(2).scores, ate_over_path=math.nan))
    assert summarise([result(1), nowhere], "held_out")["ate_over_path"] == pytest.approx(0.02)
    assert summarise([nowhere], "held_out")["ate_over_path"] is None


def test_tables_name_every_score_and_say_what_is_not_beaten() -> None:
    results = [result(1), result(2, scores=dataclasses.replace(result(2).scores, depth_absrel=5.0))]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(sequence_table(results))
    console.print(summary_table(results, summarise(results, "held_out")))
    text = console.export_text()
    assert all(name.meaning in text for name in SCORE_NAMES)
    assert text.count("DOES NOT BEAT") == 1
    assert "0.1 .. 2.55 .. 5" in text
