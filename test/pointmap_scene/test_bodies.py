"""Rigid motions that tracks share."""

import cv2
import numpy as np
import pytest

from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.rigid import invert, pose_exp, pose_from, rotation_exp, transform
from pomato_ros.pointmap_scene.bodies import (
    ALONE,
    CALM_FRAMES,
    FOUND_PX,
    GATE,
    LEAST_TRACKS,
    LOG_DEPTH_STD,
    SETTLED,
    SOLVER_STEPS,
    TURN_STD_RAD,
    Bodies,
    BodyTracks,
    halved,
    medians,
    motion_in_world,
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
    std = np.full(len(before), FOUND_PX)
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
        pixels = project(now, CAMERA.matrix()) + draws.normal(scale=FOUND_PX, size=(60, 2))
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
    moved = transform(motion_in_world(motion, world_from_camera), transform(world_from_camera, points))
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
        pixel_std=np.full(count, FOUND_PX),
        depth=now[:, 2].copy(),
        seen=np.ones(count, bool) if seen is None else seen,
        labels=np.ones(count, np.int64) if labels is None else labels,
        may_join=np.ones(count, bool),
    )


def run(
    keeper: Bodies, bodies: np.ndarray, points: np.ndarray, steps: np.ndarray, **changes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """One frame in which each point goes on by its step (n, 3)."""
    now = points + steps
    bodies, motions = keeper.update(observed(bodies, points, now, **changes), CAMERA.matrix())
    return bodies, now, motions


def test_a_region_becomes_a_body_that_goes_on_and_takes_hidden_tracks_along() -> None:
    keeper, points = Bodies(), cloud(COUNT)
    bodies, step = np.full(COUNT, ALONE), np.tile([0.05, 0.0, 0.02], (COUNT, 1))
    bodies, points, motions = run(keeper, bodies, points, step)
    assert len(set(bodies.tolist())) == 1
    assert list(motions) == [bodies[0]]
    assert bodies[0] != ALONE
    seen = np.arange(COUNT) >= 10
    before = points
    bodies, points, motions = run(keeper, bodies, points, step, seen=seen)
    assert list(motions) == [bodies[0]]
    assert (bodies == bodies[0]).all()
    np.testing.assert_allclose(transform(motions[bodies[0]], before)[:10], points[:10], atol=0.01)


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
    assert list(motions) == sorted({bodies[0], bodies[30]})


def test_a_track_that_goes_its_own_way_leaves() -> None:
    keeper, points = Bodies(), cloud(COUNT)
    step = np.tile([0.05, 0.0, 0.0], (COUNT, 1))
    bodies, points, _ = run(keeper, np.full(COUNT, ALONE), points, step)
    step[3] = [0.0, 0.4, 0.0]
    bodies, points, motions = run(keeper, bodies, points, step)
    assert bodies[3] == ALONE
    assert len(motions) == 1
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


def two_in_one_region() -> np.ndarray:
    """(30, 3) two clouds side by side."""
    return np.concatenate((cloud(15), cloud(15, 1, (-0.6, 0.2, 3.2))))


def test_what_begins_to_move_otherwise_in_its_region_becomes_a_body_of_its_own_and_harms_none() -> None:
    keeper, points = Bodies(), two_in_one_region()
    first, region = np.arange(30) < 15, np.ones(30, np.int64)
    step = np.where(first[:, None], [0.05, 0.0, 0.0], 0.0)
    bodies, points, _ = run(keeper, np.full(30, ALONE), points, step, labels=np.where(first, 1, 0))
    number = bodies[0]
    step[~first] = [0.0, -0.08, 0.0]
    for _ in range(3):
        bodies, points, motions = run(keeper, bodies, points, step, labels=region)
        assert (bodies[first] == number).all()
    assert len(set(bodies[~first].tolist())) == 1
    assert bodies[20] not in (number, ALONE)
    assert len(motions) == 2


def test_what_rests_beside_a_mover_under_too_large_a_mask_is_not_carried_off() -> None:
    keeper, points = Bodies(), two_in_one_region()
    first = np.arange(30) < 15
    step = np.where(first[:, None], [0.03, 0.0, 0.0], 0.0)
    bodies, points, _ = run(keeper, np.full(30, ALONE), points, step, labels=np.where(first, 1, 0))
    number = bodies[0]
    for _ in range(3):
        bodies, points, motions = run(keeper, bodies, points, step, labels=np.ones(30, np.int64))
    assert (bodies[first] == number).all()
    assert (bodies[~first] == ALONE).all()
    assert len(motions) == 1


def test_numbers_of_bodies_are_those_of_bodies_that_there_were() -> None:
    """What cannot be fitted takes none."""
    keeper, draws = Bodies(), np.random.default_rng(8)
    bodies, points = np.full(COUNT, ALONE), cloud(COUNT)
    for _ in range(10):
        bodies, _, motions = run(keeper, bodies, points, draws.normal(scale=0.15, size=points.shape))
        assert (bodies == ALONE).all()
        assert not motions
    bodies, _, _ = run(keeper, bodies, points, np.tile([0.05, 0.0, 0.0], (COUNT, 1)))
    assert (bodies == 0).all()


def test_regions_are_counted_from_one_on() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:3, 1:3] = mask[4:, 6:] = True
    rows, columns = np.array([1, 5, 0, 2]), np.array([1, 7, 0, 2])
    labels = regions_at(mask, rows, columns)
    assert labels[2] == 0
    assert labels[0] == labels[3] > 0
    assert labels[1] not in (0, labels[0])


