"""Time of a whole step over a depth camera, part by part: 640x480 colour and registered depth to tracks and objects."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.bench.steps import Clock, percentiles
from pomato_ros.evaluation.report import FlatValue, plain, shown
from pomato_ros.pipeline import ScenePipeline
from pomato_ros.sources.base import PredictionRequest
from pomato_ros.sources.rgbd import RgbdSource
from pomato_ros.structures import Frame
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.sensors import sense_depth
from pomato_ros.window import RollingWindow

SIZE_WH = (640, 480)
WARM_UP = 10  # frames until flow reaches back as far as it may
FLOOR_MS, GOAL_MS = 100.0, 50.0  # 95th percentile
REST = "rest"
# what is timed apart, each without the others that it calls: its name, and the method of the pipeline or a part of it
PARTS = {
    "prepare": "prepare",
    "source": "source.predict",
    "flow_waited_for": "estimator._flow.correspondence",
    "pose": "estimator._odometry.locate",
    "motion": "estimator._segment",
    "landmarks": "estimator._odometry.extend",
    "tracks": "estimator._tracker.update",
    "depth_in_holes": "estimator._filled_depth",
    "points": "estimator._points",
    "objects": "estimator._objects.update",
}


@dataclass(frozen=True, slots=True)
class SensorSceneRun:
    """Seconds of each step after the warm-up."""

    steps: tuple[float, ...]
    processor: tuple[float, ...]  # of all threads together
    parts: dict[str, tuple[float, ...]]  # of the thread that steps


def sensed_frames(clip: Clip) -> list[Frame]:
    """A clip as a colour camera with a registered structured-light depth camera sees it."""
    return [
        Frame(clip.stamps_ns[t], clip.images[t].numpy(), clip.intrinsics, depth_m=sense_depth(clip, t))
        for t in range(len(clip))
    ]


def run_sensor_scene(clip: Clip, config: PomatoConfig, clock: Clock = time.perf_counter) -> SensorSceneRun:
    """Every frame of a clip through preparation, source and estimator, timed after :data:`WARM_UP` frames.

    Args:
        clip: more frames than the warm-up.
        config: of the scene and the window.
        clock: seconds.

    Raises:
        ValueError: the clip is too short to time anything.
    """
    if len(clip) <= WARM_UP:
        raise ValueError(f"expected a clip of more than {WARM_UP} frames, got {len(clip)}")
    pipeline = ScenePipeline(config, RgbdSource(config))
    window = RollingWindow(config.window.window_size, config.window.overlap, config.window.mode)
    stopwatch = PartTimer(pipeline, PARTS, clock)
    for frame in sensed_frames(clip):
        with stopwatch.step():
            pipeline.evaluate([window.push(pipeline.prepare(frame))], PredictionRequest())
    return stopwatch.run(WARM_UP)


class PartTimer:
    """Times methods of an object and its parts, each without the timed ones that it calls."""

    def __init__(self, owner: Any, parts: dict[str, str], clock: Clock) -> None:
        """``parts``: dotted methods of ``owner`` by the name of what they do."""
        self._clock, self._names = clock, (*parts, REST)
        self._inner = [0.0]  # seconds within timed calls, one entry a call that runs
        self._now: dict[str, float] = {}
        self._steps: list[tuple[float, float, dict[str, float]]] = []
        for name, path in parts.items():
            *attributes, method = path.split(".")
            part = owner
            for attribute in attributes:
                part = getattr(part, attribute)
            setattr(part, method, self._timed(name, getattr(part, method)))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = self._clock()
            self._inner.append(0.0)
            try:
                return method(*args, **kwargs)
            finally:
                seconds = self._clock() - started
                self._now[name] += seconds - self._inner.pop()
                self._inner[-1] += seconds

        return run

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one step."""
        self._now, self._inner = dict.fromkeys(self._names, 0.0), [0.0]
        processor, started = time.process_time(), self._clock()
        yield
        whole = self._clock() - started
        self._now[REST] = whole - self._inner[0]
        self._steps.append((whole, time.process_time() - processor, self._now))

    def run(self, first: int) -> SensorSceneRun:
        """Seconds of all steps from number ``first`` on."""
        whole, processor, parts = zip(*self._steps[first:], strict=True)
        return SensorSceneRun(whole, processor, {name: tuple(step[name] for step in parts) for name in self._names})


def summarise_sensor_scene(run: SensorSceneRun, size_wh: tuple[int, int]) -> dict[str, FlatValue]:
    """The flat object, milliseconds."""
    summary: dict[str, FlatValue] = {"steps": len(run.steps), "image_size": f"{size_wh[0]}x{size_wh[1]}"}
    times = {"step": run.steps, "processor": run.processor} | run.parts
    for name, seconds in times.items():
        p50, p95 = percentiles(list(seconds))
        summary |= {f"{name}_ms_p50": plain(p50), f"{name}_ms_p95": plain(p95)}
    return summary | {"step_ms_p95_floor": FLOOR_MS, "step_ms_p95_goal": GOAL_MS}


def sensor_scene_table(summary: dict[str, FlatValue]) -> Table:
    """Where the time goes."""
    table = Table(title=f"a step over a depth camera, {summary['steps']} steps at {summary['image_size']}")
    for heading in ("part", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name in (*PARTS, REST):
        table.add_row(name.replace("_", " "), *(shown(summary[f"{name}_ms_{rank}"]) for rank in ("p50", "p95")))
    table.add_section()
    table.add_row("whole step", shown(summary["step_ms_p50"]), shown(summary["step_ms_p95"]))
    table.add_row("processor, all threads", shown(summary["processor_ms_p50"]), shown(summary["processor_ms_p95"]))
    table.add_row("asked for: floor, goal", "", f"{FLOOR_MS:g}, {GOAL_MS:g}")
    return table
