"""The truth scores perfectly in any unit; what is left out costs what it should."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.evaluate import Subject, evaluate_sequences, run_sequence, subject_of
from pomato_ros.evaluation.oracle import OraclePredictor, pointmap_engine
from pomato_ros.structures import SceneEstimate
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

SEED = 3
SubjectMaker = Callable[..., Subject]


def score(subject: Subject, clip: Clip):
    return evaluate_sequences(lambda _: subject, [(SEED, clip)])[0]


@pytest.mark.parametrize("metres_per_unit", [1.0, 0.3])
def test_the_truth_scores_perfectly_in_any_unit(clip: Clip, truthful: SubjectMaker, metres_per_unit: float) -> None:
    result = score(truthful(metres_per_unit=metres_per_unit), clip)
    assert result.system.scores.depth_absrel == pytest.approx(0.0, abs=1e-6)
    assert result.system.scores.depth_delta1 == 1.0
    assert result.system.scores.ate_over_path == pytest.approx(0.0, abs=1e-6)
    assert result.system.scores.rpe_rot_deg == pytest.approx(0.0, abs=1e-4)
    assert result.system.scores.apd12 == pytest.approx(100.0)
    assert result.system.scores.mask_jm == result.system.scores.mask_jr == 1.0
    assert result.system.mask.both == result.system.mask.either == result.system.mask.moving > 0
    assert (result.system.depth_coverage, result.frames_without_scene, result.lost_frames) == (1.0, 0, 0)


def test_metres_are_taken_at_their_word_after_se3_only(clip: Clip, truthful: SubjectMaker) -> None:
    in_metres, in_feet = (score(truthful(metres_per_unit=unit), clip).system.scores for unit in (1.0, 0.3048))
    for scores in (in_metres, in_feet):
        assert scores.rpe_trans_m == pytest.approx(0.0, abs=1e-6)
        assert scores.depth_absrel_shift == pytest.approx(0.0, abs=1e-5)
    assert in_metres.ate_se3_over_path == pytest.approx(0.0, abs=1e-6)
    assert in_metres.rpe_trans_se3_m == pytest.approx(0.0, abs=1e-6)
    baseline = score(truthful(), clip).baseline
    assert in_feet.ate_se3_over_path > baseline.ate_se3_over_path  # three times as far, so worse than staying
    assert in_feet.rpe_trans_se3_m == pytest.approx((1.0 / 0.3048 - 1.0) * baseline.rpe_trans_m, rel=1e-3)


def test_twelve_frames_have_no_score_of_twenty_four(clip: Clip, truthful: SubjectMaker) -> None:
    assert math.isnan(score(truthful(), clip).system.scores.apd24)


def test_the_truth_beats_every_baseline(clip: Clip, truthful: SubjectMaker) -> None:
    baseline = score(truthful(), clip).baseline
    assert baseline.depth_absrel > 0.05
    assert baseline.depth_delta1 < 1.0
    assert baseline.ate_over_path > 0.05
    assert baseline.rpe_rot_deg > 0.0
    assert baseline.apd12 < 100.0


def test_the_engine_over_true_pointmaps_beats_every_baseline(clip: Clip) -> None:
    predictor = OraclePredictor(clip)
    result = score(
        subject_of(pointmap_engine(PomatoConfig(), predictor), predictor, clip.intrinsics.width_px, 16), clip
    )
    assert result.system.scores.depth_absrel < 0.02
    assert result.system.scores.ate_over_path < result.baseline.ate_over_path
    assert result.system.scores.rpe_rot_deg < result.baseline.rpe_rot_deg
    assert result.system.scores.apd12 == pytest.approx(100.0)


def test_the_engine_is_reset_before_each_sequence(clip: Clip, truthful_engine: Callable) -> None:
    engine = truthful_engine()
    run_sequence(engine, clip)
    run_sequence(engine, clip)
    assert engine.resets == 2


def test_a_camera_that_is_always_lost_is_a_camera_that_stands_still(clip: Clip, truthful: SubjectMaker) -> None:
    result = score(truthful(lambda scene: dataclasses.replace(scene, world_from_camera=None)), clip)
    assert result.lost_frames == len(clip)
    assert result.system.scores.ate_over_path == result.baseline.ate_over_path
    assert result.system.scores.rpe_rot_deg == result.baseline.rpe_rot_deg


def test_a_lost_frame_holds_the_last_pose_and_is_counted(clip: Clip, truthful_engine: Callable) -> None:
    lost_stamp_ns = clip.stamps_ns[5]

    def lose(scene: SceneEstimate) -> SceneEstimate:
        return dataclasses.replace(scene, world_from_camera=None) if scene.stamp_ns == lost_stamp_ns else scene

    run = run_sequence(truthful_engine(lose), clip)
    np.testing.assert_array_equal(run.world_from_camera[5], run.world_from_camera[4])
    assert not np.allclose(run.world_from_camera[6], run.world_from_camera[5])
    assert list(np.nonzero(~run.located)[0]) == [5]
    assert run.answered.all()


def test_frames_without_a_scene_say_that_nothing_moves_and_have_no_depth(clip: Clip, truthful: SubjectMaker) -> None:
    silent_until_ns = clip.stamps_ns[7]
    result = score(truthful(lambda scene: scene if scene.stamp_ns >= silent_until_ns else None), clip)
    assert result.frames_without_scene == result.lost_frames == 7
    assert result.system.depth_coverage == pytest.approx(0.5)
    assert result.system.scores.depth_absrel == pytest.approx(0.0, abs=1e-6)
    assert result.system.mask.both < result.system.mask.moving == result.system.mask.either


def test_pixels_without_depth_are_left_out_and_counted(clip: Clip, truthful: SubjectMaker) -> None:
    def blind(scene: SceneEstimate) -> SceneEstimate:
        points = scene.points_camera.copy()
        points[: len(points) // 4] = np.nan
        return dataclasses.replace(scene, points_camera=points)

    result = score(truthful(blind), clip)
    assert result.system.depth_coverage == pytest.approx(0.75)
    assert result.system.scores.depth_absrel == pytest.approx(0.0, abs=1e-6)


def test_a_mask_of_everything_is_the_baseline_of_everything(clip: Clip, truthful: SubjectMaker) -> None:
    mask = score(
        truthful(lambda scene: dataclasses.replace(scene, dynamic_mask=np.ones_like(scene.dynamic_mask))), clip
    ).system.mask
    assert (mask.both, mask.either) == (mask.moving, mask.total)


def test_points_that_never_move_are_right_where_nothing_moves() -> None:
    world = dataclasses.replace(
        TRAIN_WORLD,
        mover_probability=0.0,
        camera_kinds=(0.0, 0.0, 0.0, 0.0, 1.0),
        shake_m=(1e-9, 1e-9),
        shake_deg=(1e-9, 1e-9),
    )
    still = render_clip(2, world, 12, (64, 48))
    predictor = OraclePredictor(still)
    result = score(subject_of(pointmap_engine(PomatoConfig(), predictor), predictor, 64, 16), still)
    assert result.baseline.apd12 == result.apd12_true_start == pytest.approx(100.0)
    assert result.system.mask.moving == 0


def test_answers_of_another_size_are_refused(clip: Clip, truthful: SubjectMaker) -> None:
    half = truthful(lambda scene: dataclasses.replace(scene, points_camera=scene.points_camera[::2, ::2]))
    with pytest.raises(ValueError, match="expected answers of 64x48 px"):
        score(half, clip)
