"""What a recorded run of the node was worth: rates, latencies and, where there is truth, errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.metrics.depth import evaluate_depth, irls_scale
from pomato_ros.evaluation.metrics.masks import intersection_over_union
from pomato_ros.evaluation.metrics.trajectory import absolute_errors, align_trajectory, path_length, root_mean_square
from pomato_ros.geometry.alignment import DegenerateAlignmentError

TRUTH_FILE = "truth.npz"
MAX_DEPTH_M = 80.0
LATENCY_IS = "from publishing an image to publishing the last output of its step, by DDS source time stamps"
SHORTEST_TRAJECTORY = 4  # poses; fewer can be aligned to anything


@dataclass(frozen=True, slots=True)
class RecordedTracks:
    """3-D tracks of one step, positions (n, 3) in odom."""

    ids: NDArray[np.int64]
    positions_odom: NDArray[np.float64]
    dynamic: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step as it was heard on the graph."""

    stamp_ns: int
    image_published_ns: int
    outputs_published_ns: int  # the last output of the step
    depth: NDArray[np.float32]  # (h, w), NaN where invalid
    camera_matrix: NDArray[np.float64]  # (3, 3), of the depth image
    mask: NDArray[np.bool_]  # (H, W), source image
    odom_from_camera: NDArray[np.float64] | None  # (4, 4), optical; None while lost
    tracks: RecordedTracks
    has_points: bool  # whether the organised cloud was recorded too


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A whole recording; steps in the order of their stamps."""

    topic_counts: Mapping[str, int]
    steps: tuple[RecordedStep, ...]
    image_stamps_ns: tuple[int, ...]  # of every image that was sent
    frames_in: int
    frames_passed_over: int


@dataclass(frozen=True, slots=True)
class Showcase:
    """Picture material of one step."""

    step: RecordedStep
    image_rgb: NDArray[np.uint8]  # (H, W, 3), source image
    points: NDArray[np.float32]  # (h, w, 3), camera's optical frame, NaN where invalid
    colours: NDArray[np.uint8]  # (h, w, 3)
    dynamic: NDArray[np.bool_]  # (h, w)


@dataclass(frozen=True, slots=True)
class Truth:
    """What a rendered clip knows about itself, frame by frame."""

    depth_m: NDArray[np.float32]  # (t, h, w)
    moving: NDArray[np.bool_]  # (t, h, w)
    world_from_camera: NDArray[np.float64]  # (t, 4, 4)
    camera_matrix: NDArray[np.float64]  # (3, 3), of the (h, w) above
    offsets_ns: NDArray[np.int64]  # (t,), from the first frame


def showcase_worth(step: RecordedStep) -> tuple[bool, bool, float, int]:
    """How much a step shows, larger is more: tracked, with something moving but not everything, many tracks."""
    share = float(step.mask.mean())
    return (
        step.has_points,
        step.odom_from_camera is not None,
        min(share, 0.15) - max(0.0, share - 0.3),
        len(step.tracks.ids),
    )


def load_truth(folder: Path) -> Truth | None:
    """The truth beside a clip's frames, or None where there is none."""
    path = next((place / TRUTH_FILE for place in (folder, folder.parent) if (place / TRUTH_FILE).is_file()), None)
    if path is None:
        return None
    with np.load(path) as arrays:
        depth_m = arrays["depth_m"].astype(np.float32)
        moving = np.unpackbits(arrays["moving_bits"], axis=-1, count=depth_m.shape[-1]).astype(bool)
        stamps_ns = arrays["stamps_ns"]
        return Truth(depth_m, moving, arrays["world_from_camera"], arrays["camera_matrix"], stamps_ns - stamps_ns[0])


def match_truth(run: RecordedRun, truth: Truth) -> list[tuple[RecordedStep, int]]:
    """Each step with the number of its frame in the truth; stamps are copied exactly, so they match exactly."""
    if not run.image_stamps_ns:
        return []
    frame_of_offset = {int(offset): index for index, offset in enumerate(truth.offsets_ns)}
    first_ns = min(run.image_stamps_ns)
    matched = ((step, frame_of_offset.get(step.stamp_ns - first_ns)) for step in run.steps)
    return [(step, index) for step, index in matched if index is not None]


