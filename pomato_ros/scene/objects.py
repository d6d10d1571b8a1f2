"""Moving objects of no class: pixels of the moving mask and the tracks on them, grouped and followed by name.

A region is what hangs together in the moving mask without a step in depth. It belongs to the object that its tracks
belonged to; a region without such tracks, to the one that was expected there. Two objects that touch share a region's
pixels by nearness; pieces of one object that go different ways part, and the smaller gets a new name.
"""

from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.rigid import transform
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, ObjectSet, PoseArray, TrackSet, no_objects

LEAST_SHARE = 0.001  # of the image; smaller regions are none
DEPTH_STEP = 0.2  # of the depth: neighbours farther apart belong to different things
LABEL_PX = 256  # about the long side of the image that regions are found on
MOST_POINTS = 2048  # of all objects together
BOX_QUANTILES = (0.01, 0.99)  # of an object's points, along each axis, that its box reaches to
CLAIM_SHARE = 0.2  # of a region's named tracks that an object needs to claim it
REACH = 0.75  # of a box's diagonal: as far from where it was expected an object is found again without tracks
LONGEST_REACH = 2.0  # the same with all the doubt of where it went
BETWEEN = 1.25  # of an object's extent: a region without tracks that fits in with it is a piece of it, not another
FLATTEST = 0.2  # of the longest side: no side counts for less
EXTENT_KEPT = 0.97  # of the largest box so far, from frame to frame
HISTORY = 6  # frames that velocities are told from
LEAST_LOOKS = 3  # frames with at least so much in common tell one
LEAST_TRACKS = 3  # fewer on an object tell less than its middle
STD_FACTOR = 2.0  # errors of neighbouring frames are alike, so that the misfit of a line tells half of them
STD_LEAST = 0.004  # of the distance, a second: no velocity is known better
ALIKE = 2.0  # measured velocities share most of their frames with those before: their variances count for more
TURN_SHARE = 0.5  # of the differences between an object's tracks, which tell of turns, is doubt of its velocity
ACCELERATION_M_S2 = 1.0  # usual: what is told is the velocity some frames ago
CHANGE_M_S2 = 4.0  # by which a known velocity may be out of date
UNKNOWN_STD_M_S = 2.0  # of a velocity nobody measured
PART_SIGMAS, PART_M_S = 3.0, 0.15  # pieces whose velocities differ by more are two objects
CONFIRM_FRAMES = 3  # seen in so many frames something gets a name
FORGET_FRAMES = 24  # unseen for so many it has none any more


@dataclass(frozen=True, slots=True)
class ObjectObservation:
    """What the newest frame says."""

    stamp_ns: int
    mask: MaskArray  # (h, w) moving pixels
    depth_m: FloatArray  # (h, w), NaN where invalid; without errors of single pixels
    intrinsics: Intrinsics
    world_from_camera: PoseArray  # (4, 4)
    tracks: TrackSet


@dataclass(slots=True)
class _Thing:
    """One object, named or not yet. World, metres."""

    number: int  # of this object in here, from its first frame on
    centre: PoseArray  # (3,) where it was seen last
    size: PoseArray  # (3,)
    stamp_ns: int  # when
    extent: PoseArray = field(default_factory=lambda: np.zeros(3))  # (3,) largest size lately
    velocity: PoseArray = field(default_factory=lambda: np.zeros(3))
    velocity_std: float = UNKNOWN_STD_M_S
    name: int | None = None
    age_frames: int = 0
    seen_frames: int = 0
    hidden_frames: int = 0
    tracks: int = 0
    centres: deque[tuple[int, PoseArray]] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def learn_velocity(self, measured: PoseArray, std: float, least_std: float) -> None:
        """A measurement (3,) of the velocity with its standard deviation, weighed against what was known."""
        known, told = self.velocity_std**2, ALIKE * max(std, least_std) ** 2
        self.velocity = self.velocity + known / (known + told) * (measured - self.velocity)
        self.velocity_std = max(float(np.sqrt(known * told / (known + told))), least_std)

    def expected(self, stamp_ns: int) -> PoseArray:
        """(3,) where its middle should be at a time."""
        return self.centre + self.velocity * ((stamp_ns - self.stamp_ns) * 1e-9)


@dataclass(frozen=True, slots=True)
class _Regions:
    """The regions of one frame, and points of them."""

    label_image: NDArray[np.int32]  # (h, w) row + 1 of every n-th row and column of pixels; 0 where there is none
    stride: int  # n
    points: PoseArray  # (m, 3) world
    rows: NDArray[np.int64]  # (m,) of the points
    centres: PoseArray  # (n, 3)
    sizes: PoseArray  # (n, 3)

    def __len__(self) -> int:
        return len(self.centres)


