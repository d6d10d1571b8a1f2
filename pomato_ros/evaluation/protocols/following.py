"""Points of the first frame followed by a network through short clips, as the paper's tracking does."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.evaluation.protocols.runner import FollowPoints
from pomato_ros.geometry.camera import transform_pixels
from pomato_ros.geometry.grid import sample_bilinear
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.sources.dust3r.stitching import stitch_windows, window_schedule
from pomato_ros.structures import Frame, PreparedFrame, Window

WINDOW_FRAMES = 12
WINDOW_OVERLAP = 4  # frames that two windows share beside the key
Predict = Callable[[Window, Wanted | None], WindowPrediction]


def follower(predict: Predict, prepare: Callable[[Frame], PreparedFrame], temporal_length: int) -> FollowPoints:
    """A function that follows points with a network whose windows hold ``temporal_length`` frames; 0: any number."""
    size = min(WINDOW_FRAMES, temporal_length or WINDOW_FRAMES)

    def follow(frames: Sequence[Frame], queries_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        prepared = [prepare(frame) for frame in frames]
        pixels = torch.from_numpy(transform_pixels(prepared[0].model_from_source, queries_xy))

        def window(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
            seen = Window(tuple(prepared[number] for number in numbers), key=0)
            maps = predict(seen, None).from_key.points_match.detach().float().cpu()
            return np.asarray(sample_bilinear(maps, pixels), np.float64)

        if len(frames) <= size:
            return window(np.arange(len(frames)))
        overlap = min(WINDOW_OVERLAP, size - 2)
        schedule = window_schedule(len(frames), size, overlap)
        parts = []
        for numbers in schedule:
            distinct = np.unique(numbers)
            parts.append(window(distinct)[np.searchsorted(distinct, numbers)])
        return stitch_windows(schedule, np.stack(parts), overlap)

    return follow
