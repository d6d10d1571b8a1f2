"""The latency budget against machines whose time for a window of n frames is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.evaluation.bench.twins import largest_error, random_frames
from pomato_ros.latency import LONGEST_PATIENCE, STEPS_JUDGED, LatencyBudget, Setting, settings, window_levels
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.preprocess import network_inputs
from pomato_ros.sources.dust3r.streaming import WindowStream
from pomato_ros.sources.dust3r.wiring import predict_window
from pomato_ros.window import RollingWindow

SIZES = (12, 10, 8, 6)
WINDOWS = tuple(Setting(size) for size in SIZES)
Cost = Callable[[int, int], float]  # window size, number of the step -> seconds


def steps(budget: LatencyBudget, count: int, cost: Cost, allowed_s: float) -> list[int]:
    """The window sizes of ``count`` steps, each told with its cost."""
    sizes = []
    for number in range(count):
        sizes.append(budget.setting.window_size)
        seconds = cost(sizes[-1], number)
        budget.observe({"preprocess": 0.1 * seconds, "model": 0.9 * seconds}, allowed_s, Setting(sizes[-1]))
    return sizes


def linear(window_size: int, _: int) -> float:
    return 0.01 * window_size


def noisy(window_size: int, number: int) -> float:
    return linear(window_size, number) * (1 + 0.03 * np.sin(2.4 * number))


def test_without_a_budget_nothing_is_shortened_or_said() -> None:
    budget = LatencyBudget(WINDOWS)
    assert set(steps(budget, 200, lambda size, _: 1e3 * size, allowed_s=0.0)) == {12}
    assert budget.report().summary == ""


@pytest.mark.parametrize(("allowed_s", "size"), [(0.13, 12), (0.115, 10), (0.09, 8), (0.065, 6)])
def test_it_settles_on_the_longest_window_that_fits_and_stays(allowed_s: float, size: int) -> None:
    budget = LatencyBudget(WINDOWS)
    assert set(steps(budget, 500, noisy, allowed_s)[-400:]) == {size}
    assert budget.estimate_s <= allowed_s
    assert not budget.is_over


def test_it_moves_one_level_at_a_time() -> None:
    budget = LatencyBudget(WINDOWS)
    down = steps(budget, 100, linear, 0.065)
    up = steps(budget, 400, lambda size, _: 1e-3 * size, 0.065)
    levels = [SIZES.index(size) for size in (*down, *up)]
    assert np.abs(np.diff(levels)).max() == 1
    assert (down[-1], up[-1]) == (6, 12)


def test_what_cannot_be_kept_is_said() -> None:
    budget = LatencyBudget(WINDOWS)
    steps(budget, 100, linear, 0.03)
    assert budget.setting.window_size == 6
    assert budget.is_over
    assert budget.report().summary == "over: window 6 of 12, 60 of 30 ms (last: preprocess 6, model 54)"
    steps(budget, 2 * STEPS_JUDGED, lambda size, _: 0.02, 0.03)
    assert not budget.is_over


def test_one_disturbed_step_in_a_round_decides_nothing() -> None:
    budget = LatencyBudget(WINDOWS)
    sizes = steps(budget, 480, lambda size, number: 9.0 if number % STEPS_JUDGED == 7 else linear(size, 0), 0.13)
    assert set(sizes) == {12}


def test_two_long_steps_are_enough() -> None:
    budget = LatencyBudget(WINDOWS)
    assert steps(budget, 3, linear, 0.11) == [12, 12, 10]


def test_it_climbs_only_where_the_longer_window_is_expected_to_fit() -> None:
    budget = LatencyBudget(WINDOWS)
    steps(budget, 10, linear, 0.11)
    assert budget.setting.window_size == 10
    # 12 / 10 of this is above 0.9 of what is allowed
    assert set(steps(budget, 300, lambda *_: 0.085, 0.11)) == {10}
    assert steps(budget, 2 * STEPS_JUDGED, lambda *_: 0.08, 0.11)[-1] == 12


def test_attempts_that_fail_become_rare_but_never_cease() -> None:
    def cliff(size: int, _: int) -> float:  # a longer window costs far more than in proportion
        return 0.2 if size == 12 else 0.05

    budget = LatencyBudget(WINDOWS)
    sizes = np.array(steps(budget, 60 * STEPS_JUDGED * LONGEST_PATIENCE // 8, cliff, 0.1))
    attempts = np.flatnonzero(np.diff(sizes) > 0)
    gaps = np.diff(attempts)
    assert len(attempts) > 5
    assert (np.diff(gaps) >= 0).all()
    assert gaps[-1] == pytest.approx(LONGEST_PATIENCE * STEPS_JUDGED, abs=STEPS_JUDGED)
    assert (sizes == 12).mean() < 0.02


def test_steps_of_the_window_before_are_not_counted() -> None:
    budget = LatencyBudget(WINDOWS)
    for _ in range(50):
        budget.observe({"model": 9.0}, 0.13, Setting(10))
    assert budget.setting.window_size == 12
    assert budget.report().summary == "window 12 of 12, measuring"


def test_a_budget_that_is_lifted_gives_the_whole_window_back() -> None:
    budget = LatencyBudget(WINDOWS)
    steps(budget, 100, linear, 0.065)
    budget.observe({"model": 0.06}, 0.0, Setting(6))
    assert (budget.setting.window_size, budget.report().summary) == (12, "")


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ((12, 4, "anchored"), (12, 10, 8)),
        ((12, 4, "rolling"), (12, 10, 8, 6)),
        ((12, 2, "anchored"), (12, 10, 8, 6)),
        ((6, 4, "anchored"), (6,)),
        ((2, 1, "anchored"), (2,)),
        ((5, 1, "rolling"), (5, 4, 3)),
    ],
)
def test_windows_are_shortened_as_far_as_the_overlap_allows(
    options: tuple[int, int, str], sizes: tuple[int, ...]
) -> None:
    assert window_levels(*options) == sizes


def test_what_costs_least_is_given_up_first() -> None:
    assert settings(12, 4, "anchored", hop=4) == (
        Setting(12, 4),
        Setting(12, 2),
        Setting(12),
        Setting(10),
        Setting(8),
        Setting(8, match_tracks=False),
        Setting(8, stride=2, match_tracks=False),
    )
    assert settings(6, 4, "anchored") == (
        Setting(6),
        Setting(6, match_tracks=False),
        Setting(6, stride=2, match_tracks=False),
    )
    costs = [setting.cost for setting in settings(12, 2, "anchored", hop=5)]
    assert (np.diff(costs) < 0).all()


def seconds_of(setting: Setting) -> float:
    """What a step takes on some machine: less than in proportion is saved by each thing that is given up."""
    heads = 1.0 if setting.match_tracks else 0.85
    return (0.01 * setting.window_size + 0.02 * setting.hop) * heads * (0.9 if setting.stride > 1 else 1.0)


@pytest.mark.parametrize(("allowed_s", "matched"), [(0.3, True), (0.108, True), (0.095, False), (0.082, False)])
def test_tracks_are_left_to_the_image_when_shorter_windows_are_not_enough_and_only_then(
    allowed_s: float, matched: bool
) -> None:
    # a window of 8 takes 0.1 s, without the tracks' matching pointmap 0.085 s, and with coarse maps 0.0765 s
    budget = LatencyBudget(settings(12, 4, "anchored"))
    reached = []
    for _ in range(2000):
        reached.append(budget.setting)
        budget.observe({"model": seconds_of(budget.setting)}, allowed_s, budget.setting)
    settled = reached[-STEPS_JUDGED:]
    assert {setting.match_tracks for setting in settled} == {matched}
    assert all(setting.match_tracks or setting.window_size == 8 for setting in reached)
    assert not budget.is_over
    assert ("tracks found in the image alone" in budget.report().summary) == (not matched)
    assert ("one pixel in 2 by 2" in budget.report().summary) == (allowed_s < 0.085)


def test_every_level_is_reached_under_load_and_left_again_one_at_a_time() -> None:
    levels = settings(12, 4, "anchored", hop=4)
    budget = LatencyBudget(levels)
    load, reached, said = 1.0, [], []
    for number in range(6000):
        load = 10.0 if 1000 <= number < 3000 else 1.0
        setting = budget.setting
        reached.append(levels.index(setting))
        said.append(budget.report().summary)
        budget.observe({"model": load * seconds_of(setting)}, 0.4, setting)
    assert np.abs(np.diff(reached)).max() == 1
    assert set(reached[900:1000]) == {0}
    assert set(reached[2900:3000]) == {len(levels) - 1}
    assert set(reached[-1000:]) == {0}  # and stays there: nothing swings to and fro
    given_up = "1 of 4 frames at once, tracks found in the image alone, one pixel in 2 by 2"
    assert said[2999].startswith(f"over: window 8 of 12, {given_up}, ")


def test_a_load_between_two_levels_is_settled_on_one_of_them() -> None:
    levels = settings(12, 4, "anchored", hop=4)
    for allowed_s in np.linspace(0.1, 0.3, 9):
        budget = LatencyBudget(levels)
        reached = []
        for number in range(2000):
            setting = budget.setting
            reached.append(levels.index(setting))
            budget.observe(
                {"model": seconds_of(setting) * (1 + 0.02 * np.sin(2.4 * number))}, float(allowed_s), setting
            )
        assert np.count_nonzero(np.diff(reached[200:])) <= 2 * 8  # a few attempts, ever rarer
        assert max(reached[-300:]) - min(reached[-300:]) <= 1


@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_windows_whose_length_changes_on_the_way_have_the_slow_twins_pointmaps(
    mode: str, tiny_config: NetworkConfig, make_network: Callable[..., Pomato]
) -> None:
    network = make_network(tiny_config)
    stream, frames = WindowStream(network, torch.device("cpu")), random_frames((48, 32))
    window = RollingWindow(6, 2, mode)
    for number in range(24):
        window.resize((6, 4, 5)[number // 6 % 3])
        now = window.push(next(frames))
        newest = len(now.frames) - 1
        with torch.inference_mode():
            found = stream.predict(now, Wanted((newest,)))
            truth = predict_window(network, torch.stack(network_inputs(now.frames)), now.key)
        assert largest_error(found, truth, newest) <= 1e-5
