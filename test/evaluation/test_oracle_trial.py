"""The trial's scores: zero for the truth, and for every fault what it should be."""

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.oracle_report import DEMANDS, oracle_sequence_table, oracle_summary_table, summarise_oracle
from pomato_ros.evaluation.oracle_sets import OracleSequence
from pomato_ros.evaluation.oracle_trial import (
    OracleResult,
    drift,
    first_from_camera,
    frame_with_depth,
    normalised_errors,
    oracle_engine,
    plain_frame,
    record_run,
    run_trial,
    score_run,
)
from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.structures import SceneEstimate, TrackingState
from pomato_ros.synthetic.clip import Clip

EngineMaker = Callable[..., object]


def result_of(clip: Clip, engine: object, kind: str = "ordinary", blind: range = range(0)) -> OracleResult:
    sequence = OracleSequence(kind, 3, clip, blind)
    return score_run(sequence, record_run(engine, sequence), 5)


def lost(scene: SceneEstimate) -> SceneEstimate:
    return dataclasses.replace(scene, world_from_camera=None, pose_covariance=None, state=TrackingState.LOST)


def test_the_truth_has_no_errors(clip: Clip, truthful_engine: EngineMaker) -> None:
    result = result_of(clip, truthful_engine())
    assert result.ate_over_path == pytest.approx(0.0, abs=1e-6)
    assert result.scale_errors.max() < 1e-6
    assert result.nees.max() < 1e-9
    assert result.mask.both == result.mask.either == result.mask.moving > 0
    assert (result.lost_frames, result.blind) == (0, None)
    assert result.worst_drift_m > 0


def test_a_wrong_unit_is_an_error_of_position_and_scale(clip: Clip, truthful_engine: EngineMaker) -> None:
    result = result_of(clip, truthful_engine(metres_per_unit=1.0 / 1.1))
    np.testing.assert_allclose(result.scale_errors, 0.1, rtol=1e-4)
    assert result.ate_over_path > 0.005


def test_errors_that_their_covariance_tells_have_six_as_their_mean() -> None:
    draws = np.random.default_rng(0)
    factor = 0.01 * draws.normal(size=(6, 6))
    errors = draws.normal(size=(4000, 6)) @ factor.T
    truth = np.tile(pose_exp([1.0, 2.0, 3.0, 0.3, -0.4, 0.5]), (4000, 1, 1))
    poses = truth.copy()
    poses[:, :3, 3] += errors[:, :3]
    turn = pose_exp(np.concatenate((np.zeros((4000, 3)), errors[:, 3:]), axis=-1))[:, :3, :3]
    poses[:, :3, :3] = turn @ truth[:, :3, :3]
    told = normalised_errors(poses, np.broadcast_to(factor @ factor.T, (4000, 6, 6)), truth)
    assert told.mean() == pytest.approx(6.0, rel=0.05)
    poses[7] = np.nan
    assert np.isnan(normalised_errors(poses, np.broadcast_to(np.eye(6), (4000, 6, 6)), truth)[7])


def test_silence_while_blind_and_the_way_back_are_told(clip: Clip, truthful_engine: EngineMaker) -> None:
    blind = range(4, 8)
    silent = set(clip.stamps_ns[4:10])
    found = result_of(
        clip, truthful_engine(lambda scene: lost(scene) if scene.stamp_ns in silent else scene), "blind", blind
    ).blind
    assert (found.poses_while_blind, found.frames_to_recover, found.recovered) == (0, 3, True)
    assert found.jump_sigma < 1e-6
    bold = result_of(clip, truthful_engine(), "blind", blind).blind
    assert (bold.poses_while_blind, bold.frames_to_recover) == (4, 1)


def test_a_camera_that_never_comes_back_counts_all_that_was_left(clip: Clip, truthful_engine: EngineMaker) -> None:
    gone = set(clip.stamps_ns[4:])
    found = result_of(
        clip, truthful_engine(lambda scene: lost(scene) if scene.stamp_ns in gone else scene), "blind", range(4, 8)
    ).blind
    assert not found.recovered
    assert found.frames_to_recover == len(clip) - 8
    assert math.isnan(found.jump_sigma)


