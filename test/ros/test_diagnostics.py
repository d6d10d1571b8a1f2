"""What diagnostics say of a step that takes too long."""

import dataclasses

import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.latency import LatencyBudget, Setting
from pomato_ros.ros.diagnostics import OK, WARN, build_statuses
from pomato_ros.ros.status import NodeStatus, SceneStatus
from pomato_ros.structures import BudgetReport


def window_status(budget: BudgetReport):
    status = NodeStatus()
    status.scene = dataclasses.replace(SceneStatus(), state="tracking", budget=budget)
    statuses = {item.name: item for item in build_statuses("pomato", status, PomatoConfig())}
    window = statuses["pomato: window"]
    return window, {pair.key: pair.value for pair in window.values}


def test_a_budget_that_cannot_be_kept_is_a_warning_and_one_that_is_kept_is_not() -> None:
    budget = LatencyBudget((Setting(12), Setting(8)))
    for seconds, level in ((0.05, OK), (0.2, WARN)):
        for _ in range(10):
            budget.observe({"model": seconds}, 0.1, budget.setting)
        window, values = window_status(budget.report())
        assert window.level == level
        assert values["budget"] == budget.report().summary
    assert "max_latency_ms" in window.message
    assert "200 of 100 ms" in window.message


def test_what_was_left_out_is_named() -> None:
    status = NodeStatus()
    status.scene = dataclasses.replace(SceneStatus(), state="tracking", left_out="matching pointmap of tracks: why")
    window = next(item for item in build_statuses("pomato", status, PomatoConfig()) if item.name == "pomato: window")
    assert {pair.key: pair.value for pair in window.values}["left_out"] == "matching pointmap of tracks: why"


def test_without_a_budget_nothing_is_said() -> None:
    window, values = window_status(BudgetReport())
    assert window.level == OK
    assert values["budget"] == ""


@pytest.mark.parametrize(
    ("age_s", "simulated", "told"),
    [
        (0.1, False, ""),
        (-0.1, False, ""),
        (12.0, False, "12.0 s behind this machine's clock: images queue up"),
        (-3.0, False, "3.0 s ahead of this machine's clock: two machines' clocks differ"),
        (90 * 86400.0, False, "90.0 days behind this machine's clock: a recording"),
        (-1.8e9, True, "ahead of /clock (use_sim_time): is /clock published"),
    ],
)
def test_a_clock_that_does_not_fit_is_named(age_s: float, simulated: bool, told: str) -> None:
    status = NodeStatus()
    status.output.age_ms, status.output.ros_time_is_simulated = 1e3 * age_s, simulated
    output = next(item for item in build_statuses("pomato", status, PomatoConfig()) if item.name == "pomato: output")
    assert output.level == (WARN if told else OK)
    assert told in output.message


def test_the_namespace_is_in_every_name() -> None:
    for item in build_statuses("front/pomato", NodeStatus(), PomatoConfig()):
        assert item.name.startswith("front/pomato: ")
        assert item.hardware_id == "front/pomato"
