"""Runs the engine over a data set by its protocol, and scores it with the measures that the papers use."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.datasets.papers.sequence import PaperSequence, TrackTruth
from pomato_ros.evaluation.davis import source_mask
from pomato_ros.evaluation.metrics.depth import evaluate_depth
from pomato_ros.evaluation.metrics.masks import region_similarity
from pomato_ros.evaluation.metrics.tracks import evaluate_tracks, scoring_focal
from pomato_ros.evaluation.metrics.trajectory import (
    absolute_errors,
    align_trajectory,
    relative_errors,
    root_mean_square,
)
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.protocols.protocol import Protocol
from pomato_ros.geometry.alignment import DegenerateAlignmentError
from pomato_ros.structures import Frame, SceneEstimate

# frames and the pixels (n, 2) of the first one -> where their points are, (t, n, 3) in the camera of each frame
FollowPoints = Callable[[Sequence[Frame], NDArray[np.float64]], NDArray[np.float64]]
LEAST_POSES = 4


@dataclass(frozen=True, slots=True)
class SequenceScores:
    """One sequence; NaN for what its protocol or its truth leaves out."""

    name: str
    frames: int
    ate_m: float = math.nan
    rpe_translation_m: float = math.nan
    rpe_rotation_deg: float = math.nan
    depth_absrel: float = math.nan
    depth_delta1: float = math.nan
    davis_j: float = math.nan
    apd: float = math.nan
    lost_frames: int = 0


FIGURES = tuple(f.name for f in dataclasses.fields(SequenceScores) if f.name not in ("name", "frames", "lost_frames"))


def score_sequence(
    perceiver: Perceiver, follow: FollowPoints, protocol: Protocol, sequence: PaperSequence
) -> SequenceScores:
    """One sequence, from a reset on; the engine sees images and cameras only, never depth."""
    numbers = protocol.frames_of(sequence)
    frames = [only_image(sequence.read_frame(number)) for number in numbers]
    figures: dict[str, Any] = {}
    if protocol.tracks and sequence.tracks is not None:
        figures["apd"] = score_tracks(follow(frames, sequence.tracks.queries_xy), sequence.tracks, numbers, frames[0])
    if not (protocol.depth or protocol.poses or protocol.masks):
        return dataclasses.replace(SequenceScores(sequence.name, len(frames)), **figures)
    scenes = run(perceiver, frames)
    if protocol.poses and sequence.world_from_camera is not None:
        figures |= score_path(scenes, sequence.world_from_camera[numbers])
    if protocol.depth and sequence.read_depth is not None:
        figures |= score_depth(scenes, [sequence.read_depth(number) for number in numbers], protocol)
    if protocol.masks and sequence.read_mask is not None:
        figures["davis_j"] = score_masks(scenes, [sequence.read_mask(number) for number in numbers])
    lost = sum(scene is None or scene.world_from_camera is None for scene in scenes)
    return dataclasses.replace(SequenceScores(sequence.name, len(frames), lost_frames=lost), **figures)


def only_image(frame: Frame) -> Frame:
    """The image and its camera, without any truth."""
    return Frame(frame.stamp_ns, frame.image_rgb, frame.intrinsics)


def run(perceiver: Perceiver, frames: Sequence[Frame]) -> list[SceneEstimate | None]:
    """The scene of each frame."""
    perceiver.reset()
    return [perceiver.step(frame) for frame in frames]


def score_path(scenes: Sequence[SceneEstimate | None], truth: NDArray[np.float64]) -> dict[str, float]:
    """ATE and RPE over one frame after a Sim(3) alignment; frames without a pose or a true one are left out."""
    known = [
        (scene.world_from_camera, pose)
        for scene, pose in zip(scenes, truth, strict=True)
        if scene is not None and scene.world_from_camera is not None and np.isfinite(pose).all()
    ]
    if len(known) < LEAST_POSES:
        return {}
    predicted, true = (np.stack(poses) for poses in zip(*known, strict=True))
    try:
        aligned = align_trajectory(predicted, true)
    except DegenerateAlignmentError:
        return {}
    relative = relative_errors(aligned, true)
    return {
        "ate_m": root_mean_square(absolute_errors(aligned, true)),
        "rpe_translation_m": root_mean_square(relative.translation),
        "rpe_rotation_deg": root_mean_square(relative.rotation_deg),
    }


def score_depth(
    scenes: Sequence[SceneEstimate | None], truth: Sequence[NDArray[np.float32]], protocol: Protocol
) -> dict[str, float]:
    """AbsRel and delta_1 of all pixels with truth inside the network's crop, one alignment for the sequence."""
    predicted, true = [], []
    for scene, depth_m in zip(scenes, truth, strict=True):
        if scene is None:
            continue
        own = source_depth(scene)
        usable = np.isfinite(own) & (depth_m > 0)
        predicted.append(own[usable])
        true.append(depth_m[usable])
    if not sum(map(len, predicted)):
        return {}
    metrics = evaluate_depth(
        np.concatenate(predicted), np.concatenate(true), protocol.max_depth_m, protocol.align_depth
    )
    return {"depth_absrel": metrics.abs_rel, "depth_delta1": metrics.delta_1}


def source_depth(scene: SceneEstimate) -> NDArray[np.float32]:
    """(H, W) depth on the source image, nearest pixel; NaN outside the network's crop."""
    return np.asarray(
        cv2.warpPerspective(
            scene.depth.astype(np.float32),
            scene.model_from_source,
            scene.source_size_wh,
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=float("nan"),
        ),
        np.float32,
    )


def score_masks(scenes: Sequence[SceneEstimate | None], truth: Sequence[NDArray[np.bool_]]) -> float:
    """Mean region similarity J without the first and the last frame, as DAVIS has it."""
    if len(truth) < 3:
        return math.nan
    predicted = [
        np.zeros(mask.shape, bool)
        if scene is None
        else source_mask(scene.dynamic_mask, scene.model_from_source, scene.source_size_wh)
        for scene, mask in zip(scenes, truth, strict=True)
    ]
    return region_similarity(np.stack(predicted[1:-1]), np.stack(truth[1:-1])).mean


def score_tracks(followed: NDArray[np.float64], truth: TrackTruth, numbers: Sequence[int], first: Frame) -> float:
    """APD, 0 to 1, of points (t, n, 3), the first frame left out; NaN where none is seen again."""
    points, visible = truth.points_camera[numbers][1:], truth.visible[numbers][1:]
    if not visible.any():
        return math.nan
    height, width = first.image_rgb.shape[:2]
    focal_px = scoring_focal(truth.focal_px, (width, height))
    return evaluate_tracks(followed[1:], points, focal_px, visible, visible).average_pts_within_thresh


def mean_scores(scores: Sequence[SequenceScores]) -> dict[str, float]:
    """Mean of every figure over the sequences that have it; figures that none has are left out."""
    means = {}
    for name in FIGURES:
        values = [getattr(each, name) for each in scores if math.isfinite(getattr(each, name))]
        if values:
            means[name] = float(np.mean(values))
    return means