def test_a_jump_is_told_in_its_own_standard_deviations(clip: Clip, truthful_engine: EngineMaker) -> None:
    silent, after = set(clip.stamps_ns[4:8]), set(clip.stamps_ns[8:])

    def jump(scene: SceneEstimate) -> SceneEstimate:
        if scene.stamp_ns in silent:
            return lost(scene)
        if scene.stamp_ns not in after:
            return scene
        pose = scene.world_from_camera.copy()
        pose[0, 3] += 0.4
        return dataclasses.replace(scene, world_from_camera=pose, pose_covariance=0.01 * np.eye(6))

    found = result_of(clip, truthful_engine(jump), "blind", range(4, 8)).blind
    assert found.jump_sigma == pytest.approx(4.0)


def test_drift_is_told_for_three_metres() -> None:
    poses = np.tile(np.eye(4), (30, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 0.29, 30)
    last, worst = drift(poses, depth_m=6.0)
    assert worst == pytest.approx(0.145)
    assert last == pytest.approx(0.5 * np.linspace(0, 0.29, 30)[-10:].mean())


def test_the_summary_names_what_could_not_be_scored(clip: Clip, truthful_engine: EngineMaker) -> None:
    results = [result_of(clip, truthful_engine())]
    summary = json.loads(json.dumps(summarise_oracle(results), allow_nan=False))
    assert {demand.key for demand in DEMANDS} <= set(summary)
    assert summary["ate_over_path"] == pytest.approx(0.0, abs=1e-6)
    missing = set(summary["not_scored"].split())
    assert missing == {demand.key for demand in DEMANDS if summary[demand.key] is None}
    assert {"still_drift_m", "lost_frames_to_recover", "mask_false_positive", "mask_iou_majority"} <= missing
    assert all(value is None or isinstance(value, int | float | str) for value in summary.values())


def test_false_positives_are_counted_where_nothing_moves(clip: Clip, truthful_engine: EngineMaker) -> None:
    def half(scene: SceneEstimate) -> SceneEstimate:
        mask = np.zeros_like(scene.dynamic_mask)
        mask[:, :32] = True
        return dataclasses.replace(scene, dynamic_mask=mask)

    still = dataclasses.replace(clip, world_from_object=clip.world_from_object[:1].expand(len(clip), -1, -1, -1))
    summary = summarise_oracle([result_of(still, truthful_engine(half), "nothing")])
    assert summary["mask_false_positive"] == pytest.approx(0.5)


def test_tables_say_what_is_met_and_what_is_not(clip: Clip, truthful_engine: EngineMaker) -> None:
    results = [result_of(clip, truthful_engine(metres_per_unit=0.8))]
    console = Console(width=200, record=True)
    console.print(oracle_sequence_table(results))
    console.print(oracle_summary_table(summarise_oracle(results)))
    text = console.export_text()
    assert all(demand.meaning in text for demand in DEMANDS)
    assert "BELOW THE FLOOR" in text
    assert "not scored" in text


def test_the_engine_over_the_noisy_oracle_knows_metres(clip: Clip) -> None:
    seen = []
    (result,) = run_trial(
        oracle_engine(PomatoConfig(), prior="fixed"),
        [OracleSequence("ordinary", 3, clip)],
        8,
        lambda result, sequence, run: seen.append(run.world_from_camera),
        "fixed",
    )
    assert np.median(result.scale_errors) < 0.1
    assert result.lost_frames == 0
    np.testing.assert_allclose(seen[0][0], np.eye(4), atol=1e-9)
    assert result.ate_m < 0.2 * np.linalg.norm(np.diff(first_from_camera(clip)[:, :3, 3], axis=0), axis=-1).sum()


def test_frames_bring_their_depth_along_but_where_the_camera_is_blind(clip: Clip) -> None:
    sequence = OracleSequence("blind", 3, clip, range(4, 6))
    for t in (0, 3, 6):
        depth_m = frame_with_depth(sequence, t).depth_m
        np.testing.assert_allclose(np.nanmedian(depth_m / clip.depth_m[t].numpy()), 1.0, rtol=5e-3)
        np.testing.assert_array_equal(depth_m, frame_with_depth(sequence, t).depth_m)
        assert plain_frame(sequence, t).depth_m is None
    assert frame_with_depth(sequence, 4).depth_m is None


def test_with_a_depth_prior_the_engine_finds_metres_that_nobody_told_it(clip: Clip) -> None:
    sequence = OracleSequence("ordinary", 3, clip)
    (result,) = run_trial(oracle_engine(PomatoConfig()), [sequence], 8)
    assert np.median(result.scale_errors) < 0.02
    assert summarise_oracle([result])["scale_prior"].startswith("depth: ")
    assert summarise_oracle([result], "fixed")["scale_prior"].startswith("fixed: ")