def test_regions_are_the_connected_ones_of_the_mask() -> None:
    """The slow twin labels every pixel; gaps are wider than those that vanish."""
    mask = np.zeros((47, 63), bool)
    for top, left, height, width in ((0, 0, 5, 9), (3, 13, 30, 4), (30, 17, 3, 20), (40, 50, 7, 13), (12, 40, 1, 1)):
        mask[top : top + height, left : left + width] = True
    rows, columns = (cells.ravel() for cells in np.indices(mask.shape))
    slow = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1].ravel()
    fast = regions_at(mask, rows, columns)
    assert slow.max() == 4
    np.testing.assert_array_equal(fast > 0, slow > 0)
    assert len(np.unique(np.stack((fast, slow)), axis=1).T) == 5


@pytest.mark.parametrize("shape", [(8, 10), (7, 10), (8, 9), (5, 3), (1, 1)])
def test_a_mask_of_half_the_size_holds_whatever_a_block_does(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.2
    few = halved(mask)
    assert few.shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    for (row, column), value in np.ndenumerate(few):
        assert value == mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].any()


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_medians_are_those_of_each_row(count: int) -> None:
    rows = np.random.default_rng(count).normal(size=(3, count))
    np.testing.assert_allclose(medians(rows), np.median(rows, axis=1), rtol=1e-12)


def slow_motion(
    before: np.ndarray, pixels: np.ndarray, depth: np.ndarray, turn_rad: np.ndarray, anew: bool = False
) -> np.ndarray:
    """The same steps, one track after the other, with derivatives by differences.

    They are those at the start, or ``anew`` for each step.
    """
    camera_matrix = CAMERA.matrix()
    middle, turn, turned = np.median(before, axis=0), rotation_exp(turn_rad), turn_rad
    shift = np.median(unproject(pixels, depth, camera_matrix) - (before - middle) @ turn.T, axis=0) - middle
    depth_var = LOG_DEPTH_STD**2 * (1 + len(before))

    def off(twist: np.ndarray, point: np.ndarray, row: int) -> np.ndarray:
        place = rotation_exp(twist[3:]) @ turn @ (point - middle) + middle + shift + twist[:3]
        return np.append(project(place, camera_matrix) - pixels[row], np.log(place[2] / depth[row]))

    tiny, changes = 1e-6 * np.eye(6), []
    for steps in range(SOLVER_STEPS):
        if steps == 0 or anew:
            changes = [
                np.stack([(off(by, point, row) - off(-by, point, row)) / 2e-6 for by in tiny], axis=-1)
                for row, point in enumerate(before)
            ]
        normal = np.diag([0.0] * 3 + [TURN_STD_RAD**-2] * 3)
        pull = normal @ np.append(np.zeros(3), turned - turn_rad)
        for row, point in enumerate(before):
            now, by = off(np.zeros(6), point, row), changes[row]
            pixel_weight = FOUND_PX**-2 / (1.0 + (now[:2] @ now[:2]) * FOUND_PX**-2 / GATE)
            weight = np.diag(
                [pixel_weight, pixel_weight, 1.0 / depth_var / (1.0 + (now[2] / GATE / LOG_DEPTH_STD) ** 2)]
            )
            normal, pull = normal + by.T @ weight @ by, pull + by.T @ weight @ now
        step = -np.linalg.solve(normal, pull)
        shift, turn, turned = shift + step[:3], rotation_exp(step[3:]) @ turn, turned + step[3:]
        if step @ normal @ step < SETTLED**2:
            break
    return pose_from(turn, middle + shift - turn @ middle)


