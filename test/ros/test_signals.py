"""How programs end: real processes, interrupted while they wait or play."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOM = Path(__file__).resolve().parents[2] / "pomato_ros" / "samples" / "room"


def publisher(*parameters: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pomato_ros.ros.frame_publisher", "--progress", "--ros-args"]
    for parameter in (f"video:={ROOM}", *parameters):
        command += ["-p", parameter]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("parameters", [("wait_for_subscribers:=9",), ("wait_for_subscribers:=0", "rate:=0.01")])
def test_a_publisher_that_waits_ends_when_it_is_interrupted(
    number: signal.Signals, parameters: tuple[str, ...]
) -> None:
    process = publisher(*parameters)
    assert process.stderr is not None
    while "waiting for" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1.0)  # it plays, where it does not wait for somebody
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_second_signal_does_not_disturb_the_end() -> None:
    process = publisher("wait_for_subscribers:=9")
    assert process.stderr is not None
    while "waiting for" not in process.stderr.readline():
        assert process.poll() is None
    for _ in range(3):
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors
