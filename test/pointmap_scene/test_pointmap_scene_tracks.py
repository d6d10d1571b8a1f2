"""Tracks in a world of one wall and one mover, in which every position is known."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.grid import pixel_grid, sample_bilinear
from pomato_ros.geometry.rigid import invert, pose_exp, transform
from pomato_ros.pointmap_scene.bodies import ALONE
from pomato_ros.pointmap_scene.surface import sample, visible_at
from pomato_ros.pointmap_scene.tracks import (
    ASTRAY,
    BIRTH_JUMP_PX,
    FADE_FRAMES,
    FEW_CELLS,
    FEW_PLACES,
    FOUND_PX,
    MOVED_SHARE,
    VELOCITY_SMOOTHING,
    Tracker,
    TrackObservation,
    agreed,
    along,
    best_of_cells,
    empty_track_set,
    lengths,
    limited,
    share_of,
)
from pomato_ros.structures import Intrinsics, TrackSet

WIDTH, HEIGHT = 64, 48
CAMERA = Intrinsics(60.0, 60.0, 31.5, 23.5, WIDTH, HEIGHT)
WALL_M = 3.0  # the wall's z in the world
INTERVAL_NS = 100_000_000
BLANK = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)


def camera_at(t: int) -> np.ndarray:
    """The camera slides to the right and turns a little; its depth of the wall stays near."""
    return pose_exp([0.05 * t, 0.01 * t, 0.0, 0.0, 0.0, 0.01 * t])


def still_camera(t: int) -> np.ndarray:
    return np.eye(4)


def points_of(world_from_camera: np.ndarray) -> np.ndarray:
    """(h, w, 3) in the camera: where each pixel's ray meets the wall."""
    rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), CAMERA.matrix()) @ world_from_camera[:3, :3].T
    distance = (WALL_M - world_from_camera[2, 3]) / rays[..., 2]
    return transform(invert(world_from_camera), world_from_camera[:3, 3] + distance[..., None] * rays)


def observe(
    t: int,
    reference: int = 0,
    pose: Callable[[int], np.ndarray] = camera_at,
    displacement: np.ndarray | None = None,
    **changes: object,
) -> TrackObservation:
    """Frame ``t`` against frame ``reference``; ``displacement`` (h, w, 3) of the reference's points since, in world."""
    points_world = transform(pose(reference), points_of(pose(reference)))
    if displacement is not None:
        points_world = points_world + displacement
    matched = torch.from_numpy(transform(invert(pose(t)), points_world)).float()
    observation = TrackObservation(
        stamp_ns=1000 + t * INTERVAL_NS,
        reference_stamp_ns=1000 + reference * INTERVAL_NS,
        image_rgb=BLANK,  # shows nothing, so that tracks follow the matching pointmap alone
        reference_rgb=BLANK,
        points_matched=matched,
        conf_match=torch.full((HEIGHT, WIDTH), 2.0),
        depth=points_of(pose(t))[..., 2].astype(np.float32),
        dynamic_mask=np.zeros((HEIGHT, WIDTH), dtype=bool),
        intrinsics=CAMERA,
        world_from_camera=pose(t),
    )
    return dataclasses.replace(observation, **changes)


def by_id(tracks: TrackSet, values: np.ndarray) -> dict[int, np.ndarray]:
    return dict(zip(tracks.ids.tolist(), values, strict=True))


# --- seeds


