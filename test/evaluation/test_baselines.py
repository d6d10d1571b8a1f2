"""Baselines are the best of their kind, or what a drawing says they are."""

import numpy as np
import pytest

from pomato_ros.evaluation.baselines import (
    constant_depth_absrel,
    constant_depth_delta1,
    points_that_never_move,
    standing_still_over_path,
    standing_still_rotation_deg,
    standing_still_translation_m,
)


@pytest.fixture
def depths() -> np.ndarray:
    return np.random.default_rng(0).lognormal(0.5, 0.6, size=4001)


def test_no_constant_has_less_absrel(depths: np.ndarray) -> None:
    best = constant_depth_absrel(depths)
    tried = [np.mean(np.abs(constant - depths) / depths) for constant in np.geomspace(0.2, 20.0, 400)]
    assert best <= min(tried) + 1e-12
    assert best == pytest.approx(min(tried), rel=1e-3)


def test_no_constant_has_more_depths_within_a_quarter(depths: np.ndarray) -> None:
    best = constant_depth_delta1(depths)
    tried = [
        np.mean(np.maximum(constant / depths, depths / constant) < 1.25) for constant in np.geomspace(0.2, 20.0, 4000)
    ]
    assert best >= max(tried)
    assert best == pytest.approx(max(tried), abs=2e-3)


def test_one_depth_everywhere_needs_no_more_than_a_constant() -> None:
    assert constant_depth_absrel(np.full(10, 3.0)) == 0.0
    assert constant_depth_delta1(np.full(10, 3.0)) == 1.0


def test_standing_still_on_a_straight_way_misses_by_its_spread() -> None:
    poses = np.tile(np.eye(4), (101, 1, 1))
    poses[:, 0, 3] = np.linspace(0.0, 10.0, 101)
    assert standing_still_over_path(poses) == pytest.approx(np.std(poses[:, 0, 3]) / 10.0)
    assert np.isnan(standing_still_over_path(np.tile(np.eye(4), (5, 1, 1))))


def test_standing_still_misses_every_turn() -> None:
    angles = np.radians(2.0) * np.arange(9)
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angles)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angles), -np.sin(angles)
    assert standing_still_rotation_deg(poses) == pytest.approx(2.0)


def test_points_that_never_move_are_the_same_in_every_frame() -> None:
    points = np.random.default_rng(1).normal(size=(7, 3))
    tracks = points_that_never_move(points, 11)
    assert tracks.shape == (11, 7, 3)
    assert (tracks == points).all()


def test_standing_still_misses_every_step() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = (0.0, 3.0, 7.0)
    assert standing_still_translation_m(poses) == pytest.approx(np.sqrt((3.0**2 + 4.0**2) / 2))
