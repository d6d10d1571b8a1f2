"""3-D point tracks in a world of textured planes, rendered here with exact depth and owners."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pomato_ros.geometry.rigid import invert, pose_exp
from pomato_ros.scene.tracks import Tracker
from pomato_ros.structures import DepthMap, Intrinsics, TrackSet

WIDTH, HEIGHT = 160, 120
CAMERA = Intrinsics(140.0, 140.0, 79.5, 59.5, WIDTH, HEIGHT)
INTERVAL_NS = 50_000_000
TEXTURE_PX_PER_M = 100.0
SIGMA = 0.0015  # of the inverse depth, 1/m: that of a depth camera whose depth errs by 0.0015 z^2


@dataclass(frozen=True)
class Plane:
    """A rectangle; ``offset`` gives its shift in the world after some seconds."""

    low: tuple[float, float]
    high: tuple[float, float]
    depth_m: float
    seed: int
    offset: Callable[[float], tuple[float, float, float]] = lambda _: (0.0, 0.0, 0.0)

    def moves(self) -> bool:
        return self.offset(1.0) != (0.0, 0.0, 0.0)


WALL = Plane((-6.0, -5.0), (6.0, 5.0), 4.0, seed=1)
MOVER = Plane((-0.5, -0.5), (0.3, 0.4), 2.5, seed=2, offset=lambda s: (0.6 * s, 0.05 * s, 0.1 * s))
PILLAR = Plane((0.35, -2.0), (0.7, 2.0), 1.8, seed=3)


@dataclass(frozen=True)
class Shot:
    stamp_ns: int
    gray: np.ndarray  # (h, w)
    depth_m: np.ndarray  # (h, w)
    owner: np.ndarray  # (h, w) index of the plane
    world_from_camera: np.ndarray
    mask: np.ndarray  # (h, w)


def camera_at(t: int) -> np.ndarray:
    return pose_exp([0.012 * t, 0.004 * t, 0.006 * t, 0.0, 0.003 * t, 0.001 * t])


def still_camera(_: int) -> np.ndarray:
    return np.eye(4)


def shoot(planes: list[Plane], t: int, camera: Callable[[int], np.ndarray] = camera_at, noise: float = 1.0) -> Shot:
    """Frame ``t``; grey values err by ``noise``."""
    world_from_camera, stamp_ns = camera(t), t * INTERVAL_NS
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack(((x - CAMERA.cx_px) / CAMERA.fx_px, (y - CAMERA.cy_px) / CAMERA.fy_px, np.ones(x.shape)), -1)
    rays = rays @ world_from_camera[:3, :3].T
    gray, depth = np.zeros(x.shape, np.float32), np.full(x.shape, np.inf)
    owner = np.full(x.shape, -1)
    for index, plane in enumerate(planes):
        shift = np.array(plane.offset(stamp_ns * 1e-9))
        away = (plane.depth_m + shift[2] - world_from_camera[2, 3]) / rays[..., 2]
        points = world_from_camera[:3, 3] + away[..., None] * rays - shift
        u, v = ((points[..., axis] - plane.low[axis]) * TEXTURE_PX_PER_M for axis in (0, 1))
        seen = cv2.remap(texture(plane), u.astype(np.float32), v.astype(np.float32), cv2.INTER_CUBIC)
        inside = (points[..., :2] >= plane.low).all(-1) & (points[..., :2] <= plane.high).all(-1)
        front = inside & (away > 0) & (away < depth)
        gray[front], depth[front], owner[front] = seen[front], away[front], index
    gray += noise * np.random.default_rng(1000 + t).standard_normal(gray.shape).astype(np.float32)
    moving = np.array([plane.moves() for plane in planes] + [False])
    return Shot(stamp_ns, gray.clip(0, 255).round().astype(np.uint8), depth, owner, world_from_camera, moving[owner])


def texture(plane: Plane) -> np.ndarray:
    """Smooth noise, the same for the same plane."""
    size = [round((plane.high[axis] - plane.low[axis]) * TEXTURE_PX_PER_M) for axis in (1, 0)]
    values = np.random.default_rng(plane.seed).standard_normal(size).astype(np.float32)
    values = cv2.GaussianBlur(values, (0, 0), 6.0)
    return 128.0 + 45.0 * values / values.std()


def measured(shot: Shot, holes: float = 0.02) -> DepthMap:
    """What a depth camera says: white noise of the inverse depth, some holes."""
    draws = np.random.default_rng(2000 + shot.stamp_ns)
    inverse = 1.0 / shot.depth_m + SIGMA * draws.standard_normal(shot.depth_m.shape)
    valid = draws.random(shot.depth_m.shape) > holes
    sigma = np.full(shot.depth_m.shape, SIGMA, np.float32)
    return DepthMap(np.where(valid, inverse, 0.0).astype(np.float32), sigma, valid, metric=True)


def surface_point(shot: Shot, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World points (n, 3) that pixels (n, 2) see, and the planes (n,) that they are on."""
    column, row = np.rint(pixels).astype(int).T
    near = shot.depth_m[row, column]
    plane_z = shot.world_from_camera[2, 3] + near * (rays_at(np.stack((column, row), -1)) @ turn(shot).T)[:, 2]
    rays = rays_at(pixels) @ turn(shot).T
    away = (plane_z - shot.world_from_camera[2, 3]) / rays[:, 2]
    return shot.world_from_camera[:3, 3] + away[:, None] * rays, shot.owner[row, column]


