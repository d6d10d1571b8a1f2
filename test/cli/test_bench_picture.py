"""The benchmark's picture: bars that add up to the steps."""

from pathlib import Path

import cv2
import numpy as np

from pomato_ros.cli.bench_picture import draw_steps, stacked_stages
from pomato_ros.evaluation.bench.steps import SteadyRun, StepTiming

RUN = SteadyRun(
    (
        StepTiming(0.1, {"preprocess": 0.01, "model": 0.06, "scene": 0.02}, 0.01),
        StepTiming(0.2, {"preprocess": 0.02, "model": 0.15, "scene": 0.03}, None),
    ),
    100.0,
    0.0,
    0.0,
    0.0,
)


def test_the_parts_of_a_bar_are_the_whole_step_and_its_messages() -> None:
    parts = stacked_stages(RUN)
    np.testing.assert_allclose(sum(parts.values()), [110.0, 200.0])
    np.testing.assert_allclose(parts["the rest"], [10.0, 0.0], atol=1e-9)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "new" / "steps.png"
    draw_steps(RUN, "nano", path)
    assert np.asarray(cv2.imread(str(path))).std() > 5
