"""The tool that tells how the bundled weights learned."""

import json
from pathlib import Path

import numpy as np
import pytest

from tools.learning_curves import draw, looks_of_log, power_law


def test_a_power_law_is_found_again() -> None:
    minutes = np.array([60.0, 150.0, 400.0])
    assert power_law(minutes, 0.6 * minutes**-0.2) == pytest.approx((0.6, 0.2))


def test_looks_follow_those_of_earlier_runs_and_are_drawn(tmp_path: Path) -> None:
    scores = {"absrel": 0.3, "motion": 1.0, "mask_iou": 0.0}
    lines = [{"step": 10, "time": 600.0}, {"step": 150, "time": 1200.0, "validation": scores}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    first = [{"run": 1, "minutes": 60, "step": 9, "absrel": 0.4, "motion": 1.2}]
    looks = first + looks_of_log(log, run=2, minutes_before=60)
    assert looks[1] == {"run": 2, "minutes": 70, "step": 150, "absrel": 0.3, "motion": 1.0}
    assert "hours on such a machine" in draw(looks, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