def rays_at(pixels: np.ndarray) -> np.ndarray:
    x, y = (pixels[:, 0] - CAMERA.cx_px) / CAMERA.fx_px, (pixels[:, 1] - CAMERA.cy_px) / CAMERA.fy_px
    return np.stack((x, y, np.ones(len(pixels))), axis=-1)


def turn(shot: Shot) -> np.ndarray:
    return shot.world_from_camera[:3, :3]


def projected(shot: Shot, points: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) of world points (n, 3)."""
    camera = points @ invert(shot.world_from_camera)[:3, :3].T + invert(shot.world_from_camera)[:3, 3]
    return camera[:, :2] / camera[:, 2:] * (CAMERA.fx_px, CAMERA.fy_px) + (CAMERA.cx_px, CAMERA.cy_px)


class Run:
    """A tracker over some frames, and the truth of its tracks: each is the point that its first pixel saw."""

    def __init__(self, planes: list[Plane], camera: Callable[[int], np.ndarray] = camera_at, **options: int) -> None:
        self.planes, self.camera, self.tracker = planes, camera, Tracker(**options)
        self.born: dict[int, tuple[np.ndarray, int, float]] = {}  # point, plane and time in seconds
        self.sets: list[TrackSet] = []
        self.shots: list[Shot] = []

    def step(self, t: int, *, lost: bool = False) -> TrackSet:
        shot = shoot(self.planes, t, self.camera)
        pose = None if lost else shot.world_from_camera
        tracks = self.tracker.update(shot.stamp_ns, shot.gray, measured(shot), pose, CAMERA, None, shot.mask)
        new = [row for row in np.flatnonzero(tracks.visible) if int(tracks.ids[row]) not in self.born]
        points, owners = surface_point(shot, tracks.pixels[new].astype(float))
        for row, point, owner in zip(new, points, owners, strict=True):
            self.born[int(tracks.ids[row])] = (point, int(owner), shot.stamp_ns * 1e-9)
        self.sets.append(tracks)
        self.shots.append(shot)
        return tracks

    def truth(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the tracks of frame ``t`` truly are (n, 3), and on which plane (n,)."""
        seconds, points, owners = self.shots[t].stamp_ns * 1e-9, [], []
        for id_ in self.sets[t].ids.tolist():
            point, owner, birth = self.born[id_]
            plane = self.planes[owner]
            points.append(point + np.subtract(plane.offset(seconds), plane.offset(birth)))
            owners.append(owner)
        return np.array(points).reshape(-1, 3), np.array(owners)


def test_points_at_rest_stay_where_they_are_and_vary_less() -> None:
    run = Run([WALL, PILLAR])
    spread = []
    for t in range(16):
        tracks = run.step(t)
        old = tracks.ids < 50
        spread.append(np.trace(run.tracker.covariances_world(), axis1=1, axis2=2)[old & tracks.visible])
    truth, _ = run.truth(15)
    error = np.linalg.norm(tracks.positions_world - truth, axis=-1)[tracks.visible]
    assert len(tracks.ids) > 100
    assert np.median(error) < 0.004  # one reading of the sensor errs by 0.024 m on the wall, a patch of 25 by 0.005
    assert np.quantile(error, 0.95) < 0.03
    assert np.median(spread[15]) < 0.5 * np.median(spread[2])
    assert not tracks.dynamic.any()
    assert np.linalg.norm(tracks.velocities_world, axis=-1).max() == 0.0


