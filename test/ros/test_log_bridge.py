"""The log of a node on which something is wrong at every frame can still be read."""

import logging
from typing import Any

import pytest

from pomato_ros.ros.log_bridge import AT_ONCE

LOG = logging.getLogger("pomato_ros.test_log_bridge")


def warn(number: int) -> None:
    LOG.warning("frame %d is dark", number)


def test_what_is_wrong_at_every_frame_is_written_a_few_times_and_then_counted(
    graph: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        warn(number)
        LOG.info("step %d", number)
    written = capfd.readouterr().err
    assert written.count("is dark") == AT_ONCE
    assert written.count("step ") == 100
    monkeypatch.setattr("pomato_ros.ros.log_bridge.REPEAT_S", 0.0)
    warn(100)
    assert f"frame 100 is dark ({100 - AT_ONCE} more of this kind since the last such line)" in capfd.readouterr().err


def test_other_things_are_written_meanwhile(graph: Any, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(10):
        warn(number)
    LOG.error("the camera is gone")
    assert "the camera is gone" in capfd.readouterr().err
