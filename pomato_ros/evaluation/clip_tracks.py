"""Points of a rendered clip's first frame, followed over 12 and 24 frames: APD of a network, and of other answers."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.evaluation import baselines
from pomato_ros.evaluation.metrics.tracks import evaluate_tracks, scoring_focal
from pomato_ros.evaluation.oracle import frame_of
from pomato_ros.sources.dust3r.pomato_source import WindowPredictor
from pomato_ros.sources.dust3r.stitching import stitch_windows, window_schedule
from pomato_ros.structures import Frame, PreparedFrame, Window
from pomato_ros.synthetic.clip import Clip

TRACK_FRAMES = 12
LONG_TRACK_FRAMES = 24
TRACK_QUERIES = 200
WINDOW_FRAMES = 12
WINDOW_OVERLAP = 4  # the paper's; frames that two windows share beside the key


@dataclass(frozen=True, slots=True)
class TrackScores:
    """APD in percent of the same points; NaN where none is ever seen again."""

    followed: float  # by the network
    kept: float  # where the network saw them in the key frame, so that what differs from ``followed`` is motion alone
    kept_truth: float  # where they truly were in the key frame: a baseline that is given the geometry


@dataclass(frozen=True, slots=True, eq=False)
class TrackTruth:
    """Where the points of the first frame are later, and whether they are seen there. The first frame is left out."""

    points: NDArray[np.float64]  # (frames - 1, n, 3), in the camera of each frame
    visible: NDArray[np.bool_]  # (frames - 1, n)
    start: NDArray[np.float64]  # (n, 3), in the first camera
    focal_px: tuple[float, float]  # for a short side of 256 px

    def apd(self, points: NDArray[np.float64]) -> float:
        """Percent of (frames - 1, n, 3), rescaled by the median distance; NaN where no point is ever seen."""
        if not self.visible.any():
            return math.nan
        metrics = evaluate_tracks(points, self.points, self.focal_px, self.visible, self.visible)
        return 100.0 * metrics.average_pts_within_thresh


def track_truth(clip: Clip, pixels: tuple[NDArray[np.int64], NDArray[np.int64]], frames: int) -> TrackTruth:
    """The truth of some pixels (rows, columns) of the first frame through the first ``frames`` frames.

    Raises:
        ValueError: the clip is shorter.
    """
    if len(clip) < frames:
        raise ValueError(f"expected sequences of at least {frames} frames, got {len(clip)}; ask for longer ones")
    rows, columns = pixels
    times = range(1, frames)
    camera = clip.intrinsics
    return TrackTruth(
        points=np.stack([_numbers(clip.points_matched(0, t)[rows, columns]) for t in times]),
        visible=np.stack([clip.visible(0, t)[rows, columns].numpy() for t in times]),
        start=_numbers(clip.points_camera(0)[rows, columns]),
        focal_px=scoring_focal((camera.fx_px, camera.fy_px), (camera.width_px, camera.height_px)),
    )


def query_pixels(clip: Clip, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns (n,) of random pixels, the same for the same seed."""
    height, width = clip.depth_m.shape[1:]
    chosen = np.random.default_rng(seed).choice(height * width, min(TRACK_QUERIES, height * width), replace=False)
    rows, columns = np.divmod(chosen, width)
    return rows, columns


def follow(
    predictor: WindowPredictor,
    prepare: Callable[[Frame], PreparedFrame],
    clip: Clip,
    pixels: tuple[NDArray[np.int64], NDArray[np.int64]],
    frames: int,
) -> NDArray[np.float64]:
    """Pixels of the first frame by the paper's tracking -> (frames, n, 3), in the camera of each frame.

    View 1 = frame t, view 2 = key, so that the matching pointmap follows the key's pixels. More frames than a window
    holds are seen in windows that all have the key first and share :data:`WINDOW_OVERLAP` frames, stitched as
    published; where the last one is short it is not filled up, since any length is seen in training.
    """
    prepared = [prepare(frame_of(clip, t)) for t in range(frames)]

    def window(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        seen = Window(tuple(prepared[t] for t in numbers), key=0)
        return _numbers(predictor.predict(seen).from_key.points_match[:, pixels[0], pixels[1]])

    size = min(WINDOW_FRAMES, int(predictor.describe().get("temporal_length", 0)) or WINDOW_FRAMES)
    if frames <= size:
        return window(np.arange(frames))
    schedule = window_schedule(frames, size, min(WINDOW_OVERLAP, size - 2))
    parts = []
    for numbers in schedule:
        distinct = np.unique(numbers)
        parts.append(window(distinct)[np.searchsorted(distinct, numbers)])
    return stitch_windows(schedule, np.stack(parts), min(WINDOW_OVERLAP, size - 2))


def score_tracks(
    predictor: WindowPredictor, prepare: Callable[[Frame], PreparedFrame], clip: Clip, seed: int, frames: int
) -> TrackScores:
    """The network's tracks through the first ``frames`` frames, and points that never move.

    Neither positions that are hidden in truth nor the key frame are scored. All are rescaled by their median.

    Raises:
        ValueError: the clip is shorter.
    """
    pixels = query_pixels(clip, seed)
    truth = track_truth(clip, pixels, frames)
    followed = follow(predictor, prepare, clip, pixels, frames)
    return TrackScores(
        followed=truth.apd(followed[1:]),
        kept=truth.apd(baselines.points_that_never_move(followed[0], frames - 1)),
        kept_truth=truth.apd(baselines.points_that_never_move(truth.start, frames - 1)),
    )


def _numbers(values: Tensor) -> NDArray[np.float64]:
    """A tensor of any device and precision."""
    return values.detach().float().cpu().numpy().astype(np.float64)
