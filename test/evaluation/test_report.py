"""The summary is flat JSON with every promised key; means, pools and ratios are what they claim."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from pomato_ros.evaluation.evaluate import SequenceResult
from pomato_ros.evaluation.grading import Grade, Scores
from pomato_ros.evaluation.metrics.calibration import CalibrationSample
from pomato_ros.evaluation.metrics.masks import MaskCounts, RegionSimilarity
from pomato_ros.evaluation.report import (
    SCORE_NAMES,
    before_and_after_table,
    sequence_table,
    split_table,
    summarise,
    summary_table,
)

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


SCORES = Scores(
    depth_absrel=0.1,
    depth_delta1=0.9,
    depth_absrel_shift=0.08,
    depth_delta1_shift=0.92,
    ate_over_path=0.02,
    ate_se3_over_path=0.2,
    rpe_trans_m=0.01,
    rpe_trans_se3_m=0.02,
    rpe_rot_deg=0.1,
    mask_jm=0.3,
    mask_jr=0.2,
    apd12=50.0,
    apd24=40.0,
)
BASELINE = Scores(
    depth_absrel=0.4,
    depth_delta1=0.3,
    depth_absrel_shift=0.4,
    depth_delta1_shift=0.3,
    ate_over_path=0.3,
    ate_se3_over_path=0.3,
    rpe_trans_m=0.1,
    rpe_trans_se3_m=0.1,
    rpe_rot_deg=1.0,
    mask_jm=math.nan,
    mask_jr=math.nan,
    apd12=20.0,
    apd24=15.0,
)
MASK = MaskCounts(both=10, either=30, moving=20, total=1000)


def result(
    seed: int,
    mask: MaskCounts = MASK,
    scores: Scores = SCORES,
    baseline: Scores = BASELINE,
    opencv: Grade | None = None,
) -> SequenceResult:
    return SequenceResult(
        seed=seed,
        frames=24,
        system=Grade(scores, mask, depth_coverage=1.0),
        baseline=baseline,
        opencv=opencv,
        all_static=RegionSimilarity(0.0, 0.0),
        all_moving=RegionSimilarity(0.02, 0.0),
        apd12_true_start=25.0,
        calibration=CalibrationSample(np.linspace(1.0, 4.0, 40), 1.0 / np.linspace(1.0, 4.0, 40)),
        frames_without_scene=0,
        lost_frames=1,
        seconds=2.0,
    )


def test_every_promised_key_and_its_baseline_is_there_and_flat() -> None:
    summary = json.loads(json.dumps(summarise([result(1), result(2)], "same"), allow_nan=False))
    assert set(summary) >= PROMISED | {f"baseline_{name.key}" for name in SCORE_NAMES}
    assert all(value is None or isinstance(value, int | float | str) for value in summary.values())
    assert (summary["sequences"], summary["frames"], summary["lost_frames"]) == (2, 48, 2)
    assert summary["apd12_gain"] == pytest.approx(30.0)


def test_masks_are_pooled_over_pixels_not_averaged_over_sequences() -> None:
    large = result(2, mask=MaskCounts(both=900, either=1000, moving=950, total=1000))
    summary = summarise([result(1), large], "same")
    assert summary["mask_iou"] == pytest.approx(910 / 1030, rel=1e-5)
    assert summary["baseline_mask_iou"] == summary["baseline_mask_iou_all_moving"] == pytest.approx(970 / 2000)
    assert summary["baseline_mask_iou_all_static"] == 0.0


def test_where_nothing_moves_all_static_is_right() -> None:
    summary = summarise([result(1, mask=MaskCounts(both=0, either=0, moving=0, total=1000))], "same")
    assert summary["mask_iou"] == summary["baseline_mask_iou"] == 1.0


def test_the_rotation_ratio_is_of_means_so_that_a_camera_at_rest_does_not_rule_it() -> None:
    at_rest = result(
        2,
        scores=dataclasses.replace(SCORES, rpe_rot_deg=0.01),
        baseline=dataclasses.replace(BASELINE, rpe_rot_deg=1e-9),
    )
    assert summarise([result(1), at_rest], "same")["rpe_rot_ratio"] == pytest.approx(0.11, rel=1e-5)


def test_what_cannot_be_scored_is_left_out_of_means_and_null_if_nothing_is_left() -> None:
    nowhere = result(2, scores=dataclasses.replace(SCORES, ate_over_path=math.nan))
    assert summarise([result(1), nowhere], "same")["ate_over_path"] == pytest.approx(0.02)
    assert summarise([nowhere], "same")["ate_over_path"] is None


def test_tables_name_every_score_and_say_what_is_not_beaten() -> None:
    results = [result(1), result(2, scores=dataclasses.replace(SCORES, depth_absrel=5.0))]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(sequence_table(results))
    console.print(summary_table(results, summarise(results, "same")))
    text = console.export_text()
    assert all(name.meaning in text for name in SCORE_NAMES)
    assert text.count("DOES NOT BEAT") == 1
    assert "0.1 .. 2.55 .. 5" in text


def test_masks_of_each_frame_count_beside_the_better_of_all_static_and_all_moving() -> None:
    summary = summarise([result(1), result(2)], "same")
    assert (summary["mask_jm"], summary["mask_jr"]) == (0.3, 0.2)
    assert (summary["baseline_mask_jm"], summary["baseline_mask_jr"]) == (0.02, 0.0)


def test_steps_are_told_over_those_of_standing_still() -> None:
    summary = summarise([result(1), result(2)], "same")
    assert summary["rpe_trans_ratio"] == pytest.approx(0.1)
    assert summary["rpe_trans_se3_ratio"] == pytest.approx(0.2)


def test_a_confidence_that_is_right_about_the_error_is_calibrated() -> None:
    summary = summarise([result(1), result(2)], "same")
    assert summary["conf_ece"] == pytest.approx(0.0, abs=1e-9)
    assert summary["conf_rank"] == pytest.approx(1.0)
    assert summary["baseline_conf_ece"] > 0.1


def test_the_opencv_pipeline_has_a_column_where_it_ran() -> None:
    classical = Grade(dataclasses.replace(SCORES, depth_absrel=0.77), MASK, depth_coverage=1.0)
    results = [result(1, opencv=classical), result(2, opencv=classical)]
    summary = summarise(results, "same")
    assert summary["opencv_depth_absrel"] == 0.77
    assert summary["opencv_mask_iou"] == summary["mask_iou"]
    text = text_of(summary_table(results, summary))
    assert "OpenCV" in text
    assert "0.77" in text
    assert "opencv_depth_absrel" not in summarise([result(1)], "same")


def test_splits_and_trainings_are_compared_score_by_score() -> None:
    before = summarise([result(1, scores=dataclasses.replace(SCORES, depth_absrel=5.0, apd12=60.0))], "same")
    after = summarise([result(1)], "same")
    compared = text_of(before_and_after_table(before, after))
    assert compared.count("WORSE") == 1
    assert compared.count("better") == 1
    assert all(name.meaning in compared for name in SCORE_NAMES)
    assert "5 | 0.4" in text_of(split_table({"same": after, "looks": before}))


def text_of(table: Table) -> str:
    console = Console(width=180, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()