def test_covariances_are_honest() -> None:
    run = Run([WALL, PILLAR])
    for t in range(16):
        tracks = run.step(t)
    error = (tracks.positions_world - run.truth(15)[0])[..., None]
    nees = (error * np.linalg.solve(run.tracker.covariances_world(), error)).sum(axis=(1, 2))[tracks.visible]
    assert (
        0.5 < np.median(nees) < 4.7
    )  # chi square with 3 degrees of freedom: 2.37; less, since nothing errs twice here
    assert np.mean(nees < 16.3) > 0.9


def test_ids_are_unique_stable_and_never_given_again() -> None:
    run = Run([WALL, PILLAR, MOVER])
    seen: set[int] = set()
    gone: set[int] = set()
    for t in range(20):
        ids = run.step(t).ids.tolist()
        assert ids == sorted(set(ids))
        assert not gone & set(ids)
        gone |= seen - set(ids)
        seen |= set(ids)
    assert len(set(run.sets[4].ids) & set(run.sets[19].ids)) > 0.8 * len(run.sets[4].ids)


def test_pixels_and_positions_agree_and_lie_where_the_image_is() -> None:
    run = Run([WALL, PILLAR, MOVER])
    for t in range(8):
        tracks = run.step(t)
        seen = tracks.visible
        assert np.isnan(tracks.pixels[~seen]).all()
        assert ((tracks.pixels[seen] >= -0.5) & (tracks.pixels[seen] <= (WIDTH - 0.5, HEIGHT - 0.5))).all()
        placed = projected(run.shots[t], tracks.positions_world[seen])
        np.testing.assert_allclose(tracks.pixels[seen], placed, atol=1e-3)


