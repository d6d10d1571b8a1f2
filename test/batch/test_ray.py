"""On a real, small Ray cluster: killed workers and drivers change nothing in the results."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pomato_ros.batch.driver import run_batch
from pomato_ros.batch.executors import InProcess
from pomato_ros.batch.inputs import expand_inputs
from pomato_ros.batch.options import BatchOptions
from pomato_ros.batch.store import Store
from pomato_ros.config import PomatoConfig

pytest.importorskip("ray", reason="Ray is not installed (the extra `batch`)")
pytest.importorskip("pyarrow", reason="pyarrow is not installed (the extra `batch`)")
TIMEOUT_S = 180


def start_batch(recordings: Path, out: Path) -> "subprocess.Popen[bytes]":
    arguments = [f"{recordings}/*", "--out", str(out), "--workers", "1", "--chunk", "4", "--overlap", "2"]
    command = [sys.executable, "-m", "pomato_ros.cli.main", "batch", *arguments]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def chunk_count(out: Path) -> int:
    return len(list(out.glob("*/chunks/*.npz")))


def wait_for_chunks(out: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + TIMEOUT_S
    while chunk_count(out) < count and process.poll() is None:
        assert time.monotonic() < end, "the run makes no progress"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and theirs."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        queue += (own := children.get(queue.pop(), []))
        found += own
    return found


def worker_of(process: "subprocess.Popen[bytes]") -> int | None:
    """A process of Ray that evaluates tasks of the driver ``process``."""
    for pid in descendants(process.pid):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::attempt"):
            return pid
    return None


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".part"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find the workers")
def test_killed_workers_and_drivers_change_nothing(recordings: Path, tmp_path: Path) -> None:
    options = BatchOptions(chunk=4, overlap=2, workers=0)
    inputs = expand_inputs([f"{recordings}/*"])
    run_batch(inputs, Store(str(tmp_path / "whole")), InProcess(), PomatoConfig(), options)

    out = tmp_path / "out"
    process = start_batch(recordings, out)
    wait_for_chunks(out, 1, process)
    worker = worker_of(process)
    if worker is not None:
        os.kill(worker, signal.SIGKILL)
    wait_for_chunks(out, 2, process)
    started = descendants(process.pid)
    process.kill()  # the driver, as a full machine or an impatient hand does
    process.wait()
    for pid in started:  # its cluster ends by itself, only later
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert not (out / "index.parquet").exists()
    assert start_batch(recordings, out).wait(TIMEOUT_S) == 0
    assert files_of(out) == files_of(tmp_path / "whole")
