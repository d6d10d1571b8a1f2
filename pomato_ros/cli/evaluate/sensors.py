"""`pomato evaluate rgbd` and `stereo`: rendered sequences as sensors see them, and recordings, in metres."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pomato_ros.cli.evaluate.options import AsJson, Save, Skip, open_console, progress, report_failure
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.evaluation.suites import rgbd, stereo
from pomato_ros.evaluation.suites.rendered import FRAMES, SEQUENCES, RenderPlan
from pomato_ros.evaluation.suites.sensor_run import SensorResult
from pomato_ros.training.config import HELD_OUT_SEED

Sequences = Annotated[int, typer.Option(min=0, help="Ordinary sequences, others in proportion; 0: --data alone.")]
Frames = Annotated[int, typer.Option(min=2, help="Frames of each sequence.")]
Data = Annotated[Path | None, typer.Option(help="Folder of recordings; those that are there are scored as well.")]
RunSuite = Callable[[Perceiver, RenderPlan, int, Callable[[SensorResult], None]], list[SensorResult]]


def evaluate_rgbd(
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    data: Data = None,
    save: Save = None,
    as_json: AsJson = False,
) -> int:
    """A depth camera: poses, masks, tracks and depth in metres, with movers, driving and standing still."""
    plan = RenderPlan(HELD_OUT_SEED + skip, sequences, frames)
    suite = (rgbd.run_suite, rgbd.summarise_suite, rgbd.score_recordings)
    return evaluate_sensor("rgbd", plan, *suite, data=data, save=save, as_json=as_json)


def evaluate_stereo(
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    data: Data = None,
    save: Save = None,
    as_json: AsJson = False,
) -> int:
    """A rectified stereo pair: poses, masks, tracks and depth in metres."""
    plan = RenderPlan(HELD_OUT_SEED + skip, sequences, frames)
    suite = (stereo.run_suite, stereo.summarise_suite, stereo.score_recordings)
    return evaluate_sensor("stereo", plan, *suite, data=data, save=save, as_json=as_json)


def evaluate_sensor(
    backend: str,
    plan: RenderPlan,
    run_suite: RunSuite,
    summarise: Callable[[list[SensorResult]], dict[str, FlatValue]],
    score_recordings: Callable[[Perceiver, Path], dict[str, FlatValue]],
    *,
    data: Path | None,
    save: Path | None,
    as_json: bool,
) -> int:
    """One suite with the backend of the same name."""
    console = open_console()
    config = PomatoConfig().with_values({"backend": backend})

    def measure() -> None:
        started_s, engine = time.perf_counter(), Engine(config)
        summary: dict[str, FlatValue] = {}
        if plan.sequences:
            with progress(console) as bars:
                bar = bars.add_task("rendered sequences", total=None)
                frames_later = config.window.window_size - config.window.overlap
                summary |= summarise(run_suite(engine, plan, frames_later, lambda result: bars.advance(bar)))
            summary |= {"first_seed": plan.held_out_seed}
        if data is not None:
            summary |= score_recordings(engine, data)
        summary |= {"backend": backend, "seconds": round(time.perf_counter() - started_s, 2)}
        for key, value in summary.items():
            console.print(f"{key:32}{value}", highlight=False)
        conclude(backend, summary, save, as_json, console)

    return report_failure(console, measure)
