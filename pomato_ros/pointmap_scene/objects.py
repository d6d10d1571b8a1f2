"""Moving objects of no class: pixels of the moving mask and the tracks on them, grouped and followed by name.

A region is what hangs together in the moving mask without a step in depth. It belongs to the object that its tracks
belonged to; a region without such tracks, to the one that was expected there. Two objects that touch share a region's
pixels by nearness; pieces of one object that go different ways part, and the smaller gets a new name.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import transform
from pomato_ros.scene.boxes import boxes_of
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, ObjectSet, PoseArray, TrackSet, no_objects

LEAST_SHARE = 0.001  # of the image; smaller regions are none
DEPTH_STEP = 0.2  # of the depth: neighbours farther apart belong to different things
FARTHEST_M = 1e30  # what is farther is nowhere
BAND_PX = 4  # so far from an inside pixels are told the nearest one step by step, which is faster for a few steps
LABEL_PX = 192  # about the long side of the image that regions are found on
MOST_POINTS = 2048  # of all objects together
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
        self.velocity_std = max(math.sqrt(known * told / (known + told)), least_std)

    def expected(self, stamp_ns: int) -> PoseArray:
        """(3,) where its middle should be at a time."""
        return self.centre + self.velocity * ((stamp_ns - self.stamp_ns) * 1e-9)


class _Looks:
    """Where tracks were in the last frames."""

    def __init__(self) -> None:
        """Nowhere."""
        self.stamps: list[int] = []  # of the frames, the oldest first
        self._ids = np.zeros(0, np.int64)  # (n,) of all tracks seen in them, rising
        self._places = np.zeros((0, 3, 0))  # (frames, 3, n) world; NaN: not seen

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        self._places = centre_world[:, None] + factor * (self._places - centre_world[:, None])

    def ways(self, track_ids: NDArray[np.int64], positions: PoseArray) -> PoseArray:
        """(frames, 3, k) from where tracks are now, (k, 3), back to where they were; NaN: not seen there."""
        if not len(self._ids):
            return np.full((len(self.stamps), 3, len(track_ids)), np.nan)
        columns = _places_in(track_ids, self._ids)
        back = self._places[:, :, columns]
        back[:, :, columns < 0] = np.nan
        back -= positions.T
        return back

    def remember(self, stamp_ns: int, track_ids: NDArray[np.int64], positions: PoseArray) -> None:
        """Where tracks are in the newest frame, positions (k, 3); the oldest of many frames is forgotten."""
        columns = _places_in(track_ids, self._ids)
        new = columns < 0
        frames, known, more = min(len(self.stamps), HISTORY - 1), len(self._ids), int(np.count_nonzero(new))
        columns[new] = known + np.arange(more)
        places = np.full((frames + 1, 3, known + more), np.nan)
        places[:frames, :, :known] = self._places[len(self.stamps) - frames :]
        places[frames][:, columns] = positions.T
        ids = np.concatenate((self._ids, track_ids[new]))
        kept = np.flatnonzero(~np.isnan(places[:, 0]).all(axis=0))
        if more:
            kept = kept[np.argsort(ids[kept])]
        self.stamps = [*self.stamps[len(self.stamps) - frames :], stamp_ns]
        self._ids, self._places = ids[kept], places[:, :, kept]


@dataclass(frozen=True, slots=True)
class _Regions:
    """The regions of one frame, and points of them."""

    label_image: NDArray[np.int32]  # (h, w) row + 1 of every n-th row and column of pixels; 0 where there is none
    stride: int  # n
    points: PoseArray  # (m, 3) world
    rows: NDArray[np.int64]  # (m,) of the points
    low: PoseArray  # (n, 3) of a box around each
    high: PoseArray  # (n, 3)
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
        self._owned_ids = np.zeros(0, np.int64)  # of tracks, rising,
        self._owned_by = np.zeros(0, np.int64)  # and the number of the thing of each
        self._looks = _Looks()

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
        self._looks.rescale(factor, centre_world)

    def update(self, observation: ObjectObservation) -> ObjectSet:
        """Find every object in the newest frame."""
        regions = find_regions(observation)
        track_ids, positions, track_rows = _tracks_on(regions.label_image, regions.stride, observation.tracks)
        ways = self._looks.ways(track_ids, positions)
        owners = self._owners(regions, track_ids, track_rows, ways, observation.stamp_ns)
        point_owners, track_owners = self._shared(regions, owners, track_rows, positions, observation.stamp_ns)
        numbers, low, high = _boxes_of_owners(regions, owners, point_owners)
        seen = self._see(observation, numbers, low, high, track_owners, ways)
        self._age(seen)
        self._own(track_ids, track_owners, observation.tracks.ids)
        self._looks.remember(observation.stamp_ns, track_ids, positions)
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
        owners = [[number for number, claim in zip(numbers, row, strict=True) if claim] for row in claims.tolist()]
        claimed = {number for row in owners for number in row}
        bulk = (-regions.sizes.prod(axis=-1)).tolist()
        for row in sorted((row for row, several in enumerate(owners) if not several), key=bulk.__getitem__):
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
        if not numbers or not len(self._owned_ids):
            return np.zeros((count, len(numbers)))
        then = _places_in(track_ids, self._owned_ids)
        columns = _places_in(self._owned_by[then], np.array(numbers, np.int64))
        told = (then >= 0) & (columns >= 0)
        cells = track_rows[told] * len(numbers) + columns[told]
        return np.bincount(cells, minlength=count * len(numbers)).reshape(count, len(numbers)).astype(float)

    def _own(self, track_ids: NDArray[np.int64], track_owners: NDArray[np.int64], alive_ids: NDArray[np.int64]) -> None:
        """Remember on which things tracks are seen; those alive that are not seen keep theirs."""
        then = _places_in(track_ids, self._owned_ids)
        known = then >= 0
        self._owned_by[then[known]] = track_owners[known]
        ids, by = self._owned_ids, self._owned_by
        if not known.all():
            ids, by = np.concatenate((ids, track_ids[~known])), np.concatenate((by, track_owners[~known]))
            order = np.argsort(ids)
            ids, by = ids[order], by[order]
        kept = _places_in(by, np.array(list(self._things), np.int64)) >= 0
        kept &= _places_in(ids, np.sort(alive_ids)) >= 0
        self._owned_ids, self._owned_by = ids[kept], by[kept]

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
            velocities = [self._track_velocity(ways[:, :, track_rows == row], stamp_ns) for row in rows]
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
        diagonal = math.hypot(*map(max, thing.extent.tolist(), size.tolist()))
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
        numbers: list[int],
        low: PoseArray,
        high: PoseArray,
        track_owners: NDArray[np.int64],
        ways: PoseArray,
    ) -> set[int]:
        """Bring things up to date that were seen in boxes from ``low`` to ``high`` (n, 3), where not NaN; which are."""
        centres, sizes = 0.5 * (low + high), high - low
        camera = observation.world_from_camera[:3, 3].tolist()
        seen = set()
        for number, centre, size in zip(numbers, centres, sizes, strict=True):
            if np.isnan(centre[0]):
                continue
            seen.add(number)
            thing = self._things[number]
            mine = np.flatnonzero(track_owners == number)
            seconds = max(observation.stamp_ns - thing.stamp_ns, 0) * 1e-9
            thing.velocity_std = math.hypot(thing.velocity_std, CHANGE_M_S2 * seconds)
            thing.centre, thing.size = centre, size
            thing.extent = np.maximum(size, EXTENT_KEPT * thing.extent)
            thing.stamp_ns, thing.tracks = observation.stamp_ns, len(mine)
            if thing.hidden_frames:
                thing.centres.clear()
            thing.centres.append((observation.stamp_ns, centre))
            way = self._track_velocity(ways[:, :, mine], observation.stamp_ns)
            way = way or _line_velocity([(stamp, place.tolist()) for stamp, place in thing.centres])
            if way is not None:
                lag = 0.5 * HISTORY * ACCELERATION_M_S2 * seconds
                thing.learn_velocity(way[0], math.hypot(way[1], lag), STD_LEAST * math.dist(centre.tolist(), camera))
        return seen

    def _track_velocity(self, ways: PoseArray, stamp_ns: int) -> tuple[PoseArray, float] | None:
        """Velocity (3,) of the tracks of some ways (looks, 3, k) and its standard deviation, from medians.

        None: not told.
        """
        if ways.shape[2] < LEAST_TRACKS:
            return None
        counts = (ways[:, 0] == ways[:, 0]).sum(axis=1)  # what is no number equals nothing
        told = np.flatnonzero(counts >= LEAST_TRACKS)
        came, spread = [(stamp_ns, [0.0, 0.0, 0.0])], 0.0
        if len(told):
            ordered, last = np.sort(ways, axis=2), counts[told] - 1  # what is no number comes last
            middles = 0.5 * (ordered[told, :, last // 2] + ordered[told, :, (last + 1) // 2])
            stamps = [self._looks.stamps[look] for look in told.tolist()]
            came += zip(stamps, middles.tolist(), strict=True)
            apart = ways[told[0]] - middles[0][:, None]  # the first is the longest way
            squares, rank = np.sort(np.einsum("ik,ik->k", apart, apart)), int(last[0])
            misfit = 0.5 * (math.sqrt(squares[rank // 2]) + math.sqrt(squares[(rank + 1) // 2]))
            spread = misfit / max((stamp_ns - stamps[0]) * 1e-9, 1e-9)
        way = _line_velocity(came)
        return way and (way[0], math.hypot(way[1], TURN_SHARE * spread))

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
        things = [thing for thing in self._things.values() if thing.name is not None]
        if not things:
            return no_objects()
        things.sort(key=lambda thing: thing.name or 0)
        rows = _places_of(point_owners, np.array([thing.number for thing in things], np.int64))
        if (rows < 0).any():
            points, rows = points[rows >= 0], rows[rows >= 0]
        return ObjectSet(
            ids=np.array([thing.name for thing in things], np.int64),
            centres_world=np.array([thing.expected(stamp_ns) for thing in things]),
            sizes_world=np.array([thing.size for thing in things]),
            velocities_world=np.array([thing.velocity for thing in things]),
            velocity_std=np.array([thing.velocity_std for thing in things]),
            visible=np.array([thing.hidden_frames == 0 for thing in things]),
            age_frames=np.array([thing.age_frames for thing in things], np.int64),
            track_counts=np.array([thing.tracks for thing in things], np.int64),
            points_world=points.astype(np.float32),
            point_rows=rows,
        )


def find_regions(observation: ObjectObservation) -> _Regions:
    """What hangs together in the moving mask, neither across steps in depth nor too small."""
    stride = max(1, round(max(observation.mask.shape) / LABEL_PX))
    few = np.s_[::stride, ::stride]
    label_image, places = label_regions(observation.mask[few], observation.depth_m[few])
    numbers = label_image.ravel()[places].astype(np.int16)  # each is a thousandth of the image
    chosen = np.argsort(numbers, kind="stable")[:: 1 + len(numbers) // MOST_POINTS]  # some of each region
    rows, places = numbers[chosen].astype(np.int64) - 1, places[chosen]
    y, x = np.divmod(places, label_image.shape[1])
    depth_m, camera = observation.depth_m[few][y, x].astype(np.float64), observation.intrinsics
    in_camera = np.empty((3, len(places)))
    in_camera[0] = (stride * x - camera.cx_px) * depth_m / camera.fx_px
    in_camera[1] = (stride * y - camera.cy_px) * depth_m / camera.fy_px
    in_camera[2] = depth_m
    points = transform(observation.world_from_camera, in_camera.T)
    low, high = boxes_of(points, rows, int(rows[-1]) + 1 if len(rows) else 0)
    return _Regions(label_image, stride, points, rows, low, high, 0.5 * (low + high), high - low)


def label_regions(mask: MaskArray, depth_m: FloatArray) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(h, w) numbers from 1 of regions of the mask whose depth has no step inside, 0 elsewhere; (n,) their insides.

    Masks reach over the edges of what moves, to what is behind it: an inside has no step in depth next to it. Its
    pixels are counted row by row.
    """
    labels, inside_of = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, bool)
    mask = np.ascontiguousarray(mask)
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    part = np.s_[top : top + height, left : left + width]
    few_depth_m = np.ascontiguousarray(depth_m[part], np.float32)
    with np.errstate(invalid="ignore"):
        few = few_depth_m > 0
        few &= few_depth_m < FARTHEST_M
    few &= mask[part]
    moving = np.flatnonzero(few)
    if len(moving) < LEAST_SHARE * mask.size or not len(moving):
        return labels, np.zeros(0, np.int64)
    found, core = _numbered(few, moving, _smooth(few, few_depth_m))
    area, core_area = np.bincount(found), np.bincount(found[core])
    large = area >= LEAST_SHARE * mask.size
    large[: len(core_area)] &= core_area > mask.size / MOST_POINTS  # some points of it are taken
    large[len(core_area) :] = large[0] = False
    numbers = np.where(large, np.cumsum(large), 0).astype(np.int32)[found]
    whole, whole_core = np.zeros(few.shape, np.int32), np.zeros(few.shape, bool)
    whole.ravel()[moving] = numbers
    whole_core.ravel()[moving] = core & (numbers > 0)
    labels[part], inside_of[part] = whole, whole_core
    return labels, np.flatnonzero(inside_of)


