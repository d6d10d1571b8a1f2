"""Moving objects: slabs before a wall, whose depth, mask and tracks are known."""

from collections.abc import Callable

import numpy as np
import pytest

from pomato_ros.geometry.rigid import invert, pose_exp, transform
from pomato_ros.scene.boxes import boxes_in, boxes_of
from pomato_ros.scene.objects import Objects
from pomato_ros.structures import Intrinsics, ObjectSet, TrackSet

WIDTH, HEIGHT = 160, 120
CAMERA = Intrinsics(140.0, 140.0, 79.5, 59.5, WIDTH, HEIGHT)
WALL_M, HALF_M = 6.0, 0.3
INTERVAL_NS = 100_000_000
Path = Callable[[float], tuple[float, float, float]]


def line(start: tuple[float, float, float], velocity: tuple[float, float, float]) -> Path:
    return lambda seconds: tuple(np.add(start, np.multiply(velocity, seconds)).tolist())


LEFT = line((-1.0, 0.0, 3.0), (0.5, 0.0, 0.1))
RIGHT = line((1.2, 0.4, 4.0), (-0.2, 0.0, -0.3))


def camera_at(t: int) -> np.ndarray:
    return pose_exp([0.02 * t, 0.0, 0.0, 0.0, 0.004 * t, 0.0])


def frame(paths: list[Path], t: int, hidden: set[int] = frozenset()) -> tuple[TrackSet, np.ndarray, np.ndarray]:
    """Tracks, mask and points of a frame; slabs in ``hidden`` are not seen."""
    pose, seconds = camera_at(t), t * INTERVAL_NS * 1e-9
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack(((x - CAMERA.cx_px) / CAMERA.fx_px, (y - CAMERA.cy_px) / CAMERA.fy_px, np.ones(x.shape)), -1)
    world_rays = rays @ pose[:3, :3].T
    depth, owner = (WALL_M - pose[2, 3]) / world_rays[..., 2], np.full(x.shape, -1)
    for index, path in enumerate(paths):
        centre = np.array(path(seconds))
        away = (centre[2] - pose[2, 3]) / world_rays[..., 2]
        points = pose[:3, 3] + away[..., None] * world_rays
        inside = (np.abs(points[..., :2] - centre[:2]) < HALF_M).all(-1) & (away < depth) & (index not in hidden)
        depth[inside], owner[inside] = away[inside], index
    ids, places, velocities, pixels, visible = [], [], [], [], []
    for index, path in enumerate(paths):
        centre, soon = np.array(path(seconds)), np.array(path(seconds + 1e-3))
        for number, corner in enumerate(np.ndindex(3, 3)):
            place = centre + np.array([*(0.2 * (np.array(corner) - 1)), 0.0])
            pixel = transform(invert(pose), place) @ CAMERA.matrix().T
            pixel = pixel[:2] / pixel[2]
            column, row = np.rint(pixel).astype(int)
            seen = 0 <= column < WIDTH and 0 <= row < HEIGHT and owner[row, column] == index
            ids.append(9 * index + number)
            places.append(place)
            velocities.append((soon - centre) / 1e-3)
            pixels.append(pixel if seen else (np.nan, np.nan))
            visible.append(seen)
    count = len(ids)
    tracks = TrackSet(
        np.array(ids, np.int64),
        np.array(places).reshape(-1, 3),
        np.array(velocities).reshape(-1, 3),
        np.array(pixels, np.float32).reshape(-1, 2),
        np.ones(count, np.float32),
        np.array(visible, bool),
        np.ones(count, bool),
        np.full(count, t + 1),
    )
    return tracks, owner >= 0, (rays * depth[..., None]).astype(np.float32)


def run(objects: Objects, paths: list[Path], times: range, hidden: Callable[[int], set[int]] = lambda _: set()) -> list:
    sets = []
    for t in times:
        tracks, mask, points = frame(paths, t, hidden(t))
        sets.append(objects.update(t * INTERVAL_NS, tracks, mask, points, camera_at(t), CAMERA))
    return sets


def nearest(objects: ObjectSet, place: tuple[float, float, float]) -> int:
    return int(np.linalg.norm(objects.centres_world - place, axis=-1).argmin())


def test_each_mover_is_one_object_with_its_place_size_and_velocity() -> None:
    sets = run(Objects(), [LEFT, RIGHT], range(12))
    last, seconds = sets[-1], 1.1
    assert len(last.ids) == 2
    for path, velocity in ((LEFT, (0.5, 0.0, 0.1)), (RIGHT, (-0.2, 0.0, -0.3))):
        row = nearest(last, path(seconds))
        np.testing.assert_allclose(last.centres_world[row], path(seconds), atol=0.06)
        np.testing.assert_allclose(last.sizes_world[row], (0.6, 0.6, 0.0), atol=0.08)
        np.testing.assert_allclose(last.velocities_world[row], velocity, atol=0.05)
        assert last.visible[row]
        assert last.track_counts[row] == 9
        owned = last.points_world[last.point_rows == row]
        assert len(owned) > 50
        assert np.abs(owned - path(seconds)).max() < 0.35