@pytest.mark.parametrize("grid_px", [8, 5, 16])
def test_every_cell_of_the_grid_gets_one_track_at_a_pixel(grid_px: int) -> None:
    tracks = Tracker(10000, grid_px).update(observe(0))
    cells = {tuple(cell) for cell in (tracks.pixels // grid_px).astype(int).tolist()}
    assert len(cells) == len(tracks.ids) == len(set(tracks.ids.tolist()))
    expected = len(range(grid_px // 2, WIDTH, grid_px)) * len(range(grid_px // 2, HEIGHT, grid_px))
    assert len(cells) == expected
    assert tracks.visible.all()
    assert (tracks.age_frames == 1).all()
    assert (tracks.velocities_world == 0).all()
    np.testing.assert_allclose(tracks.confidence, 2.0)


@pytest.mark.parametrize("limit", [0, 1, 7, 20, 48])
def test_a_limit_thins_the_seeds_evenly(limit: int) -> None:
    tracks = Tracker(limit, 8).update(observe(0))
    assert len(tracks.ids) == limit
    if limit >= 7:
        assert np.ptp(tracks.pixels[:, 1]) > 0.7 * HEIGHT
        assert np.ptp(tracks.pixels[:, 0]) > 0.5 * WIDTH


def test_no_limit_is_passed_in_a_long_run() -> None:
    tracker = Tracker(30, 8)
    for t in range(40):
        assert len(tracker.update(observe(t, t // 4 * 4)).ids) <= 30


def test_a_grid_coarser_than_the_image_has_no_tracks() -> None:
    assert len(Tracker(10, 200).update(observe(0)).ids) == 0


# --- positions


def test_still_points_stay_where_they_are_while_the_camera_moves() -> None:
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0))
    np.testing.assert_allclose(first.positions_world[:, 2], WALL_M, rtol=1e-5)
    for t in range(1, 6):
        tracks = tracker.update(observe(t))
        assert (tracks.ids == first.ids).all()
        assert (tracks.age_frames == t + 1).all()
        np.testing.assert_allclose(tracks.positions_world, first.positions_world, atol=1e-4)
        np.testing.assert_allclose(tracks.velocities_world, 0.0, atol=1e-3)
        in_camera = transform(invert(camera_at(t)), tracks.positions_world[tracks.visible])
        expected = in_camera[:, :2] / in_camera[:, 2:] * 60.0 + [31.5, 23.5]
        np.testing.assert_allclose(tracks.pixels[tracks.visible], expected, atol=1e-3)
        assert np.isnan(tracks.pixels[~tracks.visible]).all()


def test_the_velocity_of_a_steady_point_becomes_its_own() -> None:
    tracker = Tracker(100, 8)
    speed = np.array([0.2, -0.1, 0.05])
    for t in range(10):
        moved = np.broadcast_to(speed * t * 0.1, (HEIGHT, WIDTH, 3))
        tracks = tracker.update(observe(t, displacement=moved))
    assert len(tracks.ids)
    np.testing.assert_allclose(
        tracks.velocities_world, np.broadcast_to(speed, tracks.velocities_world.shape), rtol=0.02
    )


def noise(t: int, share: float) -> np.ndarray:
    return share * WALL_M * np.random.default_rng(t).normal(size=(HEIGHT, WIDTH, 3))


def test_a_resting_track_is_at_the_mean_of_where_it_was_seen() -> None:
    tracker, errors = Tracker(100, 8), []
    truth = by_id(Tracker(100, 8).update(observe(0)), Tracker(100, 8).update(observe(0)).positions_world)
    for t in range(25):
        tracks = tracker.update(observe(t, -1, pose=still_camera, displacement=noise(t, 0.01)))
        places = np.array([truth[track_id] for track_id in tracks.ids.tolist()])
        errors.append(np.sqrt(((tracks.positions_world - places) ** 2).mean()))
    assert errors[0] == pytest.approx(0.01 * WALL_M, rel=0.1)
    assert errors[-1] == pytest.approx(0.01 * WALL_M / 5, rel=0.25)


def test_a_resting_track_stays_on_the_ray_on_which_the_image_showed_it_first() -> None:
    """Only the distances of what errs in all directions count, and they average out."""
    tracker, errors = Tracker(100, 8), []
    first = tracker.update(observe(0, pose=still_camera))
    rays = first.positions_world / first.positions_world[:, 2:]
    for t in range(1, 26):
        tracks = tracker.update(observe(t, pose=still_camera, displacement=noise(t, 0.01)))
        assert (tracks.ids == first.ids).all()
        np.testing.assert_allclose(tracks.positions_world / tracks.positions_world[:, 2:], rays, atol=1e-9)
        np.testing.assert_allclose(tracks.pixels[tracks.visible], first.pixels[tracks.visible], atol=1e-4)
        errors.append(np.sqrt(((tracks.positions_world[:, 2] - WALL_M) ** 2).mean()))
    assert errors[-1] < 1.25 * 0.01 * WALL_M / 5


def test_a_ray_grows_and_turns_with_the_world() -> None:
    """A stretched world about the camera leaves all directions from there as they are."""
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0, pose=still_camera))
    tracker.rescale(1.5, np.zeros(3))
    farther = observe(1, pose=still_camera, depth=1.5 * observe(1, pose=still_camera).depth, metres_per_unit=1.5)
    tracks = tracker.update(farther)
    np.testing.assert_allclose(tracks.positions_world, 1.5 * first.positions_world, rtol=1e-5)


# --- image and matching pointmap together


def scattered(count: int, sigma_px: float, seed: int) -> np.ndarray:
    return sigma_px * np.random.default_rng(seed).normal(size=(count, 2))


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def test_image_and_a_pointmap_as_good_place_tracks_better_than_either() -> None:
    by_image, by_pointmap = scattered(400, 0.35, 0), scattered(400, 0.35, 1)
    together, agree, usual_px = agreed(by_image, by_pointmap, np.ones(400, bool))
    assert root_mean_square(together) < 0.85 * min(root_mean_square(by_image), root_mean_square(by_pointmap))
    assert agree.all()
    assert 0.3 < share_of(usual_px) < 0.7


def test_a_weak_pointmap_has_no_say() -> None:
    by_image, by_pointmap = scattered(400, 0.3, 0), scattered(400, 10.0, 1)
    together, agree, usual_px = agreed(by_image, by_pointmap, np.ones(400, bool))
    assert share_of(usual_px) < 0.01
    assert agree.all()
    assert root_mean_square(together) < 1.1 * root_mean_square(by_image)


def test_a_place_far_from_where_a_good_pointmap_has_it_is_another_ones() -> None:
    by_image, by_pointmap = scattered(100, 0.2, 0), scattered(100, 0.2, 1)
    by_image[:10] += 10.0
    together, agree, _ = agreed(by_image, by_pointmap, np.ones(100, bool))
    assert not agree[:10].any()
    assert agree[10:].all()
    np.testing.assert_array_equal(together[:10], by_image[:10])
    usual_px = np.median(np.linalg.norm(by_pointmap - by_image, axis=-1))
    assert ASTRAY * usual_px < 10.0


def test_a_perfect_pointmap_is_believed_and_moves_nothing_that_is_right() -> None:
    right = scattered(50, 30.0, 0)
    together, agree, usual_px = agreed(right, right, np.ones(50, bool))
    np.testing.assert_allclose(together, right)
    assert agree.all()
    assert share_of(usual_px) == 1.0
    slid = right.copy()
    slid[0] += 0.9 * FOUND_PX / np.sqrt(2)  # no farther than places found in the image err
    together, agree, _ = agreed(slid, right, np.ones(50, bool))
    np.testing.assert_allclose(together, right)
    assert agree.all()


def test_what_is_not_told_or_not_found_is_left_and_few_places_tell_nothing() -> None:
    by_image, by_pointmap = scattered(40, 0.3, 0), scattered(40, 0.3, 1)
    by_pointmap[0] = np.nan
    found = np.ones(40, bool)
    found[1] = False
    together, agree, _ = agreed(by_image, by_pointmap, found)
    np.testing.assert_array_equal(together[:2], by_image[:2])
    assert agree[:2].all()
    few = slice(0, FEW_PLACES)  # of which one is not told
    together, agree, usual_px = agreed(by_image[few], by_pointmap[few], np.ones(FEW_PLACES, bool))
    np.testing.assert_array_equal(together, by_image[few])
    assert agree.all()
    assert share_of(usual_px) == 0.0


def test_a_step_along_a_direction_leaves_only_what_is_across_it() -> None:
    draws = np.random.default_rng(2)
    steps, directions = draws.normal(size=(2, 30, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    parts = along(steps, directions)
    np.testing.assert_allclose(((steps - parts) * directions).sum(axis=-1), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.cross(parts, directions), 0.0, atol=1e-12)


def test_a_long_step_becomes_as_long_as_it_may_be() -> None:
    steps = np.array([[3.0, 4.0, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.0], [np.nan, 0.0, 0.0], [3.0, 4.0, 0.0]])
    longest = np.array([1.0, 1.0, 0.0, 1.0, np.nan])
    np.testing.assert_allclose(lengths(steps), np.linalg.norm(steps, axis=-1))
    short = limited(steps, longest)
    np.testing.assert_allclose(short[:3], [[0.6, 0.8, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.0]])
    assert np.isnan(short[3]).any()
    np.testing.assert_array_equal(short[4], steps[4])  # nothing limits it


def test_a_moving_track_is_where_it_is_seen() -> None:
    tracker = Tracker(100, 8)
    everything = np.ones((HEIGHT, WIDTH), bool)
    for t in range(6):
        shift = np.broadcast_to([0.01 * t, 0.0, 0.0], (HEIGHT, WIDTH, 3))
        tracks = tracker.update(observe(t, pose=still_camera, displacement=shift, dynamic_mask=everything))
    first = Tracker(100, 8).update(observe(0))
    np.testing.assert_allclose(tracks.positions_world, first.positions_world + [0.05, 0.0, 0.0], atol=1e-4)


def pattern_of_wall(world_from_camera: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(h, w, 3) what the camera sees of a patterned wall that was shifted by ``shift`` (3,)."""
    x, y, _ = np.moveaxis(transform(world_from_camera, points_of(world_from_camera)) - shift, -1, 0)
    values = np.sin(7 * x + 3 * y) + np.sin(11 * y - 4 * x + 1) + np.sin(17 * x + 2) * np.sin(19 * y)
    return np.repeat((127 + 30 * values).astype(np.uint8)[..., None], 3, axis=-1)


def seeded_on_wall(pose: Callable[[int], np.ndarray]) -> TrackSet:
    """The first tracks on the patterned wall."""
    wall = pattern_of_wall(pose(0), np.zeros(3))
    return Tracker(100, 8).update(observe(0, pose=pose, image_rgb=wall, reference_rgb=wall))


@pytest.mark.parametrize("moves", [True, False])
def test_what_the_image_shows_is_followed_there_whatever_the_matching_pointmap_errs(moves: bool) -> None:
    tracker, blind = Tracker(100, 8), Tracker(100, 8)
    mask = np.full((HEIGHT, WIDTH), moves)
    pose = still_camera if moves else camera_at
    begun = (seeded_on_wall(pose), Tracker(100, 8).update(observe(0)))
    truth = [by_id(first, first.positions_world) for first in begun]
    for t in range(8):
        shift = np.array([0.03 * t, 0.015 * t, 0.0]) * moves
        wrong = observe(t, pose=pose, displacement=shift + noise(t, 0.02), dynamic_mask=mask)
        images = {"image_rgb": pattern_of_wall(pose(t), shift), "reference_rgb": pattern_of_wall(pose(0), 0 * shift)}
        tracks, guesses = tracker.update(dataclasses.replace(wrong, **images)), blind.update(wrong)
    errors = [
        np.linalg.norm(found.positions_world - shift - [places[i] for i in found.ids.tolist()], axis=-1)[found.visible]
        for found, places in zip((tracks, guesses), truth, strict=True)
    ]
    assert np.median(errors[0]) < 0.003 * WALL_M
    assert np.median(errors[0]) < 0.5 * np.median(errors[1])


def test_each_body_takes_its_own_tracks_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow twin: one track after the other. Whoever is on none stays."""
    tracker = Tracker(100, 8)
    tracker.update(observe(0))
    tracker._alive.dynamic[:] = True
    tracker._alive.velocities_world = np.random.default_rng(0).normal(size=tracker._alive.positions_world.shape)
    tracker._alive.bodies[:] = before = np.resize([5, 2, ALONE, ALONE], len(tracker._alive.ids))
    motions = {2: pose_exp([0.1, 0.0, 0.02, 0.0, 0.3, 0.0]), 5: pose_exp([0.0, -0.1, 0.0, 0.2, 0.0, 0.1])}
    newest = np.resize([5, 2, 2, ALONE], len(before))
    monkeypatch.setattr(tracker._bodies, "update", lambda *_: (newest, motions))
    seen: list[list[np.ndarray]] = []
    carry = tracker._carry

    def state() -> list[np.ndarray]:
        alive = tracker._alive
        each = (alive.positions_world, alive.recent_world, alive.seen_world, alive.rays_world, alive.velocities_world)
        return [values.copy() for values in each]

    def recorded(*arguments: object) -> bool:
        seen.append(state())
        carried = carry(*arguments)
        seen.append(state())
        return carried

    monkeypatch.setattr(tracker, "_carry", recorded)
    tracker.update(observe(1))
    for row, number in enumerate(newest.tolist()):
        world = camera_at(1) @ motions.get(number, np.eye(4)) @ invert(camera_at(1))
        then, now = ([values[row] for values in values_of] for values_of in seen)
        for place, moved in zip(then[:3], now[:3], strict=True):
            np.testing.assert_allclose(moved, transform(world, place), atol=1e-12)
        np.testing.assert_allclose(now[3], world[:3, :3] @ then[3], atol=1e-12)
        difference = (now[0] - then[0]) / (INTERVAL_NS * 1e-9)
        share = 0.0 if number == ALONE else VELOCITY_SMOOTHING if before[row] == number else 1.0
        np.testing.assert_allclose(now[4], then[4] + share * (difference - then[4]), atol=1e-9)


def test_tracks_on_one_body_average_their_distances_as_resting_ones_do() -> None:
    """Each alone would have the whole error of the newest look."""
    tracker, errors = Tracker(100, 8), []
    everything = np.ones((HEIGHT, WIDTH), bool)
    begun: dict[int, np.ndarray] = {}
    for t in range(16):
        shift = np.array([0.02 * t, 0.01 * t, 0.0])
        wall = pattern_of_wall(still_camera(t), shift)
        true = observe(t, pose=still_camera, displacement=np.broadcast_to(shift, (HEIGHT, WIDTH, 3)))
        share = 0.01 * np.random.default_rng(100 + t).normal(size=true.depth.shape)
        tracks = tracker.update(
            dataclasses.replace(
                true,
                image_rgb=wall,
                reference_rgb=pattern_of_wall(still_camera(0), np.zeros(3)),
                depth=(true.depth * (1.0 + share)).astype(np.float32) if t else true.depth,
                dynamic_mask=everything,
                **UNMATCHED,
            )
        )
        begun = begun or by_id(tracks, tracks.positions_world)
        places = np.array([begun[track_id] for track_id in tracks.ids.tolist()]) + shift
        errors.append(float(np.sqrt(((tracks.positions_world - places)[tracks.visible, 2] ** 2).mean())))
    assert tracks.visible.sum() > 20
    assert errors[-1] < 0.5 * 0.01 * WALL_M


def test_a_look_that_tells_nothing_ends_no_track() -> None:
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0, pose=still_camera))
    for t in range(1, 4):
        tracker.update(observe(t, pose=still_camera))
    nothing = observe(4, pose=still_camera)
    assert nothing.points_matched is not None
    nothing.points_matched[:, : WIDTH // 2] = torch.nan
    tracks = tracker.update(nothing)
    assert set(tracks.ids.tolist()) == set(first.ids.tolist())
    assert np.isfinite(tracks.positions_world).all()
    after = tracker.update(observe(5, pose=still_camera))
    np.testing.assert_allclose(after.positions_world, first.positions_world, atol=1e-4)


def test_a_seed_lies_where_its_cell_has_texture_and_the_reference_no_jump_in_depth() -> None:
    worth = np.zeros((HEIGHT, WIDTH), np.float32)
    worth[3, 5], worth[12, 9], worth[12, 15] = 1.0, 2.0, 9.0  # the last lies at the side of its cell
    seeds = best_of_cells(worth, 8)
    assert [5.0, 3.0] in seeds.tolist()
    assert [9.0, 12.0] in seeds.tolist()
    cells, count = (seeds // 8).astype(int), (HEIGHT // 8) * (WIDTH // 8)
    assert len({tuple(cell) for cell in cells.tolist()}) == len(seeds) == count
    plain = np.delete(seeds, [0, WIDTH // 8 + 1], axis=0)
    np.testing.assert_array_equal(plain % 8, 4.0)


@pytest.mark.parametrize("grid_px", [5, 7, 8])
def test_seeds_of_a_few_cells_are_those_that_the_whole_image_has_there(grid_px: int) -> None:
    """The slow twin is the whole image, in which all cells are looked for at once."""
    tracker = Tracker(0, grid_px)
    rugged = torch.from_numpy(points_of(np.eye(4))).float()
    rugged[10:25, 20:45] *= 0.7
    pattern = pattern_of_wall(np.eye(4), np.zeros(3))
    observation = observe(0, image_rgb=pattern, reference_rgb=pattern, points_matched=rugged)
    tracker.update(observation)
    cells = np.arange(len(range(grid_px // 2, WIDTH, grid_px)) * len(range(grid_px // 2, HEIGHT, grid_px)))
    few = [tracker._places_for_seeds(observation, cells[k : k + 5]) for k in range(0, len(cells), 5)]
    many = np.concatenate((cells, np.zeros(FEW_CELLS, np.int64)))
    whole = tracker._places_for_seeds(observation, many)[: len(cells)]
    assert (whole % grid_px != grid_px // 2).mean() > 0.5  # texture tells where
    np.testing.assert_array_equal(np.concatenate(few), whole)


def test_no_track_begins_beside_a_jump_in_depth() -> None:
    depth = observe(0).depth.copy()
    depth[:, : WIDTH // 2] *= 0.5
    tracks = Tracker(1000, 4).update(observe(0, depth=depth))
    assert len(tracks.ids) > 50
    away_px = np.abs(tracks.pixels[tracks.visible, 0] - (WIDTH / 2 - 0.5))
    assert away_px.min() > BIRTH_JUMP_PX // 2


UNMATCHED = {"points_matched": None, "conf_match": None}


@pytest.mark.parametrize("moves", [True, False])
def test_without_matching_pointmap_what_the_image_shows_is_followed_as_with_a_true_one(moves: bool) -> None:
    with_truth, alone = Tracker(100, 8), Tracker(100, 8)
    mask = np.full((HEIGHT, WIDTH), moves)
    pose = still_camera if moves else camera_at
    for t in range(8):
        shift = np.array([0.03 * t, 0.015 * t, 0.0]) * moves
        images = {"image_rgb": pattern_of_wall(pose(t), shift), "reference_rgb": pattern_of_wall(pose(0), 0 * shift)}
        seen = observe(t, pose=pose, displacement=np.broadcast_to(shift, (HEIGHT, WIDTH, 3)), dynamic_mask=mask)
        seen = dataclasses.replace(seen, **images)
        truth = with_truth.update(seen)
        found = alone.update(dataclasses.replace(seen, **UNMATCHED))
    expected = by_id(truth, truth.positions_world)
    errors = [
        np.linalg.norm(place - expected[track_id])
        for track_id, place in by_id(found, found.positions_world).items()
        if track_id in expected and found.visible[found.ids == track_id]
    ]
    assert len(errors) > 0.8 * truth.visible.sum()
    assert np.median(errors) < 0.003 * WALL_M
    np.testing.assert_array_equal(found.confidence, 1.0)


def test_without_matching_pointmap_what_rests_and_is_not_found_waits_and_hides_behind_surfaces() -> None:
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0, pose=still_camera))
    for t in range(1, 4):
        tracks = tracker.update(observe(t, pose=still_camera, **UNMATCHED))
        assert (tracks.ids == first.ids).all()
        np.testing.assert_array_equal(tracks.positions_world, first.positions_world)
        np.testing.assert_array_equal(tracks.velocities_world, 0.0)
        assert tracks.visible.all()  # on the surface that the depth shows there
    behind = np.full((HEIGHT, WIDTH), 2.0 * WALL_M, np.float32)  # nothing is left at the places of tracks
    gone = tracker.update(observe(4, pose=still_camera, depth=behind, **UNMATCHED))
    assert not gone.visible.any()
    np.testing.assert_array_equal(gone.positions_world, first.positions_world)


def test_without_matching_pointmap_what_moves_and_is_not_found_goes_on_as_it_did() -> None:
    tracker = Tracker(100, 8)
    speed, everything = np.array([0.2, -0.1, 0.05]), np.ones((HEIGHT, WIDTH), bool)
    for t in range(10):
        moved = np.broadcast_to(speed * t * 0.1, (HEIGHT, WIDTH, 3))
        before = tracker.update(observe(t, pose=still_camera, displacement=moved, dynamic_mask=everything))
    for _ in range(2):
        t += 1
        after = tracker.update(observe(t, pose=still_camera, dynamic_mask=everything, **UNMATCHED))
    places = by_id(before, before.positions_world + 0.2 * before.velocities_world)
    kept = by_id(after, after.positions_world)
    assert len(kept) > 0.8 * len(places)
    for track_id, place in kept.items():
        np.testing.assert_allclose(place, places[track_id], atol=1e-6)


def test_without_matching_pointmap_a_seed_that_is_never_seen_becomes_no_track() -> None:
    tracker = Tracker(100, 8)
    tracks = tracker.update(observe(3, 0, **UNMATCHED))  # seeded on a frame that shows nothing
    assert len(tracks.ids) == 0


def test_an_image_that_shows_another_surface_is_not_believed() -> None:
    tracker = Tracker(100, 8)
    pattern = pattern_of_wall(still_camera(0), np.zeros(3))
    first = tracker.update(observe(0, pose=still_camera, image_rgb=pattern, reference_rgb=pattern))
    covered = np.full((HEIGHT, WIDTH), 0.5 * WALL_M, np.float32)
    for t in range(1, 4):  # a screen with a picture of the wall comes before it
        seen = observe(t, pose=still_camera, image_rgb=pattern, reference_rgb=pattern, depth=covered)
        tracks = tracker.update(seen)
    assert not tracks.visible.any()
    np.testing.assert_allclose(tracks.positions_world, first.positions_world, atol=1e-5)


def test_a_track_that_moves_unnoticed_is_not_left_behind() -> None:
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0, pose=still_camera))
    begun = by_id(first, first.positions_world)
    for t in range(1, 40):
        shift = np.broadcast_to([min(t, 20) * 0.02, 0.0, 0.0], (HEIGHT, WIDTH, 3))
        tracks = tracker.update(observe(t, pose=still_camera, displacement=shift))
        truth = np.array([begun[track_id] for track_id in tracks.ids.tolist()]) + shift[0, 0]
        behind = np.linalg.norm(tracks.positions_world - truth, axis=-1)
        assert behind.max() < 2.0 * MOVED_SHARE * WALL_M
    assert behind.max() < 0.5 * MOVED_SHARE * WALL_M


def test_what_rests_and_is_covered_for_a_while_is_found_again_with_its_id() -> None:
    tracker = Tracker(100, 8)
    for t in range(6):
        before = tracker.update(observe(t, pose=still_camera))
    wall = by_id(before, before.positions_world)
    near = np.full((HEIGHT, WIDTH), 0.5, np.float32)  # something close covers all while the window begins anew
    matched = torch.from_numpy(0.5 / WALL_M * points_of(np.eye(4))).float()
    covered = tracker.update(observe(6, pose=still_camera, depth=near))
    assert not covered.visible.any()
    for t in range(7, 10):
        covered = tracker.update(observe(t, 6, still_camera, depth=near, points_matched=matched))
        seen = by_id(covered, covered.visible)
        assert not any(seen.get(track_id, False) for track_id in wall)
    for t in range(10, 14):
        after = tracker.update(observe(t, 9, still_camera, dynamic_mask=np.zeros((HEIGHT, WIDTH), bool)))
        found, visible = by_id(after, after.positions_world), by_id(after, after.visible)
        for track_id, place in wall.items():
            assert visible[track_id]
            np.testing.assert_allclose(found[track_id], place, atol=1e-6)
    again = tracker.update(observe(14, 13, still_camera))  # and followed from the next window on
    assert set(wall) <= set(again.ids.tolist())
    followed = tracker._alive.ids[np.isfinite(tracker._alive.reference_pixels[:, 0])]
    assert set(wall) <= set(followed.tolist())


def test_a_longer_world_has_longer_ways() -> None:
    plain, grown = Tracker(100, 8), Tracker(100, 8)
    for t in range(4):
        shift = np.broadcast_to([0.01 * t, 0.0, 0.0], (HEIGHT, WIDTH, 3))
        last, other = (tracker.update(observe(t, displacement=shift)) for tracker in (plain, grown))
    np.testing.assert_array_equal(last.positions_world, other.positions_world)
    centre = np.array([0.5, 0.0, -1.0])
    grown.rescale(2.0, centre)
    snapshot = grown._alive
    np.testing.assert_allclose(snapshot.positions_world - centre, 2.0 * (last.positions_world - centre))
    np.testing.assert_allclose(snapshot.velocities_world, 2.0 * last.velocities_world)


def test_what_was_given_out_is_not_changed_later() -> None:
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0))
    copies = {item.name: getattr(first, item.name).copy() for item in dataclasses.fields(TrackSet)}
    tracker.update(observe(3, dynamic_mask=np.ones((HEIGHT, WIDTH), dtype=bool)))
    for name, before in copies.items():
        np.testing.assert_array_equal(getattr(first, name), before)


def test_points_that_are_no_numbers_are_never_given_out() -> None:
    tracker = Tracker(100, 8)
    count = len(tracker.update(observe(0)).ids)
    broken = observe(1)
    broken.points_matched[20:30, 20:30] = torch.nan
    broken.points_matched[40, :] = torch.inf
    tracks = tracker.update(broken)
    assert len(tracks.ids) == count  # those that nothing is told of wait where they are
    assert np.isfinite(tracks.positions_world).all()
    assert np.isfinite(tracks.velocities_world).all()


# --- what is seen


def test_a_track_behind_a_surface_is_hidden_until_the_surface_goes() -> None:
    tracker = Tracker(100, 8)
    tracker.update(observe(0, pose=still_camera))
    curtain = points_of(np.eye(4))[..., 2].astype(np.float32)
    curtain[:, :32] = 1.0
    behind = tracker.update(observe(1, pose=still_camera, depth=curtain))
    ahead = tracker.update(observe(2, pose=still_camera))
    left = behind.pixels[:, 0] < 32
    assert behind.visible.any()
    assert np.isnan(behind.pixels[~behind.visible]).all()
    assert (~behind.visible).sum() == (ahead.pixels[:, 0] < 32).sum()
    assert not left[behind.visible].any()
    assert ahead.visible.all()
    assert (ahead.ids == behind.ids).all()


def test_a_track_hidden_longer_than_a_window_is_given_up() -> None:
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0, pose=still_camera))
    curtain = points_of(np.eye(4))[..., 2].astype(np.float32)
    curtain[:, :32] = 1.0
    for t in range(1, FADE_FRAMES + 1):
        assert len(tracker.update(observe(t, pose=still_camera, depth=curtain)).ids) == len(first.ids)
    left = tracker.update(observe(FADE_FRAMES + 1, pose=still_camera, depth=curtain))
    assert 0 < len(left.ids) < len(first.ids)
    assert left.visible.all()


@pytest.mark.parametrize(
    ("pixel", "depth", "seen"),
    [
        ((0.0, 0.0), 2.0, True),
        ((-0.4, 47.4), 2.0, True),
        ((-0.6, 5.0), 2.0, False),
        ((5.0, 47.6), 2.0, False),
        ((63.6, 5.0), 2.0, False),
        ((5.0, 5.0), 2.15, True),  # within a tenth of the surface's depth
        ((5.0, 5.0), 2.3, False),
        ((5.0, 5.0), 1.0, True),
        ((20.0, 20.0), 2.0, False),  # nothing is known there
        ((np.nan, np.nan), 2.0, False),
        ((5.0, 5.0), np.nan, False),
    ],
)
def test_a_point_is_visible_inside_the_image_and_not_behind_its_surface(
    pixel: tuple[float, float], depth: float, seen: bool
) -> None:
    surface = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    surface[20, 20] = np.nan
    assert visible_at(np.array([pixel]), np.array([depth]), surface).tolist() == [seen]


def test_a_track_on_something_that_moves_says_so() -> None:
    tracker = Tracker(100, 8)
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[:, 40:] = True
    tracker.update(observe(0))
    tracks = tracker.update(observe(1, dynamic_mask=mask))
    columns = np.rint(tracks.pixels[tracks.visible, 0])
    np.testing.assert_array_equal(tracks.dynamic[tracks.visible], columns >= 40)
    assert not tracker.update(observe(2)).dynamic[tracks.visible].any()


# --- from window to window


def test_a_track_is_continued_from_its_pixel_in_the_new_reference() -> None:
    tracker = Tracker(100, 8)
    first = tracker.update(observe(0))
    for t in range(1, 5):
        before = tracker.update(observe(t))
    after = tracker.update(observe(5, reference=4))
    common = sorted(set(before.ids.tolist()) & set(after.ids.tolist()))
    assert len(common) > 0.7 * len(first.ids)
    old, new = by_id(first, first.positions_world), by_id(after, after.positions_world)
    for track in common:  # the wall is flat: reading between pixels is exact, the border to within half a pixel
        np.testing.assert_allclose(new[track], old[track], atol=0.5 * WALL_M / 60.0)
    inner = [track for track in common if np.all(np.abs(new[track] - old[track]) < 1e-3)]
    assert len(inner) > 0.8 * len(common)


def test_tracks_seen_at_the_very_border_do_not_shrink_towards_the_camera() -> None:
    tracker = Tracker(1000, 1)  # a track at every pixel, so that many leave over the border
    tracker.update(observe(0))
    tracker.update(observe(1))
    tracks = tracker.update(observe(2, reference=1))
    old = tracks.age_frames == 3
    assert old.any()
    np.testing.assert_allclose(tracks.positions_world[old, 2], WALL_M, rtol=1e-3)


def test_tracks_that_were_not_seen_in_the_new_reference_end_and_their_ids_are_not_used_again() -> None:
    tracker = Tracker(100, 8)
    tracker.update(observe(0))
    curtain = points_of(camera_at(4))[..., 2].astype(np.float32)
    curtain[:, :32] = 1.0
    hidden = tracker.update(observe(4, depth=curtain))
    after = tracker.update(observe(5, reference=4))
    assert set(hidden.ids[hidden.visible].tolist()) <= set(after.ids.tolist())
    assert not set(hidden.ids[~hidden.visible].tolist()) & set(after.ids.tolist())
    new = set(after.ids.tolist()) - set(hidden.ids.tolist())
    assert new
    assert min(new) > max(hidden.ids)


def test_a_reference_nobody_saw_starts_over() -> None:
    tracker = Tracker(100, 8)
    before = tracker.update(observe(0))
    after = tracker.update(observe(5, reference=3))
    assert not set(before.ids.tolist()) & set(after.ids.tolist())


def test_frames_that_were_forgotten_can_no_longer_be_continued_from() -> None:
    tracker = Tracker(100, 8)
    for t in range(3):
        before = tracker.update(observe(t))
    tracker.forget_frames_before(observe(2).stamp_ns)
    after = tracker.update(observe(3, reference=2))
    assert set(before.ids.tolist()) & set(after.ids.tolist())
    tracker.forget_frames_before(observe(9).stamp_ns)
    later = tracker.update(observe(9, reference=3))
    waiting = ~np.isfinite(tracker._alive.reference_pixels[:, 0])
    assert not set(after.ids.tolist()) & set(tracker._alive.ids[~waiting].tolist())
    places = by_id(later, later.positions_world)  # what goes on only waits where it was
    for track_id, place in by_id(after, after.positions_world).items():
        if track_id in places:
            np.testing.assert_array_equal(places[track_id], place)


def test_empty_cells_are_filled_at_every_new_reference() -> None:
    tracker = Tracker(1000, 8)
    for t in range(0, 12, 4):
        tracks = tracker.update(observe(t, reference=t))
        cells = {tuple(cell) for cell in (tracks.pixels // 8).astype(int).tolist()}
        assert len(cells) == (WIDTH // 8) * (HEIGHT // 8)


def test_after_a_reset_ids_go_on() -> None:
    tracker = Tracker(100, 8)
    before = tracker.update(observe(3))
    tracker.reset()
    after = tracker.update(observe(0))
    assert min(after.ids) > max(before.ids)
    assert (after.age_frames == 1).all()


# --- nothing


def test_no_tracks_are_a_set_like_any_other() -> None:
    none, empty = Tracker(0, 8).update(observe(0)), empty_track_set()
    for tracks in (none, empty):
        for item in dataclasses.fields(TrackSet):
            value, usual = getattr(tracks, item.name), getattr(Tracker(4, 8).update(observe(0)), item.name)
            assert value.shape == (0, *usual.shape[1:])
            assert value.dtype == usual.dtype


# --- values between pixels


@pytest.mark.parametrize("blur_px", [1, 3, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_between_pixels_are_those_of_the_whole_map(blur_px: int, channels: int) -> None:
    """Medians are taken around the pixels alone; the slow twin takes them everywhere first."""
    draws = np.random.default_rng(channels)
    maps = draws.normal(size=(HEIGHT, WIDTH, channels)).astype(np.float32)
    pixels = draws.uniform(0, (WIDTH - 1, HEIGHT - 1), size=(300, 2))
    pixels[:4] = (0, 0), (WIDTH - 1, HEIGHT - 1), (WIDTH - 1, 0), (7, 9)
    smooth = cv2.medianBlur(maps, blur_px).reshape(HEIGHT, WIDTH, channels)
    slow = sample_bilinear(torch.from_numpy(smooth)[None].double(), torch.from_numpy(pixels))[0].numpy()
    np.testing.assert_allclose(sample(maps, pixels, blur_px), slow, atol=1e-5)


def test_many_values_are_those_of_each_alone() -> None:
    draws = np.random.default_rng(0)
    maps, pixels = draws.normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32), draws.uniform(1, 20, size=(11_000, 2))
    all_at_once = sample(maps, pixels, 5)
    for part in (slice(0, 7), slice(4_998, 5_004), slice(-3, None)):
        np.testing.assert_array_equal(all_at_once[part], sample(maps, pixels[part], 5))


def test_what_is_not_finite_is_read_beside_what_is() -> None:
    maps = np.ones((HEIGHT, WIDTH, 3), np.float32)
    maps[20, 30] = np.nan
    read = sample(maps, np.array([(30.0, 20.0), (28.0, 20.0), (10.0, 10.0)]), 5)
    assert np.isnan(read[0]).all()
    np.testing.assert_array_equal(read[1:], 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_confidence_that_is_no_number_is_none(value: float) -> None:
    tracker = Tracker(50, 8)
    for t in range(3):
        found = tracker.update(observe(t, conf_match=torch.full((HEIGHT, WIDTH), value)))
        assert len(found.ids)
        assert np.isfinite(found.confidence).all()
