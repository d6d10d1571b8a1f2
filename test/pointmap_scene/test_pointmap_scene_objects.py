"""Moving objects: balls before a wall whose ways are known, and rendered scenes with all their errors."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.oracle import OraclePredictor, frame_of, pointmap_engine
from pomato_ros.evaluation.oracle_noise import NoisyOracle
from pomato_ros.evaluation.oracle_sets import NOTHING_MOVES
from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import invert, pose_exp, transform
from pomato_ros.pointmap_scene.objects import (
    BAND_PX,
    CONFIRM_FRAMES,
    DEPTH_STEP,
    FORGET_FRAMES,
    HISTORY,
    LEAST_SHARE,
    STD_FACTOR,
    ObjectObservation,
    Objects,
    _boxes_of_owners,
    _line_velocity,
    _Looks,
    _nearest_of,
    _to_segment,
    find_regions,
    label_regions,
)
from pomato_ros.scene.boxes import QUANTILES, boxes_in, boxes_of
from pomato_ros.structures import Intrinsics, ObjectSet, TrackSet
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.sample_scene import sample_scene
from pomato_ros.synthetic.world import render_clip

WIDTH, HEIGHT = 128, 96
CAMERA = Intrinsics(110.0, 110.0, 63.5, 47.5, WIDTH, HEIGHT)
WALL_M, RADIUS_M = 6.0, 0.35
INTERVAL_NS = 100_000_000
Way = Callable[[float], tuple[float, float, float]]  # seconds -> centre in the world


def line(start: tuple[float, float, float], velocity: tuple[float, float, float]) -> Way:
    return lambda seconds: tuple(np.add(start, np.multiply(velocity, seconds)).tolist())


LEFT = line((-0.9, 0.0, 3.0), (0.5, 0.0, 0.0))
RIGHT = line((1.0, 0.3, 4.0), (-0.1, 0.0, -0.4))


def camera_at(t: int) -> np.ndarray:
    return pose_exp([0.02 * t, 0.0, 0.0, 0.0, 0.004 * t, 0.0])


def still_camera(t: int) -> np.ndarray:
    return np.eye(4)


def observe(
    t: int,
    ways: list[Way],
    pose: Callable[[int], np.ndarray] = camera_at,
    with_tracks: bool = True,
    hidden: range = range(0),
    pillar: bool = False,
) -> ObjectObservation:
    """Frame ``t``: balls on their ``ways``, unseen in the frames ``hidden``; a ``pillar`` at rest may hide some."""
    world_from_camera = pose(t)
    rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), CAMERA.matrix())
    depth = np.full((HEIGHT, WIDTH), WALL_M)
    owner = np.full((HEIGHT, WIDTH), -1)
    for number, way in enumerate(ways if t not in hidden else []):
        centre = transform(invert(world_from_camera), np.array(way(t * INTERVAL_NS * 1e-9)))
        along, square = rays @ centre, (rays**2).sum(-1)
        inside = along**2 - square * (centre @ centre - RADIUS_M**2)
        near = (along - np.sqrt(np.maximum(inside, 0.0))) / square
        hit = (inside > 0) & (near < depth)
        depth, owner = np.where(hit, near, depth), np.where(hit, number, owner)
    if pillar:
        before = (np.abs(rays[..., 0]) < 0.05) & (depth > 2.0)
        depth, owner = np.where(before, 2.0, depth), np.where(before, -1, owner)
    tracks = ball_tracks(t, ways, world_from_camera, owner) if with_tracks else ball_tracks(t, [], np.eye(4), owner)
    return ObjectObservation(
        1000 + t * INTERVAL_NS, owner >= 0, depth.astype(np.float32), CAMERA, world_from_camera, tracks
    )


def ball_tracks(t: int, ways: list[Way], world_from_camera: np.ndarray, owner: np.ndarray) -> TrackSet:
    """Twelve points on the near side of each ball, that go with it."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    near = np.stack((0.5 * np.cos(angles), 0.5 * np.sin(angles), -np.full(12, np.sqrt(0.75))), -1) * RADIUS_M
    places = [np.array(way(t * INTERVAL_NS * 1e-9)) + near for way in ways]
    positions = np.concatenate(places) if places else np.zeros((0, 3))
    pixels = project(transform(invert(world_from_camera), positions), CAMERA.matrix())
    inside = ((pixels > 0) & (pixels < (WIDTH - 1, HEIGHT - 1))).all(-1)
    nearest = np.rint(np.where(inside[:, None], pixels, 0)).astype(int)
    visible = inside & (owner[nearest[:, 1], nearest[:, 0]] == np.repeat(np.arange(len(ways)), 12))
    return TrackSet(
        ids=np.arange(len(positions), dtype=np.int64),
        positions_world=positions,
        velocities_world=np.zeros_like(positions),
        pixels=np.where(visible[:, None], pixels, np.nan).astype(np.float32),
        confidence=np.ones(len(positions), np.float32),
        visible=visible,
        dynamic=np.ones(len(positions), bool),
        age_frames=np.full(len(positions), t + 1, np.int64),
    )


