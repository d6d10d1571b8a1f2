"""`pomato evaluate recorded`: real recordings with truth."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pomato_ros.cli.evaluate.options import AsJson, Save, Threads, Weights, open_console, progress, report_failure
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation.recorded import evaluate_recorded, find_recordings
from pomato_ros.evaluation.recorded_report import davis_table, kitti_table, summarise_recorded
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.evaluation.score import EVERY_PIXEL


def evaluate_recordings(
    folder: Annotated[Path, typer.Argument(help="With davis/NAME/{images,masks} or kitti_stereo.")],
    weights: Weights = None,
    save: Save = None,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> int:
    """Masks and poses on real recordings, beside an OpenCV pipeline."""
    console = open_console()
    config = PomatoConfig().with_values({"checkpoint": str(weights or ""), "num_threads": threads, **EVERY_PIXEL})

    def measure() -> None:
        conclude("recorded", evaluate_real(Engine(config), folder, console), save, as_json, console)

    return report_failure(console, measure)


def evaluate_real(engine: Engine, folder: Path, console: Console) -> dict[str, FlatValue]:
    """Run, score and show the real sequences under ``folder``; their summary.

    Raises:
        OSError: there are none, or a file cannot be read.
    """
    recordings = find_recordings(folder)
    with progress(console) as bars:
        bar = bars.add_task("real sequences", total=recordings.count)
        results = evaluate_recorded(engine, recordings, lambda: bars.advance(bar))
    if results.davis:
        console.print(davis_table(results.davis))
    if results.kitti is not None:
        console.print(kitti_table(results.kitti))
    return summarise_recorded(results)
