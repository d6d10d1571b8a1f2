"""Rigid motions that tracks share."""

import numpy as np
import pytest

from pomato_ros.geometry.camera import project
from pomato_ros.geometry.rigid import invert, pose_exp, pose_from, rotation_exp, transform
from pomato_ros.scene.bodies import (
    ALONE,
    CALM_FRAMES,
    LEAST_TRACKS,
    LOG_DEPTH_STD,
    PIXEL_STD,
    Bodies,
    BodyTracks,
    in_world,
    regions_at,
    rigid_motion,
)
from pomato_ros.structures import Intrinsics

CAMERA = Intrinsics(120.0, 118.0, 63.5, 47.5, 128, 96)
COUNT = 40


def cloud(count: int, seed: int = 0, centre: tuple[float, float, float] = (0.2, -0.1, 3.0)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (count, 3)) + centre


def turned_about(points: np.ndarray, twist: list[float]) -> np.ndarray:
    """The motion (4, 4) that turns points about their median and shifts them."""
    middle, turn = np.median(points, axis=0), rotation_exp(np.array(twist[3:]))
    return pose_from(turn, middle - turn @ middle + twist[:3])


def solve(before: np.ndarray, now: np.ndarray, pixels: np.ndarray | None = None, depth: np.ndarray | None = None):  # noqa: ANN201
    pixels = project(now, CAMERA.matrix()) if pixels is None else pixels
    depth = now[:, 2] if depth is None else depth
    std = np.full(len(before), PIXEL_STD)
    return rigid_motion(before, pixels, std, depth, CAMERA.matrix(), LOG_DEPTH_STD, np.zeros(3))


@pytest.mark.parametrize("twist", [[0.1, 0, 0, 0, 0, 0], [-0.02, 0.05, 0.2, 0.02, -0.03, 0.01], [0, 0, 0, 0, 0, 0]])
def test_a_true_motion_is_found(twist: list[float]) -> None:
    before = cloud(COUNT)
    motion = turned_about(before, twist)
    found = solve(before, transform(motion, before))
    assert found is not None
    assert found[2].all()
    np.testing.assert_allclose(transform(found[0], before), transform(motion, before), atol=0.004)


def test_together_tracks_know_better_than_each() -> None:
    """With errors of the size that weights assume: distance along rays apart, which all depths share."""
    before, draws = cloud(60), np.random.default_rng(3)
    motion = turned_about(before, [0.08, -0.03, 0.05, 0.01, 0.02, -0.01])
    now = transform(motion, before)
    alone, together = [], []
    for _ in range(20):
        pixels = project(now, CAMERA.matrix()) + draws.normal(scale=PIXEL_STD, size=(60, 2))
        found = solve(before, now, pixels, now[:, 2] * np.exp(draws.normal(scale=LOG_DEPTH_STD)))
        assert found is not None
        told = project(transform(found[0], before), CAMERA.matrix())
        together.append(np.linalg.norm(told - project(now, CAMERA.matrix()), axis=-1))
        alone.append(np.linalg.norm(pixels - project(now, CAMERA.matrix()), axis=-1))
    assert np.mean(together) < 0.4 * np.mean(alone)


def test_what_goes_elsewhere_is_told_apart_and_does_not_pull() -> None:
    before = cloud(COUNT)
    motion = turned_about(before, [0.1, 0.0, 0.0, 0.0, 0.0, 0.02])
    now = transform(motion, before)
    now[:8] += [0.0, 0.5, 0.0]
    found = solve(before, now)
    assert found is not None
    assert not found[2][:8].any()
    assert found[2][8:].all()
    np.testing.assert_allclose(transform(found[0], before)[8:], now[8:], atol=0.02)


def test_what_does_not_go_together_is_no_body() -> None:
    before = cloud(COUNT)
    assert solve(before, before + np.random.default_rng(5).normal(scale=0.15, size=before.shape)) is None


def test_behind_the_camera_there_is_none() -> None:
    before = cloud(COUNT)
    assert solve(before - [0.0, 0.0, 3.2], before - [0.0, 0.0, 3.2], before[:, :2], np.full(COUNT, 0.1)) is None


def test_a_motion_in_the_world_moves_what_the_camera_sees_the_same_way() -> None:
    world_from_camera = pose_exp([0.3, 0.2, -0.1, 0.2, -0.4, 0.1])
    motion, points = pose_exp([0.1, 0.0, 0.2, 0.05, 0.0, -0.02]), cloud(5)
    moved = transform(in_world(motion, world_from_camera), transform(world_from_camera, points))
    np.testing.assert_allclose(transform(invert(world_from_camera), moved), transform(motion, points), atol=1e-12)


