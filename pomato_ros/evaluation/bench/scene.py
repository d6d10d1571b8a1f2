"""Time of the scene layer alone, part by part: true pointmaps with a network's errors in place of a network."""

import gc
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import torch
from rich.table import Table

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.bench.steps import Clock, percentiles
from pomato_ros.evaluation.oracle import frame_of
from pomato_ros.evaluation.oracle_noise import NoisyOracle
from pomato_ros.evaluation.report import FlatValue, plain, shown
from pomato_ros.pointmap_scene.estimator import SceneEstimator
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.sample_scene import sample_scene
from pomato_ros.window import RollingWindow

SIZE_WH = (512, 288)
TRACKS = 500
ASKED_MS = 15.0
# what is timed apart: its name, and the method of the estimator or of a part of it; none calls another one
PARTS = {
    "mask": "_mask.update",
    "landmarks_found": "_landmarks.locate",
    "pose_and_scale": "_place",
    "own_scale": "_own_scale",
    "sensor_scale": "_correct_scale",
    "points": "_points",
    "landmarks_learnt": "_landmarks.learn",
    "tracks": "_track",
    "objects": "_find_objects",
}
WITHIN = {"landmarks_found": "pose_and_scale"}  # parts that another one calls: which is timed without them
REST = "rest"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class SceneRun:
    """Seconds of each step with a full window, whole and by part, and how much there was to do."""

    steps: tuple[float, ...]
    parts: dict[str, tuple[float, ...]]
    tracks: tuple[int, ...]
    objects: tuple[int, ...]
    moving_share: tuple[float, ...]  # of the image


def run_on_one_core(config: PomatoConfig, steps: int) -> SceneRun:
    """:func:`run_scene` on ``steps`` full windows in a process of its own, whose libraries have one thread each.

    They read how many they may start only once, when they are loaded.
    """
    kept = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            return pool.submit(_run_alone, config, steps).result()
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_alone(config: PomatoConfig, steps: int) -> SceneRun:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clip = bench_clip(config.window.window_size + steps)
    gc.collect()
    gc.freeze()  # as the node does with what it has loaded
    return run_scene(clip, config)


def bench_clip(frames: int, size_wh: tuple[int, int] = SIZE_WH) -> Clip:
    """The sample's room: three movers, a walking camera."""
    return render(sample_scene(frames, size_wh))


def run_scene(clip: Clip, config: PomatoConfig, clock: Clock = time.perf_counter) -> SceneRun:
    """Every frame of a clip through the scene layer, timed once windows are full; predictions are made beforehand.

    Args:
        clip: more frames than a window has.
        config: of the scene and the window.
        clock: seconds.

    Raises:
        ValueError: the clip is too short to time anything.
    """
    full = config.window.window_size
    if len(clip) <= full:
        raise ValueError(f"expected a clip of more than {full} frames, which fill a window, got {len(clip)}")
    estimator = SceneEstimator(config)
    window = RollingWindow(full, config.window.overlap, config.window.mode)
    oracle = NoisyOracle(clip)
    stopwatch = Stopwatch(estimator, clock)
    counts: list[tuple[int, int, float]] = []
    for t in range(len(clip)):
        frames = window.push(prepare_frame(frame_of(clip, t), max(clip.depth_m.shape[1:])))
        prediction = oracle.predict(frames, estimator.wanted(frames))
        with stopwatch.step():
            scene = estimator.update(frames, prediction)
        counts.append((len(scene.tracks.ids), len(scene.objects.ids), float(scene.dynamic_mask.mean())))
    tracks, objects, moving = zip(*counts[full:], strict=True)
    steps, parts = stopwatch.seconds(full)
    return SceneRun(steps, parts, tracks, objects, moving)


class Stopwatch:
    """Wraps the parts of an estimator, to time each step by part."""

    def __init__(self, estimator: SceneEstimator, clock: Clock) -> None:
        """``estimator`` may not be reset any more: that would make new parts."""
        self._clock = clock
        self._now = dict.fromkeys(PARTS, 0.0)
        self._steps: list[dict[str, float]] = []
        for name, path in PARTS.items():
            *owners, method = path.split(".")
            owner: Any = estimator
            for attribute in owners:
                owner = getattr(owner, attribute)
            setattr(owner, method, self._timed(name, getattr(owner, method)))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = self._clock()
            try:
                return method(*args, **kwargs)
            finally:
                self._now[name] += self._clock() - started

        return run

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one step."""
        self._now = dict.fromkeys(PARTS, 0.0)
        started = self._clock()
        yield
        whole = self._clock() - started
        for inner, outer in WITHIN.items():
            self._now[outer] -= self._now[inner]
        self._steps.append({**self._now, REST: whole - sum(self._now.values()), "": whole})

    def seconds(self, first: int) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
        """Seconds of all steps from number ``first`` on: whole, and by part."""
        later = self._steps[first:]
        parts = {name: tuple(step[name] for step in later) for name in (*PARTS, REST)}
        return tuple(step[""] for step in later), parts


def summarise_scene(run: SceneRun, size_wh: tuple[int, int]) -> dict[str, FlatValue]:
    """The flat object, milliseconds."""
    summary: dict[str, FlatValue] = {}
    for name, seconds in {"scene": run.steps, **{f"scene_{name}": part for name, part in run.parts.items()}}.items():
        p50, p95 = percentiles(list(seconds))
        summary |= {f"{name}_ms_p50": plain(p50), f"{name}_ms_p95": plain(p95)}
    return summary | {
        "scene_ms_asked": ASKED_MS,
        "steps": len(run.steps),
        "tracks_median": int(np.median(run.tracks)),
        "objects_median": int(np.median(run.objects)),
        "moving_share": plain(float(np.mean(run.moving_share))),
        "image_size": f"{size_wh[0]}x{size_wh[1]}",
        "threads": 1,
    }


def scene_table(summary: dict[str, FlatValue]) -> Table:
    """Where the time goes."""
    table = Table(
        title=f"scene layer, {summary['steps']} steps at {summary['image_size']}, {summary['tracks_median']} tracks, "
        "one core"
    )
    for heading in ("part", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name in (*PARTS, REST):
        times = (summary[f"scene_{name}_ms_{rank}"] for rank in ("p50", "p95"))
        table.add_row(name.replace("_", " "), *(shown(value) for value in times))
    table.add_section()
    table.add_row("whole layer", shown(summary["scene_ms_p50"]), shown(summary["scene_ms_p95"]))
    table.add_row("asked for", f"{ASKED_MS:g}", "")
    return table
