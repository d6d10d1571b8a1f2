"""What the subcommands of `pomato evaluate` share: options, progress bar, console and failure."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import PomatoError
from pomato_ros.evaluation.score import EVERY_PIXEL

TABLE_WIDTH = 150  # where the terminal does not say

Weights = Annotated[Path | None, typer.Option(help="Weights file; without it the bundled ones.")]
Skip = Annotated[int, typer.Option(min=0, help="Begin so many seeds later: other sequences than the usual ones.")]
Save = Annotated[Path | None, typer.Option(help="Folder for the result under this machine's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one flat JSON object as the last line.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads of the network; 0: as num_threads.")]


def network_config(weights: Path | None, threads: int) -> PomatoConfig:
    """Options of a network whose every depth counts, also one of low confidence."""
    return PomatoConfig().with_values({"checkpoint": str(weights or ""), "num_threads": threads, **EVERY_PIXEL})


def open_console() -> Console:
    """A console whose tables are not folded where there is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)


def progress(console: Console) -> Progress:
    """A bar with counts and time; silent without a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def report_failure(console: Console, measure: Callable[[], None]) -> int:
    """Run ``measure``; exit status 1 with one line for what a user can mend, any other error shows its traceback."""
    try:
        measure()
    except (PomatoError, OSError) as error:
        console.print(f"[bold red]evaluation failed:[/] {error}", highlight=False)
        return 1
    return 0
