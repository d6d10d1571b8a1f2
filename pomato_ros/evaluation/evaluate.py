"""The running system against the truth of rendered sequences, with the baselines that it has to beat."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.engine import WindowPredictor
from pomato_ros.evaluation import baselines
from pomato_ros.evaluation.depth import evaluate_depth, irls_scale
from pomato_ros.evaluation.oracle import frame_of
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.tracks import evaluate_tracks, scoring_focal
from pomato_ros.evaluation.trajectory import (
    absolute_errors,
    align_trajectory,
    path_length,
    relative_errors,
    root_mean_square,
)
from pomato_ros.geometry.alignment import DegenerateAlignmentError
from pomato_ros.inference.preprocess import prepare_frame
from pomato_ros.structures import Frame, ModelFrame, Window
from pomato_ros.synthetic.clip import Clip

MAX_DEPTH_M = 80.0
TRACK_FRAMES = 12
TRACK_QUERIES = 200


@dataclass(frozen=True, slots=True)
class SequenceRun:
    """What the system said about each frame of a sequence.

    A frame without a scene has no depth (NaN) and nothing that moves; a frame without a pose holds the last one.
    """

    depth: NDArray[np.float32]  # (t, h, w)
    moving: NDArray[np.bool_]  # (t, h, w)
    world_from_camera: NDArray[np.float64]  # (t, 4, 4)
    answered: NDArray[np.bool_]  # (t,), there was a scene
    located: NDArray[np.bool_]  # (t,), and it had a pose


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one sequence; NaN where there is nothing to score."""

    depth_absrel: float
    depth_delta1: float
    ate_over_path: float
    rpe_rot_deg: float  # RMS rotation error from frame to frame
    apd12: float  # percent


@dataclass(frozen=True, slots=True)
class MaskCounts:
    """Pixels of all frames of a sequence."""

    both: int  # called moving, and moving
    either: int  # called moving, or moving
    moving: int
    total: int


@dataclass(frozen=True, slots=True)
class TrackScores:
    """APD in percent of the same points."""

    followed: float  # by the network
    kept: float  # where the network saw them in the key frame, so that what differs from ``followed`` is motion alone
    kept_truth: float  # where they truly were in the key frame: a baseline that is given the geometry


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """One sequence: the system, the baselines, and what else one should know."""

    seed: int
    frames: int
    scores: Scores
    baseline: Scores
    mask: MaskCounts
    apd12_true_start: float  # percent, :attr:`TrackScores.kept_truth`
    depth_coverage: float  # share of pixels with truth that have a depth
    frames_without_scene: int
    lost_frames: int
    seconds: float  # that the system took for its frames


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated: the engine for depth, poses and masks; its network for the paper's tracking."""

    engine: Perceiver
    predictor: WindowPredictor
    prepare: Callable[[Frame], ModelFrame]


def subject_of(engine: Perceiver, predictor: WindowPredictor, long_side_px: int, patch_px: int) -> Subject:
    """A subject whose windows are prepared as the engine prepares its frames."""
    return Subject(engine, predictor, lambda frame: prepare_frame(frame, long_side_px, patch_px))


def evaluate_sequences(
    subject_for: Callable[[Clip], Subject],
    sequences: Iterable[tuple[int, Clip]],
    watch: Callable[[SequenceResult, Clip, SequenceRun], None] = lambda result, clip, run: None,
) -> list[SequenceResult]:
    """Run and score each (seed, clip).

    Args:
        subject_for: what is evaluated on a clip; the same subject for all, unless it knows the clip's truth.
        sequences: seeds and clips.
        watch: sees every sequence as it is done.

    Raises:
        ValueError: a sequence is shorter than :data:`TRACK_FRAMES`, or the system answers at another image size.
    """
    results = []
    for seed, clip in sequences:
        subject = subject_for(clip)
        started_s = time.perf_counter()
        run = run_sequence(subject.engine, clip)
        seconds = time.perf_counter() - started_s
        results.append(score_sequence(seed, subject, clip, run, seconds))
        watch(results[-1], clip, run)
    return results


def run_sequence(engine: Perceiver, clip: Clip) -> SequenceRun:
    """Every frame of a clip through the engine, from a reset on."""
    frames, height, width = clip.depth_m.shape
    run = SequenceRun(
        depth=np.full((frames, height, width), np.nan, np.float32),
        moving=np.zeros((frames, height, width), bool),
        world_from_camera=np.tile(np.eye(4), (frames, 1, 1)),
        answered=np.zeros(frames, bool),
        located=np.zeros(frames, bool),
    )
    engine.reset()
    for t in range(frames):
        scene = engine.step(frame_of(clip, t))
        run.world_from_camera[t] = run.world_from_camera[max(t - 1, 0)]
        if scene is None:
            continue
        if scene.depth.shape != (height, width):
            raise ValueError(
                f"expected answers of {width}x{height} px, the size of the sequence, got shape {scene.depth.shape}; "
                "render sequences at the network's own size"
            )
        run.answered[t], run.located[t] = True, scene.world_from_camera is not None
        run.depth[t], run.moving[t] = scene.depth, scene.dynamic_mask
        if scene.world_from_camera is not None:
            run.world_from_camera[t] = scene.world_from_camera
    return run


