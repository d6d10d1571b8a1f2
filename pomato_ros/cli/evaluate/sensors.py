"""`pomato evaluate rgbd` and `stereo`: rendered sequences as sensors see them, and recordings, in metres."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pomato_ros.cli.evaluate.options import AsJson, Save, Skip, open_console, progress, report_failure
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation.oracle_report import Demand
from pomato_ros.evaluation.oracle_trial import WINDOWS_LATER
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.evaluation.suites import rgbd, stereo
from pomato_ros.evaluation.suites.rendered import FRAMES, SEQUENCES, WORLDS, RenderPlan
from pomato_ros.evaluation.suites.sensor_run import SensorResult
from pomato_ros.evaluation.suites.summary import demand_table, sequence_table
from pomato_ros.training.config import HELD_OUT_SEED

Sequences = Annotated[int, typer.Option(min=0, help="Ordinary sequences, others in proportion; 0: --data alone.")]
Frames = Annotated[int, typer.Option(min=2, help="Frames of each sequence.")]
Data = Annotated[Path | None, typer.Option(help="Folder of recordings; those that are there are scored as well.")]
Kinds = Annotated[str, typer.Option(help=f"Kinds of sequences, separated by commas: {', '.join(rgbd.KINDS)}.")]


@dataclass(frozen=True, slots=True)
class Suite:
    """What one sensor's suite is made of."""

    run: Callable[[Perceiver, RenderPlan, int, Callable[[SensorResult], None], tuple[str, ...]], list[SensorResult]]
    summarise: Callable[[list[SensorResult]], dict[str, FlatValue]]
    score_recordings: Callable[[Perceiver, Path], dict[str, FlatValue]]
    demands: tuple[Demand, ...]


RGBD_KINDS, STEREO_KINDS = ",".join(rgbd.KINDS), ",".join(stereo.KINDS)
RGBD = Suite(rgbd.run_suite, rgbd.summarise_suite, rgbd.score_recordings, rgbd.DEMANDS)
STEREO = Suite(stereo.run_suite, stereo.summarise_suite, stereo.score_recordings, stereo.DEMANDS)


def evaluate_rgbd(
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    kinds: Kinds = RGBD_KINDS,
    data: Data = None,
    save: Save = None,
    as_json: AsJson = False,
) -> int:
    """A depth camera: poses, masks, tracks and depth in metres, with movers, driving and standing still."""
    plan = RenderPlan(HELD_OUT_SEED + skip, sequences, frames)
    return evaluate_sensor("rgbd", RGBD, plan, kinds, data=data, save=save, as_json=as_json)


def evaluate_stereo(
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    kinds: Kinds = STEREO_KINDS,
    data: Data = None,
    save: Save = None,
    as_json: AsJson = False,
) -> int:
    """A rectified stereo pair: poses, masks, tracks and depth in metres."""
    plan = RenderPlan(HELD_OUT_SEED + skip, sequences, frames)
    return evaluate_sensor("stereo", STEREO, plan, kinds, data=data, save=save, as_json=as_json)


def evaluate_sensor(
    backend: str, suite: Suite, plan: RenderPlan, kinds: str, *, data: Path | None, save: Path | None, as_json: bool
) -> int:
    """One suite with the backend of the same name; tables beside what is asked for."""
    console = open_console()
    config = PomatoConfig().with_values({"backend": backend})

    def measure() -> None:
        started_s, engine = time.perf_counter(), Engine(config)
        summary: dict[str, FlatValue] = {} if data is None else suite.score_recordings(engine, data)
        if plan.sequences:
            results = run_rendered_kinds(engine, suite, plan, tuple(kinds.split(",")), console)
            console.print(sequence_table(results))
            summary |= suite.summarise(results) | {"first_seed": plan.held_out_seed}
        summary |= {"backend": backend, "seconds": round(time.perf_counter() - started_s, 2)}
        console.print(demand_table(f"backend {backend}", summary, suite.demands))
        conclude(backend, summary, save, as_json, console)

    return report_failure(console, measure)


def run_rendered_kinds(
    engine: Perceiver, suite: Suite, plan: RenderPlan, kinds: tuple[str, ...], console: Console
) -> list[SensorResult]:
    """The rendered sequences of some kinds, under a bar.

    Raises:
        ValueError: there is no such kind.
    """
    unknown = [kind for kind in kinds if kind not in WORLDS]
    if unknown:
        raise ValueError(f"expected kinds among {', '.join(WORLDS)}, got {', '.join(unknown)}")
    window = PomatoConfig().window
    frames_later = WINDOWS_LATER * (window.window_size - window.overlap)
    with progress(console) as bars:
        bar = bars.add_task("rendered sequences", total=sum(plan.count(kind) for kind in kinds))
        return suite.run(engine, plan, frames_later, lambda _: bars.advance(bar), kinds)
