"""The stream's benchmark against its slow twin: what it counts is arithmetic, and what it compares is compared."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from pomato_ros.config import NetworkConfig, WindowOptions
from pomato_ros.evaluation.bench.twins import (
    TwinRun,
    compare_twins,
    count_arithmetic,
    dearest_step,
    summarise_twins,
    twin_table,
)
from pomato_ros.sources.dust3r.checkpoint import Checkpoint
from pomato_ros.sources.dust3r.cuda_graphs import Again, Tensors, record_eagerly
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.structures import Window

SIZE_WH = (48, 32)
OPTIONS = WindowOptions(window_size=6, overlap=2)


@pytest.fixture
def twins(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> tuple[Predictor, Predictor]:
    checkpoint = Checkpoint(make_network(tiny_config), 48, Path("tiny"), "", {})
    return tuple(Predictor(checkpoint, torch.device("cpu"), "fp32", reuse) for reuse in (True, False))


@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_twins_agree_and_a_changed_network_does_not(twins: tuple[Predictor, Predictor], mode: str) -> None:
    options = dataclasses.replace(OPTIONS, mode=mode)
    fast, slow = twins
    run = compare_twins(fast, slow, options, SIZE_WH, 5, 3)
    assert (len(run.stream_seconds), len(run.twin_seconds)) == (5, 3)
    assert run.max_rel_error <= 1e-5
    assert all(seconds > 0 for seconds in (*run.stream_seconds, *run.twin_seconds))
    other = make_changed(slow)
    assert compare_twins(fast, other, options, SIZE_WH, 2, 2).max_rel_error > 1e-3


@pytest.mark.parametrize(("mode", "hop"), [("anchored", 1), ("anchored", 2), ("rolling", 1)])
def test_neither_twin_is_timed_cold(
    tiny_config: NetworkConfig,
    make_network: Callable[..., Pomato],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    hop: int,
) -> None:
    told: list[str] = []

    def record(run: Callable[[], Tensors]) -> tuple[Again, Tensors]:
        told.append("recorded")
        return record_eagerly(run)

    def now() -> float:
        told.append("clock")
        return float(len(told))

    class Told(Predictor):
        def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
            told.append("fast" if self.replays else "slow")
            return super().predict(window, wanted)

    checkpoint = Checkpoint(make_network(tiny_config), 48, Path("tiny"), "", {})
    cpu = torch.device("cpu")
    fast, slow = Told(checkpoint, cpu, "fp32", recorder=record), Told(checkpoint, cpu, "fp32", reuse=False)
    monkeypatch.setattr("pomato_ros.evaluation.bench.twins.time", SimpleNamespace(perf_counter=now))
    run = compare_twins(fast, slow, dataclasses.replace(OPTIONS, mode=mode, window_hop=hop), SIZE_WH, 8, 4)
    assert run.max_rel_error <= 1e-5
    first = told.index("clock")
    assert "recorded" in told[:first]
    assert "recorded" not in told[first:]
    begun = told.index("slow")
    assert told[begun : begun + 3] == ["slow", "clock", "slow"]  # once before it is timed
    assert told.count("slow") == len(run.twin_seconds) + 1


def test_frames_taken_together_agree_with_the_twin_and_cost_less_each(
    twins: tuple[Predictor, Predictor], tiny_config: NetworkConfig
) -> None:
    together = dataclasses.replace(OPTIONS, window_hop=2)
    run = compare_twins(*twins, together, SIZE_WH, 4, 4)
    assert (len(run.stream_seconds), len(run.twin_seconds), run.period) == (2, 2, 2)
    assert run.max_rel_error <= 1e-5
    short = dataclasses.replace(OPTIONS, window_size=4)
    alone, pairs = (
        count_arithmetic(tiny_config, dataclasses.replace(short, window_hop=hop), SIZE_WH) for hop in (1, 2)
    )
    assert pairs.stream_tflop < alone.stream_tflop
    assert pairs.host_syncs == 0
    across = dataclasses.replace(OPTIONS, window_hop=3)  # every third hop crosses from one key to the next
    assert compare_twins(*twins, across, SIZE_WH, 6, 6).max_rel_error <= 1e-5


def test_the_dearest_kind_of_step_is_told_from_a_slow_moment() -> None:
    seconds = (1.0, 1.0, 1.5, 1.0, 9.0, 1.5, 1.0, 1.0, 1.5)  # every third step is of the dear kind
    run = TwinRun(seconds, (1.0,), 0.0, 3, 0.0)
    assert dearest_step(run) == pytest.approx(1.5)


def make_changed(predictor: Predictor) -> Predictor:
    network = Pomato(predictor.checkpoint.network.config).eval()
    network.load_state_dict(predictor.checkpoint.network.state_dict())
    with torch.no_grad():
        network.downstream_head3.dpt.head[4].bias.add_(0.1)
    return Predictor(dataclasses.replace(predictor.checkpoint, network=network), torch.device("cpu"), "fp32", False)


def test_arithmetic_grows_with_the_image_and_is_less_than_the_twins(tiny_config: NetworkConfig) -> None:
    small, large = (count_arithmetic(tiny_config, OPTIONS, size) for size in ((48, 32), (96, 64)))
    assert small.host_syncs == large.host_syncs == 0
    for counted in (small, large):
        assert 0 < counted.stream_tflop <= counted.stream_most_tflop < counted.twin_tflop
    assert large.twin_tflop > 4 * small.twin_tflop
    # a window of one pair of frames is all new: both do the same but for the frames that nobody reads
    whole = count_arithmetic(tiny_config, dataclasses.replace(OPTIONS, window_size=2, overlap=1), SIZE_WH)
    assert whole.stream_tflop < whole.twin_tflop < 4 * whole.stream_tflop


def test_the_summary_has_what_scripts_read(twins: tuple[Predictor, Predictor], tiny_config: NetworkConfig) -> None:
    run = compare_twins(*twins, OPTIONS, SIZE_WH, 2, 1)
    summary = summarise_twins(run, count_arithmetic(tiny_config, OPTIONS, SIZE_WH), 50.0, 100.0)
    promised = {"ratio_to_slow_twin", "max_rel_error", "tflop_per_frame", "step_ms_p50", "step_ms_p95", "steps_per_s"}
    promised |= {
        "dearest_step_to_median",
        "rss_growth_mib",
        "peak_rss_mib",
        "peak_over_empty_mib",
        "host_syncs_in_network",
    }
    assert promised <= summary.keys()
    assert summary["ratio_to_slow_twin"] == pytest.approx(
        sum(run.twin_seconds) / len(run.twin_seconds) / (sum(run.stream_seconds) / len(run.stream_seconds)), rel=1e-4
    )
    page = io.StringIO()
    Console(file=page, width=150).print(twin_table(summary))
    assert "slow twin" in page.getvalue()
