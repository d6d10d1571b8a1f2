"""`pomato batch`: many recordings, on this machine or on a cluster."""

import dataclasses
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pomato_ros.batch.driver import BatchReport, run_batch
from pomato_ros.batch.executors import InProcess, OnRay
from pomato_ros.batch.inputs import expand_inputs
from pomato_ros.batch.options import BatchOptions
from pomato_ros.batch.store import Store
from pomato_ros.cli.results import flat_line
from pomato_ros.config import ModelOptions, PomatoConfig
from pomato_ros.errors import PomatoError

DEFAULT = BatchOptions()


def batch(
    inputs: Annotated[list[str], typer.Argument(help="recordings: folders, videos, globs, URIs, or a .txt list")],
    out: Annotated[str, typer.Option(help="folder or URI (s3://...) of the results; an interrupted run goes on there")],
    workers: Annotated[int, typer.Option(help="tasks at a time; 0: in this process, without Ray")] = DEFAULT.workers,
    address: Annotated[str, typer.Option(help="a Ray cluster; empty: one on this machine")] = "",
    gpus: Annotated[float, typer.Option(help="share of a GPU for each task")] = DEFAULT.gpus,
    chunk: Annotated[int, typer.Option(help="frames of a task")] = DEFAULT.chunk,
    overlap: Annotated[int, typer.Option(help="frames that neighbouring tasks share")] = DEFAULT.overlap,
    max_frames: Annotated[int, typer.Option(help="frames of a recording at most; 0: all")] = DEFAULT.max_frames,
    checkpoint: Annotated[str, typer.Option(help="weights; empty: the bundled ones")] = "",
    json: Annotated[bool, typer.Option("--json", help="print counts as one line of JSON last")] = False,
) -> int:
    """Poses and quality of every frame of many recordings as Parquet and MCAP, with an index and a quarantine."""
    options = dataclasses.replace(
        DEFAULT, workers=workers, gpus=gpus, chunk=chunk, overlap=overlap, max_frames=max_frames
    )
    config = dataclasses.replace(PomatoConfig(), model=ModelOptions(checkpoint=checkpoint))
    try:
        recordings = expand_inputs(inputs)
        executor = OnRay(options, address or None) if workers else InProcess()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            bar = progress.add_task("tasks", total=None)
            report = run_batch(
                recordings,
                Store(out),
                executor,
                config,
                options,
                lambda done, total: progress.update(bar, completed=done, total=total),
            )
    except PomatoError as error:
        typer.echo(f"pomato batch: {error}", err=True)
        return 1
    _print(report, out)
    if json:
        typer.echo(flat_line(_counts(report)))
    return 0 if report.done or not report.quarantined else 1


def _print(report: BatchReport, out: str) -> None:
    """A line for the run and one for each failure."""
    for uri, reason in report.quarantined.items():
        typer.echo(f"quarantined {uri}: {reason}", err=True)
    counts = _counts(report)
    typer.echo(f"{counts['recordings']} recordings, {counts['frames']} frames, {counts['seconds']} s -> {out}")


def _counts(report: BatchReport) -> dict[str, float | int]:
    return {
        "recordings": len(report.done),
        "quarantined": len(report.quarantined),
        "frames": sum(int(row["frames"]) for row in report.done),
        "seconds": round(report.seconds, 2),
    }
