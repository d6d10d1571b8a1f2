"""Moving objects of no class, with lasting ids.

Connected regions of the moving mask, split where depth jumps, are assigned to the known objects by the tracks that they
share and the Mahalanobis distance of their centres (Kuhn and Munkres' assignment). Each object is a Kalman filter of
constant velocity, corrected by the centre of its box and by the velocities of its tracks; hidden, it coasts.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pomato_ros.config import ObjectTuning
from pomato_ros.geometry.rigid import transform
from pomato_ros.scene.boxes import boxes_of
from pomato_ros.scene.regions import STRIDE, label_regions, labels_at
from pomato_ros.structures import (
    DepthMap,
    FloatArray,
    Intrinsics,
    MaskArray,
    ObjectSet,
    PoseArray,
    TrackSet,
    no_objects,
)

FORBIDDEN = 1e6  # cost of an assignment beyond the gates
MOST_POINTS = 2048  # of all objects together
TURN_SHARE = 0.15  # of the velocity: tracks that turn with an object move differently from its middle
DEPTH_NOISE = 0.005  # share of the inverse depth, of single pixels within a region


@dataclass(slots=True)
class _Object:
    """One object, confirmed or not. World."""

    number: int
    state: PoseArray  # (6,) centre and velocity
    covariance: PoseArray  # (6, 6)
    size: PoseArray  # (3,)
    id: int | None = None
    age_frames: int = 0  # since it has an id; 1 on its first frame
    seen_frames: int = 0
    hidden_frames: int = 0
    track_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # seen on it lately
    track_count: int = 0

    def predict(self, seconds: float, acceleration_std: float) -> None:
        """Constant velocity, disturbed by white acceleration."""
        by = np.eye(6)
        by[:3, 3:] = seconds * np.eye(3)
        push = np.concatenate((0.5 * seconds**2 * np.eye(3), seconds * np.eye(3))) * acceleration_std
        self.state = by @ self.state
        self.covariance = by @ self.covariance @ by.T + push @ push.T

    def correct(self, measured: PoseArray, std: PoseArray, which: slice) -> None:
        """Kalman update by a measurement (3,) of a part of the state with standard deviations (3,)."""
        total = self.covariance[which, which] + np.diag(std**2)
        gain = self.covariance[:, which] @ np.linalg.inv(total)
        self.state = self.state + gain @ (measured - self.state[which])
        self.covariance = self.covariance - gain @ self.covariance[which]


CENTRE, VELOCITY = slice(0, 3), slice(3, 6)


@dataclass(frozen=True, slots=True)
class _Region:
    """A region of the moving mask in one frame."""

    centre: PoseArray  # (3,) world, middle of its box
    size: PoseArray  # (3,)
    track_ids: NDArray[np.int64]  # of the tracks that are seen on it
    velocity: PoseArray | None  # (3,) median of theirs
    velocity_std: PoseArray  # (3,)


@dataclass(frozen=True, slots=True)
class _Regions:
    regions: list[_Region]
    points: PoseArray  # (m, 3) world, some of all regions
    rows: NDArray[np.int64]  # (m,) the region of each


class Objects:
    """Keeps ids of moving objects from frame to frame. Ids are never used twice."""

    def __init__(self, tuning: ObjectTuning | None = None) -> None:
        """None yet."""
        self._tuning = ObjectTuning() if tuning is None else tuning
        self._next_id, self._next_number = 0, 0
        self.reset()

    def reset(self) -> None:
        """Forget all objects; ids go on."""
        self._objects: list[_Object] = []
        self._last_stamp_ns: int | None = None

    def update(
        self,
        stamp_ns: int,
        tracks: TrackSet,
        mask: MaskArray,
        points_camera: FloatArray,
        world_from_camera: PoseArray | None,
        intrinsics: Intrinsics,
    ) -> ObjectSet:
        """Objects at the newest frame.

        Args:
            stamp_ns: of the frame.
            tracks: of the frame, world.
            mask: (h, w) pixels that move.
            points_camera: (h, w, 3), NaN where invalid.
            world_from_camera: (4, 4); None while the camera is lost: nothing is seen.
            intrinsics: of the image, whose size they check.
        """
        if mask.shape != (intrinsics.height_px, intrinsics.width_px):
            raise ValueError(f"expected a mask of {intrinsics.height_px} x {intrinsics.width_px}, got {mask.shape}")
        self._predict(stamp_ns)
        if world_from_camera is None:
            self._finish({})
            return no_objects()
        seen = _find_regions(tracks, mask, points_camera, world_from_camera)
        owners = self._assign(seen.regions, world_from_camera)
        for number, regions in _by_owner(owners).items():
            self._correct(number, regions, seen)
        self._follow_merged(seen.regions, owners)
        self._finish(_by_owner(owners))
        return self._snapshot(seen, owners)

    def _predict(self, stamp_ns: int) -> None:
        seconds = 0.0 if self._last_stamp_ns is None else max((stamp_ns - self._last_stamp_ns) * 1e-9, 0.0)
        self._last_stamp_ns = stamp_ns
        for thing in self._objects:
            thing.predict(seconds, self._tuning.acceleration_std * _length(thing.size))

    # -- association --------------------------------------------------------------------------------------------------

    def _assign(self, regions: list[_Region], world_from_camera: PoseArray) -> list[int]:
        """Number of the object that each region belongs to; new objects are made for those that fit none."""
        costs, shared = self._costs(regions)
        owners = [-1] * len(regions)
        for row, column in zip(*linear_sum_assignment(costs), strict=True):
            if costs[row, column] < FORBIDDEN:
                owners[row] = self._objects[column].number
        for row, region in enumerate(regions):
            if owners[row] < 0:
                owners[row] = self._piece_of(region, shared[row]) or self._begin(region, world_from_camera)
        return owners

    def _costs(self, regions: list[_Region]) -> tuple[PoseArray, PoseArray]:
        """(regions, objects) cost of each pair, and the share of the region's tracks that were on the object."""
        shape, tuning = (len(regions), len(self._objects)), self._tuning
        costs, shared = np.full(shape, FORBIDDEN), np.zeros(shape)
        for row, region in enumerate(regions):
            for column, thing in enumerate(self._objects):
                distance = _distance(thing, region, tuning.centre_share)
                known = len(np.intersect1d(region.track_ids, thing.track_ids))
                shared[row, column] = known / max(len(region.track_ids), 1)
                if distance < tuning.gate or (known >= 2 and distance < tuning.track_gate):
                    costs[row, column] = min(distance, tuning.gate) - tuning.track_weight * shared[row, column]
        return costs, shared

    def _piece_of(self, region: _Region, shared: PoseArray) -> int | None:
        """The known object that a region without one is another piece of: it holds most of its tracks, and moves so."""
        if not len(shared) or shared.max() < 0.5:
            return None
        thing = self._objects[int(shared.argmax())]
        if region.velocity is None:
            return thing.number
        spread = np.diagonal(thing.covariance)[VELOCITY] + region.velocity_std**2
        distance = float(((region.velocity - thing.state[VELOCITY]) ** 2 / spread).sum())
        return thing.number if distance < self._tuning.gate else None

    def _begin(self, region: _Region, world_from_camera: PoseArray) -> int:
        """A new object, not confirmed yet."""
        tuning, number = self._tuning, self._next_number
        self._next_number += 1
        away = _length(region.centre - world_from_camera[:3, 3])
        covariance = np.diag(np.repeat((_length(region.size) ** 2, (tuning.speed_std * away) ** 2), 3))
        self._objects.append(_Object(number, np.concatenate((region.centre, np.zeros(3))), covariance, region.size))
        return number

    # -- correction ---------------------------------------------------------------------------------------------------

    def _correct(self, number: int, rows: list[int], seen: _Regions) -> None:
        """Update an object by its regions of this frame."""
        thing = self._of(number)
        regions = [seen.regions[row] for row in rows]
        low = np.min([region.centre - 0.5 * region.size for region in regions], axis=0)
        high = np.max([region.centre + 0.5 * region.size for region in regions], axis=0)
        size = high - low
        thing.correct(0.5 * (low + high), np.full(3, self._tuning.centre_share * _length(size) + 1e-6), CENTRE)
        largest = max(regions, key=lambda region: len(region.track_ids))
        if largest.velocity is not None:
            thing.correct(largest.velocity, largest.velocity_std, VELOCITY)
        thing.size = size
        thing.track_ids = np.concatenate([region.track_ids for region in regions])
        thing.track_count = len(thing.track_ids)

    def _follow_merged(self, regions: list[_Region], owners: list[int]) -> None:
        """Objects without a region whose tracks are seen on another one's go on with them: the two touch."""
        for thing in self._objects:
            if thing.number in owners or not len(thing.track_ids):
                continue
            for row, region in enumerate(regions):
                mine = np.intersect1d(region.track_ids, thing.track_ids)
                if len(mine) >= 2:
                    other = self._of(owners[row])
                    other.track_ids = np.setdiff1d(other.track_ids, mine)
                    thing.track_ids, thing.track_count = mine, len(mine)

    def _finish(self, owners: dict[int, list[int]]) -> None:
        """Count frames, confirm what was seen often enough, drop what was hidden for too long."""
        tuning = self._tuning
        for thing in self._objects:
            thing.age_frames += 1
            seen = thing.number in owners
            thing.seen_frames += seen
            thing.hidden_frames = 0 if seen else thing.hidden_frames + 1
            thing.track_count = thing.track_count if seen else 0
            if thing.id is None and thing.seen_frames >= tuning.confirm_frames:
                thing.id, thing.age_frames, self._next_id = self._next_id, 1, self._next_id + 1
        longest = {False: tuning.hidden_frames, True: 1}
        self._objects = [thing for thing in self._objects if thing.hidden_frames <= longest[thing.id is None]]

    def _of(self, number: int) -> _Object:
        return next(thing for thing in self._objects if thing.number == number)

    def _snapshot(self, seen: _Regions, owners: list[int]) -> ObjectSet:
        """All confirmed objects, in rising order of their ids."""
        things = sorted((thing for thing in self._objects if thing.id is not None), key=lambda thing: thing.id or 0)
        if not things:
            return no_objects()
        row_of = {thing.number: row for row, thing in enumerate(things)}
        rows = np.array([row_of.get(owner, -1) for owner in owners] + [-1], np.int64)[seen.rows]
        return ObjectSet(
            ids=np.array([thing.id for thing in things], np.int64),
            centres_world=np.array([thing.state[CENTRE] for thing in things]),
            sizes_world=np.array([thing.size for thing in things]),
            velocities_world=np.array([thing.state[VELOCITY] for thing in things]),
            velocity_std=np.array([np.sqrt(np.diagonal(thing.covariance)[VELOCITY].mean()) for thing in things]),
            visible=np.array([thing.hidden_frames == 0 for thing in things]),
            age_frames=np.array([thing.age_frames for thing in things], np.int64),
            track_counts=np.array([thing.track_count for thing in things], np.int64),
            points_world=seen.points[rows >= 0].astype(np.float32),
            point_rows=rows[rows >= 0],
        )


