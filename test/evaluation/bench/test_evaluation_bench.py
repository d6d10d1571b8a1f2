"""An engine with a clock of its own: times, warm-up and frames passed over come out as they were put in."""

import io
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from pomato_ros.evaluation.bench.report import run_table, step_table
from pomato_ros.evaluation.bench.steps import Replay, replay, run_steady, summarise_bench, to_and_fro
from pomato_ros.structures import Frame, SceneEstimate
from pomato_ros.synthetic.clip import Clip

PROMISED = {
    "step_ms_p50",
    "step_ms_p95",
    "model_ms",
    "scene_ms",
    "preprocess_ms",
    "messages_ms",
    "peak_rss_mib",
    "rss_growth_mib",
    "rss_growth_settled_mib",
    "rss_growth_last_half_mib",
    "frames_in",
    "steps",
    "frames_passed_over",
}
STEP_S, MESSAGES_S = 0.25, 0.05


class SlowEngine:
    """Takes a quarter of a second for each step, on a clock that only it and sleeping move."""

    def __init__(self, scene: SceneEstimate) -> None:
        self.scene, self.now_s, self.stamps_ns, self.resets = scene, 0.0, [], 0

    def reset(self) -> None:
        self.resets += 1

    def step(self, frame: Frame) -> SceneEstimate | None:
        self.now_s += STEP_S
        self.stamps_ns.append(frame.stamp_ns)
        return self.scene

    def convert(self, scene: SceneEstimate) -> None:
        self.now_s += MESSAGES_S

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def engine(clip: Clip, truthful_engine: Callable) -> SlowEngine:
    return SlowEngine(truthful_engine().step(Frame(clip.stamps_ns[0], clip.images[0].numpy())))


def frames_at(rate_hz: float, count: int) -> list[Frame]:
    image = np.zeros((4, 6, 3), np.uint8)
    return [Frame(7 + round(1e9 * index / rate_hz), image) for index in range(count)]


def test_a_clip_is_played_to_and_fro_without_a_cut_and_time_goes_on() -> None:
    frames = [Frame(100 * index, np.full((1, 1, 3), index, np.uint8)) for index in range(3)]
    played = list(itertools.islice(to_and_fro(frames), 7))
    assert [int(frame.image_rgb[0, 0, 0]) for frame in played] == [0, 1, 2, 1, 0, 1, 2]
    assert [frame.stamp_ns for frame in played] == [100 * index for index in range(7)]


def test_steps_and_messages_are_timed_apart_and_the_warm_up_is_not(engine: SlowEngine) -> None:
    steady = run_steady(engine, frames_at(10.0, 4), 6, 5, engine.convert, engine.clock)
    assert len(steady.timings) == 6
    assert len(engine.stamps_ns) == 11
    assert {round(timing.total, 9) for timing in steady.timings} == {STEP_S}
    assert {round(timing.messages or 0.0, 9) for timing in steady.timings} == {MESSAGES_S}
    assert steady.peak_rss_mib > 1.0


def test_the_newest_frame_wins_and_the_others_are_counted(engine: SlowEngine) -> None:
    run = replay(engine, frames_at(10.0, 11), None, engine.clock, engine.sleep)
    # taken at 0, 0.25, 0.5, 0.75, 1.0 s: frames 0, 2, 5, 7, 10
    assert [round((stamp - 7) * 1e-8) for stamp in engine.stamps_ns] == [0, 2, 5, 7, 10]
    assert (run.frames_in, run.steps, run.frames_passed_over) == (11, 5, 6)
    assert run.latencies == pytest.approx([0.25, 0.3, 0.25, 0.3, 0.25])
    assert run.offered_hz == pytest.approx(10.0)


def test_a_fast_engine_takes_every_frame(engine: SlowEngine) -> None:
    run = replay(engine, frames_at(2.0, 6), engine.convert, engine.clock, engine.sleep)
    assert (run.steps, run.frames_passed_over) == (6, 0)
    assert run.latencies == pytest.approx([STEP_S + MESSAGES_S] * 6)


def test_frames_that_only_joined_the_window_are_neither_steps_nor_passed_over(engine: SlowEngine) -> None:
    engine.scene = None
    run = replay(engine, frames_at(2.0, 4), None, engine.clock, engine.sleep)
    assert (run.steps, run.frames_without_scene, run.frames_passed_over) == (0, 4, 0)
    with pytest.raises(ValueError, match="none of 3 steps"):
        run_steady(engine, frames_at(2.0, 4), 3, 0, None, engine.clock)


def test_the_summary_is_flat_and_has_every_promised_key(engine: SlowEngine) -> None:
    steady = run_steady(engine, frames_at(10.0, 4), 3, 0, None, engine.clock)
    run = replay(engine, frames_at(10.0, 11), None, engine.clock, engine.sleep)
    summary = summarise_bench(steady, run)
    assert set(summary) >= PROMISED
    assert summary["messages_ms"] is None
    assert (summary["step_ms_p50"], summary["model_ms"], summary["scene_ms"]) == (250.0, 10.0, 2.0)
    assert summary["frames_in"] == summary["steps"] + summary["frames_passed_over"]


def test_tables_can_be_drawn_without_any_step(engine: SlowEngine) -> None:
    steady = run_steady(engine, frames_at(10.0, 4), 3, 0, engine.convert, engine.clock)
    nothing = Replay(4, 0, 0, 4, 1.0, 4.0, ())
    summary = {**summarise_bench(steady, nothing), "matrix_gflops": 50.0, "step_gflop_equivalent": 12.5}
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(step_table(steady))
    console.print(run_table(summary))
    assert "100.0 %" in console.export_text()
