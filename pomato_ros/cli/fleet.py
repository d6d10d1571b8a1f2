"""`pomato fleet`: what a night of many bags takes on many workers, on a virtual clock with measured service times."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pomato_ros.batch.options import BatchOptions
from pomato_ros.batch.simulation import FleetPlan, describe, simulate
from pomato_ros.cli.results import flat_line

DEFAULT = FleetPlan()


def fleet(
    bags: Annotated[int, typer.Option(help="recordings")] = DEFAULT.bags,
    workers: Annotated[int, typer.Option(help="tasks at a time")] = DEFAULT.workers,
    frames: Annotated[float, typer.Option(help="frames of a recording, on average")] = DEFAULT.frames,
    service: Annotated[
        Path | None, typer.Option(help="measured seconds a frame, one number a line; without it 0.1 s are assumed")
    ] = None,
    failures: Annotated[float, typer.Option(help="deaths of a worker an hour")] = DEFAULT.failures_per_hour,
    broken: Annotated[float, typer.Option(help="share of recordings that cannot be read")] = DEFAULT.broken_share,
    cost: Annotated[float, typer.Option(help="cost of a worker an hour")] = DEFAULT.cost_per_worker_hour,
    seed: Annotated[int, typer.Option(help="of lengths and failures")] = DEFAULT.seed,
    json: Annotated[bool, typer.Option("--json", help="print the result as one line of JSON last")] = False,
) -> int:
    """Makespan, cost and utilisation of a fleet's run, beside the ideal (docs/batch.md)."""
    rates = DEFAULT.seconds_per_frame
    if service is not None:
        rates = tuple(float(line) for line in service.read_text(encoding="utf-8").split())
    if not rates or min(rates) <= 0:
        raise typer.BadParameter("expected seconds above 0, one number a line", param_hint="--service")
    plan = dataclasses.replace(
        DEFAULT,
        bags=bags,
        workers=workers,
        frames=frames,
        seconds_per_frame=rates,
        failures_per_hour=failures,
        broken_share=broken,
        cost_per_worker_hour=cost,
        seed=seed,
    )
    result = simulate(plan, BatchOptions())
    table = Table(show_header=False, title="assumed service time" if service is None else "measured service time")
    for name, value in describe(plan, result):
        table.add_row(name, value)
    Console().print(table)
    if json:
        typer.echo(flat_line(dataclasses.asdict(result)))
    return 0