def _find_regions(
    tracks: TrackSet, mask: MaskArray, points_camera: FloatArray, world_from_camera: PoseArray
) -> _Regions:
    """Regions of the mask, their boxes and their tracks."""
    labels = label_regions(mask, _depth_map(points_camera))
    few = points_camera[::STRIDE, ::STRIDE]
    inside = np.flatnonzero((labels > 0) & (few[..., 2] > 0))
    inside = inside[:: 1 + len(inside) // MOST_POINTS]
    points = transform(world_from_camera, few.reshape(-1, 3)[inside])
    numbers, rows = np.unique(labels.ravel()[inside], return_inverse=True)
    low, high = boxes_of(points, rows, len(numbers))
    moving = np.flatnonzero(tracks.visible & tracks.dynamic)
    at = labels_at(labels, tracks.pixels[moving].astype(np.float64))
    regions = [
        _region(low[row], high[row], tracks, moving[at == number]) for row, number in enumerate(numbers.tolist())
    ]
    return _Regions(regions, points, rows.astype(np.int64))


def _region(low: PoseArray, high: PoseArray, tracks: TrackSet, on: NDArray[np.int64]) -> _Region:
    velocities = tracks.velocities_world[on]
    velocity = np.median(velocities, axis=0) if len(on) >= 3 else None
    std = np.full(3, np.inf) if velocity is None else 1.48 * np.median(np.abs(velocities - velocity), axis=0)
    slowest = 0.0 if velocity is None else TURN_SHARE * _length(velocity) + 1e-3
    return _Region(0.5 * (low + high), high - low, tracks.ids[on], velocity, np.maximum(std, slowest))


def _depth_map(points_camera: FloatArray) -> DepthMap:
    """Inverse depth of points of pixels, with the noise that single pixels of one surface may have."""
    depth = points_camera[..., 2]
    valid = depth > 0
    inverse = np.where(valid, 1.0 / np.where(valid, depth, 1.0), 0.0).astype(np.float32)
    return DepthMap(inverse, np.float32(DEPTH_NOISE) * inverse, valid, metric=True)


def _distance(thing: _Object, region: _Region, centre_share: float) -> float:
    """Squared Mahalanobis distance of a region's centre from where an object is expected."""
    std = centre_share * max(_length(thing.size), _length(region.size)) + 1e-6
    total = thing.covariance[CENTRE, CENTRE] + std**2 * np.eye(3)
    off = region.centre - thing.state[CENTRE]
    return float(off @ np.linalg.solve(total, off))


def _by_owner(owners: list[int]) -> dict[int, list[int]]:
    """Rows of the regions of each object."""
    rows: dict[int, list[int]] = {}
    for row, owner in enumerate(owners):
        rows.setdefault(owner, []).append(row)
    return rows


def _length(vector: PoseArray) -> float:
    return float(np.linalg.norm(vector))