def summarise(run: RecordedRun, truth: Truth | None) -> dict[str, Any]:
    """The summary of a run; figures that need truth are None without it."""
    latencies_ms = [(step.outputs_published_ns - step.image_published_ns) * 1e-6 for step in run.steps]
    matched = [] if truth is None else match_truth(run, truth)
    return {
        "topics": dict(run.topic_counts),
        "steps": len(run.steps),
        "frames_in": run.frames_in,
        "frames_passed_over": run.frames_passed_over,
        "lost_share": lost_share(run),
        "path_length": travelled(run),
        "rate_hz": rate_hz(run),
        "latency_ms_p50": percentile(latencies_ms, 50),
        "latency_ms_p95": percentile(latencies_ms, 95),
        "latency_is": LATENCY_IS,
        "depth_absrel": None if truth is None else depth_absrel(matched, truth),
        "ate_over_path": None if truth is None else ate_over_path(matched, truth),
        "mask_iou": None if truth is None else mask_iou(matched, truth),
    }


def lost_share(run: RecordedRun) -> float | None:
    """The share of steps without a pose, 0 to 1."""
    if not run.steps:
        return None
    return round(sum(step.odom_from_camera is None for step in run.steps) / len(run.steps), 3)


def travelled(run: RecordedRun) -> float | None:
    """The length of the camera's path in the unit of odom, over the steps that have a pose."""
    poses = [step.odom_from_camera for step in run.steps if step.odom_from_camera is not None]
    return round(path_length(np.stack(poses)), 3) if len(poses) > 1 else None


def rate_hz(run: RecordedRun) -> float | None:
    """Steps a second between the first and the last."""
    if len(run.steps) < 2:
        return None
    seconds = (run.steps[-1].outputs_published_ns - run.steps[0].outputs_published_ns) * 1e-9
    return round((len(run.steps) - 1) / seconds, 3) if seconds > 0.0 else None


def percentile(values: list[float], percent: float) -> float | None:
    """A percentile, or None of nothing."""
    return round(float(np.percentile(values, percent)), 2) if values else None


def depth_absrel(matched: list[tuple[RecordedStep, int]], truth: Truth) -> float | None:
    """Mean relative depth error after one scale for the whole run."""
    predicted, true = [], []
    for step, index in matched:
        true_depth = truth_on_image(truth.depth_m[index], truth.camera_matrix, step.camera_matrix, step.depth.shape)
        valid = np.isfinite(step.depth) & (true_depth > 0)
        predicted.append(step.depth[valid])
        true.append(true_depth[valid])
    if not predicted or not sum(map(len, predicted)):
        return None
    return evaluate_depth(np.concatenate(predicted), np.concatenate(true), MAX_DEPTH_M, irls_scale).abs_rel


def truth_on_image(
    depth_m: NDArray[np.float32],
    truth_matrix: NDArray[np.float64],
    image_matrix: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """True depth (h, w) seen through another pinhole camera at the same place; 0 outside the truth's view."""
    truth_from_image = truth_matrix @ np.linalg.inv(image_matrix)
    warped = cv2.warpPerspective(
        depth_m, truth_from_image, (shape[1], shape[0]), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    return np.asarray(warped, np.float32)


def ate_over_path(matched: list[tuple[RecordedStep, int]], truth: Truth) -> float | None:
    """RMS position error after one similarity, over the length of the true way."""
    aligned = aligned_trajectory(matched, truth)
    if aligned is None:
        return None
    predicted, true = aligned
    return root_mean_square(absolute_errors(predicted, true)) / path_length(true)


def aligned_trajectory(
    matched: list[tuple[RecordedStep, int]], truth: Truth
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Recorded and true poses (n, 4, 4), the former moved onto the latter; None if there is too little to align."""
    pairs = [(step.odom_from_camera, index) for step, index in matched if step.odom_from_camera is not None]
    if len(pairs) < SHORTEST_TRAJECTORY:
        return None
    true = truth.world_from_camera[[index for _, index in pairs]]
    try:
        return align_trajectory(np.stack([pose for pose, _ in pairs]), true), true
    except DegenerateAlignmentError:
        return None


def mask_iou(matched: list[tuple[RecordedStep, int]], truth: Truth) -> float | None:
    """Intersection over union of what moves, over all pixels of the run."""
    if not matched:
        return None
    predicted = [step.mask for step, _ in matched]
    true = [resized_mask(truth.moving[index], step.mask.shape) for step, index in matched]
    return intersection_over_union(np.stack(predicted), np.stack(true))


def resized_mask(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask at another size, nearest pixel."""
    size_wh = (shape[1], shape[0])
    return np.asarray(cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST_EXACT), bool)
