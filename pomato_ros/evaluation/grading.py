"""Estimates of a sequence by any system against the truth: one set of scores for all."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation import baselines
from pomato_ros.evaluation.metrics.depth import Alignment, evaluate_depth, irls_scale, least_squares
from pomato_ros.evaluation.metrics.masks import MaskCounts, RegionSimilarity, count_mask, region_similarity
from pomato_ros.evaluation.metrics.trajectory import (
    absolute_errors,
    align_trajectory,
    path_length,
    relative_errors,
    root_mean_square,
)
from pomato_ros.geometry.alignment import DegenerateAlignmentError
from pomato_ros.synthetic.clip import Clip

MAX_DEPTH_M = 80.0


@dataclass(frozen=True, slots=True)
class SequenceRun:
    """A system's estimates for each frame of a sequence.

    A frame without a scene has no depth (NaN) and nothing that moves; a frame without a pose holds the last one.
    """

    depth: NDArray[np.float32]  # (t, h, w)
    confidence: NDArray[np.float32]  # (t, h, w), NaN of a system that has none
    moving: NDArray[np.bool_]  # (t, h, w)
    world_from_camera: NDArray[np.float64]  # (t, 4, 4)
    answered: NDArray[np.bool_]  # (t,), there was a scene
    located: NDArray[np.bool_]  # (t,), and it had a pose


@dataclass(frozen=True, slots=True)
class SequenceTruth:
    """What is known of a sequence; None: nothing."""

    depth_m: NDArray[np.float64] | None  # (t, h, w), 0 where unknown
    world_from_camera: NDArray[np.float64] | None  # (t, 4, 4), metres
    moving: NDArray[np.bool_] | None  # (t, h, w)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one sequence; NaN where there is nothing to score."""

    depth_absrel: float  # after one scale for the sequence
    depth_delta1: float
    depth_absrel_shift: float  # after one scale and one shift
    depth_delta1_shift: float
    ate_over_path: float  # after Sim(3)
    ate_se3_over_path: float  # after SE(3): metres are taken at their word
    rpe_trans_m: float  # RMS translation error from frame to frame after Sim(3)
    rpe_trans_se3_m: float
    rpe_rot_deg: float  # RMS rotation error from frame to frame, which no alignment changes
    mask_jm: float  # mean of J over frames, the first and the last left out
    mask_jr: float  # share of these frames with J above one half
    apd12: float  # percent
    apd24: float


@dataclass(frozen=True, slots=True)
class Grade:
    """Scores of a system on one sequence, and what pooled scores are made of."""

    scores: Scores
    mask: MaskCounts
    depth_coverage: float  # share of pixels with truth that have a depth


@dataclass(frozen=True, slots=True)
class PoseScores:
    """Odometry of one sequence; NaN where there is nothing to score."""

    ate_over_path: float
    ate_se3_over_path: float
    rpe_trans_m: float
    rpe_trans_se3_m: float
    rpe_rot_deg: float


def truth_of(clip: Clip) -> SequenceTruth:
    """Everything that a rendered clip knows; depth beyond :data:`MAX_DEPTH_M` is left to the scores."""
    return SequenceTruth(
        depth_m=clip.depth_m.numpy().astype(np.float64),
        world_from_camera=clip.world_from_camera.numpy(),
        moving=np.stack([clip.moving(t).numpy() for t in range(len(clip))]),
    )


def grade(run: SequenceRun, truth: SequenceTruth, apd12: float = math.nan, apd24: float = math.nan) -> Grade:
    """Every score that the truth allows; those of tracks are made elsewhere."""
    pixels = scored_pixels(run, truth)
    absrel, delta1 = depth_scores(run, truth, pixels, irls_scale)
    absrel_shift, delta1_shift = depth_scores(run, truth, pixels, least_squares)
    poses = pose_scores(run.world_from_camera, truth.world_from_camera)
    region = inner_region_similarity(run.moving, truth.moving)
    known = 0 if truth.depth_m is None else int(has_truth(truth.depth_m).sum())
    return Grade(
        Scores(
            depth_absrel=absrel,
            depth_delta1=delta1,
            depth_absrel_shift=absrel_shift,
            depth_delta1_shift=delta1_shift,
            ate_over_path=poses.ate_over_path,
            ate_se3_over_path=poses.ate_se3_over_path,
            rpe_trans_m=poses.rpe_trans_m,
            rpe_trans_se3_m=poses.rpe_trans_se3_m,
            rpe_rot_deg=poses.rpe_rot_deg,
            mask_jm=region.mean,
            mask_jr=region.recall,
            apd12=apd12,
            apd24=apd24,
        ),
        mask=MaskCounts(0, 0, 0, 0) if truth.moving is None else count_mask(run.moving, truth.moving),
        depth_coverage=float(pixels.sum() / known) if known else math.nan,
    )


