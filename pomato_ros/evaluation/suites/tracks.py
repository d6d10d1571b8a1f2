"""The tracker by itself: a simulated depth camera, true poses and true masks, so that what errs is tracking alone."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.oracle_report import Demand, finite, mean, pooled
from pomato_ros.evaluation.oracle_tracks import TrackCounts, TrackRecord, follow_points, score_recorded_tracks
from pomato_ros.evaluation.report import FlatValue, plain
from pomato_ros.evaluation.suites.rendered import RenderedSequence
from pomato_ros.geometry.rigid import invert, transform
from pomato_ros.scene.tracks import Tracker
from pomato_ros.sources.rgbd import RgbdSource
from pomato_ros.structures import MaskArray, PoseArray, TrackSet

APD_FRAMES = 12  # after which positions are scored: a window
WARMUP_FRAMES = 5  # left out of timing
DEMANDS = (
    Demand("apd_m", "APD in metres over 12 frames, %", (80.0, 100.0), (90.0, 100.0)),
    Demand("track_id", "right id after 5 windows", (0.92, 1.0), (0.97, 1.0)),
    Demand("track_occlusion", "occlusion accuracy over 12 frames", (0.95, 1.0), (0.98, 1.0)),
    Demand("nees_median", "NEES of visible points at rest, median; 2.4 is honest", (1.2, 4.7), (1.8, 3.2)),
    Demand("ms_median", "time a frame, ms", (0.0, 8.0), (0.0, 8.0)),
)


@dataclass(frozen=True, slots=True)
class TrackResult:
    """What the tracker scored on one sequence."""

    seed: int
    window: TrackCounts  # over APD_FRAMES
    later: TrackCounts  # over the frames after which ids are asked for
    nees: PoseArray  # (m,) of visible points at rest, 3 degrees of freedom
    seconds: PoseArray  # (t,) of processor time a frame


def run_tracks(
    sequences: Iterable[RenderedSequence],
    frames_later: int,
    watch: Callable[[TrackResult], None] = lambda result: None,
) -> list[TrackResult]:
    """Track each sequence from a reset on.

    Args:
        sequences: rendered.
        frames_later: when tracks must still have their ids.
        watch: called with each result.
    """
    results = []
    for sequence in sequences:
        results.append(run_sequence(sequence, frames_later))
        watch(results[-1])
    return results


def run_sequence(sequence: RenderedSequence, frames_later: int) -> TrackResult:
    """Track one sequence with its true poses and masks, and score its tracks."""
    config, clip = PomatoConfig(), sequence.clip
    source = RgbdSource(config)
    tracker = Tracker(config.scene.max_tracks, config.scene.track_grid_px)
    poses, moving = sequence.first_from_camera(), sequence.moving()
    record, seconds, nees = TrackRecord(), np.zeros(len(sequence)), []
    births: dict[int, tuple[int, PoseArray]] = {}
    for t in range(len(sequence)):
        prepared = source.prepare(sequence.rgbd_frame(t))
        gray = np.asarray(cv2.cvtColor(prepared.image_rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        started = time.process_time()
        tracks = tracker.update(prepared.stamp_ns, gray, prepared.depth, poses[t], clip.intrinsics, None, moving[t])
        seconds[t] = time.process_time() - started
        record_tracks(record, t, tracks, poses[t])
        nees.append(_nees(sequence, t, tracks, tracker.covariances_world(), births))
    return TrackResult(
        sequence.seed,
        score_recorded_tracks(record, clip, APD_FRAMES),
        score_recorded_tracks(record, clip, frames_later),
        np.concatenate(nees),
        seconds[WARMUP_FRAMES:],
    )


def record_tracks(record: TrackRecord, frame: int, tracks: TrackSet, world_from_camera: PoseArray) -> None:
    """Note the tracks of one frame, in its camera."""
    if not len(tracks.ids):
        return
    record.ids.append(tracks.ids)
    record.frames.append(np.full(len(tracks.ids), frame))
    record.positions_camera.append(transform(invert(world_from_camera), tracks.positions_world))
    record.pixels.append(tracks.pixels.astype(np.float64))
    record.visible.append(tracks.visible)


def summarise_tracks(results: Sequence[TrackResult]) -> dict[str, FlatValue]:
    """The flat figures of all sequences; None where no sequence could give one."""
    window, later = [item.window for item in results], [item.later for item in results]
    return {
        "sequences": len(results),
        "apd_m": plain(mean(finite([item.apd_metric for item in window]))),
        "apd_m_later": plain(mean(finite([item.apd_metric for item in later]))),
        "track_id": plain(pooled(later, "right_id", "asked_id")),
        "track_occlusion": plain(pooled(window, "right_occlusion", "asked_occlusion")),
        "track_occlusion_later": plain(pooled(later, "right_occlusion", "asked_occlusion")),
        "nees_median": plain(float(np.median(np.concatenate([item.nees for item in results])))),
        "ms_median": plain(1e3 * float(np.median(np.concatenate([item.seconds for item in results])))),
        "ms_p95": plain(1e3 * float(np.quantile(np.concatenate([item.seconds for item in results]), 0.95))),
    }


def _nees(
    sequence: RenderedSequence,
    t: int,
    tracks: TrackSet,
    covariances: PoseArray,
    births: dict[int, tuple[int, PoseArray]],
) -> PoseArray:
    """(m,) normalised errors of visible tracks at rest against what their first pixels saw.

    ``births``: frame and pixel of each track's first sight; new ones are added.
    """
    for row in np.flatnonzero(tracks.visible).tolist():
        births.setdefault(int(tracks.ids[row]), (t, tracks.pixels[row].astype(np.float64)))
    rows = np.flatnonzero(tracks.visible & ~tracks.dynamic)
    rows = rows[[births[int(id_)][0] < t for id_ in tracks.ids[rows]]] if len(rows) else rows
    if not len(rows):
        return np.zeros(0)
    first = np.array([births[int(id_)][0] for id_ in tracks.ids[rows]])
    pixels = np.array([births[int(id_)][1] for id_ in tracks.ids[rows]])
    truth = follow_points(sequence.clip, first, pixels).positions_camera[t]
    error = (tracks.positions_world[rows] - transform(sequence.first_from_camera()[t], truth))[..., None]
    solved = np.linalg.solve(covariances[rows], error)
    distance: PoseArray = (error * solved).sum(axis=(1, 2))
    return distance[_at_rest(sequence, first, pixels)]


def _at_rest(sequence: RenderedSequence, frames: NDArray[np.int64], pixels: PoseArray) -> MaskArray:
    """(m,) which pixels (m, 2) of frames (m,) see the static background or an object that never moves."""
    clip = sequence.clip
    nearest = np.rint(pixels).astype(np.int64).clip(0, (clip.intrinsics.width_px - 1, clip.intrinsics.height_px - 1))
    owner = clip.instance.numpy()[frames, nearest[:, 1], nearest[:, 0]]
    poses = clip.world_from_object.numpy()
    return np.asarray(np.abs(poses - poses[0]).max(axis=(0, 2, 3)) < 1e-9)[owner]
