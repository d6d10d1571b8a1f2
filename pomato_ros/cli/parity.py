"""`pomato parity`: this package's numbers beside the published ones."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pomato_ros.evaluation.parity.engine import check_fixture
from pomato_ros.evaluation.parity.fixture import unique_fixtures
from pomato_ros.evaluation.parity.report import FixtureReport, Measure, ParityError, Row, Status
from pomato_ros.training.parity import LOSS_CHECKS


def parity(
    files: Annotated[list[Path], typer.Argument(help="Fixtures: .npz with a JSON sidecar, or the loaders' .json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one flat JSON object as the last line.")] = False,
) -> None:
    """Check fixtures of the published code array by array; exit 1 if any error is over its tolerance."""
    reports: list[FixtureReport] = []
    unreadable = 0
    for file in unique_fixtures(files):
        try:
            reports.append(check_fixture(file, LOSS_CHECKS))
        except ParityError as error:
            typer.echo(f"{file.name}: {error}\n", err=True)
            unreadable += 1
            continue
        typer.echo(format_report(reports[-1]) + "\n")
    totals = {
        "fixtures": len(reports),
        "arrays_checked": sum(report.checked for report in reports),
        "over_tolerance": sum(report.over for report in reports),
        "not_covered": sum(report.not_covered for report in reports),
        "unreadable": unreadable,
    }
    typer.echo(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in totals.items()))
    if as_json:
        typer.echo(json.dumps(totals))
    if totals["over_tolerance"] or unreadable:
        raise typer.Exit(1)


def format_report(report: FixtureReport) -> str:
    """One line for each array that was compared or is not covered; inputs together on one."""
    inputs = [row.name for row in report.rows if row.status is Status.INPUT]
    rows = [row for row in report.rows if row.status is not Status.INPUT]
    width = max((len(row.name) for row in rows), default=0)
    counts = f"checked {report.checked}, over tolerance {report.over}, not covered {report.not_covered}"
    lines = [report.fixture, *(_format_row(row, width) for row in rows)]
    if inputs:
        lines.append(f"  {Status.INPUT.value:<11}  {', '.join(inputs)}")
    return "\n".join([*lines, f"  {counts}"])


def _format_row(row: Row, width: int) -> str:
    """Status, name, and each error beside its tolerance."""
    details = [_format_measure(measure) for measure in row.measures]
    if row.note:
        details.append(f"({row.note})")
    return f"  {row.status.value:<11}  {row.name:<{width}}  {'  '.join(details)}".rstrip()


def _format_measure(measure: Measure) -> str:
    """``max 2.1e-06 of 5.0e-05``."""
    tolerance = "" if measure.tolerance is None else f" of {measure.tolerance:.1e}"
    return f"{measure.label} {measure.error:.1e}{tolerance}"