def test_no_track_begins_where_depth_is_invalid_or_jumps() -> None:
    shot = shoot([WALL, PILLAR], 0)
    depth = measured(shot, holes=0.0)
    depth.valid[:, :80] = False
    tracker = Tracker()
    for t in range(2):
        shot = shoot([WALL, PILLAR], 0)
        tracks = tracker.update(t * INTERVAL_NS, shot.gray, depth, np.eye(4), CAMERA, None, shot.mask)
    assert len(tracks.ids)
    assert tracks.visible.all()
    assert (tracks.pixels[:, 0] > 79.5).all()
    edge = cv2.morphologyEx(shot.owner.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    column, row = np.rint(tracks.pixels).astype(int).T
    assert not edge[row, column].any()


def test_movers_are_followed_and_go_together() -> None:
    run = Run([WALL, MOVER])
    for t in range(16):
        tracks = run.step(t)
    truth, owners = run.truth(15)
    moving = (owners == 1) & tracks.visible
    error = np.linalg.norm(tracks.positions_world - truth, axis=-1)[moving]
    assert np.count_nonzero(moving) > 15
    assert np.median(error) < 0.01
    assert tracks.dynamic[moving].mean() > 0.95
    np.testing.assert_allclose(np.median(tracks.velocities_world[moving], axis=0), (0.6, 0.05, 0.1), atol=0.08)


def test_a_mover_that_was_hidden_comes_back_with_its_ids() -> None:
    behind = Plane((0.75, -0.3), (1.25, 0.3), 2.5, seed=5, offset=lambda s: (-0.9 * s, 0.0, 0.0))
    front = Plane((-0.1, -3.0), (0.45, 3.0), 1.2, seed=3)
    run = Run([WALL, behind, front], camera=still_camera)
    shares = []
    for t in range(44):
        run.step(t)
        shares.append(float((run.shots[t].owner == 1).mean()))
    fully = int(np.argmin(shares))
    assert shares[fully] == 0.0  # the whole of it is hidden for a while
    before, after = fully - 14, 43
    mine = {id_ for id_ in run.sets[before].ids.tolist() if run.born[id_][1] == 1}
    hidden = run.sets[fully]
    assert not any(hidden.visible[np.isin(hidden.ids, list(mine))])
    back = np.isin(run.sets[after].ids, list(mine)) & run.sets[after].visible
    error = np.linalg.norm(run.sets[after].positions_world - run.truth(after)[0], axis=-1)[back]
    assert np.count_nonzero(back) > 0.6 * len(mine) > 3
    assert np.median(error) < 0.05


def test_points_behind_another_surface_are_hidden_and_found_again() -> None:
    door = Plane((-1.2, -2.0), (-0.4, 2.0), 2.0, seed=7, offset=lambda s: (1.2 * s, 0.0, 0.0))
    run = Run([WALL, door], camera=still_camera)
    right = asked = 0
    for t in range(30):
        tracks = run.step(t)
        truth, owners = run.truth(t)
        on_wall = owners == 0
        column, row = np.rint(projected(run.shots[t], truth[on_wall])).astype(int).T
        truly = run.shots[t].owner[row.clip(0, HEIGHT - 1), column.clip(0, WIDTH - 1)] == 0
        right, asked = right + np.count_nonzero(truly == tracks.visible[on_wall]), asked + len(truly)
    assert right > 0.97 * asked > 1000


def test_what_starts_to_move_is_noticed_without_the_mask() -> None:
    late = Plane(MOVER.low, MOVER.high, 2.5, seed=2, offset=lambda s: (0.8 * max(s - 0.4, 0.0), 0.0, 0.0))
    run = Run([WALL, late], camera=still_camera)
    for t in range(18):
        shot = shoot(run.planes, t, still_camera)
        quiet = np.zeros(shot.gray.shape, np.float32)
        tracks = run.tracker.update(shot.stamp_ns, shot.gray, measured(shot), np.eye(4), CAMERA, quiet, quiet > 0)
    column, row = np.rint(tracks.pixels[tracks.visible]).astype(int).T
    on_mover = shot.owner[row, column] == 1
    moving = tracks.dynamic[tracks.visible]
    assert moving[~on_mover].mean() < 0.1  # beside the mover, where its edge drags patches along
    assert np.count_nonzero(moving & on_mover) > 3


def test_what_stops_is_at_rest_again() -> None:
    run = Run([WALL, Plane(MOVER.low, MOVER.high, 2.5, seed=2, offset=lambda s: (0.6 * min(s, 0.5), 0.0, 0.0))])
    for t in range(24):
        shot = shoot(run.planes, t)
        mask = shot.mask & (t <= 10)
        depth = measured(shot)
        tracks = run.tracker.update(shot.stamp_ns, shot.gray, depth, shot.world_from_camera, CAMERA, None, mask)
    assert tracks.dynamic.mean() < 0.03


def test_a_lost_camera_shows_nothing_and_tracks_wait() -> None:
    run = Run([WALL, PILLAR])
    for t in range(5):
        before = run.step(t)
    for t in range(5, 8):
        waiting = run.step(t, lost=True)
        assert not waiting.visible.any()
        assert np.array_equal(waiting.ids, before.ids)
        assert np.array_equal(waiting.positions_world, before.positions_world)
    after = run.step(8)
    assert len(set(before.ids) & set(after.ids[after.visible])) > 0.9 * len(before.ids)


def test_without_depth_tracks_are_corrected_by_pixels_and_none_begins() -> None:
    run = Run([WALL, PILLAR])
    for t in range(5):
        before = run.step(t)
    for t in range(5, 9):
        shot = shoot(run.planes, t)
        tracks = run.tracker.update(shot.stamp_ns, shot.gray, None, shot.world_from_camera, CAMERA, None, shot.mask)
    assert set(tracks.ids) <= set(before.ids) | set(range(int(before.ids.max()) + 1, int(before.ids.max()) + 60))
    assert len(set(before.ids) & set(tracks.ids[tracks.visible])) > 0.8 * len(before.ids)


def test_reset_forgets_tracks_but_not_which_ids_were_used() -> None:
    run = Run([WALL, PILLAR])
    for t in range(4):
        before = run.step(t)
    run.tracker.reset()
    run.step(4)
    after = run.step(5)
    assert len(after.ids)
    assert after.ids.min() > before.ids.max()
    assert (after.age_frames == 1).all()


def test_the_same_frames_give_the_same_tracks() -> None:
    runs = [Run([WALL, MOVER]) for _ in range(2)]
    for t in range(6):
        one, other = (run.step(t) for run in runs)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.positions_world, other.positions_world)


def test_numbers_are_bounded() -> None:
    run = Run([WALL, MOVER], max_tracks=40)
    for t in range(10):
        assert len(run.step(t).ids) <= 40
    empty = Run([WALL], max_tracks=0)
    for t in range(3):
        assert len(empty.step(t).ids) == 0