def _smooth(moving: MaskArray, depth_m: FloatArray) -> MaskArray:
    """(h, w) pixels of ``moving`` with no step in depth to any moving neighbour."""
    kernel = np.ones((3, 3), np.uint8)
    chosen = moving.view(np.uint8)
    farthest = cv2.dilate(cv2.copyTo(depth_m, chosen, np.zeros_like(depth_m)), kernel)
    nearest = cv2.erode(cv2.copyTo(depth_m, chosen, np.full_like(depth_m, FARTHEST_M)), kernel)
    nearest *= np.float32(math.exp(DEPTH_STEP))
    smooth: MaskArray = farthest < nearest
    smooth &= moving
    return smooth


def _numbered(moving: MaskArray, inside: NDArray[np.int64], smooth: MaskArray) -> tuple[NDArray[np.int32], MaskArray]:
    """(n,) number of each moving pixel's region: connected smooth pixels, and what lies nearest to them; the former.

    Where all of a connected piece of ``moving`` is steps, it is a region as it is.

    Args:
        moving: (h, w).
        inside: (n,) where it is true, counted row by row.
        smooth: (h, w) pixels of it beside no step.
    """
    _, found = _grown(_labels(smooth, 4), moving, inside)
    core_of = smooth.ravel()[inside]
    if found.all():
        return found, core_of
    piece_of = _labels(moving, 8).ravel()[inside]
    has_core = np.zeros(int(piece_of.max()) + 1, bool)
    has_core[piece_of[core_of]] = True
    core_of |= ~has_core[piece_of]
    core = np.zeros_like(smooth)
    core.ravel()[inside] = core_of
    return _nearest_of(_labels(core, 4), moving, inside), core_of