def grade_trivial(run: SequenceRun, truth: SequenceTruth, apd12: float = math.nan, apd24: float = math.nan) -> Scores:
    """Scores of estimates without any image, on the pixels and frames of ``run``; masks are left to the whole split.

    A constant stays a constant through any scale and shift, and standing still is placed best by any alignment.
    """
    depth = np.zeros(0) if truth.depth_m is None else truth.depth_m[scored_pixels(run, truth)]
    absrel = baselines.constant_depth_absrel(depth) if depth.size else math.nan
    delta1 = baselines.constant_depth_delta1(depth) if depth.size else math.nan
    poses = truth.world_from_camera
    still = math.nan if poses is None else baselines.standing_still_over_path(poses)
    step_m = math.nan if poses is None else baselines.standing_still_translation_m(poses)
    return Scores(
        depth_absrel=absrel,
        depth_delta1=delta1,
        depth_absrel_shift=absrel,
        depth_delta1_shift=delta1,
        ate_over_path=still,
        ate_se3_over_path=still,
        rpe_trans_m=step_m,
        rpe_trans_se3_m=step_m,
        rpe_rot_deg=math.nan if poses is None else baselines.standing_still_rotation_deg(poses),
        mask_jm=math.nan,
        mask_jr=math.nan,
        apd12=apd12,
        apd24=apd24,
    )


def has_truth(depth_m: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels (t, h, w) whose true depth is scored."""
    return (depth_m > 0.0) & (depth_m < MAX_DEPTH_M)


def scored_pixels(run: SequenceRun, truth: SequenceTruth) -> NDArray[np.bool_]:
    """Pixels (t, h, w) with a true depth and an answer."""
    if truth.depth_m is None:
        return np.zeros(run.depth.shape, bool)
    return has_truth(truth.depth_m) & np.isfinite(run.depth) & (run.depth > 0.0)


def depth_scores(
    run: SequenceRun, truth: SequenceTruth, pixels: NDArray[np.bool_], align: Alignment
) -> tuple[float, float]:
    """AbsRel and the share within a factor of 1.25 of some pixels (t, h, w), the sequence aligned as one."""
    if truth.depth_m is None or not pixels.any():
        return math.nan, math.nan
    metrics = evaluate_depth(run.depth[pixels], truth.depth_m[pixels], MAX_DEPTH_M, align)
    return metrics.abs_rel, metrics.delta_1


def pose_scores(world_from_camera: NDArray[np.float64], truth: NDArray[np.float64] | None) -> PoseScores:
    """ATE over the length of the true way, and RPE over one frame, after Sim(3) and after SE(3); poses (t, 4, 4).

    Positions that determine no alignment (all in one place or on one line) count as standing still.
    """
    if truth is None:
        return PoseScores(*[math.nan] * 5)
    sim3, step_sim3 = _aligned_scores(world_from_camera, truth, with_scale=True)
    se3, step_se3 = _aligned_scores(world_from_camera, truth, with_scale=False)
    rotation_deg = root_mean_square(relative_errors(world_from_camera, truth).rotation_deg)
    return PoseScores(sim3, se3, step_sim3, step_se3, rotation_deg)


def _aligned_scores(
    world_from_camera: NDArray[np.float64], truth: NDArray[np.float64], *, with_scale: bool
) -> tuple[float, float]:
    """ATE over path (NaN where there is no way) and RPE of translation in metres, after one alignment."""
    length = path_length(truth)
    try:
        aligned = align_trajectory(world_from_camera, truth, with_scale=with_scale)
    except DegenerateAlignmentError:
        return baselines.standing_still_over_path(truth), baselines.standing_still_translation_m(truth)
    step_m = root_mean_square(relative_errors(aligned, truth).translation)
    return root_mean_square(absolute_errors(aligned, truth)) / length if length > 0.0 else math.nan, step_m


def inner_region_similarity(moving: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> RegionSimilarity:
    """DAVIS's J of masks (t, h, w) without the first and last frame; NaN where nothing moves, as in no DAVIS video."""
    if truth is None or len(truth) < 3 or not truth[1:-1].any():
        return RegionSimilarity(math.nan, math.nan)
    return region_similarity(moving[1:-1], truth[1:-1])


def confidence_and_error(run: SequenceRun, truth: SequenceTruth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) confidence and (n,) depth error of the scored pixels that have a confidence.

    As in the confidence loss, errors are in units of the scene: ``|s d - g| / mean(g)`` with one scale s and the mean
    of the sequence's true depths g.
    """
    pixels = scored_pixels(run, truth) & np.isfinite(run.confidence) & (run.confidence > 0.0)
    if truth.depth_m is None or not pixels.any():
        return np.zeros(0), np.zeros(0)
    depth, true_depth = run.depth[pixels].astype(np.float64), truth.depth_m[pixels]
    scale, _ = irls_scale(depth, true_depth)
    return run.confidence[pixels].astype(np.float64), np.abs(scale * depth - true_depth) / true_depth.mean()
