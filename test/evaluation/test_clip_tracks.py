"""The truth is followed perfectly through one window and through several; only what is seen is scored."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pomato_ros.evaluation.clip_tracks import (
    LONG_TRACK_FRAMES,
    TRACK_FRAMES,
    follow,
    query_pixels,
    score_tracks,
    track_truth,
)
from pomato_ros.evaluation.oracle import OraclePredictor
from pomato_ros.sources.dust3r.prediction import WindowPrediction
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame, PreparedFrame, Window
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

SEED = 3


class CountingOracle(OraclePredictor):
    """The truth, from a network that sees only so many frames at once."""

    def __init__(self, clip: Clip, temporal_length: int) -> None:
        super().__init__(clip)
        self.temporal_length, self.windows = temporal_length, []

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "temporal_length": self.temporal_length}

    def predict(self, window: Window, *wanted: Sequence[int]) -> WindowPrediction:
        self.windows.append([frame.stamp_ns for frame in window.frames])
        return super().predict(window, *wanted)


@pytest.fixture(scope="module")
def long_clip() -> Clip:
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0)
    return render_clip(5, world, LONG_TRACK_FRAMES, (32, 32))


@pytest.fixture
def prepare() -> Callable[[Frame], PreparedFrame]:
    return lambda frame: prepare_frame(frame, 32, 16)


@pytest.mark.parametrize("temporal_length", [0, 12, 6])
def test_the_truth_is_followed_through_all_windows(long_clip: Clip, prepare: Callable, temporal_length: int) -> None:
    oracle = CountingOracle(long_clip, temporal_length)
    scores = score_tracks(oracle, prepare, long_clip, SEED, LONG_TRACK_FRAMES)
    assert scores.followed == pytest.approx(100.0)
    assert scores.kept < 100.0
    assert max(map(len, oracle.windows)) == (temporal_length or TRACK_FRAMES)
    assert all(window[0] == long_clip.stamps_ns[0] for window in oracle.windows)
    assert {stamp for window in oracle.windows for stamp in window} == set(long_clip.stamps_ns)
    assert all(len(set(window)) == len(window) for window in oracle.windows)


def test_twelve_frames_are_one_window(long_clip: Clip, prepare: Callable) -> None:
    oracle = CountingOracle(long_clip, 12)
    followed = follow(oracle, prepare, long_clip, query_pixels(long_clip, SEED), TRACK_FRAMES)
    assert [len(window) for window in oracle.windows] == [12]
    assert followed.shape == (12, 200, 3)


def test_windows_are_stitched_where_the_truth_is(long_clip: Clip, prepare: Callable) -> None:
    pixels = query_pixels(long_clip, SEED)
    followed = follow(CountingOracle(long_clip, 12), prepare, long_clip, pixels, LONG_TRACK_FRAMES)
    truth = track_truth(long_clip, pixels, LONG_TRACK_FRAMES)
    np.testing.assert_allclose(followed[0], 0.7 * truth.start, rtol=1e-5)  # the oracle's own unit
    np.testing.assert_allclose(followed[1:], 0.7 * truth.points, rtol=1e-4, atol=1e-4)


def test_points_that_are_never_seen_again_have_no_score(long_clip: Clip) -> None:
    truth = track_truth(long_clip, query_pixels(long_clip, SEED), TRACK_FRAMES)
    hidden = dataclasses.replace(truth, visible=np.zeros_like(truth.visible))
    assert math.isnan(hidden.apd(truth.points))
    assert truth.apd(truth.points) == pytest.approx(100.0)


def test_query_pixels_are_distinct_and_come_from_the_seed(clip: Clip) -> None:
    rows, columns = query_pixels(clip, 1)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 200
    assert rows.max() < clip.intrinsics.height_px
    assert columns.max() < clip.intrinsics.width_px
    np.testing.assert_array_equal(rows, query_pixels(clip, 1)[0])
    assert not np.array_equal(rows, query_pixels(clip, 2)[0])


def test_a_sequence_too_short_for_tracks_is_refused(clip: Clip, prepare: Callable) -> None:
    short = dataclasses.replace(clip, stamps_ns=clip.stamps_ns[:6], depth_m=clip.depth_m[:6])
    with pytest.raises(ValueError, match="at least 12 frames"):
        score_tracks(OraclePredictor(clip), prepare, short, SEED, TRACK_FRAMES)