def run(observations: list[ObjectObservation], objects: Objects | None = None) -> list[ObjectSet]:
    objects = objects or Objects()
    return [objects.update(observation) for observation in observations]


def names(found: ObjectSet) -> list[int]:
    return found.ids[found.visible].tolist()


# --- names, places, velocities


@pytest.mark.parametrize("pose", [still_camera, camera_at])
@pytest.mark.parametrize("with_tracks", [True, False])
def test_two_balls_are_two_names_that_last(pose: Callable[[int], np.ndarray], with_tracks: bool) -> None:
    sets = run([observe(t, [LEFT, RIGHT], pose, with_tracks) for t in range(20)])
    assert [names(found) for found in sets[: CONFIRM_FRAMES - 1]] == [[]] * (CONFIRM_FRAMES - 1)
    assert {tuple(names(found)) for found in sets[CONFIRM_FRAMES - 1 :]} == {(0, 1)}
    for t in range(6, 20):
        found, seconds = sets[t], t * INTERVAL_NS * 1e-9
        order = np.argsort(found.centres_world[:, 0])
        if LEFT(seconds)[0] < RIGHT(seconds)[0]:
            truth = np.array([LEFT(seconds), RIGHT(seconds)])
            assert (np.abs(found.centres_world[order] - truth) <= 0.7 * RADIUS_M).all()  # only the near side is seen
        np.testing.assert_array_equal(found.age_frames, t + 1)
        assert (found.sizes_world[:, :2] > 1.6 * RADIUS_M).all()
        assert (found.sizes_world < 2.1 * RADIUS_M).all()
        assert (found.track_counts > 4).all() == with_tracks


@pytest.mark.parametrize("with_tracks", [True, False])
def test_velocities_are_those_of_the_balls(with_tracks: bool) -> None:
    found = run([observe(t, [LEFT, RIGHT], still_camera, with_tracks) for t in range(12)])[-1]
    truth = {True: [0.5, 0.0, 0.0], False: [-0.1, 0.0, -0.4]}
    for row in range(2):
        is_left = found.centres_world[row, 2] < 3.2
        np.testing.assert_allclose(found.velocities_world[row], truth[bool(is_left)], atol=0.03 if with_tracks else 0.1)
        assert (np.abs(found.velocities_world[row] - truth[bool(is_left)]) < 3 * found.velocity_std[row]).all()
        assert 0.0 < found.velocity_std[row] < 0.5


def test_tracks_that_err_widen_the_standard_deviation() -> None:
    draws = np.random.default_rng(0)

    def spoilt(t: int) -> ObjectObservation:
        seen = observe(t, [LEFT], still_camera)
        places = seen.tracks.positions_world + 0.2 * draws.standard_normal(seen.tracks.positions_world.shape)
        return dataclasses.replace(seen, tracks=dataclasses.replace(seen.tracks, positions_world=places))

    found = run([spoilt(t) for t in range(12)])[-1]
    exact = run([observe(t, [LEFT], still_camera) for t in range(12)])[-1]
    assert found.velocity_std[0] > 1.2 * exact.velocity_std[0]
    assert np.linalg.norm(found.velocities_world[0] - [0.5, 0.0, 0.0]) < 3 * found.velocity_std[0]


def test_nothing_is_where_nothing_moves() -> None:
    sets = run([observe(t, []) for t in range(5)])
    assert all(len(found.ids) == len(found.points_world) == 0 for found in sets)