def score_sequence(seed: int, subject: Subject, clip: Clip, run: SequenceRun, seconds: float) -> SequenceResult:
    """All scores of one run, and of the baselines on the same pixels, frames and points."""
    true_depth = clip.depth_m.numpy().astype(np.float64)
    true_poses = clip.world_from_camera.numpy()
    true_moving = np.stack([clip.moving(t).numpy() for t in range(len(clip))])
    scorable = true_depth < MAX_DEPTH_M
    scored = scorable & np.isfinite(run.depth) & (run.depth > 0)
    absrel, delta1 = depth_scores(run.depth[scored], true_depth[scored])
    constant = true_depth[scored]
    tracks = score_tracks(subject, clip, seed)
    return SequenceResult(
        seed=seed,
        frames=len(clip),
        scores=Scores(
            depth_absrel=absrel,
            depth_delta1=delta1,
            ate_over_path=ate_over_path(run.world_from_camera, true_poses),
            rpe_rot_deg=root_mean_square(relative_errors(run.world_from_camera, true_poses).rotation_deg),
            apd12=tracks.followed,
        ),
        baseline=Scores(
            depth_absrel=baselines.constant_depth_absrel(constant) if constant.size else math.nan,
            depth_delta1=baselines.constant_depth_delta1(constant) if constant.size else math.nan,
            ate_over_path=baselines.standing_still_over_path(true_poses),
            rpe_rot_deg=baselines.standing_still_rotation_deg(true_poses),
            apd12=tracks.kept,
        ),
        mask=count_mask(run.moving, true_moving),
        apd12_true_start=tracks.kept_truth,
        depth_coverage=float(scored.sum() / max(scorable.sum(), 1)),
        frames_without_scene=int((~run.answered).sum()),
        lost_frames=int((~run.located).sum()),
        seconds=seconds,
    )


def depth_scores(predicted: NDArray[np.float32], truth: NDArray[np.float64]) -> tuple[float, float]:
    """AbsRel and the share within a factor of 1.25, of valid depths (n,), after one scale for the sequence."""
    if not predicted.size:
        return math.nan, math.nan
    metrics = evaluate_depth(predicted, truth, MAX_DEPTH_M, irls_scale)
    return metrics.abs_rel, metrics.delta_1


def ate_over_path(world_from_camera: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """RMS position error after one similarity, over the length of the true way; NaN where that is nothing.

    Positions that determine no similarity (all in one place or on one line) count as standing still.
    """
    length = path_length(truth)
    if length == 0.0:
        return math.nan
    try:
        aligned = align_trajectory(world_from_camera, truth)
    except DegenerateAlignmentError:
        return baselines.standing_still_over_path(truth)
    return root_mean_square(absolute_errors(aligned, truth)) / length


def count_mask(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> MaskCounts:
    """Counts over masks (t, h, w)."""
    return MaskCounts(
        both=int((predicted & truth).sum()),
        either=int((predicted | truth).sum()),
        moving=int(truth.sum()),
        total=truth.size,
    )


def score_tracks(subject: Subject, clip: Clip, seed: int) -> TrackScores:
    """Points of the key frame through the first 12 frames, followed by the network and kept in place.

    The paper's tracking: view 1 = frame t, view 2 = key, so that the matching pointmap follows the key's pixels, in
    camera t. Neither positions that are hidden in truth nor the key frame are scored. All are rescaled by their median.
    """
    if len(clip) < TRACK_FRAMES:
        raise ValueError(f"expected sequences of at least {TRACK_FRAMES} frames, got {len(clip)}; ask for longer ones")
    window = Window(tuple(subject.prepare(frame_of(clip, t)) for t in range(TRACK_FRAMES)), key=0)
    rows, columns = query_pixels(clip, seed)
    followed = _numbers(subject.predictor.predict(window).from_key.points_match[:, rows, columns])
    times = range(1, TRACK_FRAMES)
    truth = np.stack([_numbers(clip.points_matched(0, t)[rows, columns]) for t in times])
    visible = np.stack([clip.visible(0, t)[rows, columns].numpy() for t in times])
    if not visible.any():
        return TrackScores(math.nan, math.nan, math.nan)
    camera = clip.intrinsics
    focal_px = scoring_focal((camera.fx_px, camera.fy_px), (camera.width_px, camera.height_px))

    def apd(points: NDArray[np.float64]) -> float:
        return 100.0 * evaluate_tracks(points, truth, focal_px, visible, visible).average_pts_within_thresh

    true_start = _numbers(clip.points_camera(0)[rows, columns])
    return TrackScores(
        followed=apd(followed[1:]),
        kept=apd(baselines.points_that_never_move(followed[0], len(times))),
        kept_truth=apd(baselines.points_that_never_move(true_start, len(times))),
    )


def query_pixels(clip: Clip, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns (n,) of random pixels, the same for the same seed."""
    height, width = clip.depth_m.shape[1:]
    chosen = np.random.default_rng(seed).choice(height * width, min(TRACK_QUERIES, height * width), replace=False)
    rows, columns = np.divmod(chosen, width)
    return rows, columns


def _numbers(values: Tensor) -> NDArray[np.float64]:
    """A tensor of any device and precision."""
    return values.detach().float().cpu().numpy().astype(np.float64)