def _labels(mask: MaskArray, connectivity: int) -> NDArray[np.int32]:
    """(h, w) numbers from 1 of what hangs together in a mask."""
    labels: NDArray[np.int32]
    _, labels = cv2.connectedComponentsWithAlgorithm(mask.view(np.uint8), connectivity, cv2.CV_32S, cv2.CCL_WU)
    return labels


def _grown(
    cores: NDArray[np.int32], moving: MaskArray, inside: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Numbers (h, w) of ``cores`` (h, w), step by step of their neighbours in ``moving`` (h, w) too; 0 farther away.

    And (n,) those at the pixels ``inside`` (n,) of ``moving``.
    """
    kernel, chosen = np.ones((3, 3), np.uint8), moving.view(np.uint8)
    grown = cores.astype(np.uint8 if cores.max() < 256 else np.float32)
    for _ in range(BAND_PX):
        open_pixels = chosen & (grown == 0).view(np.uint8)
        if not open_pixels.any():
            break
        cv2.copyTo(cv2.dilate(grown, kernel), open_pixels, grown)
    return grown, grown.ravel()[inside].astype(np.int32)


def _nearest_of(cores: NDArray[np.int32], moving: MaskArray, inside: NDArray[np.int64]) -> NDArray[np.int32]:
    """(n,) numbers of ``cores`` (h, w), not zero, nearest to the pixels ``inside`` (n,) of ``moving`` (h, w)."""
    grown, found = _grown(cores, moving, inside)
    if found.all():
        return found
    _, nearest = cv2.distanceTransformWithLabels(
        (grown == 0).astype(np.uint8), cv2.DIST_L1, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    number_of = np.zeros(int(nearest.max()) + 1, np.int32)
    number_of[nearest[grown > 0]] = grown[grown > 0]
    return number_of[nearest.ravel()[inside]]


def _boxes_of_owners(
    regions: _Regions, owners: list[list[int]], point_owners: NDArray[np.int64]
) -> tuple[list[int], PoseArray, PoseArray]:
    """Numbers of things, rising, and :func:`boxes_of` their points: the regions' own where each has another owner."""
    numbers = sorted({number for row in owners for number in row})
    if len(numbers) == len(owners) == sum(map(len, owners)):
        rows = sorted(range(len(owners)), key=owners.__getitem__)
        return numbers, regions.low[rows], regions.high[rows]
    return numbers, *boxes_of(regions.points, np.searchsorted(numbers, point_owners), len(numbers))


def _tracks_on(
    label_image: NDArray[np.int32], stride: int, tracks: TrackSet
) -> tuple[NDArray[np.int64], PoseArray, NDArray[np.int64]]:
    """Ids (k,), positions (k, 3) and regions' rows (k,) of the tracks that are seen on a region."""
    seen = np.flatnonzero(tracks.visible)
    height, width = label_image.shape
    pixels = np.rint(tracks.pixels[seen] * np.float32(1.0 / stride)).astype(np.int64)
    x, y = (np.minimum(np.maximum(pixels[:, axis], 0), side - 1) for axis, side in enumerate((width, height)))
    numbers = label_image[y, x]
    on = np.flatnonzero(numbers)
    positions = tracks.positions_world[seen[on]]
    finite = np.isfinite(positions).all(axis=-1)
    if not finite.all():
        on, positions = on[finite], positions[finite]
    return tracks.ids[seen[on]], positions, numbers[on].astype(np.int64) - 1


def _places_of(values: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) where each value stands in an array without repetitions; -1 where it is not in it."""
    order = np.argsort(among)
    places = _places_in(values, among[order])
    return np.where(places >= 0, order[places], -1) if len(among) else places


def _places_in(values: NDArray[np.int64], rising: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) as :func:`_places_of`, in an array that rises."""
    if not len(rising):
        return np.full(len(values), -1, np.int64)
    places = np.searchsorted(rising, values)
    places[rising.take(places, mode="clip") != values] = -1
    return places


def _line_velocity(places: list[tuple[int, list[float]]]) -> tuple[PoseArray, float] | None:
    """Slope (3,), a second, of a line through places (3,) over stamps, and its standard deviation along each axis.

    Plain numbers: there are so few that NumPy takes several times as long.
    """
    count = len(places)
    if count < LEAST_LOOKS:
        return None
    first = places[0][0]
    mean = sum([stamp - first for stamp, _ in places]) / count
    centred = [(stamp - first - mean) * 1e-9 for stamp, _ in places]
    spread = sum([second * second for second in centred])
    if spread <= 0.0:
        return None
    velocity, misfit = [], 0.0
    for values in zip(*[point for _, point in places], strict=True):
        slope = sum([second * value for second, value in zip(centred, values, strict=True)]) / spread
        middle = sum(values) / count
        misfit += sum([(value - middle - slope * at) ** 2 for value, at in zip(values, centred, strict=True)])
        velocity.append(slope)
    return np.array(velocity), STD_FACTOR * math.sqrt(misfit / (3 * (count - 2)) / spread)


def _to_segment(point: PoseArray, start: PoseArray, end: PoseArray) -> float:
    """Distance of a point (3,) from the segment between two others: something went on, or it stopped on the way."""
    away, way = (point - start).tolist(), (end - start).tolist()
    along, square = (sum(map(float.__mul__, way, other)) for other in (away, way))
    share = min(max(along / max(square, 1e-12), 0.0), 1.0)
    return math.hypot(*(a - share * w for a, w in zip(away, way, strict=True)))


def _box_distance(points: PoseArray, centre: PoseArray, size: PoseArray) -> PoseArray:
    """(m,) how far points are from a box's middle, in its sizes; a side counts at least a quarter of the longest."""
    return np.linalg.norm((points - centre) / np.maximum(size, max(0.25 * float(size.max()), 1e-6)), axis=-1)
