"""An engine that knows the truth scores perfectly, one that errs by a known amount scores that amount."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.errors import UnusableFrame
from pomato_ros.evaluation.suites import rgbd, stereo
from pomato_ros.evaluation.suites.rendered import RenderedSequence, RenderPlan, rendered_sequence, seeds_of
from pomato_ros.evaluation.suites.sensor_run import run_recording, run_rendered
from pomato_ros.evaluation.suites.summary import demand_table, sequence_table
from pomato_ros.structures import Frame, SceneEstimate, TrackingState, TrackSet
from pomato_ros.training.config import HELD_OUT_SEED

PLAN = RenderPlan(HELD_OUT_SEED, sequences=1, frames=8, size_wh=(64, 48), cache=None)
NO_TRACKS = TrackSet(
    *(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 2), np.float32)),
    *(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, bool), np.zeros(0, np.int64)),
)


class TrueEngine:
    """Says the truth of a sequence, its depth too large by a share, its positions by another."""

    def __init__(self, sequence: RenderedSequence, depth_error: float = 0.0, path_error: float = 0.0) -> None:
        self.sequence, self.depth_error, self.path_error = sequence, depth_error, path_error

    def reset(self) -> None:
        """Keeps nothing."""

    def step(self, frame: Frame) -> SceneEstimate | None:
        clip = self.sequence.clip
        t = clip.stamps_ns.index(frame.stamp_ns)
        pose = self.sequence.first_from_camera()[t]
        pose[:3, 3] *= 1.0 + self.path_error
        return SceneEstimate(
            stamp_ns=frame.stamp_ns,
            state=TrackingState.TRACKING,
            frames_in_window=1,
            image_rgb=frame.image_rgb,
            intrinsics=clip.intrinsics,
            intrinsics_known=True,
            model_from_source=np.eye(3),
            source_size_wh=PLAN.size_wh,
            points_camera=clip.points_camera(t).numpy() * np.float32(1.0 + self.depth_error),
            confidence=np.full(PLAN.size_wh[::-1], 10.0, np.float32),
            dynamic_mask=clip.moving(t).numpy(),
            world_from_camera=pose,
            pose_covariance=np.eye(6),
            pose_inlier_ratio=1.0,
            metres_per_unit=1.0,
            tracks=NO_TRACKS,
            stage_seconds={},
        )


@pytest.fixture(scope="module")
def sequence() -> RenderedSequence:
    return rendered_sequence(PLAN, "ordinary", seeds_of(PLAN, "ordinary")[0], right=True)


def test_the_truth_scores_perfectly(sequence: RenderedSequence) -> None:
    results = run_rendered(TrueEngine(sequence), [sequence], RenderedSequence.rgbd_frame, 4)
    summary = rgbd.summarise_suite(results)
    assert summary["ate_over_path"] == pytest.approx(0.0, abs=1e-6)
    assert summary["depth_absrel_confident"] == pytest.approx(0.0, abs=1e-6)
    assert summary["depth_coverage"] == 1.0
    assert summary["mask_iou"] in (None, 1.0)
    assert summary["lost_frames"] == 0


def test_depth_that_is_not_confident_counts_as_none(sequence: RenderedSequence) -> None:
    class Unsure(TrueEngine):
        def step(self, frame: Frame) -> SceneEstimate | None:
            scene = super().step(frame)
            assert scene is not None
            scene.confidence[: PLAN.size_wh[1] // 4] = 2.0
            return scene

    summary = rgbd.summarise_suite(run_rendered(Unsure(sequence), [sequence], RenderedSequence.rgbd_frame, 4))
    assert summary["depth_coverage"] == pytest.approx(0.75, abs=0.02)


def test_metres_are_not_aligned_away(sequence: RenderedSequence) -> None:
    engine = TrueEngine(sequence, depth_error=0.1, path_error=0.2)
    summary = stereo.summarise_suite(run_rendered(engine, [sequence], RenderedSequence.stereo_frame, 4))
    assert summary["depth_absrel_confident"] == pytest.approx(0.1, rel=1e-3)
    ate = summary["ate_over_path"]
    assert isinstance(ate, float)
    assert ate > 0.01


def test_every_key_of_the_interface_is_there(sequence: RenderedSequence) -> None:
    results = run_rendered(TrueEngine(sequence), [sequence], RenderedSequence.rgbd_frame, 4)
    keys = """ate_over_path ate_over_path_median mask_iou mask_false_positive mask_false_positive_driving apd_m track_id
        track_occlusion nees still_drift_m majority_ate_over_path majority_mask_iou"""
    assert set(keys.split()) <= set(rgbd.summarise_suite(results))
    keys = "ate_over_path depth_absrel_confident depth_coverage mask_iou apd_m"
    assert set(keys.split()) <= set(stereo.summarise_suite(results))
    assert demand_table("rgbd", rgbd.summarise_suite(results), rgbd.DEMANDS).row_count > 5
    assert sequence_table(results).row_count == 1


def test_recordings_are_scored_in_metres_and_refused_frames_are_counted(sequence: RenderedSequence) -> None:
    class Refusing(TrueEngine):
        def step(self, frame: Frame) -> SceneEstimate | None:
            if frame.stamp_ns == self.sequence.clip.stamps_ns[2]:
                raise UnusableFrame("expected a frame that can be used, got another; skip it")
            return super().step(frame)

    stamps = tuple(sequence.clip.stamps_ns)
    recording = SensorSequence("r", "test", stamps, sequence.rgbd_frame, sequence.clip.world_from_camera.numpy())
    assert run_recording(TrueEngine(sequence), recording).ate_m == pytest.approx(0.0, abs=1e-6)
    result = run_recording(Refusing(sequence), recording)
    assert result.refused == 1
    assert result.ate_m > 0.0
    with pytest.raises(ValueError, match="true poses"):
        run_recording(TrueEngine(sequence), dataclasses.replace(recording, world_from_camera=None))


def test_absent_recordings_are_left_out(sequence: RenderedSequence, tmp_path: Path) -> None:
    assert rgbd.score_recordings(TrueEngine(sequence), tmp_path) == {}
    assert stereo.score_recordings(TrueEngine(sequence), tmp_path) == {}
