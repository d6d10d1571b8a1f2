"""The tracker by itself on a rendered sequence: figures are there, lie in their ranges, and count what they say."""

import numpy as np

from pomato_ros.evaluation.suites.rendered import RenderPlan, rendered_sequences
from pomato_ros.evaluation.suites.tracks import DEMANDS, run_tracks, summarise_tracks
from pomato_ros.training.config import HELD_OUT_SEED

PLAN = RenderPlan(HELD_OUT_SEED, sequences=1, frames=10, size_wh=(160, 120), cache=None)


def test_a_sequence_is_scored_with_true_poses_and_masks() -> None:
    watched = []
    results = run_tracks(rendered_sequences(PLAN, ("ordinary",)), 6, watched.append)
    assert watched == results
    assert len(results) == 1
    assert len(results[0].seconds) == 5
    assert (results[0].nees >= 0).all()
    assert np.isfinite(results[0].nees).all()
    summary = summarise_tracks(results)
    assert {item.key for item in DEMANDS} <= set(summary)
    assert summary["sequences"] == 1
    assert 50.0 < float(summary["apd_m"] or 0) <= 100.0
    assert 0.5 < float(summary["track_id"] or 0) <= 1.0
    assert 0.7 < float(summary["track_occlusion"] or 0) <= 1.0
