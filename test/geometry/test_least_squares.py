import numpy as np
import pytest

from pomato_ros.geometry.least_squares import NormalEquations, geman_mcclure, minimise

GATE = 3.0


def line_problem(x, y, std, gate=None):
    """Normal equations of a line ``y = a x + b`` through points with a standard deviation."""
    jacobian = -np.stack((x, np.ones_like(x)), -1) / std

    def linearise(state):
        residual = (y - state[0] * x - state[1]) / std
        weight, cost = (np.ones_like(x), residual**2) if gate is None else geman_mcclure(residual**2, gate)
        scaled = jacobian * weight[:, None]
        return NormalEquations(scaled.T @ jacobian, scaled.T @ residual, float(cost.sum()))

    return linearise


def add(state, step):
    return state + step


def test_a_linear_problem_is_solved_as_by_the_normal_equations():
    draws = np.random.default_rng(0)
    x = draws.uniform(-1, 1, 50)
    y = 2.0 * x - 0.5 + 0.1 * draws.standard_normal(50)
    found = minimise(line_problem(x, y, 0.1), add, np.zeros(2), tolerance=1e-9)
    expected = np.linalg.lstsq(np.stack((x, np.ones(50)), -1), y, rcond=None)[0]
    np.testing.assert_allclose(found.state, expected, atol=1e-8)


def test_the_covariance_is_that_of_many_draws():
    draws, x = np.random.default_rng(1), np.linspace(-1, 1, 40)
    states = []
    for _ in range(400):
        y = 2.0 * x - 0.5 + 0.2 * draws.standard_normal(40)
        found = minimise(line_problem(x, y, 0.2), add, np.zeros(2))
        states.append(found.state)
    np.testing.assert_allclose(np.cov(np.array(states).T), found.covariance(), atol=0.15 * found.covariance().max())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
def test_outliers_have_no_pull(share):
    draws, x = np.random.default_rng(2), np.linspace(-1, 1, 200)
    y = x + 0.01 * draws.standard_normal(200)
    wrong = draws.random(200) < share
    y[wrong] += draws.uniform(0.5, 2.0, np.count_nonzero(wrong))
    found = minimise(line_problem(x, y, 0.01, GATE), add, np.array([1.05, 0.02]), iterations=30)
    np.testing.assert_allclose(found.state, (1.0, 0.0), atol=0.01)


def test_weights_are_the_slope_of_the_cost():
    squared = np.linspace(0.0, 50.0, 200)
    weights, _ = geman_mcclure(squared, GATE)
    step = 1e-6
    slope = (geman_mcclure(squared + step, GATE)[1] - geman_mcclure(squared, GATE)[1]) / step
    np.testing.assert_allclose(weights, slope, atol=1e-5)


def test_what_nothing_determines_is_uncertain_and_stays_where_it_was():
    def linearise(state):
        return NormalEquations(np.diag((4.0, 0.0)), np.array((4.0 * state[0], 0.0)), float(2.0 * state[0] ** 2))

    found = minimise(linearise, add, np.array([1.0, 7.0]))
    assert abs(found.state[0]) < 1e-3
    assert found.state[1] == pytest.approx(7.0)
    assert found.covariance()[1, 1] > 1e9


def test_equations_that_are_no_numbers_end_the_search_at_its_start():
    def linearise(state):
        return NormalEquations(np.full((2, 2), np.nan), np.full(2, np.nan), float("nan"))

    found = minimise(linearise, add, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(found.state, (1.0, 2.0))
    assert not found.converged
    assert np.isfinite(found.covariance()).all()