def test_objects_get_an_id_once_they_were_seen_in_several_frames_and_keep_it() -> None:
    sets = run(Objects(), [LEFT, RIGHT], range(14))
    assert [len(found.ids) for found in sets[:3]] == [0, 0, 2]
    assert sets[2].age_frames.tolist() == [1, 1]
    for found in sets[3:]:
        assert found.ids.tolist() == [0, 1]
    assert (sets[9].age_frames - sets[8].age_frames == 1).all()


def test_a_hidden_object_coasts_and_comes_back_with_its_id() -> None:
    sets = run(Objects(), [LEFT, RIGHT], range(20), hidden=lambda t: {0} if 8 <= t < 15 else set())
    during, seconds = sets[13], 1.3
    row = nearest(during, LEFT(seconds))
    assert not during.visible[row]
    np.testing.assert_allclose(during.centres_world[row], LEFT(seconds), atol=0.12)
    assert during.track_counts[row] == 0
    assert during.ids.tolist() == sets[-1].ids.tolist() == [0, 1]
    assert sets[-1].visible.all()
    assert during.velocity_std[row] >= sets[7].velocity_std[nearest(sets[7], LEFT(0.7))]


def test_objects_that_cross_keep_their_ids() -> None:
    paths = [line((-0.8, 0.0, 3.0), (0.8, 0.0, 0.0)), line((0.9, 0.0, 4.0), (-0.6, 0.0, 0.0))]
    sets = run(Objects(), paths, range(24))
    before, after = sets[6], sets[23]
    for path in paths:
        assert before.ids[nearest(before, path(0.6))] == after.ids[nearest(after, path(2.3))]


def test_ids_are_never_used_twice() -> None:
    objects = Objects()
    first = run(objects, [LEFT], range(6))[-1]
    objects.reset()
    second = run(objects, [LEFT], range(6, 12))[-1]
    assert len(first.ids) == len(second.ids) == 1
    assert second.ids[0] > first.ids[0]
    assert second.age_frames[0] <= 6


def test_a_lost_camera_and_an_empty_mask_show_nothing() -> None:
    objects = Objects()
    run(objects, [LEFT], range(6))
    tracks, mask, points = frame([LEFT], 6)
    assert len(objects.update(6 * INTERVAL_NS, tracks, mask, points, None, CAMERA).ids) == 0
    quiet = objects.update(7 * INTERVAL_NS, tracks, np.zeros_like(mask), points, camera_at(7), CAMERA)
    assert not quiet.visible.any()


def test_specks_of_the_mask_and_points_without_depth_are_no_objects() -> None:
    objects, draws = Objects(), np.random.default_rng(0)
    for t in range(8):
        tracks, _, points = frame([], t)
        mask = draws.random((HEIGHT, WIDTH)) < 0.002
        assert len(objects.update(t * INTERVAL_NS, tracks, mask, points, camera_at(t), CAMERA).ids) == 0
    blind = Objects()
    for t in range(8):
        tracks, mask, points = frame([LEFT], t)
        found = blind.update(t * INTERVAL_NS, tracks, mask, np.full_like(points, np.nan), camera_at(t), CAMERA)
        assert len(found.ids) == 0


def test_a_mask_of_another_size_is_refused() -> None:
    tracks, mask, points = frame([LEFT], 0)
    with pytest.raises(ValueError, match="expected a mask of 120 x 160"):
        Objects().update(0, tracks, mask[:60], points, camera_at(0), CAMERA)


def test_boxes_leave_out_outliers_and_turn_with_the_frame() -> None:
    draws = np.random.default_rng(1)
    points = draws.uniform(-1.0, 1.0, (2000, 3))
    points[0] = 50.0
    low, high = boxes_of(points, np.zeros(2000, np.int64), 2)
    np.testing.assert_allclose(low[0], -0.96, atol=0.03)
    np.testing.assert_allclose(high[0], 0.96, atol=0.03)
    assert np.isnan(low[1]).all()
    found = run(Objects(), [LEFT], range(8))[-1]
    turned = pose_exp([1.0, 2.0, 3.0, 0.0, 0.0, np.pi / 2])
    centres, sizes = boxes_in(found, turned)
    np.testing.assert_allclose(centres[0], transform(turned, found.centres_world)[0], atol=0.1)
    np.testing.assert_allclose(sizes[0], found.sizes_world[0][[1, 0, 2]], atol=0.05)
