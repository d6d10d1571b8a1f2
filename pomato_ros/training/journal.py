"""What a run tells while it goes on: a bar, JSON lines, and TensorBoard's events beside them."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOGGER = logging.getLogger(__name__)
LOG_FILE = "log.jsonl"
EVENTS_FOLDER = "tensorboard"
NO_TENSORBOARD = "no TensorBoard events are written: pip install 'tensorboard>=2.15' for them, or pass --no-tensorboard"


class Journal:
    """Logs of the steps of one call of a run; one that is resumed goes on where the state stands.

    What an interrupted call logged beyond its last checkpoint is dropped, since these steps come again.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        """Go on in ``folder`` after ``step``; ``tensorboard``: write events too, where it is installed."""
        self._path = folder / LOG_FILE
        drop_after(self._path, step)
        self._events = open_events(folder / EVENTS_FOLDER, step) if tensorboard else None

    def write(self, step: int, stage: str, values: Mapping[str, float], group: str = "") -> None:
        """One JSON object a line: values by name, or under the name of their group."""
        entry = {"step": step, "stage": stage, "time": round(time.time()), **({group: values} if group else values)}
        with self._path.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{group or 'training'}/{name}", value, step)

    def close(self) -> None:
        """Write out what is still held back."""
        if self._events is not None:
            self._events.close()


def drop_after(path: Path, step: int) -> None:
    """Remove lines of later steps than ``step`` from a log, and one that an interruption cut short."""
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    kept = [line for line in lines if is_up_to(line, step)]
    if kept != lines:
        partial = path.with_suffix(".partial")
        partial.write_text("".join(f"{line}\n" for line in kept))
        partial.replace(path)


def is_up_to(line: str, step: int) -> bool:
    """Whether a line of a log is whole and of a step no later than ``step``."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


def open_events(folder: Path, step: int) -> "SummaryWriter | None":
    """TensorBoard's writer, events after ``step`` of earlier calls withdrawn; nothing where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        LOGGER.info(NO_TENSORBOARD)
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


class Advance:
    """Moves the progress bar."""

    def __init__(self, progress: Progress, total: int, step: int) -> None:
        """A bar of ``total`` steps that stands at ``step``."""
        self._progress = progress
        self._status = ""
        self._task = progress.add_task("training", total=total, completed=step, status="")

    def __call__(self, step: int, status: str = "") -> None:
        """Show ``step`` and a few words, those of before if none are given."""
        self._status = status or self._status
        self._progress.update(self._task, completed=step, status=self._status)


@contextmanager
def progress_bar(total: int, step: int, shown: bool = True) -> Iterator[Advance]:
    """A bar with elapsed and remaining time."""
    columns = (
        TextColumn("{task.description} {task.completed}/{task.total}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, disable=not shown) as progress:
        yield Advance(progress, total, step)
