import os
import sys
import time
from pathlib import Path

import pytest

from pomato_ros.cli.processes import ChildProcess


def start(program: str, folder: Path) -> ChildProcess:
    return ChildProcess("child", [sys.executable, "-u", "-c", program], os.environ, folder)


def wait_for(child: ChildProcess, fact: str) -> None:
    deadline_s = time.monotonic() + 20.0
    while fact not in child.facts:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_json_lines_become_facts_and_the_rest_the_log(tmp_path: Path) -> None:
    child = start("print('hello'); print('{\"steps\": 3}'); print('{no json'); print('{\"steps\": 4}')", tmp_path)
    child.wait_until_ended(20.0)
    assert child.exit_code == 0
    assert child.facts == {"steps": 4}
    assert child.last_words() == "hello\n{no json"


def test_errors_are_in_the_log_too(tmp_path: Path) -> None:
    child = start("raise SystemExit('it broke')", tmp_path)
    child.wait_until_ended(20.0)
    assert child.exit_code == 1
    assert "it broke" in child.last_words()


def test_an_interrupted_child_can_say_goodbye(tmp_path: Path) -> None:
    child = start(
        "import signal, time; signal.signal(signal.SIGINT, lambda *_: (print('goodbye'), exit(5)))\n"
        "print('{\"ready\": 1}'); time.sleep(60)",
        tmp_path,
    )
    wait_for(child, "ready")
    child.interrupt()
    child.wait_until_ended(20.0)
    assert child.exit_code == 5
    assert child.last_words() == "goodbye"


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    child = start(
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('{\"ready\": 1}'); time.sleep(60)",
        tmp_path,
    )
    wait_for(child, "ready")
    child.interrupt()
    child.wait_until_ended(0.2)
    assert child.exit_code == -9


@pytest.mark.parametrize("line", ["{}", "{ }"])
def test_an_empty_object_changes_nothing(tmp_path: Path, line: str) -> None:
    child = start(f"print({line!r})", tmp_path)
    child.wait_until_ended(20.0)
    assert child.facts == {}