class Objects:
    """Keeps names of moving objects from frame to frame. Names are never used twice."""

    def __init__(self) -> None:
        """None yet."""
        self._next_name = 0
        self._next_number = 0
        self.reset()

    def reset(self) -> None:
        """Forget all objects; names go on."""
        self._things: dict[int, _Thing] = {}
        self._owned_tracks = np.zeros((0, 2), np.int64)  # a track's id, rising, and the number of its thing
        self._looks: deque[tuple[int, NDArray[np.int64], PoseArray]] = deque(maxlen=HISTORY)

    def miss(self) -> ObjectSet:
        """A frame without a pose: nothing is seen, and nothing is said."""
        self._age(set())
        return no_objects()

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""

        def moved(points: PoseArray) -> PoseArray:
            return centre_world + factor * (points - centre_world)

        for thing in self._things.values():
            thing.centre, thing.size, thing.extent = moved(thing.centre), factor * thing.size, factor * thing.extent
            thing.velocity, thing.velocity_std = factor * thing.velocity, factor * thing.velocity_std
            thing.centres = deque(((stamp, moved(point)) for stamp, point in thing.centres), maxlen=HISTORY)
        self._looks = deque(((stamp, ids, moved(points)) for stamp, ids, points in self._looks), maxlen=HISTORY)

    def update(self, observation: ObjectObservation) -> ObjectSet:
        """Find every object in the newest frame."""
        regions = find_regions(observation)
        track_ids, positions, track_rows = _tracks_on(regions.label_image, regions.stride, observation.tracks)
        ways = self._ways(track_ids, positions)
        owners = self._owners(regions, track_ids, track_rows, ways, observation.stamp_ns)
        point_owners, track_owners = self._shared(regions, owners, track_rows, positions, observation.stamp_ns)
        self._own(track_ids, track_owners)
        seen = self._see(observation, regions.points, point_owners, track_owners, ways)
        self._age(seen)
        alive = np.isin(self._owned_tracks[:, 0], observation.tracks.ids)
        alive &= np.isin(self._owned_tracks[:, 1], list(self._things))
        self._owned_tracks = self._owned_tracks[alive]
        self._looks.append((observation.stamp_ns, track_ids, positions))
        return self._snapshot(observation.stamp_ns, regions.points, point_owners)

    def _owners(
        self,
        regions: _Regions,
        track_ids: NDArray[np.int64],
        track_rows: NDArray[np.int64],
        ways: PoseArray,
        stamp_ns: int,
    ) -> list[list[int]]:
        """The things that each region is of: several where they touch; a new one where nothing known is."""
        numbers = list(self._things)
        votes = self._votes(len(regions), numbers, track_ids, track_rows)
        claims = votes >= np.maximum(1.0, CLAIM_SHARE * votes.sum(axis=1, keepdims=True))
        for row, column in np.argwhere(claims).tolist():
            thing = self._things[numbers[column]]
            claims[row, column] = self._distance(thing, regions.centres[row], regions.sizes[row], stamp_ns) < 1.0
        parted = self._parted(claims, votes, track_rows, ways, stamp_ns)
        claims &= ~parted
        owners = [[numbers[column] for column in np.flatnonzero(row)] for row in claims]
        claimed = {number for row in owners for number in row}
        bulk = -regions.sizes.prod(axis=-1)
        for row in sorted(np.flatnonzero(~claims.any(axis=1)).tolist(), key=bulk.__getitem__):
            left = {numbers[column] for column in np.flatnonzero(parted[row])}
            found = self._expected_at(regions.centres[row], regions.sizes[row], claimed, left, stamp_ns)
            if found is None:
                found = self._begin(regions.centres[row], regions.sizes[row], stamp_ns)
            claimed.add(found)
            owners[row] = [found]
        return owners

    def _votes(
        self, count: int, numbers: list[int], track_ids: NDArray[np.int64], track_rows: NDArray[np.int64]
    ) -> PoseArray:
        """(regions, things) how many of a region's tracks were on each thing."""
        votes = np.zeros((count, len(numbers)))
        _, now, then = np.intersect1d(track_ids, self._owned_tracks[:, 0], assume_unique=True, return_indices=True)
        columns = _places_of(self._owned_tracks[then, 1], np.array(numbers, np.int64))
        np.add.at(votes, (track_rows[now][columns >= 0], columns[columns >= 0]), 1.0)
        return votes

    def _own(self, track_ids: NDArray[np.int64], track_owners: NDArray[np.int64]) -> None:
        """Remember on which things tracks are seen; those that are not seen keep theirs."""
        others = self._owned_tracks[~np.isin(self._owned_tracks[:, 0], track_ids)]
        owned = np.concatenate((others, np.stack((track_ids, track_owners), axis=-1)))
        self._owned_tracks = owned[np.argsort(owned[:, 0])]

    def _parted(
        self,
        claims: MaskArray,
        votes: PoseArray,
        track_rows: NDArray[np.int64],
        ways: PoseArray,
        stamp_ns: int,
    ) -> MaskArray:
        """(regions, things) those of the claims where a region goes another way than the thing's largest piece."""
        parted = np.zeros_like(claims)
        for column in np.flatnonzero(claims.sum(axis=0) > 1):
            rows = np.flatnonzero(claims[:, column])
            rows = rows[np.argsort(-votes[rows, column], kind="stable")]
            velocities = [self._track_velocity(ways[:, track_rows == row], stamp_ns) for row in rows]
            main = velocities[0]
            for row, way in zip(rows[1:], velocities[1:], strict=True):
                if main is not None and way is not None:
                    limit = max(PART_M_S, PART_SIGMAS * float(np.hypot(main[1], way[1])))
                    parted[row, column] = np.linalg.norm(way[0] - main[0]) > limit
        return parted

    def _expected_at(
        self, centre: PoseArray, size: PoseArray, claimed: set[int], left: set[int], stamp_ns: int
    ) -> int | None:
        """The thing that was expected nearest to a region; one that is seen elsewhere only if this is a piece of it.

        ``left``: things that the region has parted from.
        """
        best, best_distance = None, 1.0
        for number, thing in self._things.items():
            if number in left:
                continue
            if number in claimed:
                both = np.abs(centre - thing.expected(stamp_ns)) + 0.5 * (size + thing.size)
                whole = np.maximum(thing.extent, FLATTEST * thing.extent.max())
                distance = 0.5 if (both <= BETWEEN * whole).all() else np.inf
            else:
                distance = self._distance(thing, centre, size, stamp_ns)
            if distance < best_distance:
                best, best_distance = number, float(distance)
        return best

    def _distance(self, thing: _Thing, centre: PoseArray, size: PoseArray, stamp_ns: int) -> float:
        """How far a region is from where a thing may be by now; 1 at the edge of its reach."""
        diagonal = float(np.linalg.norm(np.maximum(thing.extent, size)))
        doubt = thing.velocity_std * max(stamp_ns - thing.stamp_ns, 0) * 1e-9
        reach = min(REACH * diagonal + 2.0 * doubt, LONGEST_REACH * diagonal)
        return _to_segment(centre, thing.centre, thing.expected(stamp_ns)) / max(reach, 1e-9)

    def _begin(self, centre: PoseArray, size: PoseArray, stamp_ns: int) -> int:
        """A new thing, without a name yet; its number."""
        number, self._next_number = self._next_number, self._next_number + 1
        self._things[number] = _Thing(number, centre, size, stamp_ns)
        return number

    def _shared(
        self,
        regions: _Regions,
        owners: list[list[int]],
        track_rows: NDArray[np.int64],
        positions: PoseArray,
        stamp_ns: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The thing of each point (m,) and of each track (k,): its region's only one, or the nearest of several."""
        first = np.array([row[0] for row in owners], np.int64)
        point_owners, track_owners = first[regions.rows], first[track_rows]
        for row in [row for row, several in enumerate(owners) if len(several) > 1]:
            several = [self._things[number] for number in owners[row]]
            for places, of, into in (
                (regions.points, regions.rows, point_owners),
                (positions, track_rows, track_owners),
            ):
                mine = of == row
                near = [_box_distance(places[mine], thing.expected(stamp_ns), thing.size) for thing in several]
                into[mine] = np.array(owners[row])[np.argmin(near, axis=0)] if mine.any() else into[mine]
        return point_owners, track_owners

    def _see(
        self,
        observation: ObjectObservation,
        points: PoseArray,
        point_owners: NDArray[np.int64],
        track_owners: NDArray[np.int64],
        ways: PoseArray,
    ) -> set[int]:
        """Bring every thing that has points up to date; their numbers."""
        numbers, rows = np.unique(point_owners, return_inverse=True)
        low, high = boxes_of(points, rows, len(numbers))
        away_m = np.linalg.norm(0.5 * (low + high) - observation.world_from_camera[:3, 3], axis=-1)
        for row, number in enumerate(numbers.tolist()):
            thing = self._things[number]
            mine = track_owners == number
            seconds = max(observation.stamp_ns - thing.stamp_ns, 0) * 1e-9
            thing.velocity_std = float(np.hypot(thing.velocity_std, CHANGE_M_S2 * seconds))
            thing.centre, thing.size = 0.5 * (low[row] + high[row]), high[row] - low[row]
            thing.extent = np.maximum(thing.size, EXTENT_KEPT * thing.extent)
            thing.stamp_ns, thing.tracks = observation.stamp_ns, int(mine.sum())
            if thing.hidden_frames:
                thing.centres.clear()
            thing.centres.append((observation.stamp_ns, thing.centre))
            way = self._track_velocity(ways[:, mine], observation.stamp_ns)
            way = way or _line_velocity(list(thing.centres))
            if way is not None:
                lag = 0.5 * HISTORY * ACCELERATION_M_S2 * seconds
                thing.learn_velocity(way[0], float(np.hypot(way[1], lag)), STD_LEAST * float(away_m[row]))
        return set(numbers.tolist())

    def _ways(self, track_ids: NDArray[np.int64], positions: PoseArray) -> PoseArray:
        """(looks, k, 3) from where tracks are now back to where they were at each earlier look; NaN: not seen there."""
        back = [_rows_at(_places_of(track_ids, ids), places) - positions for _, ids, places in self._looks]
        return np.stack(back) if back else np.zeros((0, *positions.shape))

    def _track_velocity(self, ways: PoseArray, stamp_ns: int) -> tuple[PoseArray, float] | None:
        """Velocity (3,) of the tracks of some ways and its standard deviation, from medians; None: not told."""
        if ways.shape[1] < LEAST_TRACKS:
            return None
        counts = np.count_nonzero(~np.isnan(ways[..., 0]), axis=1)
        told = np.flatnonzero(counts >= LEAST_TRACKS)
        ordered, last, each = np.sort(ways, axis=1), counts[told] - 1, told  # what is no number comes last
        middles = 0.5 * (ordered[each, last // 2] + ordered[each, (last + 1) // 2])
        stamps = [before_ns for before_ns, _, _ in self._looks]
        came = [(stamp_ns, np.zeros(3)), *((stamps[row], middle) for row, middle in zip(told, middles, strict=True))]
        spread = 0.0
        if len(told):  # the first is the longest way
            back = ways[told[0]]
            misfit = _middles(np.linalg.norm(back[~np.isnan(back[:, 0])] - middles[0], axis=-1))
            spread = float(misfit) / max((stamp_ns - stamps[told[0]]) * 1e-9, 1e-9)
        way = _line_velocity(came)
        return way and (way[0], float(np.hypot(way[1], TURN_SHARE * spread)))

    def _age(self, seen: set[int]) -> None:
        """One frame more: names for what was seen often enough, none for what was not seen for long."""
        for number, thing in list(self._things.items()):
            thing.age_frames += 1
            if number in seen:
                thing.seen_frames, thing.hidden_frames = thing.seen_frames + 1, 0
            else:
                thing.hidden_frames, thing.tracks = thing.hidden_frames + 1, 0
            if thing.name is None and thing.seen_frames >= CONFIRM_FRAMES:
                thing.name, self._next_name = self._next_name, self._next_name + 1
            if thing.hidden_frames > (0 if thing.name is None else FORGET_FRAMES):
                del self._things[number]

    def _snapshot(self, stamp_ns: int, points: PoseArray, point_owners: NDArray[np.int64]) -> ObjectSet:
        """All things with a name, in rising order of it."""
        named = sorted((thing.name, thing) for thing in self._things.values() if thing.name is not None)
        things = [thing for _, thing in named]
        if not things:
            return no_objects()
        rows = _places_of(point_owners, np.array([thing.number for thing in things], np.int64))
        return ObjectSet(
            ids=np.array([name for name, _ in named], np.int64),
            centres_world=np.stack([thing.expected(stamp_ns) for thing in things]),
            sizes_world=np.stack([thing.size for thing in things]),
            velocities_world=np.stack([thing.velocity for thing in things]),
            velocity_std=np.array([thing.velocity_std for thing in things]),
            visible=np.array([thing.hidden_frames == 0 for thing in things]),
            age_frames=np.array([thing.age_frames for thing in things], np.int64),
            track_counts=np.array([thing.tracks for thing in things], np.int64),
            points_world=points[rows >= 0].astype(np.float32),
            point_rows=rows[rows >= 0],
        )


def find_regions(observation: ObjectObservation) -> _Regions:
    """What hangs together in the moving mask, neither across steps in depth nor too small."""
    stride = max(1, round(max(observation.mask.shape) / LABEL_PX))
    depth_m = observation.depth_m[::stride, ::stride]
    label_image, inner = label_regions(observation.mask[::stride, ::stride], depth_m)
    y, x = np.nonzero(inner)
    rows = label_image[y, x].astype(np.int64) - 1
    chosen = np.argsort(rows, kind="stable")[:: 1 + len(rows) // MOST_POINTS]  # some of each region
    x, y, rows = x[chosen], y[chosen], rows[chosen]
    pixels = stride * np.stack((x, y), axis=-1)
    in_camera = unproject(pixels, depth_m[y, x], observation.intrinsics.matrix())
    points = transform(observation.world_from_camera, in_camera)
    low, high = boxes_of(points, rows, int(label_image.max(initial=0)))
    return _Regions(label_image, stride, points, rows, 0.5 * (low + high), high - low)


def label_regions(mask: MaskArray, depth_m: FloatArray) -> tuple[NDArray[np.int32], MaskArray]:
    """(h, w) numbers from 1 of regions of the mask whose depth has no step inside, 0 elsewhere; (h, w) their insides.

    Masks reach over the edges of what moves, to what is behind it: an inside has no step in depth next to it.
    """
    labels, inner = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, bool)
    with np.errstate(invalid="ignore"):
        moving = mask & (depth_m > 0) & np.isfinite(depth_m)
    if np.count_nonzero(moving) < LEAST_SHARE * mask.size:
        return labels, inner
    top, left, bottom, right = _bounds(moving)
    part = moving[top:bottom, left:right]
    found, core = _numbered(part, _smooth(part, depth_m[top:bottom, left:right]))
    area = np.bincount(found.ravel())
    large = area >= LEAST_SHARE * mask.size
    large &= np.bincount(found[core], minlength=len(area)) > mask.size / MOST_POINTS  # some points of it are taken
    large[0] = False
    number = np.where(large, np.cumsum(large), 0).astype(np.int32)
    labels[top:bottom, left:right] = number[found]
    inner[top:bottom, left:right] = core & large[found]
    return labels, inner


def _bounds(mask: MaskArray) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the smallest rectangle around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _smooth(moving: MaskArray, depth_m: FloatArray) -> MaskArray:
    """(h, w) pixels of ``moving`` with no step in depth to any moving neighbour."""
    with np.errstate(invalid="ignore", divide="ignore"):
        log_depth = np.log(depth_m).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    farthest = cv2.dilate(np.where(moving, log_depth, np.float32(-1e9)), kernel)
    nearest = cv2.erode(np.where(moving, log_depth, np.float32(1e9)), kernel)
    return moving & (farthest - nearest < DEPTH_STEP)


def _numbered(moving: MaskArray, smooth: MaskArray) -> tuple[NDArray[np.int32], MaskArray]:
    """(h, w) number of each moving pixel's region: connected smooth pixels, and what lies nearest to them; the former.

    Where all of a connected piece of ``moving`` is steps, it is a region as it is.
    """
    count, pieces = cv2.connectedComponents(moving.astype(np.uint8), connectivity=8)
    core = smooth.copy()
    has_core = np.zeros(count, bool)
    has_core[np.unique(pieces[core])] = True
    core |= moving & ~has_core[pieces]
    cores = cv2.connectedComponents(core.astype(np.uint8), connectivity=4)[1]
    if not (moving & ~core).any():
        return np.where(moving, cores, 0).astype(np.int32), core
    _, nearest = cv2.distanceTransformWithLabels(
        (~core).astype(np.uint8), cv2.DIST_L1, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    number_of = np.zeros(int(nearest.max()) + 1, np.int32)
    number_of[nearest[core]] = cores[core]
    return np.where(moving, number_of[nearest], 0).astype(np.int32), core


def boxes_of(points: PoseArray, rows: NDArray[np.int64], count: int) -> tuple[PoseArray, PoseArray]:
    """Lowest and highest corners (count, 3) of boxes around points (m, 3) that belong to ``rows`` (m,) from 0.

    A few stray points at each end lie outside. NaN for a row without points.
    """
    low, high = np.full((2, count, 3), np.nan)
    sizes = np.bincount(rows, minlength=count)
    together = points.T[:, np.argsort(rows, kind="stable")]
    ends = np.cumsum(sizes)
    for row in np.flatnonzero(sizes).tolist():
        ranks = [round(quantile * float(sizes[row] - 1)) for quantile in BOX_QUANTILES]
        values = np.partition(together[:, ends[row] - sizes[row] : ends[row]], ranks, axis=1)
        low[row], high[row] = values[:, ranks[0]], values[:, ranks[1]]
    return low, high


def boxes_in(objects: ObjectSet, target_from_world: PoseArray) -> tuple[PoseArray, PoseArray]:
    """Centres and sizes (n, 3) of boxes along the axes of another frame (4, 4), around the points of each object.

    A hidden object has no points: the box around its last box.
    """
    count = len(objects.ids)
    low, high = boxes_of(transform(target_from_world, objects.points_world), objects.point_rows, count)
    centres = transform(target_from_world, objects.centres_world)
    sizes = objects.sizes_world @ np.abs(target_from_world[:3, :3]).T
    seen = np.isfinite(low).all(axis=-1, keepdims=True)
    return np.where(seen, 0.5 * (low + high), centres), np.where(seen, high - low, sizes)


def _tracks_on(
    label_image: NDArray[np.int32], stride: int, tracks: TrackSet
) -> tuple[NDArray[np.int64], PoseArray, NDArray[np.int64]]:
    """Ids (k,), positions (k, 3) and regions' rows (k,) of the tracks that are seen on a region."""
    seen = np.flatnonzero(tracks.visible & np.isfinite(tracks.positions_world).all(axis=-1))
    height, width = label_image.shape
    pixels = np.rint(tracks.pixels[seen] / stride).astype(int).clip(0, (width - 1, height - 1))
    rows = label_image[pixels[:, 1], pixels[:, 0]].astype(np.int64) - 1
    on = rows >= 0
    return tracks.ids[seen[on]], tracks.positions_world[seen[on]], rows[on]


def _middles(values: PoseArray) -> PoseArray:
    """Medians along the first axis; for a few values NumPy's own takes ten times as long."""
    ordered, last = np.sort(values, axis=0), len(values) - 1
    return np.asarray(0.5 * (ordered[last // 2] + ordered[(last + 1) // 2]))


def _places_of(values: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) where each value stands in an array without repetitions; -1 where it is not in it."""
    if not len(among):
        return np.full(len(values), -1, np.int64)
    order = np.argsort(among)
    found = order[np.searchsorted(among[order], values).clip(0, len(among) - 1)]
    return np.where(among[found] == values, found, -1)


def _rows_at(places: NDArray[np.int64], values: PoseArray) -> PoseArray:
    """(m, 3) those of ``values`` (n, 3) at ``places`` (m,); NaN at -1."""
    if not len(values):
        return np.full((len(places), 3), np.nan)
    return np.where((places >= 0)[:, None], values[places], np.nan)


def _line_velocity(places: list[tuple[int, PoseArray]]) -> tuple[PoseArray, float] | None:
    """Slope (3,), a second, of a line through places (3,) over stamps, and its standard deviation along each axis."""
    if len(places) < LEAST_LOOKS:
        return None
    seconds = np.array([(stamp - places[0][0]) * 1e-9 for stamp, _ in places])
    points = np.stack([point for _, point in places])
    centred = seconds - seconds.mean()
    spread = float(centred @ centred)
    if spread <= 0.0:
        return None
    velocity = centred @ points / spread
    misfit = points - points.mean(axis=0) - centred[:, None] * velocity
    variance = float((misfit**2).sum()) / (3 * (len(places) - 2))
    return velocity, STD_FACTOR * float(np.sqrt(variance / spread))


def _to_segment(point: PoseArray, start: PoseArray, end: PoseArray) -> float:
    """Distance of a point (3,) from the segment between two others: something went on, or it stopped on the way."""
    way = end - start
    share = float(np.clip((point - start) @ way / max(float(way @ way), 1e-12), 0.0, 1.0))
    return float(np.linalg.norm(point - start - share * way))


def _box_distance(points: PoseArray, centre: PoseArray, size: PoseArray) -> PoseArray:
    """(m,) how far points are from a box's middle, in its sizes; a side counts at least a quarter of the longest."""
    return np.linalg.norm((points - centre) / np.maximum(size, max(0.25 * float(size.max()), 1e-6)), axis=-1)
