"""`pomato evaluate rgbd` and `pomato evaluate stereo`: metric sensors on rendered sequences and on recordings."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation.oracle_report import Demand
from pomato_ros.evaluation.oracle_trial import WINDOWS_LATER
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.evaluation.suites import rgbd as rgbd_suite
from pomato_ros.evaluation.suites import stereo as stereo_suite
from pomato_ros.evaluation.suites.rendered import CACHE, FRAMES, SEQUENCES, RenderPlan
from pomato_ros.evaluation.suites.sensor_run import SensorResult
from pomato_ros.evaluation.suites.summary import demand_table, sequence_table
from pomato_ros.training.config import HELD_OUT_SEED

TABLE_WIDTH = 170  # where the terminal does not say
Sequences = Annotated[int, typer.Option(min=0, help="Ordinary sequences, others in proportion; 0: recordings only.")]
Frames = Annotated[int, typer.Option(min=2, help="Frames of each sequence.")]
Skip = Annotated[int, typer.Option(min=0, help="Begin so many seeds later: other sequences than the usual ones.")]
Kinds = Annotated[str, typer.Option(help="Kinds of sequences, separated by commas; empty: all.")]
Data = Annotated[Path | None, typer.Option(help="Folder of recordings, which are scored too.")]
Save = Annotated[Path | None, typer.Option(help="Folder for the result under this machine's name.")]
Cache = Annotated[Path, typer.Option(help="Folder that rendered sequences are kept in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one flat JSON object as the last line.")]


def evaluate_rgbd(
    sequences: Sequences = SEQUENCES,
    frames: Frames = FRAMES,
    skip: Skip = 0,
    kinds: Kinds = "",
    data: Data = None,
    save: Save = None,
    cache: Cache = CACHE,
    as_json: AsJson = False,
) -> int:
    """Measure the backend rgbd on rendered sequences with a simulated depth camera, and on recordings."""
    plan = RenderPlan(HELD_OUT_SEED + skip, sequences, frames, cache=cache)
    chosen = tuple(kinds.split(",")) if kinds else rgbd_suite.KINDS
    engine = Engine(PomatoConfig().with_values({"backend": "rgbd"}))

    def run(watch: Callable[[SensorResult], None]) -> list[SensorResult]:
        return rgbd_suite.run_suite(engine, plan, frames_later(), watch, chosen)

    total = sum(plan.count(kind) for kind in chosen) if sequences else 0
    scores = {} if data is None else rgbd_suite.score_recordings(engine, data)
    return report("rgbd", run, total, rgbd_suite.summarise_suite, scores, rgbd_suite.DEMANDS, save, as_json)


def evaluate_stereo(
    sequences: Sequences = SEQUENCES,
    frames: Frames = FRAMES,
    skip: Skip = 0,
    kinds: Kinds = "",
    data: Data = None,
    save: Save = None,
    cache: Cache = CACHE,
    as_json: AsJson = False,
) -> int:
    """Measure the backend stereo on rendered pairs and on a KITTI drive."""
    plan = RenderPlan(HELD_OUT_SEED + skip, sequences, frames, cache=cache)
    chosen = tuple(kinds.split(",")) if kinds else stereo_suite.KINDS
    engine = Engine(PomatoConfig().with_values({"backend": "stereo"}))

    def run(watch: Callable[[SensorResult], None]) -> list[SensorResult]:
        return stereo_suite.run_suite(engine, plan, frames_later(), watch, chosen)

    total = sum(plan.count(kind) for kind in chosen) if sequences else 0
    scores = {} if data is None else stereo_suite.score_recordings(engine, data)
    return report("stereo", run, total, stereo_suite.summarise_suite, scores, stereo_suite.DEMANDS, save, as_json)


def frames_later() -> int:
    """After how many frames tracks must still have their ids: five windows."""
    window = PomatoConfig().window
    return WINDOWS_LATER * (window.window_size - window.overlap)


def report(
    backend: str,
    run: Callable[[Callable[[SensorResult], None]], list[SensorResult]],
    total: int,
    summarise: Callable[[list[SensorResult]], dict[str, FlatValue]],
    recorded: dict[str, FlatValue],
    demands: tuple[Demand, ...],
    save: Path | None,
    as_json: bool,
) -> int:
    """Run, show both tables, and conclude with the flat result."""
    console = Console()
    console = console if console.is_terminal else Console(width=TABLE_WIDTH)
    started_s = time.perf_counter()
    summary: dict[str, FlatValue] = {}
    if total:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
            bar = bars.add_task(f"rendered sequences, {backend}", total=total)
            results = run(lambda _: bars.advance(bar))
        console.print(sequence_table(results))
        summary |= summarise(results)
    summary |= recorded
    console.print(demand_table(f"backend {backend}", summary, demands))
    conclude(backend, summary | {"seconds": round(time.perf_counter() - started_s, 2)}, save, as_json, console)
    return 0
