"""Windows cover a clip, and tracks that agree come out of stitching as they went in."""

import numpy as np
import pytest

from pomato_ros.sources.dust3r.stitching import blend, stitch_windows, window_schedule


@pytest.mark.parametrize("num_frames", [2, 5, 12, 13, 24, 61])
@pytest.mark.parametrize("overlap", [0, 3, 5, 9])
def test_windows_hold_the_key_frame_and_cover_every_frame_in_order(num_frames: int, overlap: int) -> None:
    windows = window_schedule(num_frames, 12, overlap)
    assert (windows[:, 0] == 0).all()
    assert set(windows.ravel()) == set(range(num_frames))
    assert (np.diff(windows, axis=1) >= 0).all()
    assert (np.diff(windows[:, 1]) == 11 - overlap).all()


def test_a_twelve_frame_clip_runs_two_windows() -> None:
    windows = window_schedule(12, 12, 5)
    np.testing.assert_array_equal(windows[0], np.arange(12))
    np.testing.assert_array_equal(windows[1], [0, 7, 8, 9, 10, 11, 11, 11, 11, 11, 11, 11])


@pytest.mark.parametrize("num_frames", [2, 9, 12, 24, 37])
@pytest.mark.parametrize("overlap", [0, 3, 5])
def test_windows_that_agree_give_the_tracks_back(num_frames: int, overlap: int) -> None:
    truth = np.random.default_rng(0).normal(size=(num_frames, 4, 3))
    windows = window_schedule(num_frames, 12, overlap)
    np.testing.assert_allclose(stitch_windows(windows, truth[windows], overlap), truth, atol=1e-12)


def test_the_key_frame_is_averaged_over_the_windows() -> None:
    windows = window_schedule(24, 12, 5)
    tracks = np.arange(len(windows), dtype=float)[:, None, None, None] * np.ones((1, 12, 2, 3))
    np.testing.assert_allclose(stitch_windows(windows, tracks, 5)[0], 1.5)


def test_shared_slots_fade_from_old_to_new() -> None:
    windows = window_schedule(20, 12, 4)
    tracks = np.zeros((2, 12, 1, 3)) + np.arange(2.0)[:, None, None, None]
    np.testing.assert_allclose(stitch_windows(windows[:2], tracks, 4)[8:13, 0, 0], [0.2, 0.4, 0.6, 0.8, 1.0])


def test_blending_equal_tracks_changes_nothing() -> None:
    tracks = np.random.default_rng(1).normal(size=(5, 3, 3))
    np.testing.assert_allclose(blend(tracks, tracks), tracks)


@pytest.mark.parametrize(("num_frames", "overlap"), [(0, 3), (10, 11), (10, -1)])
def test_windows_that_never_advance_are_refused(num_frames: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        window_schedule(num_frames, 12, overlap)
