"""Alignments forgive what they say and nothing else; what is not known is not scored."""

import dataclasses
import math

import numpy as np
import pytest

from pomato_ros.evaluation.grading import (
    SequenceRun,
    SequenceTruth,
    confidence_and_error,
    grade,
    grade_trivial,
    inner_region_similarity,
)
from pomato_ros.geometry.rigid import pose_from, rotation_exp

FRAMES, HEIGHT, WIDTH = 5, 6, 8
GENERATOR = np.random.default_rng(0)
DEPTH_M = GENERATOR.uniform(1.0, 9.0, (FRAMES, HEIGHT, WIDTH))
POSES = pose_from(
    rotation_exp(GENERATOR.normal(0.0, 0.2, (FRAMES, 3))), np.cumsum(GENERATOR.normal(size=(FRAMES, 3)), axis=0)
)
MOVING = GENERATOR.uniform(size=(FRAMES, HEIGHT, WIDTH)) > 0.7
TRUTH = SequenceTruth(DEPTH_M, POSES, MOVING)


def run_of(**changes: np.ndarray) -> SequenceRun:
    said = SequenceRun(
        depth=DEPTH_M.astype(np.float32),
        confidence=np.full(DEPTH_M.shape, 2.0, np.float32),
        moving=MOVING,
        world_from_camera=POSES,
        answered=np.ones(FRAMES, bool),
        located=np.ones(FRAMES, bool),
    )
    return dataclasses.replace(said, **changes)


def moved(poses: np.ndarray, scale: float) -> np.ndarray:
    """Poses in another world frame and unit."""
    found = pose_from(rotation_exp([0.3, -1.0, 0.4]), [5.0, -2.0, 1.0]) @ poses
    found[:, :3, 3] *= scale
    return found


def test_scale_and_shift_forgive_a_shift_and_scale_alone_does_not() -> None:
    scores = grade(run_of(depth=(2.0 * DEPTH_M + 3.0).astype(np.float32)), TRUTH).scores
    assert scores.depth_absrel_shift == pytest.approx(0.0, abs=1e-6)
    assert scores.depth_delta1_shift == 1.0
    assert scores.depth_absrel > 0.1


def test_another_world_frame_is_forgiven_and_another_unit_by_sim3_only() -> None:
    exact, scaled = (grade(run_of(world_from_camera=moved(POSES, scale)), TRUTH).scores for scale in (1.0, 2.0))
    for scores in (exact, scaled):
        assert scores.ate_over_path == pytest.approx(0.0, abs=1e-9)
        assert scores.rpe_trans_m == pytest.approx(0.0, abs=1e-9)
        assert scores.rpe_rot_deg == pytest.approx(0.0, abs=1e-6)
    assert exact.ate_se3_over_path == pytest.approx(0.0, abs=1e-9)
    assert exact.rpe_trans_se3_m == pytest.approx(0.0, abs=1e-9)
    trivial = grade_trivial(run_of(), TRUTH)
    assert scaled.ate_se3_over_path == pytest.approx(trivial.ate_se3_over_path)  # as far beyond as standing is short
    assert scaled.rpe_trans_se3_m == pytest.approx(trivial.rpe_trans_se3_m)


def test_a_camera_that_stands_still_scores_as_its_baseline() -> None:
    still = np.tile(np.eye(4), (FRAMES, 1, 1))
    scores, trivial = grade(run_of(world_from_camera=still), TRUTH).scores, grade_trivial(run_of(), TRUTH)
    for name in ("ate_over_path", "ate_se3_over_path", "rpe_trans_m", "rpe_trans_se3_m", "rpe_rot_deg"):
        assert getattr(scores, name) == pytest.approx(getattr(trivial, name)), name


def test_what_is_not_known_is_not_scored() -> None:
    found = grade(run_of(), SequenceTruth(None, None, None))
    assert all(math.isnan(value) for value in dataclasses.astuple(found.scores))
    assert all(
        math.isnan(value) for value in dataclasses.astuple(grade_trivial(run_of(), SequenceTruth(None, None, None)))
    )
    assert math.isnan(found.depth_coverage)
    assert found.mask.total == 0


def test_pixels_without_truth_do_not_count_in_depth_or_coverage() -> None:
    holes = DEPTH_M.copy()
    holes[:, :3] = 0.0
    wrong = DEPTH_M.astype(np.float32)
    wrong[:, :3] = 1e4
    found = grade(run_of(depth=wrong), dataclasses.replace(TRUTH, depth_m=holes))
    assert found.scores.depth_absrel == pytest.approx(0.0, abs=1e-6)
    assert found.depth_coverage == 1.0


def test_masks_are_judged_without_the_first_and_the_last_frame() -> None:
    ends = MOVING.copy()
    ends[[0, -1]] ^= True
    assert inner_region_similarity(ends, MOVING).mean == 1.0
    inner = MOVING.copy()
    inner[2] ^= True
    found = inner_region_similarity(inner, MOVING)
    assert found.mean == found.recall == pytest.approx(2 / 3)


def test_sequences_in_which_nothing_moves_have_no_region_similarity() -> None:
    assert math.isnan(inner_region_similarity(MOVING, np.zeros_like(MOVING)).mean)


def test_errors_behind_a_confidence_are_in_units_of_the_scene() -> None:
    depth = (DEPTH_M * GENERATOR.uniform(0.9, 1.1, DEPTH_M.shape)).astype(np.float32)
    confidence = GENERATOR.uniform(1.0, 5.0, DEPTH_M.shape).astype(np.float32)
    confidence[0] = np.nan
    said = run_of(depth=depth, confidence=confidence)
    told, error = confidence_and_error(said, TRUTH)
    assert len(told) == len(error) == (FRAMES - 1) * HEIGHT * WIDTH
    in_feet = dataclasses.replace(TRUTH, depth_m=DEPTH_M / 0.3048)
    _, error_in_feet = confidence_and_error(dataclasses.replace(said, depth=3.0 * depth), in_feet)
    np.testing.assert_allclose(error_in_feet, error, rtol=1e-4, atol=1e-6)
    assert len(confidence_and_error(run_of(confidence=np.full_like(confidence, np.nan)), TRUTH)[0]) == 0
