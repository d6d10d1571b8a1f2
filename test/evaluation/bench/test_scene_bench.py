"""The scene layer's stopwatch: parts add up to the whole by a clock that is made for it."""

import itertools

import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.bench.scene import PARTS, REST, bench_clip, run_scene, scene_table, summarise_scene

SIZE_WH = (96, 64)
FRAMES, WINDOW = 7, 4
CONFIG = PomatoConfig().with_values({"window_size": WINDOW, "overlap": 2, "max_tracks": 50})


def test_parts_add_up_to_the_whole_of_every_step() -> None:
    ticks = itertools.count()
    run = run_scene(bench_clip(FRAMES, SIZE_WH), CONFIG, lambda: float(next(ticks)))
    assert len(run.steps) == FRAMES - WINDOW == len(run.tracks) == len(run.objects)
    for number, whole in enumerate(run.steps):
        parts = {name: seconds[number] for name, seconds in run.parts.items()}
        assert sum(parts.values()) == pytest.approx(whole)
        assert min(parts.values()) >= 0.0
        # of each part: one call, but for what is not always needed
        assert all(parts[name] >= 1.0 for name in ("mask", "pose_and_scale", "own_scale", "points", "tracks", REST))
    assert set(run.parts) == {*PARTS, REST}
    assert max(run.tracks) <= 50


def test_the_summary_is_flat_and_in_milliseconds() -> None:
    ticks = itertools.count()
    run = run_scene(bench_clip(FRAMES, SIZE_WH), CONFIG, lambda: 1e-3 * next(ticks))
    summary = summarise_scene(run, SIZE_WH)
    assert summary["scene_ms_p50"] == pytest.approx(1e3 * sorted(run.steps)[1], rel=1e-5)
    assert {f"scene_{name}_ms_p95" for name in (*PARTS, REST)} <= set(summary)
    assert (summary["steps"], summary["image_size"]) == (FRAMES - WINDOW, "96x64")
    assert scene_table(summary).row_count == len(PARTS) + 3


def test_a_clip_that_fills_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a clip of more than 4 frames, which fill a window, got 3"):
        run_scene(bench_clip(3, SIZE_WH), CONFIG)