def test_a_flash_gets_no_name() -> None:
    sets = run([observe(t, [LEFT], hidden=range(2, 30)) for t in range(6)])
    assert all(len(found.ids) == 0 for found in sets)


def test_the_name_is_the_same_after_an_occlusion() -> None:
    sets = run([observe(t, [LEFT, RIGHT], hidden=range(8, 18)) for t in range(24)])
    assert names(sets[7]) == [0, 1]
    assert names(sets[12]) == []
    assert sets[12].ids.tolist() == [0, 1]
    for t in (12, 17):  # where they are expected while nobody sees them
        seconds = t * INTERVAL_NS * 1e-9
        left = sets[t].centres_world[np.argmin(sets[t].centres_world[:, 2])]
        np.testing.assert_allclose(left, LEFT(seconds), atol=0.3)
    by_name = dict(zip(sets[7].ids.tolist(), sets[7].centres_world[:, 2], strict=True))
    after = dict(zip(sets[20].ids.tolist(), sets[20].centres_world[:, 2], strict=True))
    assert names(sets[20]) == [0, 1]
    assert (by_name[0] < by_name[1]) == (after[0] < after[1])


def test_something_that_stopped_out_of_sight_keeps_its_name() -> None:
    def stops(seconds: float) -> tuple[float, float, float]:
        return LEFT(min(seconds, 0.8))

    sets = run([observe(t, [stops], hidden=range(9, 24)) for t in range(26)])
    assert names(sets[8]) == names(sets[25]) == [0]


def test_no_name_is_used_twice() -> None:
    objects = Objects()
    begun = 0
    for _ in range(3):
        sets = run([observe(t, [LEFT, RIGHT]) for t in range(5)], objects)
        assert names(sets[-1]) == [begun, begun + 1]
        begun += 2
        objects.reset()
    gone = run([observe(t, [LEFT], hidden=range(5, 6 + FORGET_FRAMES)) for t in range(6 + FORGET_FRAMES)], objects)
    assert len(gone[-1].ids) == 0
    late = 7 + FORGET_FRAMES
    again = run([observe(t, [line((0.0, 0.0, 3.0), (0.0, 0.0, 0.0))]) for t in range(late, late + 4)], objects)
    assert names(again[-1]) == [begun + 1]


def test_a_pillar_before_a_ball_does_not_make_two_of_it() -> None:
    way = line((-0.9, 0.0, 3.5), (0.6, 0.0, 0.0))
    sets = run([observe(t, [way], still_camera, pillar=True) for t in range(28)])
    parts = [ndimage.label(observe(t, [way], still_camera, pillar=True).mask)[1] for t in range(28)]
    assert max(parts) == 2  # it is in two pieces for a while
    assert {tuple(names(found)) for found in sets[CONFIRM_FRAMES - 1 :]} == {(0,)}


def test_balls_that_pass_each_other_keep_their_names() -> None:
    near, far = line((-0.9, 0.0, 2.6), (0.6, 0.0, 0.0)), line((0.9, 0.0, 3.2), (-0.6, 0.0, 0.0))
    sets = run([observe(t, [near, far], still_camera) for t in range(30)])
    first, last = sets[5], sets[-1]
    depth_before = dict(zip(first.ids.tolist(), first.centres_world[:, 2], strict=True))
    depth_after = dict(zip(last.ids.tolist(), last.centres_world[:, 2], strict=True))
    assert names(first) == names(last) == [0, 1]
    assert all(abs(depth_before[name] - depth_after[name]) < 0.2 for name in (0, 1))


def test_what_parts_is_two() -> None:
    """Two balls that touch are one object till they go different ways; the name stays with one of them."""
    up = line((-0.2, 0.0, 3.0), (0.0, 0.0, 0.0))

    def away(seconds: float) -> tuple[float, float, float]:
        return (0.3 + max(0.0, seconds - 0.6) * 0.8, 0.0, 3.0)

    sets = run([observe(t, [up, away], still_camera) for t in range(20)])
    assert names(sets[5]) == [0]
    assert len(names(sets[-1])) == 2
    assert 0 in names(sets[-1])