def observed(
    bodies: np.ndarray,
    before: np.ndarray,
    now: np.ndarray,
    labels: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> BodyTracks:
    count = len(before)
    return BodyTracks(
        bodies=bodies,
        points=before,
        pixels=project(now, CAMERA.matrix()),
        pixel_std=np.full(count, PIXEL_STD),
        depth=now[:, 2].copy(),
        seen=np.ones(count, bool) if seen is None else seen,
        labels=np.ones(count, np.int64) if labels is None else labels,
        may_join=np.ones(count, bool),
    )


def run(
    keeper: Bodies, bodies: np.ndarray, points: np.ndarray, steps: np.ndarray, **changes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list]:
    """One frame in which each point goes on by its step (n, 3)."""
    now = points + steps
    bodies, motions = keeper.update(observed(bodies, points, now, **changes), CAMERA.matrix())
    return bodies, now, motions


def test_a_region_becomes_a_body_that_goes_on_and_takes_hidden_tracks_along() -> None:
    keeper, points = Bodies(), cloud(COUNT)
    bodies, step = np.full(COUNT, ALONE), np.tile([0.05, 0.0, 0.02], (COUNT, 1))
    bodies, points, motions = run(keeper, bodies, points, step)
    assert len(set(bodies.tolist())) == 1
    assert bodies[0] != ALONE
    assert motions[0].new.all()
    seen = np.arange(COUNT) >= 10
    before = points
    bodies, points, motions = run(keeper, bodies, points, step, seen=seen)
    assert (bodies == bodies[0]).all()
    assert motions[0].tracks.all()
    assert not motions[0].new.any()
    np.testing.assert_allclose(transform(motions[0].newest_from_before, before)[:10], points[:10], atol=0.01)


def test_two_regions_are_two_bodies_and_a_newcomer_joins_its_own() -> None:
    keeper, points = Bodies(), np.concatenate((cloud(20), cloud(20, 1, (-0.8, 0.2, 4.0))))
    labels = np.repeat([1, 2], 20)
    step = np.repeat([[0.05, 0.0, 0.0], [0.0, -0.04, 0.0]], 20, axis=0)
    late = np.ones(40, bool)
    late[[5, 30]] = False
    bodies, points, motions = run(keeper, np.full(40, ALONE), points, step, labels=labels, seen=late)
    assert len(motions) == 2
    assert bodies[[5, 30]].tolist() == [ALONE, ALONE]
    bodies, points, motions = run(keeper, bodies, points, step, labels=labels)
    assert len(set(bodies[:20].tolist())) == len(set(bodies[20:].tolist())) == 1
    assert bodies[0] != bodies[30]
    assert sum(int(motion.new.sum()) for motion in motions) == 2


def test_a_track_that_goes_its_own_way_leaves() -> None:
    keeper, points = Bodies(), cloud(COUNT)
    step = np.tile([0.05, 0.0, 0.0], (COUNT, 1))
    bodies, points, _ = run(keeper, np.full(COUNT, ALONE), points, step)
    step[3] = [0.0, 0.4, 0.0]
    bodies, points, motions = run(keeper, bodies, points, step)
    assert bodies[3] == ALONE
    assert not motions[0].tracks[3]
    assert (np.delete(bodies, 3) == bodies[0]).all()


@pytest.mark.parametrize("count", [LEAST_TRACKS - 1, LEAST_TRACKS])
def test_few_tracks_are_no_body(count: int) -> None:
    keeper, points = Bodies(), cloud(count)
    bodies, _, motions = run(keeper, np.full(count, ALONE), points, np.tile([0.05, 0.0, 0.0], (count, 1)))
    assert bool(motions) == (count == LEAST_TRACKS)
    assert (bodies == ALONE).all() == (count < LEAST_TRACKS)


def test_what_has_come_to_rest_is_given_back_to_the_world() -> None:
    keeper, points = Bodies(), cloud(COUNT)
    bodies, points, _ = run(keeper, np.full(COUNT, ALONE), points, np.tile([0.05, 0.0, 0.0], (COUNT, 1)))
    rest, outside = np.zeros((COUNT, 3)), np.zeros(COUNT, np.int64)
    for _ in range(CALM_FRAMES):
        bodies, points, motions = run(keeper, bodies, points, rest, labels=outside)
        assert (bodies != ALONE).all()
    bodies, points, motions = run(keeper, bodies, points, rest, labels=outside)
    assert (bodies == ALONE).all()
    assert not motions


def test_regions_are_counted_from_one_on() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:3, 1:3] = mask[4:, 6:] = True
    rows, columns = np.array([1, 5, 0, 2]), np.array([1, 7, 0, 2])
    labels = regions_at(mask, rows, columns)
    assert labels[2] == 0
    assert labels[0] == labels[3] > 0
    assert labels[1] not in (0, labels[0])
