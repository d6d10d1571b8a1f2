"""Time and memory of a step: a steady run as fast as it goes, and a real-time replay in which the newest frame wins."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.report import FlatValue, plain
from pomato_ros.structures import Frame, SceneEstimate

STAGES = ("preprocess", "model", "scene")
MIB = 2**20
STATUS_FILE = Path("/proc/self/statm")
YARDSTICK_SIDE = 768
YARDSTICK_SIDE_GPU = 8192
CPU = torch.device("cpu")
YARDSTICK_RUNS = 5
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class StepTiming:
    """Where the time of one step went, seconds."""

    total: float
    stages: dict[str, float]
    messages: float | None  # all messages of the step; None where ROS cannot be imported


@dataclass(frozen=True, slots=True)
class SteadyRun:
    """Steps one after the other."""

    timings: tuple[StepTiming, ...]
    peak_rss_mib: float  # of the whole process so far
    rss_growth_mib: float  # from the end of the warm-up to the end
    rss_growth_settled_mib: float  # from when a tenth of the steps were done to the end
    rss_growth_last_half_mib: float


@dataclass(frozen=True, slots=True)
class Replay:
    """Frames that came when a camera would have sent them."""

    frames_in: int
    steps: int
    frames_passed_over: int  # a newer one was there before the engine was free
    frames_without_scene: int
    seconds: float
    offered_hz: float
    latencies: tuple[float, ...]  # seconds from a frame's time to the end of its step


def to_and_fro(frames: Sequence[Frame]) -> Iterator[Frame]:
    """A clip forwards, backwards and so on without a cut, with stamps that go on rising evenly."""
    if len(frames) < 2:
        raise ValueError(f"expected a clip of at least two frames, got {len(frames)}")
    interval_ns = (frames[-1].stamp_ns - frames[0].stamp_ns) // (len(frames) - 1)
    period = 2 * (len(frames) - 1)
    count = 0
    while True:
        place = count % period
        frame = frames[place if place < len(frames) else period - place]
        yield Frame(frames[0].stamp_ns + count * interval_ns, frame.image_rgb, frame.intrinsics)
        count += 1


def run_steady(
    engine: Perceiver,
    frames: Sequence[Frame],
    steps: int,
    warm_up: int,
    convert: Callable[[SceneEstimate], None] | None = None,
    clock: Clock = time.perf_counter,
) -> SteadyRun:
    """Time ``steps`` frames after ``warm_up`` frames that are not counted.

    Args:
        engine: reset first.
        frames: a clip, played to and fro.
        steps: frames timed.
        warm_up: frames before, at least until windows are full.
        convert: makes all messages of a scene; timed apart from the step.
        clock: seconds.

    Raises:
        ValueError: no step gave a scene.
    """
    engine.reset()
    source = to_and_fro(frames)
    for _ in range(warm_up):
        timed_step(engine, next(source), convert, clock)
    record = TimingRecord(steps)
    rss_marks_mib = {0: rss_mib()}
    marks = (steps // 10, steps // 2)
    for number in range(steps):
        if number in marks:
            rss_marks_mib[number] = rss_mib()
        timing = timed_step(engine, next(source), convert, clock)
        if timing is not None:
            record.add(timing)
    growths_mib = [rss_mib() - rss_marks_mib[mark] for mark in (0, *marks)]
    if not record.count:
        raise ValueError(f"none of {steps} steps gave a scene; nothing can be timed")
    return SteadyRun(record.timings(), peak_rss_mib(), *growths_mib)


class TimingRecord:
    """Times of steps in memory that is all taken before the first, so that it is no growth of what is measured."""

    def __init__(self, steps: int) -> None:
        """Room for ``steps`` of them."""
        self._seconds = np.full((steps, 2 + len(STAGES)), np.nan)
        self.count = 0

    def add(self, timing: StepTiming) -> None:
        """The next step."""
        messages = np.nan if timing.messages is None else timing.messages
        stages = [timing.stages.get(stage, np.nan) for stage in STAGES]
        self._seconds[self.count] = (timing.total, messages, *stages)
        self.count += 1

    def timings(self) -> tuple[StepTiming, ...]:
        """All steps that were added."""
        return tuple(
            StepTiming(
                total,
                {stage: seconds for stage, seconds in zip(STAGES, stages, strict=True) if not np.isnan(seconds)},
                None if np.isnan(messages) else messages,
            )
            for total, messages, *stages in self._seconds[: self.count].tolist()
        )


def timed_step(
    engine: Perceiver, frame: Frame, convert: Callable[[SceneEstimate], None] | None, clock: Clock
) -> StepTiming | None:
    """One step and its messages; None without a scene."""
    started = clock()
    scene = engine.step(frame)
    stepped = clock()
    if scene is None:
        return None
    if convert is None:
        return StepTiming(stepped - started, scene.stage_seconds, None)
    convert(scene)
    return StepTiming(stepped - started, scene.stage_seconds, clock() - stepped)


def replay(
    engine: Perceiver,
    frames: Sequence[Frame],
    convert: Callable[[SceneEstimate], None] | None = None,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Replay:
    """Offer a clip at its own rate: an engine that is free takes the newest frame there is, and older ones are lost."""
    engine.reset()
    times = [1e-9 * (frame.stamp_ns - frames[0].stamp_ns) for frame in frames]
    latencies: list[float] = []
    newest, taken = -1, 0
    started = clock()
    while newest < len(frames) - 1:
        came = int(np.searchsorted(times, clock() - started, side="right")) - 1
        if came == newest:
            sleep(max(times[newest + 1] - (clock() - started), 0.0))
            continue
        newest, taken = came, taken + 1
        timing = timed_step(engine, frames[newest], convert, clock)
        if timing is not None:
            latencies.append(clock() - started - times[newest])
    return Replay(
        frames_in=len(frames),
        steps=len(latencies),
        frames_passed_over=len(frames) - taken,
        frames_without_scene=taken - len(latencies),
        seconds=clock() - started,
        offered_hz=(len(frames) - 1) / times[-1],
        latencies=tuple(latencies),
    )


def rss_mib() -> float:
    """Memory this process has in use now; the peak where the system does not say."""
    if not STATUS_FILE.is_file():
        return peak_rss_mib()
    return int(STATUS_FILE.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / MIB


def peak_rss_mib() -> float:
    """Most memory this process had in use at any time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def matrix_gflops(device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> float:
    """What this machine gives right now: the best of a few matrix products, on a CPU with the network's threads."""
    side = YARDSTICK_SIDE if device.type == "cpu" else YARDSTICK_SIDE_GPU
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(YARDSTICK_RUNS):
        finish(device)
        started = time.perf_counter()
        torch.mm(a, b)
        finish(device)
        best = min(best, time.perf_counter() - started)
    return 2e-9 * side**3 / best


def finish(device: torch.device) -> None:
    """Return once a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def summarise_bench(steady: SteadyRun, replayed: Replay) -> dict[str, FlatValue]:
    """The flat object: medians in ms of the steady run, memory, and what became of the frames of the replay."""
    total = percentiles([timing.total for timing in steady.timings])
    messages = [timing.messages for timing in steady.timings if timing.messages is not None]
    latency = percentiles(replayed.latencies)
    summary: dict[str, FlatValue] = {"step_ms_p50": total[0], "step_ms_p95": total[1]}
    for stage in STAGES:
        summary[f"{stage}_ms"], summary[f"{stage}_ms_p95"] = percentiles(stage_seconds(steady, stage))
    summary |= {
        "messages_ms": percentiles(messages)[0],
        "peak_rss_mib": steady.peak_rss_mib,
        "rss_growth_mib": steady.rss_growth_mib,
        "rss_growth_settled_mib": steady.rss_growth_settled_mib,
        "rss_growth_last_half_mib": steady.rss_growth_last_half_mib,
        "steps_timed": len(steady.timings),
        "frames_in": replayed.frames_in,
        "steps": replayed.steps,
        "frames_passed_over": replayed.frames_passed_over,
        "frames_without_scene": replayed.frames_without_scene,
        "offered_hz": replayed.offered_hz,
        "rate_hz": replayed.steps / replayed.seconds,
        "latency_ms_p50": latency[0],
        "latency_ms_p95": latency[1],
    }
    return {name: plain(value) for name, value in summary.items()}


def stage_seconds(steady: SteadyRun, stage: str) -> list[float]:
    """The times of one stage; steps that do not name it are left out."""
    return [timing.stages[stage] for timing in steady.timings if stage in timing.stages]


def percentiles(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    """Median and 95th percentile in ms; None of nothing."""
    if not seconds:
        return None, None
    return 1e3 * float(np.percentile(seconds, 50)), 1e3 * float(np.percentile(seconds, 95))