def test_lost_frames_say_nothing_and_keep_names() -> None:
    objects = Objects()
    run([observe(t, [LEFT]) for t in range(6)], objects)
    assert len(objects.miss().ids) == 0
    assert names(run([observe(7, [LEFT])], objects)[0]) == [0]


def test_a_world_that_grows_takes_objects_along() -> None:
    """A sensor stretches everything about the newest camera: places, sizes and velocities grow alike."""
    objects, twin = Objects(), Objects()
    run([observe(t, [LEFT], still_camera) for t in range(8)], objects)
    run([observe(t, [LEFT], still_camera) for t in range(8)], twin)
    objects.rescale(2.0, np.zeros(3))
    blind = observe(8, [], still_camera)
    grown, plain = objects.update(blind), twin.update(blind)
    for name in ("centres_world", "sizes_world", "velocities_world", "velocity_std"):
        np.testing.assert_allclose(getattr(grown, name), 2.0 * getattr(plain, name), rtol=1e-9)


# --- ways and velocities


def test_ways_are_those_of_a_look_up_track_by_track() -> None:
    """Slow twin: a dictionary of each frame."""
    draws, looks = np.random.default_rng(0), _Looks()
    frames: list[tuple[int, dict[int, np.ndarray]]] = []
    for t in range(20):
        ids = np.sort(draws.choice(60, draws.integers(0, 25), replace=False)) + 10 * (t // 4)
        ids = draws.permutation(ids)  # the order of tracks is nobody's promise
        positions = draws.normal(size=(len(ids), 3))
        if t == 12:
            looks.rescale(2.0, np.array([1.0, 0.0, -1.0]))
            centre = np.array([1.0, 0.0, -1.0])
            for _, frame in frames:
                frame.update({number: centre + 2.0 * (place - centre) for number, place in frame.items()})
        told = looks.ways(ids, positions)
        nowhere = np.full(3, np.nan)
        expected = [
            [frame.get(number, nowhere) - place for number, place in zip(ids.tolist(), positions, strict=True)]
            for _, frame in frames
        ]
        assert looks.stamps == [stamp for stamp, _ in frames]
        assert told.shape == (len(frames), 3, len(ids))
        for row, ways in enumerate(expected):
            np.testing.assert_allclose(told[row].T, np.reshape(ways, (-1, 3)), atol=1e-12)
        looks.remember(100 * t, ids, positions)
        frames = [*frames, (100 * t, dict(zip(ids.tolist(), positions, strict=True)))][-HISTORY:]


def test_a_line_is_that_of_least_squares() -> None:
    draws = np.random.default_rng(1)
    stamps = 1_700_000_000_000_000_000 + np.cumsum(draws.integers(50_000_000, 150_000_000, 7))
    seconds = (stamps - stamps[0]) * 1e-9
    places = np.outer(seconds, [0.5, -0.2, 0.1]) + 0.01 * draws.normal(size=(7, 3))
    way = _line_velocity(list(zip(stamps.tolist(), places.tolist(), strict=True)))
    assert way is not None
    slopes, residuals, *_ = np.polyfit(seconds, places, 1, full=True)
    np.testing.assert_allclose(way[0], slopes[0], rtol=1e-9)
    variance = residuals.sum() / (3 * 5) / ((seconds - seconds.mean()) ** 2).sum()
    assert way[1] == pytest.approx(STD_FACTOR * np.sqrt(variance), rel=1e-6)
    assert _line_velocity([(1, [0.0] * 3), (2, [0.0] * 3)]) is None
    assert _line_velocity([(1, [0.0] * 3)] * 3) is None


@pytest.mark.parametrize(
    ("point", "distance"),
    [((0.0, 1.0, 0.0), 1.0), ((-3.0, 4.0, 0.0), 5.0), ((2.0, 0.0, 1.0), 1.0), ((7.0, 0.0, 4.0), 5.0)],
)
def test_distances_from_a_segment(point: tuple[float, float, float], distance: float) -> None:
    start, end = np.zeros(3), np.array([4.0, 0.0, 0.0])
    assert _to_segment(np.array(point), start, end) == pytest.approx(distance)
    assert _to_segment(np.array(point), start, start) == pytest.approx(np.linalg.norm(point))


# --- regions


def labelled(mask: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) numbers of regions, and (h, w) their insides."""
    labels, places = label_regions(mask, depth)
    inner = np.zeros(mask.shape, bool)
    inner.ravel()[places] = True
    return labels, inner


def regions_one_by_one(mask: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Slow twin: a flood fill from pixel to pixel inside; the rest follows the nearest, checked apart."""
    height, width = mask.shape
    moving = mask & np.isfinite(depth) & (depth > 0)
    inner = np.zeros_like(mask)
    for y, x in np.argwhere(moving):
        window = (slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        values = np.log(depth[window][moving[window]])
        inner[y, x] = values.max() - values.min() < DEPTH_STEP
    labels = np.zeros(mask.shape, int)
    for y, x in np.argwhere(inner):
        if labels[y, x]:
            continue
        number, open_pixels = labels.max() + 1, [(y, x)]
        labels[y, x] = number
        while open_pixels:
            row, column = open_pixels.pop()
            for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                y2, x2 = row + down, column + right
                if 0 <= y2 < height and 0 <= x2 < width and inner[y2, x2] and not labels[y2, x2]:
                    labels[y2, x2] = number
                    open_pixels.append((y2, x2))
    return labels


@pytest.mark.parametrize("seed", range(6))
def test_regions_are_those_of_a_flood_fill(seed: int) -> None:
    draws = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(draws.standard_normal((40, 50)), 4.0)
    mask = ndimage.gaussian_filter(draws.standard_normal((40, 50)), 4.0) > 0.0
    depth = np.where(field > 0.0, 2.0, 5.0).astype(np.float32)
    depth[3, 4], depth[20, 20] = np.nan, 0.0
    labels, inner = labelled(mask, depth)
    slow = regions_one_by_one(mask, depth)
    for y, x in np.argwhere(inner & (slow > 0)):
        same = (slow == slow[y, x]) & (labels > 0)
        assert (labels[same] == labels[y, x]).all()
    areas = np.bincount(labels.ravel())[1:]
    assert (areas >= LEAST_SHARE * mask.size).all()
    assert not (labels > 0)[~mask].any()
    assert not inner[~mask].any()
    assert len(np.unique(slow[inner & (slow > 0)])) <= labels.max()


def test_a_step_in_depth_parts_what_touches() -> None:
    mask = np.ones((20, 30), bool)
    depth = np.where(np.arange(30) < 15, 2.0, 3.0)[None].repeat(20, 0).astype(np.float32)
    labels, inner = labelled(mask, depth)
    assert labels.max() == 2
    assert len(np.unique(labels[:, :14])) == len(np.unique(labels[:, 16:])) == 1
    assert not inner[:, 14:16].any()


def test_a_thing_of_steps_alone_is_a_region() -> None:
    mask = np.zeros((40, 40), bool)
    mask[:, 20] = True
    depth = np.where(np.arange(40)[:, None] % 2 == 0, 2.0, 4.0).repeat(40, 1).astype(np.float32)
    labels, inner = labelled(mask, depth)
    assert (labels[:, 20] == 1).all()
    assert (inner == mask).all()


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_pixels_without_depth_belong_to_nothing(value: float) -> None:
    labels, _ = labelled(np.ones((20, 20), bool), np.full((20, 20), value, np.float32))
    assert not labels.any()


@pytest.mark.parametrize("seed", range(4))
def test_pixels_beside_insides_belong_to_the_nearest_of_their_piece(seed: int) -> None:
    """Slow twin: rings of neighbours around each inside, one after the other, within what moves."""
    draws = np.random.default_rng(seed)
    moving = ndimage.gaussian_filter(draws.standard_normal((40, 50)), 3.0) > 0.0
    pieces, count = ndimage.label(moving, np.ones((3, 3)))
    cores = np.zeros(moving.shape, np.int32)
    for number in range(1, count + 1):  # one or two in each piece
        places = np.argwhere(pieces == number)
        for y, x in places[draws.integers(0, len(places), 2)]:
            cores[y, x] = number * 2 + int(x) % 2
    distances = {}
    for number in np.unique(cores[cores > 0]).tolist():
        reached, rings = cores == number, np.where(cores == number, 0, 10_000)
        for ring in range(1, 200):
            grown = ndimage.binary_dilation(reached, np.ones((3, 3))) & moving
            rings[grown & ~reached], reached = ring, grown
        distances[number] = rings
    inside = np.flatnonzero(moving)
    told = _nearest_of(cores, moving, inside)
    nearest = np.min(list(distances.values()), axis=0).ravel()[inside]
    mine = np.array([distances[number].ravel()[place] for number, place in zip(told.tolist(), inside, strict=True)])
    near = nearest <= BAND_PX
    assert near.sum() > 100
    np.testing.assert_array_equal(mine[near], nearest[near])
    assert (told > 0).all()


def test_points_of_regions_lie_where_their_pixels_and_depths_say() -> None:
    seen = observe(3, [LEFT, RIGHT])
    regions = find_regions(seen)
    everywhere = unproject(pixel_grid(HEIGHT, WIDTH), seen.depth_m, CAMERA.matrix())
    world = transform(seen.world_from_camera, everywhere)
    _, inner = labelled(seen.mask, seen.depth_m)
    for row in range(len(regions)):
        expected = world[inner & (regions.label_image == row + 1)]
        mine = regions.points[regions.rows == row]
        assert len(mine) == len(expected) > 20
        np.testing.assert_allclose(mine, expected, atol=1e-9)
        np.testing.assert_allclose(regions.centres[row], 0.5 * (regions.low[row] + regions.high[row]))


def test_boxes_of_owners_are_those_of_their_points() -> None:
    """Regions with an owner each keep their box; that of shared or joined ones is made anew: the same either way."""
    regions = find_regions(observe(3, [LEFT, RIGHT]))
    assert len(regions) == 2
    for first, second in ((7, 3), (3, 7), (5, 5)):
        point_owners = np.where(regions.rows == 0, first, second)
        numbers, low, high = _boxes_of_owners(regions, [[first], [second]], point_owners)
        assert numbers == sorted({first, second})
        expected = boxes_of(regions.points, np.searchsorted(numbers, point_owners), len(numbers))
        np.testing.assert_array_equal((low, high), expected)
    _, low, high = _boxes_of_owners(regions, [[3, 9], [7]], np.where(regions.rows == 0, 3, 7))
    assert np.isnan(low[2]).all()
    assert np.isnan(high[2]).all()


def test_boxes_are_quantiles_of_their_own_points() -> None:
    draws = np.random.default_rng(0)
    points, rows = draws.normal(size=(3000, 3)), draws.integers(0, 4, 3000)
    rows[rows == 2] = 3
    low, high = boxes_of(points, rows, 4)
    assert np.isnan(low[2]).all()
    for row in (0, 1, 3):
        mine = points[rows == row]
        np.testing.assert_allclose(low[row], np.quantile(mine, QUANTILES[0], axis=0, method="nearest"))
        np.testing.assert_allclose(high[row], np.quantile(mine, QUANTILES[1], axis=0, method="nearest"))


def test_boxes_in_another_frame_hold_the_points() -> None:
    found = run([observe(t, [LEFT, RIGHT]) for t in range(8)])[-1]
    target_from_world = pose_exp([1.0, -2.0, 0.5, 0.3, 0.8, -0.2])
    centres, sizes = boxes_in(found, target_from_world)
    for row in range(2):
        points = transform(target_from_world, found.points_world[found.point_rows == row])
        inside = (np.abs(points - centres[row]) <= 0.5 * sizes[row] + 1e-6).all(-1)
        assert inside.mean() > 0.85
    same_centres, same_sizes = boxes_in(found, np.eye(4))
    np.testing.assert_allclose(same_centres, found.centres_world, atol=1e-5)
    np.testing.assert_allclose(same_sizes, found.sizes_world, atol=1e-5)


def test_a_hidden_object_keeps_the_box_around_its_last_one() -> None:
    hidden = run([observe(t, [LEFT], hidden=range(6, 9)) for t in range(8)])[-1]
    turned = np.eye(4)
    turned[:3, :3] = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]
    centres, sizes = boxes_in(hidden, turned)
    np.testing.assert_allclose(centres, hidden.centres_world @ turned[:3, :3].T)
    np.testing.assert_allclose(sizes, hidden.sizes_world[:, [2, 0, 1]])


def enlarged(small: ObjectObservation, factor: int) -> ObjectObservation:
    """The same scene with ``factor`` times the pixels along each axis."""

    def pixel(value: float) -> float:
        return factor * (value + 0.5) - 0.5

    camera = small.intrinsics
    ones = np.ones((factor, factor))
    return dataclasses.replace(
        small,
        mask=np.kron(small.mask, ones) > 0,
        depth_m=np.kron(small.depth_m, ones).astype(np.float32),
        intrinsics=Intrinsics(
            factor * camera.fx_px,
            factor * camera.fy_px,
            pixel(camera.cx_px),
            pixel(camera.cy_px),
            factor * camera.width_px,
            factor * camera.height_px,
        ),
        tracks=dataclasses.replace(small.tracks, pixels=factor * (small.tracks.pixels + np.float32(0.5)) - 0.5),
    )


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_a_larger_image_of_the_same_scene_gives_the_same_objects(factor: int) -> None:
    small = run([observe(t, [LEFT, RIGHT]) for t in range(8)])[-1]
    large = run([enlarged(observe(t, [LEFT, RIGHT]), factor) for t in range(8)])[-1]
    assert names(small) == names(large)
    row = np.argsort(small.centres_world[:, 2]), np.argsort(large.centres_world[:, 2])
    np.testing.assert_allclose(large.centres_world[row[1]], small.centres_world[row[0]], atol=0.06)
    np.testing.assert_allclose(large.sizes_world[row[1]], small.sizes_world[row[0]], atol=0.1)
    np.testing.assert_allclose(large.velocities_world[row[1]], small.velocities_world[row[0]], atol=0.01)
    assert (large.track_counts[row[1]] >= small.track_counts[row[0]] - 3).all()


# --- the whole engine


def objects_of(clip: Clip, predictor: OraclePredictor | NoisyOracle) -> list[ObjectSet]:
    engine = pointmap_engine(PomatoConfig().with_values({"scale_source": "depth"}), predictor)
    seen = [
        engine.step(dataclasses.replace(frame_of(clip, t), depth_m=clip.depth_m[t].numpy())) for t in range(len(clip))
    ]
    return [scene.objects for scene in seen if scene is not None]


def test_three_movers_of_the_sample_are_three_names_for_ever() -> None:
    """A hopping ball, a walking figure and a turning toy, through four windows."""
    clip = render(sample_scene(40, (128, 96)))
    sets = objects_of(clip, OraclePredictor(clip))
    assert {name for found in sets for name in found.ids.tolist()} == {0, 1, 2}
    seen = [len(names(found)) for found in sets[8:]]
    assert np.mean(seen) > 2.5
    first_from_world = invert(clip.world_from_camera[0].numpy())
    found, poses = sets[-1], clip.world_from_object.numpy()
    moving = [row for row in range(poses.shape[1]) if not np.array_equal(poses[-1, row], poses[0, row])]
    places = transform(first_from_world, poses[-1, moving][:, :3, 3])
    distance = np.linalg.norm(found.centres_world[:, None] - places, axis=-1)
    assert sorted(distance.argmin(axis=1).tolist()) == [0, 1, 2]
    assert distance.min(axis=1).max() < 0.4
    figure, errors, spreads = moving[1], [], []
    for t in range(14, 37):  # it sways: it is seen to move from when it is fast enough till it is slow again
        found = sets[t]
        places = transform(first_from_world, poses[t, figure][:3, 3])
        row = int(np.linalg.norm(found.centres_world - places, axis=-1).argmin())
        seconds = (clip.stamps_ns[t + 1] - clip.stamps_ns[t - 1]) * 1e-9
        way = first_from_world[:3, :3] @ (poses[t + 1, figure] - poses[t - 1, figure])[:3, 3] / seconds
        errors.append(float(np.linalg.norm(found.velocities_world[row] - way)))
        spreads.append(float(found.velocity_std[row]))
    assert np.median(errors) < 0.25
    assert (np.array(errors) < 3 * np.array(spreads)).all()


def test_errors_like_a_networks_make_no_objects_where_nothing_moves() -> None:
    clip = render_clip(3, NOTHING_MOVES, 16, (128, 96))
    assert all(len(found.ids) == 0 for found in objects_of(clip, NoisyOracle(clip, seed=3)))
