"""The running system against the truth of rendered sequences, with the baselines that it has to beat."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from pomato_ros.evaluation.clip_tracks import LONG_TRACK_FRAMES, TRACK_FRAMES, TrackScores, score_tracks
from pomato_ros.evaluation.grading import (
    Grade,
    Scores,
    SequenceRun,
    SequenceTruth,
    confidence_and_error,
    grade,
    grade_trivial,
    inner_region_similarity,
    truth_of,
)
from pomato_ros.evaluation.metrics.calibration import CalibrationSample, sample_pixels
from pomato_ros.evaluation.metrics.masks import RegionSimilarity
from pomato_ros.evaluation.opencv_baseline import grade_opencv
from pomato_ros.evaluation.oracle import frame_of
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.sources.dust3r.pomato_source import WindowPredictor
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame, PreparedFrame
from pomato_ros.synthetic.clip import Clip


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """One sequence: the system, the baselines, and what else one should know."""

    seed: int
    frames: int
    system: Grade
    baseline: Scores
    opencv: Grade | None  # None: not asked for
    all_static: RegionSimilarity  # of masks in which nothing moves
    all_moving: RegionSimilarity
    apd12_true_start: float  # percent, :attr:`TrackScores.kept_truth`
    calibration: CalibrationSample
    frames_without_scene: int
    lost_frames: int
    seconds: float  # that the system took for its frames


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated: the engine for depth, poses and masks; its network for the paper's tracking."""

    engine: Perceiver
    predictor: WindowPredictor
    prepare: Callable[[Frame], PreparedFrame]


def subject_of(engine: Perceiver, predictor: WindowPredictor, long_side_px: int, patch_px: int) -> Subject:
    """A subject whose windows are prepared as the engine prepares its frames."""
    return Subject(engine, predictor, lambda frame: prepare_frame(frame, long_side_px, patch_px))


def evaluate_sequences(
    subject_for: Callable[[Clip], Subject],
    sequences: Iterable[tuple[int, Clip]],
    watch: Callable[[SequenceResult, Clip, SequenceRun], None] = lambda result, clip, run: None,
    *,
    with_opencv: bool = False,
) -> list[SequenceResult]:
    """Run and score each (seed, clip).

    Args:
        subject_for: what is evaluated on a clip; the same subject for all, unless it knows the clip's truth.
        sequences: seeds and clips.
        watch: sees every sequence as it is done.
        with_opencv: the classical pipeline runs over the same frames too.

    Raises:
        ValueError: a sequence is shorter than :data:`TRACK_FRAMES`, or the system answers at another image size.
    """
    results = []
    for seed, clip in sequences:
        subject = subject_for(clip)
        started_s = time.perf_counter()
        run = run_sequence(subject.engine, clip)
        seconds = time.perf_counter() - started_s
        results.append(score_sequence(seed, subject, clip, run, seconds, with_opencv=with_opencv))
        watch(results[-1], clip, run)
    return results


def run_sequence(engine: Perceiver, clip: Clip) -> SequenceRun:
    """Every frame of a clip through the engine, from a reset on."""
    size_hw = (clip.intrinsics.height_px, clip.intrinsics.width_px)
    return run_frames(engine, (frame_of(clip, t) for t in range(len(clip))), len(clip), size_hw)


def run_frames(engine: Perceiver, frames: Iterable[Frame], count: int, size_hw: tuple[int, int]) -> SequenceRun:
    """``count`` frames through the engine, from a reset on; its answers have ``size_hw``.

    Raises:
        ValueError: an answer has another size.
    """
    run = empty_run(count, size_hw)
    engine.reset()
    for t, frame in enumerate(frames):
        scene = engine.step(frame)
        run.world_from_camera[t] = run.world_from_camera[max(t - 1, 0)]
        if scene is None:
            continue
        if scene.depth.shape != size_hw:
            raise ValueError(
                f"expected answers of {size_hw[1]}x{size_hw[0]} px, the size of the sequence, got shape "
                f"{scene.depth.shape}; give sequences at the network's own size"
            )
        run.answered[t], run.located[t] = True, scene.world_from_camera is not None
        run.depth[t], run.moving[t], run.confidence[t] = scene.depth, scene.dynamic_mask, scene.confidence
        if scene.world_from_camera is not None:
            run.world_from_camera[t] = scene.world_from_camera
    return run


def empty_run(count: int, size_hw: tuple[int, int]) -> SequenceRun:
    """A run before its first frame."""
    return SequenceRun(
        depth=np.full((count, *size_hw), np.nan, np.float32),
        confidence=np.full((count, *size_hw), np.nan, np.float32),
        moving=np.zeros((count, *size_hw), bool),
        world_from_camera=np.tile(np.eye(4), (count, 1, 1)),
        answered=np.zeros(count, bool),
        located=np.zeros(count, bool),
    )


def score_sequence(
    seed: int, subject: Subject, clip: Clip, run: SequenceRun, seconds: float, *, with_opencv: bool = False
) -> SequenceResult:
    """All scores of one run, and of the baselines on the same pixels, frames and points."""
    truth = truth_of(clip)
    tracks = score_tracks(subject.predictor, subject.prepare, clip, seed, TRACK_FRAMES)
    long_tracks = score_long_tracks(subject, clip, seed)
    static, moving = trivial_masks(truth)
    return SequenceResult(
        seed=seed,
        frames=len(clip),
        system=grade(run, truth, tracks.followed, long_tracks.followed),
        baseline=grade_trivial(run, truth, tracks.kept, long_tracks.kept),
        opencv=grade_opencv(clip, truth, seed) if with_opencv else None,
        all_static=static,
        all_moving=moving,
        apd12_true_start=tracks.kept_truth,
        calibration=sample_pixels(*confidence_and_error(run, truth), np.random.default_rng(seed)),
        frames_without_scene=int((~run.answered).sum()),
        lost_frames=int((~run.located).sum()),
        seconds=seconds,
    )


def score_long_tracks(subject: Subject, clip: Clip, seed: int) -> TrackScores:
    """Tracks over :data:`LONG_TRACK_FRAMES` frames; NaN in a shorter clip."""
    if len(clip) < LONG_TRACK_FRAMES:
        return TrackScores(math.nan, math.nan, math.nan)
    return score_tracks(subject.predictor, subject.prepare, clip, seed, LONG_TRACK_FRAMES)


def trivial_masks(truth: SequenceTruth) -> tuple[RegionSimilarity, RegionSimilarity]:
    """J of masks that say everywhere that nothing moves, and that everything does."""
    if truth.moving is None:
        return RegionSimilarity(math.nan, math.nan), RegionSimilarity(math.nan, math.nan)
    return (
        inner_region_similarity(np.zeros_like(truth.moving), truth.moving),
        inner_region_similarity(np.ones_like(truth.moving), truth.moving),
    )
