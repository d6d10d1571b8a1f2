"""Logs: whole lines, every step once, and events only where TensorBoard is there."""

import json
import logging
import sys
from pathlib import Path

import pytest

from pomato_ros.training.journal import EVENTS_FOLDER, LOG_FILE, Journal, drop_after


def steps_in(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / LOG_FILE).read_text().splitlines()]


def test_lines_say_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, tensorboard=False)
    journal.write(3, "pairs", {"total": 0.5, "ego": 0.25})
    journal.write(3, "pairs", {"absrel": 0.125}, "validation")
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert [line.pop("time") > 0 for line in lines] == [True, True]
    assert lines == [
        {"step": 3, "stage": "pairs", "total": 0.5, "ego": 0.25},
        {"step": 3, "stage": "pairs", "validation": {"absrel": 0.125}},
    ]
    assert not (tmp_path / EVENTS_FOLDER).exists()


@pytest.mark.parametrize(("resumed", "kept"), [(0, []), (2, [1, 2, 2]), (3, [1, 2, 2, 3]), (9, [1, 2, 2, 3])])
def test_what_comes_again_is_dropped_and_the_rest_stays(tmp_path: Path, resumed: int, kept: list[int]) -> None:
    journal = Journal(tmp_path, 0, tensorboard=False)
    for step in (1, 2, 2, 3):
        journal.write(step, "pairs", {"total": 1.0})
    Journal(tmp_path, resumed, tensorboard=False).write(10, "pairs", {"total": 0.0})
    assert steps_in(tmp_path) == [*kept, 10]


@pytest.mark.parametrize("torn", ['{"step": 2, "sta', "{}", "7"])
def test_a_line_cut_short_is_dropped(tmp_path: Path, torn: str) -> None:
    path = tmp_path / LOG_FILE
    path.write_text(f'{{"step": 1}}\n{torn}')
    drop_after(path, 5)
    assert path.read_text() == '{"step": 1}\n'


def test_without_tensorboard_a_run_goes_on_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        journal = Journal(tmp_path, 0, tensorboard=True)
    assert "pip install 'tensorboard" in caplog.text
    journal.write(1, "pairs", {"total": 1.0})
    journal.close()
    assert steps_in(tmp_path) == [1]


def test_events_hold_every_value_once_also_of_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resumed, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        journal = Journal(tmp_path, resumed, tensorboard=True)
        for step in steps:
            journal.write(step, "pairs", {"total": step / 4})
            journal.write(step, "pairs", {"absrel": step / 8}, "validation")
        journal.close()
    events = EventAccumulator(str(tmp_path / EVENTS_FOLDER))
    events.Reload()
    for name, divisor in (("training/total", 4), ("validation/absrel", 8)):
        assert [(event.step, event.value) for event in events.Scalars(name)] == [
            (step, step / divisor) for step in (1, 2, 3, 4)
        ]
