"""Which moving tracks go together, and the rigid motion of each such group.

A group's motion between two frames is solved on the members that are found, against their fused places, so that it does
not drift; it takes all members along, hidden ones too, to whom the group is a static world of its own.
"""

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TrackTuning
from pomato_ros.scene.point_filter import PointStates, innovate
from pomato_ros.scene.regions import labels_at
from pomato_ros.scene.rigid_groups import Motion, RigidGroup, fit_motion, residual_distance
from pomato_ros.scene.track_rows import LONE, STATIC, Seen, TrackFrame, Tracks
from pomato_ros.structures import MaskArray, PoseArray


class TrackGroups:
    """The rigid groups among the tracks; their numbers are never used twice."""

    def __init__(self, tuning: TrackTuning) -> None:
        """None yet."""
        self._tuning, self._next = tuning, 1
        self.reset()

    def reset(self) -> None:
        """Forget all groups."""
        self._groups: dict[int, RigidGroup] = {}
        self._motions: dict[int, Motion] = {}  # from the last frame to the newest

    def predict(self, tracks: Tracks, seconds: float) -> None:
        """Take all members along with the motions that are expected."""
        self._motions = {}
        for number, group in self._groups.items():
            rows = np.flatnonzero(tracks.groups == number)
            self._motions[number] = group.predict(tracks.states.positions[rows].mean(axis=0), seconds)
            tracks.carry(rows, self._motions[number])

    def solve(self, tracks: Tracks, frame: TrackFrame, seen: Seen) -> None:
        """Solve each group's motion on the members that are found, and take all of them along."""
        if not self._groups:
            return
        total = innovate(tracks.states, frame.view, seen.sightings).total
        depth, measured = tracks.depths(frame.view), seen.sightings.measured()
        for number, group in self._groups.items():
            rows = np.flatnonzero(tracks.groups == number)
            used = rows[seen.sightings.found[rows]]
            group.supported = len(used) > 0
            if not len(used):
                continue
            shift_std, turn_std = self._spread(group, float(np.median(depth[used])), frame.seconds)
            rest = Motion(tracks.states.positions[rows].mean(axis=0), np.zeros(3), np.zeros(3))
            before = tracks.states.positions[used]
            fit = fit_motion(frame.view, before, measured[used], total[used], rest, shift_std, turn_std)
            tracks.carry(rows, fit.motion)
            self._motions[number] = self._motions[number].then(fit.motion)
            group.learn(self._motions[number], frame.seconds, self._tuning.group_memory)

    def regroup(self, tracks: Tracks, frame: TrackFrame, seen: Seen, log_odds: PoseArray, before: PoseArray) -> None:
        """Decide which moving tracks rest, join a group, or found one.

        Args:
            tracks: corrected.
            frame: the newest.
            seen: what it shows.
            log_odds: (n,) of the moving mask at the tracks; 0 where they are not found.
            before: (n, 3) where they were in the last frame.
        """
        self._rest(tracks, frame, seen, log_odds, before)
        lone = (tracks.groups == LONE) & (tracks.sightings >= 2)
        labels = np.where(seen.matched, labels_at(frame.labels, seen.sightings.pixels), 0)
        if (lone & (labels > 0)).any():
            total = innovate(tracks.states, frame.view, seen.sightings).total
            self._join(tracks, frame, seen, before, total, np.flatnonzero(lone & (labels > 0)))
            for label in np.unique(labels[lone]).tolist():
                rows = np.flatnonzero((labels == label) & (tracks.groups == LONE) & lone)
                if label > 0 and len(rows) >= self._tuning.least_group:
                    self._found(tracks, frame, seen, before, total, rows)
        self._adopt(tracks, frame, seen, before)

    def nearest(self, tracks: Tracks, frame: TrackFrame, pixels: PoseArray, positions: PoseArray) -> NDArray[np.int64]:
        """(n,) the group of the nearest visible member in the same region of the mask; LONE: there is none."""
        groups = np.full(len(pixels), LONE, np.int64)
        members = np.flatnonzero((tracks.groups > 0) & np.isfinite(tracks.pixels[:, 0]))
        if not len(members) or not len(pixels):
            return groups
        away = np.linalg.norm(positions[:, None] - tracks.states.positions[members], axis=-1)
        mine, theirs = labels_at(frame.labels, pixels), labels_at(frame.labels, tracks.pixels[members])
        away[(mine[:, None] != theirs) | (mine[:, None] == 0)] = np.inf
        near = away.argmin(axis=1)
        known = np.isfinite(away[np.arange(len(pixels)), near])
        groups[known] = tracks.groups[members[near[known]]]
        return groups

    def place_known(self, tracks: Tracks) -> MaskArray:
        """(n,) tracks whose place is known where they are not found: at rest, or on a group whose motion is."""
        unsupported = [number for number, group in self._groups.items() if not group.supported]
        return (tracks.groups != LONE) & ~np.isin(tracks.groups, unsupported)

    def velocities(self, tracks: Tracks) -> PoseArray:
        """(n, 3) of all tracks; members have that of their group at their place."""
        velocities = tracks.states.velocities.copy()
        for number, group in self._groups.items():
            rows = np.flatnonzero(tracks.groups == number)
            positions = tracks.states.positions[rows]
            velocities[rows] = group.velocity + np.cross(group.turn_rate, positions - positions.mean(axis=0))
        return velocities

    def prune(self, tracks: Tracks) -> None:
        """Drop groups without members."""
        alive = set(tracks.groups.tolist())
        self._groups = {number: group for number, group in self._groups.items() if number in alive}

    def _spread(self, group: RigidGroup, depth: float, seconds: float) -> tuple[float, float]:
        """Standard deviations of a group's shift and turn (rad) about those expected."""
        tuning = self._tuning
        if group.frames < tuning.young_frames:
            return tuning.speed_std * depth * seconds, tuning.turn_std * seconds
        return (
            tuning.group_acceleration_std * depth * seconds**2,
            tuning.group_turn_acceleration_std * seconds**2,
        )

    def _rest(self, tracks: Tracks, frame: TrackFrame, seen: Seen, log_odds: PoseArray, before: PoseArray) -> None:
        """Lone tracks and groups that stand still, in the mask and by their velocity, belong to the static world."""
        tuning, view = self._tuning, frame.view
        lone = np.flatnonzero((tracks.groups == LONE) & seen.matched & (log_odds < 0) & (tracks.sightings >= 3))
        tracks.settle(lone[_significance(tracks.states, lone) < tuning.rest_gate], STATIC)
        for number, group in self._groups.items():
            rows = np.flatnonzero((tracks.groups == number) & seen.matched)
            if not len(rows):
                continue
            shown = view.observe(self._motions[number].move(before[rows])) - view.observe(before[rows])
            still = np.median(log_odds[rows]) < 0 and np.median(np.abs(shown[:, :2])) < tuning.rest_px
            group.still_frames = group.still_frames + 1 if still else 0
            if group.still_frames >= tuning.rest_frames:
                tracks.settle(np.flatnonzero(tracks.groups == number), STATIC)

    def _join(
        self,
        tracks: Tracks,
        frame: TrackFrame,
        seen: Seen,
        before: PoseArray,
        total: PoseArray,
        rows: NDArray[np.int64],
    ) -> None:
        """Lone tracks ``rows`` (k,) join the nearest group of their region if its motion explains them."""
        near = self.nearest(tracks, frame, seen.sightings.pixels[rows], tracks.states.positions[rows])
        measured = seen.sightings.measured()
        for number in set(near.tolist()) & set(self._motions):
            mine = rows[near == number]
            moved = self._motions[number].move(before[mine])
            distance = residual_distance(frame.view, moved, measured[mine], total[mine])
            tracks.settle(mine[distance < self._tuning.motion_gate], number)

    def _found(
        self,
        tracks: Tracks,
        frame: TrackFrame,
        seen: Seen,
        before: PoseArray,
        total: PoseArray,
        rows: NDArray[np.int64],
    ) -> None:
        """A new group of the lone tracks ``rows`` (k,) of a region, if most of them move rigidly."""
        tuning = self._tuning
        depth = float(np.median(tracks.depths(frame.view)[rows]))
        shift = np.median(tracks.states.positions[rows] - before[rows], axis=0)
        expected = Motion(before[rows].mean(axis=0), shift, np.zeros(3))
        shift_std, turn_std = self._spread(RigidGroup(), depth, frame.seconds)
        measured = seen.sightings.measured()[rows]
        fit = fit_motion(frame.view, before[rows], measured, total[rows], expected, shift_std, turn_std)
        inliers = fit.distance < tuning.motion_gate
        if np.count_nonzero(inliers) < max(tuning.least_group, 0.5 * len(rows)):
            return
        group = RigidGroup(supported=True)
        group.learn(fit.motion, frame.seconds, 1.0)
        self._groups[self._next], self._motions[self._next] = group, fit.motion
        tracks.settle(rows[inliers], self._next)
        self._next += 1

    def _adopt(self, tracks: Tracks, frame: TrackFrame, seen: Seen, before: PoseArray) -> None:
        """Lone tracks that are not found go on with the nearest member of a group in their region."""
        rows = np.flatnonzero((tracks.groups == LONE) & ~seen.matched & np.isfinite(tracks.pixels[:, 0]))
        expected = frame.view.observe(tracks.states.positions[rows])[:, :2]
        near = self.nearest(tracks, frame, expected, tracks.states.positions[rows])
        for number in set(near.tolist()) & set(self._motions):
            mine = rows[near == number]
            tracks.states.positions[mine] = before[mine]
            tracks.carry(mine, self._motions[number])
            tracks.settle(mine, number)


def _significance(states: PointStates, rows: NDArray[np.int64]) -> PoseArray:
    """(k,) squared Mahalanobis distance of velocities from zero, chi square with 3 degrees of freedom."""
    velocity = states.velocities[rows][..., None]
    solved = np.linalg.solve(states.covariance[rows, 3:, 3:] + 1e-12 * np.eye(3), velocity)
    return (velocity * solved).sum(axis=(1, 2))
