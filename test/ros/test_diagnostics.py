"""What diagnostics say of a step that takes too long."""

import dataclasses

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
