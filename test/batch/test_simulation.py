"""The virtual night obeys what is known of list scheduling and of failures."""

import dataclasses

import pytest

from pomato_ros.batch.driver import cut
from pomato_ros.batch.options import BatchOptions
from pomato_ros.batch.simulation import FleetPlan, simulate

OPTIONS = BatchOptions()
QUIET = FleetPlan(bags=200, workers=10, frames=600, failures_per_hour=0.0, broken_share=0.0)


def test_without_failures_the_makespan_is_between_the_ideal_and_grahams_bound() -> None:
    for workers in (1, 3, 10, 50):
        result = simulate(dataclasses.replace(QUIET, workers=workers), OPTIONS)
        longest = QUIET.start_s + QUIET.seconds_per_frame[0] * OPTIONS.chunk
        assert result.ideal_s <= result.makespan_s + 1e-6
        assert result.makespan_s <= result.work_s / workers + longest + 1e-6
        assert result.utilisation == pytest.approx(result.work_s / (workers * result.makespan_s))
        assert result.worker_failures == 0


def test_one_bag_of_known_length_takes_a_known_time() -> None:
    plan = dataclasses.replace(QUIET, bags=1, workers=1, frames=300, frames_spread=0.0)
    chunks = cut(300, OPTIONS)
    result = simulate(plan, OPTIONS)
    frames = sum(count for _, count in chunks)
    assert result.tasks == len(chunks)
    assert result.makespan_s == pytest.approx(len(chunks) * plan.start_s + frames * 0.1, rel=0.01)


def test_failures_cost_time_and_lose_no_task() -> None:
    quiet = simulate(QUIET, OPTIONS)
    stormy = simulate(dataclasses.replace(QUIET, failures_per_hour=5.0), OPTIONS)
    assert stormy.worker_failures > 0
    assert stormy.work_s == quiet.work_s
    assert stormy.makespan_s > quiet.makespan_s
    assert stormy.utilisation < quiet.utilisation
    assert stormy.lost_s > 0


def test_broken_bags_go_to_quarantine_and_cost_little() -> None:
    broken = simulate(dataclasses.replace(QUIET, broken_share=1.0), OPTIONS)
    assert broken.quarantined == broken.tasks == QUIET.bags
    assert broken.work_s == pytest.approx(QUIET.bags * QUIET.start_s)


def test_the_same_seed_gives_the_same_night() -> None:
    plan = FleetPlan(bags=300, workers=7)
    assert simulate(plan, OPTIONS) == simulate(plan, OPTIONS)
    assert simulate(plan, OPTIONS) != simulate(dataclasses.replace(plan, seed=1), OPTIONS)
