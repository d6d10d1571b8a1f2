"""Tracks that are the truth score perfectly; what is wrong about others costs what it should."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.evaluation.oracle_tracks import TrackRecord, follow_points, score_recorded_tracks, surface_depth
from pomato_ros.synthetic.clip import Clip

LATER = 8


def record_of(clip: Clip, change: object = None, count: int = 60, seed: int = 0) -> TrackRecord:
    """Tracks that begin on random pixels of frame 2 and are followed by the truth; ``change`` spoils each frame."""
    draws = np.random.default_rng(seed)
    height, width = clip.depth_m.shape[1:]
    pixels = draws.uniform(0, (width - 1, height - 1), (count, 2))
    truth = follow_points(clip, np.full(count, 2), pixels)
    record = TrackRecord()
    for t in range(2, len(clip)):
        rows = [np.arange(count), truth.positions_camera[t].copy(), truth.visible[t].copy()]
        if t == 2:
            rows[2][:] = True
        elif change is not None:
            rows = change(t, *rows)
        ids, places, seen = rows
        record.ids.append(ids)
        record.frames.append(np.full(len(ids), t))
        record.positions_camera.append(places)
        record.pixels.append(pixels[ids])
        record.visible.append(seen)
    return record


def test_points_are_followed_as_the_clip_follows_its_pixels(clip: Clip) -> None:
    rows, columns = np.mgrid[4:48:9, 4:64:9].reshape(2, -1)
    pixels = np.stack((columns, rows), axis=-1).astype(float)
    found = follow_points(clip, np.full(len(rows), 1), pixels)
    for t in range(len(clip)):
        expected = clip.points_matched(1, t).numpy()[rows, columns]
        np.testing.assert_allclose(found.positions_camera[t], expected, atol=1e-4)
        assert (found.visible[t] == clip.visible(1, t).numpy()[rows, columns]).mean() > 0.98


@pytest.mark.parametrize("unit", [1.0, 0.3])
def test_true_tracks_score_perfectly_but_an_id_is_judged_in_metres(clip: Clip, unit: float) -> None:
    counts = score_recorded_tracks(record_of(clip, lambda t, i, p, v: (i, unit * p, v)), clip, LATER)
    assert counts.asked_id > 10
    assert counts.right_occlusion == counts.asked_occlusion
    assert counts.right_id == (counts.asked_id if unit == 1.0 else 0)
    assert counts.apd == pytest.approx(100.0)
    assert counts.apd_metric == pytest.approx(100.0 if unit == 1.0 else 0.0, abs=1.0)


def test_tracks_that_end_lose_their_id_and_count_as_hidden_and_wrong(clip: Clip) -> None:
    half = score_recorded_tracks(record_of(clip, lambda t, i, p, v: (i[::2], p[::2], v[::2])), clip, LATER)
    whole = score_recorded_tracks(record_of(clip), clip, LATER)
    assert (half.asked_id, half.asked_apd) == (whole.asked_id, whole.asked_apd)
    assert half.right_id == pytest.approx(0.5 * whole.right_id, abs=0.2 * whole.right_id)
    assert half.apd == pytest.approx(50.0, abs=12.0)
    assert half.right_occlusion < whole.right_occlusion


def test_tracks_that_swap_their_ids_have_the_wrong_ones(clip: Clip) -> None:
    swapped = score_recorded_tracks(record_of(clip, lambda t, i, p, v: (i, np.roll(p, 1, axis=0), v)), clip, LATER)
    assert swapped.right_id < 0.1 * swapped.asked_id


def test_a_track_that_says_visible_behind_a_wall_is_counted(clip: Clip) -> None:
    bold = score_recorded_tracks(record_of(clip, lambda t, i, p, v: (i, p, np.ones_like(v))), clip, LATER)
    truth = follow_points(clip, np.full(60, 2), np.random.default_rng(0).uniform(0, (63, 47), (60, 2)))
    assert bold.asked_occlusion - bold.right_occlusion == (~truth.visible[3 : 3 + LATER]).sum()


def test_no_tracks_are_nothing_to_score(clip: Clip) -> None:
    counts = score_recorded_tracks(TrackRecord(), clip, LATER)
    assert (counts.asked_id, counts.asked_occlusion, counts.asked_apd) == (0, 0, 0)
    assert np.isnan(counts.apd)
    assert np.isnan(counts.apd_metric)
    never = record_of(clip)
    hidden = dataclasses.replace(never, visible=[np.zeros_like(seen) for seen in never.visible])
    assert score_recorded_tracks(hidden, clip, LATER).asked_id == 0


def test_depth_between_pixels_is_that_of_the_plane_and_never_between_two_surfaces() -> None:
    x = np.arange(6)
    plane = np.broadcast_to(1.0 / (0.5 + 0.01 * x), (1, 4, 6)).copy()
    pixels = np.array([[2.5, 1.25]])
    found = surface_depth(plane, np.array([0]), pixels, np.array([[2, 1]]))
    np.testing.assert_allclose(found, 1.0 / (0.5 + 0.01 * 2.5), rtol=1e-9)
    plane[..., 3:] *= 3.0
    edge = surface_depth(plane, np.array([0]), pixels, np.array([[2, 1]]))
    np.testing.assert_allclose(edge, plane[0, 1, 2])
