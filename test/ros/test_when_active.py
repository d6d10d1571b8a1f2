"""A command that waits for the node, as a bag does: real node, real process."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MODULE = [sys.executable, "-m", "pomato_ros.ros.when_active"]


@pytest.fixture
def run(make_graph: Callable[..., Any]) -> Iterator[Callable[..., tuple[Any, subprocess.Popen[str]]]]:
    """Starts a graph and a process that waits for its node."""
    started: list[subprocess.Popen[str]] = []

    def start(command: list[str], **parameters: Any) -> tuple[Any, subprocess.Popen[str]]:
        graph = make_graph(**parameters)
        environment = {**os.environ, "ROS_DOMAIN_ID": str(graph.context.get_domain_id())}
        started.append(
            subprocess.Popen([*MODULE, *command], env=environment, stderr=subprocess.PIPE, text=True, bufsize=1)
        )
        return graph, started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def wait_for(graph: Any, condition: Callable[[], bool]) -> None:
    """Spin until it holds; a process needs seconds to start on a busy machine."""
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s
        graph.spin_for(0.1)


def until_it_waits(graph: Any) -> None:
    wait_for(graph, lambda: "when_active" in graph.client.get_node_names())


def test_a_command_runs_once_the_node_is_active_and_not_before(run: Callable[..., Any], tmp_path: Path) -> None:
    done = tmp_path / "done"
    graph, process = run([sys.executable, "-c", f"open({str(done)!r}, 'w')"], autostart=False)
    until_it_waits(graph)
    graph.node.trigger_configure()
    graph.spin_for(0.5)
    assert not done.exists()
    graph.node.trigger_activate()
    wait_for(graph, lambda: process.poll() is not None)
    assert process.returncode == 0
    assert done.exists()


def test_a_command_that_is_not_there_is_named(run: Callable[..., Any]) -> None:
    graph, process = run(["no-such-program"])
    wait_for(graph, lambda: process.poll() is not None)
    assert process.returncode == 127
    assert "'no-such-program' cannot be run" in process.communicate()[1]


def test_an_interrupt_ends_the_waiting(run: Callable[..., Any]) -> None:
    graph, process = run(["true"], autostart=False)
    until_it_waits(graph)
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
