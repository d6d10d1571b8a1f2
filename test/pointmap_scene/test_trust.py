"""Whether a network is believed, from how it agreed with features."""

import numpy as np
import pytest

from pomato_ros.pointmap_scene.trust import BEGUN_WITH, BELIEVED, CERTAIN, GOOD, MEMORY, USUAL, WEAK, PoseTrust


def trust_after(distances: list[float]) -> PoseTrust:
    trust = PoseTrust()
    for distance in distances:
        trust.compare(distance)
    return trust


def after(distances: list[float]) -> float:
    return trust_after(distances).variance_factor


def test_nobody_is_believed_before_something_was_compared() -> None:
    assert after([]) > WEAK


def test_a_network_that_is_as_right_as_it_says_is_believed_to_the_letter() -> None:
    draws = np.random.default_rng(0).chisquare(6, 3 * MEMORY)
    assert after(draws.tolist()) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("factor", [100.0, 1000.0])
def test_of_a_weak_network_it_is_learned_how_weak_it_is(factor: float) -> None:
    draws = factor * np.random.default_rng(1).chisquare(6, 3 * MEMORY)
    assert after(draws.tolist()) == pytest.approx(factor, rel=0.4)


def test_a_good_network_is_believed_soon_and_still_when_features_go_astray_for_a_while() -> None:
    good = [USUAL] * (BEGUN_WITH + 1)
    assert after(good) <= BELIEVED
    assert after([USUAL] * MEMORY + [1e4] * (MEMORY // 2 - 1)) == pytest.approx(1.0)
    assert after([USUAL] * MEMORY + [1e4] * (MEMORY // 2 + 1)) > WEAK


def test_features_that_are_always_a_little_off_do_not_discredit_the_network() -> None:
    trust = trust_after([20.0 * USUAL] * MEMORY)
    assert trust.variance_factor == BELIEVED
    assert trust.features_variance_factor == pytest.approx(20.0)  # but the features


def test_features_are_as_right_as_they_say_beside_a_weak_network_and_a_good_one() -> None:
    for factor in (1.0, 100.0):
        assert trust_after([factor * USUAL] * MEMORY).features_variance_factor == pytest.approx(1.0)


def test_a_way_is_doubted_by_what_is_beyond_the_differences_of_good_networks() -> None:
    def doubt(ratio: float) -> float:
        return trust_after([ratio * USUAL] * MEMORY).astray_variance_factor

    assert [doubt(ratio) for ratio in (0.1, 1.0, BELIEVED)] == pytest.approx([1.0] * 3)
    assert doubt(BELIEVED + 1e-6) == pytest.approx(1.0, abs=1e-5)  # without a jump
    assert doubt(WEAK - 1e-6) == pytest.approx(doubt(WEAK + 1e-6))  # whoever is to blame
    assert doubt(400.0) == pytest.approx(400.0, rel=0.01)


def test_what_is_no_number_says_nothing() -> None:
    assert after([float("nan"), float("inf")]) == after([])


def test_the_oldest_comparisons_are_forgotten() -> None:
    assert after([1e4] * MEMORY + [USUAL] * MEMORY) == pytest.approx(1.0)


def test_a_network_is_surely_weak_only_after_chances_to_show_that_it_is_not() -> None:
    trust = PoseTrust()
    for chance in range(CERTAIN):
        assert trust.is_weak
        assert not trust.is_surely_weak, chance
        trust.chance()
    assert trust.is_surely_weak
    for _ in range(BEGUN_WITH + 1):
        trust.compare(USUAL)
    assert not trust.is_weak
    assert not trust.is_surely_weak


def test_what_lies_between_good_and_weak_is_judged_as_before() -> None:
    between = 0.5 * (GOOD + WEAK) * USUAL
    doubtful, good = PoseTrust(), PoseTrust()
    for _ in range(2 * MEMORY):
        doubtful.compare(between)
        good.compare(USUAL)
        assert doubtful.is_weak
    assert not good.is_weak
    for _ in range(2 * MEMORY):
        good.compare(between)
        assert not good.is_weak
    for _ in range(2 * MEMORY):
        good.compare(1.1 * WEAK * USUAL)
        doubtful.compare(0.9 * GOOD * USUAL)
    assert good.is_weak
    assert not doubtful.is_weak
