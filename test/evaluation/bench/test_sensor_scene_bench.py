"""Time of a step over a depth camera: parts add up to the whole by a clock that is made for it."""

import itertools

import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.bench.scene import bench_clip
from pomato_ros.evaluation.bench.sensor_scene import (
    PARTS,
    REST,
    WARM_UP,
    run_sensor_scene,
    sensor_scene_table,
    summarise_sensor_scene,
)

SIZE_WH, STEPS = (96, 64), 3


def test_parts_add_up_to_the_whole_of_every_step() -> None:
    ticks = itertools.count()
    run = run_sensor_scene(bench_clip(WARM_UP + STEPS, SIZE_WH), PomatoConfig(), lambda: 1e-3 * next(ticks))
    assert len(run.steps) == len(run.processor) == STEPS
    assert set(run.parts) == {*PARTS, REST}
    for number, whole in enumerate(run.steps):
        parts = {name: seconds[number] for name, seconds in run.parts.items()}
        assert sum(parts.values()) == pytest.approx(whole)
        assert min(parts.values()) >= 0.0
        assert all(parts[name] > 0 for name in ("prepare", "source", "flow_waited_for", "pose", "motion", "tracks"))
    summary = summarise_sensor_scene(run, SIZE_WH)
    assert summary["step_ms_p50"] == pytest.approx(1e3 * sorted(run.steps)[1], rel=1e-5)
    assert {f"{name}_ms_p95" for name in (*PARTS, REST)} <= set(summary)
    assert sensor_scene_table(summary).row_count == len(PARTS) + 4


def test_a_clip_within_the_warm_up_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a clip of more than 10 frames, got 3"):
        run_sensor_scene(bench_clip(3, SIZE_WH), PomatoConfig())
