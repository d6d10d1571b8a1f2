"""Results of measurements as files that say on what machine and from which commit they come."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import typer
from rich.console import Console

from pomato_ros.evaluation.report import FlatValue
from pomato_ros.hardware import accelerator_name, instruction_set

REPOSITORY = Path(__file__).resolve().parents[2]
CPU_INFO = Path("/proc/cpuinfo")


def flat_line(result: Mapping[str, FlatValue]) -> str:
    """One line of JSON; values that JSON does not know are an error."""
    return json.dumps(dict(result), allow_nan=False)


def save_result(folder: Path, kind: str, result: Mapping[str, FlatValue], machine: str = "") -> Path:
    """Write ``<kind>-<machine>.json`` with the machine's name and the commit; an older result there is replaced.

    Args:
        folder: made if need be.
        kind: what was measured.
        result: flat; with ``device`` where it depends on one.
        machine: name of the machine; empty takes :func:`machine_name`.
    """
    name = machine or machine_name(str(result.get("device", "cpu")))
    described = {"kind": kind, "machine": name, "commit": commit(), "python": platform.python_version(), **result}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{slug(name)}.json"
    path.write_text(json.dumps(described, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def conclude(kind: str, result: Mapping[str, FlatValue], save: Path | None, as_json: bool, console: Console) -> None:
    """What a measuring command ends with: the result saved under this machine's name, and as the last line printed."""
    if save is not None:
        console.print(f"saved {save_result(save, kind, result)}", highlight=False)
    if as_json:
        typer.echo(flat_line(result))


def machine_name(device: str = "cpu") -> str:
    """Processor, number of cores this process may use, and the instructions that torch uses there; a GPU before all."""
    names = (accelerator_name(device), processor_name())
    return f"{' on '.join(filter(None, names))} x{core_count()} {instruction_set()}"


def processor_name() -> str:
    """The processor's own name, or its kind where the system does not say."""
    if CPU_INFO.is_file():
        match = re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """Short commit of the source tree, marked where files differ from it; ``unknown`` outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--match", ""]
    try:
        described = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def slug(name: str) -> str:
    """A name that can be part of a file's: lower case, words joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((?:r|tm|c)\)", "", name.lower())))