def test_a_motion_is_that_of_its_slow_twin() -> None:
    before, draws = cloud(15), np.random.default_rng(9)
    now = transform(turned_about(before, [0.08, -0.03, 0.05, 0.03, 0.05, -0.04]), before)
    pixels = project(now, CAMERA.matrix()) + draws.normal(scale=FOUND_PX, size=(15, 2))
    depth, expected_rad = now[:, 2] * np.exp(draws.normal(scale=LOG_DEPTH_STD, size=15)), np.array([0.02, 0.03, -0.05])
    std = np.full(15, FOUND_PX)
    found = rigid_motion(before, pixels, std, depth, CAMERA.matrix(), LOG_DEPTH_STD, expected_rad)
    assert found is not None
    np.testing.assert_allclose(found[0], slow_motion(before, pixels, depth, expected_rad), atol=1e-7)


def test_steps_from_derivatives_at_the_start_lead_to_where_those_from_new_ones_do() -> None:
    """To far less than pixels err by."""
    for seed in range(10):
        before, draws = cloud(15, seed), np.random.default_rng(seed)
        now = transform(turned_about(before, [0.08, -0.03, 0.05, *draws.normal(scale=TURN_STD_RAD, size=3)]), before)
        pixels = project(now, CAMERA.matrix()) + draws.normal(scale=FOUND_PX, size=(15, 2))
        depth = now[:, 2] * np.exp(draws.normal(scale=LOG_DEPTH_STD, size=15))
        found, new = solve(before, now, pixels, depth), slow_motion(before, pixels, depth, np.zeros(3), anew=True)
        assert found is not None
        places, others = (project(transform(motion, before), CAMERA.matrix()) for motion in (found[0], new))
        assert np.abs(places - others).max() < 0.2 * FOUND_PX


def test_a_few_tracks_far_behind_do_not_cost_a_body_its_motion() -> None:
    """As the sky seen through a region, which a network may put anywhere: it rests."""
    found = 0
    for seed in range(20):
        before, draws = cloud(15, seed), np.random.default_rng(seed)
        way = turned_about(before, [0.08, -0.03, 0.05, *draws.normal(scale=0.5 * TURN_STD_RAD, size=3)])
        now = transform(way, before)
        before[:2], now[:2] = 1e4 * before[:2], 1e4 * before[:2]
        pixels = project(now, CAMERA.matrix()) + draws.normal(scale=FOUND_PX, size=(15, 2))
        depth = now[:, 2] * np.exp(draws.normal(scale=LOG_DEPTH_STD, size=15))
        motion = solve(before, now, pixels, depth)
        found += motion is not None and np.linalg.norm(transform(motion[0], before[2:]) - now[2:], axis=-1).max() < 0.1
    assert found >= 16


def test_few_tracks_of_a_body_are_too_few() -> None:
    """What is not seen does not count."""
    keeper, points = Bodies(), cloud(COUNT)
    step = np.tile([0.05, 0.0, 0.02], (COUNT, 1))
    bodies, points, _ = run(keeper, np.full(COUNT, ALONE), points, step)
    bodies, points, motions = run(keeper, bodies, points, step, seen=np.arange(COUNT) < LEAST_TRACKS - 1)
    assert (bodies == ALONE).all()
    assert not motions
