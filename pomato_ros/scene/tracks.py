"""3-D point tracks with lasting ids.

Each track follows a patch of its own in the image and is a Kalman filter in the world. It belongs to the static world,
to a rigid group of moving tracks, or it moves alone: a point of the static world or of a group keeps its place there,
which is the fusion of all frames; a lone point has a constant velocity. Innovations and the motion mask decide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TrackTuning
from pomato_ros.geometry.rigid import invert
from pomato_ros.scene import klt
from pomato_ros.scene.depth_patches import DepthReading, compare_with_surface, read_inverse_depth
from pomato_ros.scene.point_filter import (
    UNSEEN_VARIANCE,
    Innovations,
    PointStates,
    Sightings,
    View,
    begin,
    free_velocities,
    hold,
    innovate,
    predict,
    update,
)
from pomato_ros.scene.regions import label_regions, labels_at
from pomato_ros.scene.rigid_groups import Motion, RigidGroup, carried, fit_motion, residual_distance
from pomato_ros.scene.rows import append, pick
from pomato_ros.scene.seeding import choose_seeds, seed_scores
from pomato_ros.structures import Correspondence, DepthMap, FloatArray, Intrinsics, MaskArray, PoseArray, TrackSet

STATIC, LONE = 0, -1  # groups of tracks at rest, and of those that move by themselves; rigid groups count from 1
TENTATIVE = -1  # id of a track that is not confirmed yet
VARIANCE_RATE = 0.1  # share of the log of a variance factor's error that a frame corrects
FEW = 20  # innovations say nothing of their variance
STILL_GATE = 7.8  # chi square with 3 degrees of freedom, 5 %: of a velocity that may be none
STILL_PX, STILL_FRAMES = 0.3, 4  # a group that moves less in the image, for so many frames, stands still
RETURN_PX = 0.7  # a patch followed there and back again ends so near its start
FULL_SHARE = 0.85  # of max_tracks that may be visible when new ones begin: hidden ones come back
CHI_MEDIANS = (1.386, 0.455)  # of chi square with 2 degrees of freedom and with 1


@dataclass(slots=True)
class Tracks:
    """Rows of equal length, one a track."""

    ids: NDArray[np.int64]
    age_frames: NDArray[np.int64]
    sightings: NDArray[np.int64]
    hidden_frames: NDArray[np.int64]  # in a row
    contradicted: NDArray[np.int64]  # frames in a row whose surface or patch is another one's
    groups: NDArray[np.int64]
    states: PointStates
    tangents: PoseArray  # (n, 2, 3) world: from the point to where the next pixels to the right and below were
    templates: klt.Templates
    pixels: PoseArray  # (n, 2) where it was found in the last frame; NaN: it was not
    evidence: PoseArray  # (n, 3) decaying sum of normalised innovations


@dataclass(frozen=True, slots=True)
class _Frame:
    """The newest frame, as its tracks need it."""

    stamp_ns: int
    seconds: float  # since the frame before
    gray: klt.GreyImage
    image: FloatArray
    depth: DepthMap | None
    view: View
    mask: MaskArray
    log_odds: FloatArray
    labels: NDArray[np.int32]
    backward: Correspondence | None


@dataclass(slots=True)
class _Seen:
    """What the newest frame shows of the tracks."""

    sightings: Sightings
    correlation: PoseArray  # (n,)
    searched: MaskArray  # (n,) inside the image
    chained: MaskArray  # (n,) unlike their templates, but followed from the last frame
    matched: MaskArray  # (n,) found within the gate
    ranged: MaskArray  # (n,) their depth, too


@dataclass(slots=True)
class _Patches:
    """Where the tracks' patches are seen; NaN and a correlation of -1 where they are not."""

    pixels: PoseArray  # (n, 2)
    covariance_px: PoseArray  # (n, 2, 2)
    correlation: PoseArray  # (n,)

    def take(
        self, rows: NDArray[np.int64], aligned: klt.Alignment, which: NDArray[np.int64], correlation: PoseArray
    ) -> None:
        """Put alignments ``which`` (k,) into ``rows`` (k,)."""
        self.pixels[rows] = aligned.pixels[which]
        self.covariance_px[rows] = aligned.covariance_px[which]
        self.correlation[rows] = correlation[which]


class Tracker:
    """Keeps tracks alive from frame to frame. Ids are never used twice."""

    def __init__(self, max_tracks: int = 400, grid_px: int = 8, tuning: TrackTuning | None = None) -> None:
        """At most ``max_tracks`` at once, seeded at least ``grid_px`` apart."""
        self._max_tracks, self._grid_px = max_tracks, grid_px
        self._tuning = TrackTuning() if tuning is None else tuning
        self._options = klt.AlignmentOptions()
        self._next_id, self._next_group = 0, 1
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; ids go on."""
        self._tracks = _no_tracks(self._options.patch_px)
        self._groups: dict[int, RigidGroup] = {}
        self._before: klt.GreyImage | None = None
        self._last_stamp_ns: int | None = None
        self._factors = np.ones(2)  # of the variances of pixels and of inverse depths

    def update(
        self,
        stamp_ns: int,
        image_gray: klt.GreyImage,
        depth: DepthMap | None,
        world_from_camera: PoseArray | None,
        intrinsics: Intrinsics,
        moving_log_odds: FloatArray | None,
        mask: MaskArray,
        correspondence: Callable[[int], Correspondence | None] | None = None,
    ) -> TrackSet:
        """Tracks at the newest frame.

        Args:
            stamp_ns: of the frame.
            image_gray: (h, w).
            depth: of the frame; None: tracks are corrected by pixels alone, and none begins.
            world_from_camera: (4, 4); None while the camera is lost: tracks wait unseen.
            intrinsics: of the image.
            moving_log_odds: (h, w) that a pixel moves; None: the mask says it.
            mask: (h, w) pixels that move.
            correspondence: pixels of the newest frame in the one before (gap 1), where there are any.
        """
        if world_from_camera is None:
            return self._wait()
        seconds = 0.0 if self._last_stamp_ns is None else (stamp_ns - self._last_stamp_ns) * 1e-9
        limit = np.float32(self._tuning.log_odds_limit)
        frame = _Frame(
            stamp_ns,
            max(seconds, 1e-3),
            image_gray,
            klt.soften(image_gray),
            depth,
            View(intrinsics, invert(world_from_camera)),
            mask,
            np.where(mask, limit, -limit) if moving_log_odds is None else moving_log_odds.clip(-limit, limit),
            label_regions(mask, depth),
            None if correspondence is None or self._before is None else correspondence(1),
        )
        before = self._tracks.states.positions.copy()
        motions = self._predict(frame)
        seen = self._sight(frame)
        self._move_groups(frame, seen, motions)
        self._correct(frame, seen)
        self._decide(frame, seen, before, motions)
        visible = self._judge(frame, seen)
        scores = np.zeros(mask.shape, np.float32) if depth is None else seed_scores(frame.image, depth, mask)
        self._refresh(frame, seen, visible, scores > 0)
        self._tracks = pick(self._tracks, self._retire(visible))
        self._seed(frame, scores)
        alive = set(self._tracks.groups.tolist())
        self._groups = {number: group for number, group in self._groups.items() if number in alive}
        self._before, self._last_stamp_ns = image_gray, stamp_ns
        return self._snapshot(frame.view, np.isfinite(self._tracks.pixels[:, 0]))

    def covariances_world(self) -> PoseArray:
        """(n, 3, 3) of the positions in the last :class:`TrackSet`, row by row."""
        rows = self._reported()
        return self._tracks.states.covariance[rows, :3, :3]

    def _wait(self) -> TrackSet:
        """Nothing is seen."""
        tracks = self._tracks
        tracks.age_frames += 1
        tracks.hidden_frames += 1
        tracks.pixels[:] = np.nan
        return self._snapshot(None, np.zeros(len(tracks.ids), bool))

    # -- prediction and search ----------------------------------------------------------------------------------------

    def _predict(self, frame: _Frame) -> dict[int, Motion]:
        """Move all tracks on to the newest frame; the expected motion of each group."""
        tracks, tuning = self._tracks, self._tuning
        depth = self._depths(frame.view)
        acceleration = np.where(tracks.groups == LONE, tuning.acceleration_std * depth, 0.0)
        predict(tracks.states, frame.seconds, acceleration, tuning.wander_px * depth / frame.view.intrinsics.fx_px)
        motions = {}
        for number, group in self._groups.items():
            rows = np.flatnonzero(tracks.groups == number)
            motions[number] = group.predict(tracks.states.positions[rows].mean(axis=0), frame.seconds)
            self._carry(rows, motions[number])
        return motions

    def _carry(self, rows: NDArray[np.int64], motion: Motion) -> None:
        """Take tracks along with a rigid motion."""
        states = self._tracks.states
        states.positions[rows] = motion.move(states.positions[rows])
        states.covariance[rows] = carried(motion, states.covariance[rows])
        self._tracks.tangents[rows] = self._tracks.tangents[rows] @ motion.rotation().T

    def _depths(self, view: View) -> PoseArray:
        """(n,) of the tracks along the optical axis."""
        inverse = view.observe(self._tracks.states.positions)[:, 2]
        return np.where(inverse > 0, 1.0 / np.where(inverse > 0, inverse, 1.0), 0.0)

    def _sight(self, frame: _Frame) -> _Seen:
        """Find the tracks' patches, from where they are expected and from where the last frame had what moves."""
        tracks, view = self._tracks, frame.view
        expected = view.observe(tracks.states.positions)[:, :2]
        searched = view.inside(expected, 2.0)
        followed, returned = self._followed(frame, expected)
        rows, again = np.flatnonzero(searched), np.flatnonzero(view.inside(followed, 2.0))
        both = np.concatenate((rows, again))
        start = np.concatenate((expected[rows], followed[again]))
        warp = self._warps(view)[both]
        aligned = klt.align(frame.image, pick(tracks.templates, both), start, warp, self._options)
        worth = np.where(aligned.converged & view.inside(aligned.pixels, 0.0), aligned.correlation, -1.0)
        count = len(searched)
        seen = _Patches(np.full((count, 2), np.nan), np.zeros((count, 2, 2)), np.full(count, -1.0))
        seen.take(rows, aligned, np.arange(len(rows)), worth)
        better = np.flatnonzero(worth[len(rows) :] > seen.correlation[again] + 0.02)
        seen.take(again[better], aligned, len(rows) + better, worth)
        chained = returned & (tracks.groups == LONE) & (seen.correlation < self._tuning.least_correlation)
        seen.pixels[chained], seen.covariance_px[chained] = followed[chained], self._tuning.chain_std**2 * np.eye(2)
        return self._seen(frame, seen, searched, chained)

    def _followed(self, frame: _Frame, expected: PoseArray) -> tuple[PoseArray, MaskArray]:
        """(n, 2) where the last frame's patches of what may move went in the image, NaN of the others; which are sure.

        Sure (n,) are those that the same search leads back to where they were.
        """
        tracks, places = self._tracks, np.full(expected.shape, np.nan)
        returned = np.zeros(len(expected), bool)
        if self._before is None:
            return places, returned
        may_move = (tracks.groups != STATIC) | (_at(frame.log_odds, expected, 0.0) > 0)
        rows = np.flatnonzero(may_move & np.isfinite(tracks.pixels[:, 0]))
        start = np.where(frame.view.inside(expected[rows])[:, None], expected[rows], tracks.pixels[rows])
        places[rows] = klt.follow(self._before, frame.gray, tracks.pixels[rows], start, self._options.patch_px)
        rows = rows[frame.view.inside(places[rows], 2.0)]
        back = klt.follow(frame.gray, self._before, places[rows], tracks.pixels[rows], self._options.patch_px)
        with np.errstate(invalid="ignore"):
            returned[rows] = np.linalg.norm(back - tracks.pixels[rows], axis=-1) < RETURN_PX
        return places, returned

    def _seen(self, frame: _Frame, patches: "_Patches", searched: MaskArray, chained: MaskArray) -> _Seen:
        """Sightings (n): patches like their templates, and ``chained`` ones like those of the last frame."""
        found = (patches.correlation > self._tuning.least_correlation) | chained
        reading = self._read(frame.depth, np.where(found[:, None], patches.pixels, 0.0))
        expected = frame.view.observe(self._tracks.states.positions)[:, 2]
        found &= ~reading.valid | (np.abs(reading.inverse_depth / expected - 1.0) < self._tuning.depth_step)
        sightings = Sightings(
            patches.pixels,
            self._factors[0] * patches.covariance_px,
            reading.inverse_depth,
            self._factors[1] * reading.variance,
            found,
            found & reading.valid & (reading.inverse_depth > 0),
        )
        return _Seen(sightings, patches.correlation, searched, chained, found, sightings.ranged)

    def _read(self, depth: DepthMap | None, pixels: PoseArray) -> DepthReading:
        if depth is not None:
            return read_inverse_depth(depth, pixels)
        zeros = np.zeros(len(pixels))
        return DepthReading(zeros, zeros, np.zeros((len(pixels), 2)), zeros > 0)

    # -- correction ---------------------------------------------------------------------------------------------------

    def _move_groups(self, frame: _Frame, seen: _Seen, motions: dict[int, Motion]) -> None:
        """Solve each group's motion on the members that are seen, and take all of them along."""
        if not self._groups:
            return
        tracks, tuning = self._tracks, self._tuning
        innovations = innovate(tracks.states, frame.view, seen.sightings)
        depth = self._depths(frame.view)
        for number, group in self._groups.items():
            rows = np.flatnonzero(tracks.groups == number)
            used = rows[seen.sightings.found[rows]]
            group.unseen_frames = 0 if len(used) else group.unseen_frames + 1
            if not len(used):
                continue
            distance, young = float(np.median(depth[used])), group.frames < 3
            time = frame.seconds * (frame.seconds if not young else 1.0)
            speed = tuning.speed_std if young else tuning.group_acceleration_std
            turn = tuning.turn_std if young else tuning.group_turn_acceleration_std
            centre = tracks.states.positions[rows].mean(axis=0)
            fit = fit_motion(
                frame.view,
                tracks.states.positions[used],
                seen.sightings.measured()[used],
                innovations.total[used],
                Motion(centre, np.zeros(3), np.zeros(3)),
                speed * distance * time,
                turn * time,
            )
            self._carry(rows, fit.motion)
            motions[number] = motions[number].then(fit.motion)
            group.learn(motions[number], frame.seconds, 0.5)

    def _correct(self, frame: _Frame, seen: _Seen) -> None:
        """Update all filters that see their point; gates are checked, and evidence of motion is summed up."""
        tracks, tuning, sightings = self._tracks, self._tuning, seen.sightings
        innovations = innovate(tracks.states, frame.view, sightings)
        distance = innovations.pixel_distance()
        near, ranged = distance < tuning.pixel_gate, sightings.ranged.copy()
        ranged &= innovations.depth_distance() < tuning.depth_gate
        measured = np.stack((sightings.found, sightings.found, sightings.ranged), axis=-1)
        newest = np.where(measured, innovations.normalised().clip(-4.0, 4.0), 0.0)
        tracks.evidence = np.where(measured, tuning.evidence_memory * tracks.evidence + newest, tracks.evidence)
        self._learn_variances(innovations, near, ranged)
        innovations.residual[~ranged, 2] = 0.0
        innovations.total[~ranged, 2, 2] = UNSEEN_VARIANCE
        innovations.total[:, :2, :2] *= np.maximum(1.0, distance / tuning.pixel_soft_gate)[:, None, None]
        seen.matched, seen.ranged = sightings.found & near, sightings.found & near & ranged
        update(tracks.states, innovations, np.flatnonzero(seen.matched))
        tracks.sightings += seen.matched

    def _learn_variances(self, innovations: Innovations, near: MaskArray, ranged: MaskArray) -> None:
        """Scale the measurements' variances so that innovations at rest are as large as they say."""
        settled = (self._tracks.groups == STATIC) & (self._tracks.sightings >= 3) & near
        distances = (innovations.pixel_distance()[settled], innovations.depth_distance()[settled & ranged])
        for which, (values, expected) in enumerate(zip(distances, CHI_MEDIANS, strict=True)):
            seen = values[values > 0]
            if len(seen) >= FEW:
                self._factors[which] *= (np.median(seen) / expected) ** VARIANCE_RATE
        self._factors = self._factors.clip(1.0, 100.0)

    # -- hypotheses ---------------------------------------------------------------------------------------------------

    def _decide(self, frame: _Frame, seen: _Seen, before: PoseArray, motions: dict[int, Motion]) -> None:
        """Which tracks rest, which move alone, and which go together."""
        tracks, tuning = self._tracks, self._tuning
        pixels, found = seen.sightings.pixels, seen.sightings.found
        log_odds = np.where(found, _at(frame.log_odds, pixels, 0.0), 0.0)
        nats = 0.5 * (1.0 - tuning.evidence_memory**2) * (tracks.evidence**2).sum(axis=-1) - tuning.motion_penalty
        nats += np.where(tracks.groups == STATIC, log_odds, 0.0)
        self._release(frame, seen, np.flatnonzero((tracks.groups != LONE) & found & (nats > 0)))
        self._rest(frame, seen, log_odds, before, motions)
        self._join(frame, seen, before, motions)

    def _release(self, frame: _Frame, seen: _Seen, rows: NDArray[np.int64]) -> None:
        """Tracks move alone from now on; those whose place was refuted begin anew where they are seen."""
        tracks, sightings = self._tracks, seen.sightings
        if not len(rows):
            return
        tracks.groups[rows], tracks.evidence[rows] = LONE, 0.0
        again = rows[~seen.matched[rows] & sightings.ranged[rows]]
        fresh = begin(
            frame.view,
            sightings.pixels[again],
            sightings.inverse_depth[again],
            sightings.inverse_depth_variance[again],
            self._tuning.birth_pixel_std,
        )
        tracks.states.positions[again], tracks.states.covariance[again] = fresh.positions, fresh.covariance
        seen.matched[again] = seen.ranged[again] = True
        free_velocities(tracks.states, rows, self._tuning.speed_std * self._depths(frame.view)[rows])

    def _rest(
        self, frame: _Frame, seen: _Seen, log_odds: PoseArray, before: PoseArray, motions: dict[int, Motion]
    ) -> None:
        """Lone tracks and groups that stand still, in the mask and by their velocity, belong to the static world."""
        tracks, view = self._tracks, frame.view
        lone = np.flatnonzero((tracks.groups == LONE) & seen.matched & (log_odds < 0) & (tracks.sightings >= 3))
        slow = _significance(tracks.states, lone) < STILL_GATE
        self._settle(lone[slow], STATIC)
        for number, group in self._groups.items():
            rows = np.flatnonzero((tracks.groups == number) & seen.matched)
            if not len(rows):
                continue
            shown = view.observe(motions[number].move(before[rows])) - view.observe(before[rows])
            still = np.median(log_odds[rows]) < 0 and np.median(np.abs(shown[:, :2])) < STILL_PX
            group.still_frames = group.still_frames + 1 if still else 0
            if group.still_frames >= STILL_FRAMES:
                self._settle(np.flatnonzero(tracks.groups == number), STATIC)

    def _settle(self, rows: NDArray[np.int64], group: int) -> None:
        """Tracks keep their place in the static world, or in a group, from now on."""
        self._tracks.groups[rows], self._tracks.evidence[rows] = group, 0.0
        hold(self._tracks.states, rows)

    def _join(self, frame: _Frame, seen: _Seen, before: PoseArray, motions: dict[int, Motion]) -> None:
        """Lone tracks of one region go with a group of theirs that explains them, or found one together."""
        tracks = self._tracks
        lone = (tracks.groups == LONE) & seen.matched & (tracks.sightings >= 2)
        labels = np.where(seen.matched, labels_at(frame.labels, seen.sightings.pixels), 0)
        if not (lone & (labels > 0)).any():
            return
        total = innovate(tracks.states, frame.view, seen.sightings).total
        measured = seen.sightings.measured()
        for label in np.unique(labels[lone & (labels > 0)]).tolist():
            rows = np.flatnonzero(lone & (labels == label))
            for number in set(tracks.groups[labels == label].tolist()) & set(motions):
                distance = residual_distance(
                    frame.view, motions[number].move(before[rows]), measured[rows], total[rows]
                )
                joins = distance < self._tuning.motion_gate
                self._settle(rows[joins], number)
                rows = rows[~joins]
            self._found_group(frame, seen, before, total, rows)
        self._adopt(frame, seen, before, motions)

    def _adopt(self, frame: _Frame, seen: _Seen, before: PoseArray, motions: dict[int, Motion]) -> None:
        """Lone tracks that are not found go on with the nearest member of a group in their region."""
        tracks = self._tracks
        rows = np.flatnonzero((tracks.groups == LONE) & ~seen.matched & np.isfinite(tracks.pixels[:, 0]))
        expected = frame.view.observe(tracks.states.positions[rows])[:, :2]
        near = self._group_near(frame, expected, tracks.states.positions[rows])
        for number in set(near.tolist()) & set(motions):
            mine = rows[near == number]
            tracks.states.positions[mine] = before[mine]
            self._carry(mine, motions[number])
            self._settle(mine, number)

    def _found_group(
        self, frame: _Frame, seen: _Seen, before: PoseArray, total: PoseArray, rows: NDArray[np.int64]
    ) -> None:
        """A new group of the lone tracks ``rows`` (k,) of a region, if most of them move rigidly."""
        tuning = self._tuning
        if len(rows) < tuning.least_group:
            return
        distance = float(np.median(self._depths(frame.view)[rows]))
        shift = np.median(self._tracks.states.positions[rows] - before[rows], axis=0)
        expected = Motion(before[rows].mean(axis=0), shift, np.zeros(3))
        fit = fit_motion(
            frame.view,
            before[rows],
            seen.sightings.measured()[rows],
            total[rows],
            expected,
            tuning.speed_std * distance * frame.seconds,
            tuning.turn_std * frame.seconds,
        )
        inliers = fit.distance < tuning.motion_gate
        if np.count_nonzero(inliers) < max(tuning.least_group, 0.5 * len(rows)):
            return
        group = RigidGroup()
        group.learn(fit.motion, frame.seconds, 1.0)
        self._groups[self._next_group] = group
        self._settle(rows[inliers], self._next_group)
        self._next_group += 1

    # -- birth, visibility and death ----------------------------------------------------------------------------------

    def _judge(self, frame: _Frame, seen: _Seen) -> MaskArray:
        """(n,) which tracks are visible; notes who is hidden, contradicted and confirmed."""
        tracks, view = self._tracks, frame.view
        expected = view.observe(tracks.states.positions)
        inside, matched = view.inside(expected[:, :2]), seen.matched
        known = inside & np.isfinite(expected[:, 2])
        visible, other = known & matched, known & ~matched & seen.searched
        if frame.depth is not None:
            sigma = expected[:, 2] ** 2 * _axial_std(tracks.states, view)
            place = np.where(known[:, None], expected[:, :2], 0.0)
            surface = compare_with_surface(frame.depth, place, expected[:, 2], sigma, self._tuning.surface_slack)
            by_image = matched & (seen.ranged | ~(surface.hidden | surface.vacant))
            visible = known & (by_image | (surface.seen & (tracks.groups != LONE)))
            other = known & ~visible & (surface.vacant | (surface.seen & ~matched))
        tracks.contradicted = np.where(visible, 0, tracks.contradicted + other)
        tracks.hidden_frames = np.where(visible, 0, tracks.hidden_frames + 1)
        tracks.age_frames += 1
        tracks.pixels = np.where(visible[:, None], expected[:, :2], np.nan)
        new = np.flatnonzero((tracks.ids == TENTATIVE) & (tracks.sightings >= self._tuning.confirm_sightings))
        tracks.ids[new] = self._next_id + np.arange(len(new))
        tracks.age_frames[new] = 1
        self._next_id += len(new)
        return visible

    def _retire(self, visible: MaskArray) -> NDArray[np.int64]:
        """Drop what is lost; the rows (k,) that stay."""
        tracks, tuning = self._tracks, self._tuning
        longest = np.where(tracks.groups == LONE, tuning.lone_hidden_frames, tuning.hidden_frames)
        kept = (tracks.hidden_frames <= longest) & (tracks.contradicted < tuning.contradicted_frames)
        kept &= (tracks.ids != TENTATIVE) | visible
        kept &= np.isfinite(tracks.states.positions).all(axis=-1)
        return np.flatnonzero(kept)

    def _refresh(self, frame: _Frame, seen: _Seen, visible: MaskArray, clear: MaskArray) -> None:
        """New templates of tracks whose patch is seen very differently from how it was, at their own places."""
        tracks = self._tracks
        lost = (tracks.groups == STATIC) & ~seen.sightings.found
        spread = np.abs(np.linalg.det(self._warps(frame.view)))
        differs = (seen.correlation < self._tuning.refresh_correlation) | (spread < 0.6) | (spread > 1.8)
        differs &= visible & (seen.ranged | seen.chained | lost) & _at(clear, tracks.pixels, False)
        rows = np.flatnonzero(differs)
        if not len(rows) or frame.depth is None:
            return
        pixels = tracks.pixels[rows]
        slopes = read_inverse_depth(frame.depth, pixels).slopes
        inverse = frame.view.observe(tracks.states.positions[rows])[:, 2]
        tracks.tangents[rows] = _tangents(frame.view, pixels, inverse, slopes)
        fresh = klt.capture(frame.image, pixels, self._options.patch_px)
        tracks.templates.values[rows] = fresh.values
        tracks.templates.gradients[rows] = fresh.gradients
        tracks.templates.normal_inverse[rows] = fresh.normal_inverse

    def _seed(self, frame: _Frame, scores: FloatArray) -> None:
        """Begin tracks in cells that hold none; those hidden longest make room."""
        tracks, depth = self._tracks, frame.depth
        if depth is None:
            return
        static_cell, moving_cell = self._cells(frame.mask.shape)
        rests = tracks.groups == STATIC
        still = choose_seeds(np.where(frame.mask, np.float32(0), scores), tracks.pixels[rests], static_cell)
        moving = choose_seeds(np.where(frame.mask, scores, np.float32(0)), tracks.pixels, moving_cell)
        pixels = np.concatenate((moving, still))[: self._make_room(len(moving) + len(still))]
        reading = read_inverse_depth(depth, pixels)
        good = reading.valid & (reading.inverse_depth > 0)
        self._tracks = append(self._tracks, self._born(frame, pixels[good], pick(reading, good)))

    def _cells(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Sides of cells at rest and of movers, px."""
        share = self._tuning.seed_share * max(self._max_tracks, 1)
        side = max(self._grid_px, int(np.ceil(np.sqrt(shape[0] * shape[1] / share))))
        return side, max(self._grid_px, side // 2)

    def _make_room(self, wanted: int) -> int:
        """How many tracks may begin; of the hidden ones as many are remembered as may be alive, the newest."""
        tracks = self._tracks
        hidden = np.flatnonzero(tracks.hidden_frames > 0)
        full = int(FULL_SHARE * self._max_tracks)
        room = min(max(full - (len(tracks.ids) - len(hidden)), 0), wanted)
        order = hidden[np.argsort(tracks.hidden_frames[hidden], kind="stable")]
        kept = np.ones(len(tracks.ids), bool)
        kept[order[self._max_tracks :]] = False
        self._tracks = pick(tracks, kept)
        return room

    def _born(self, frame: _Frame, pixels: PoseArray, reading: DepthReading) -> Tracks:
        """New tracks at ``pixels`` (n, 2); those on the moving mask join the nearest group of their region."""
        count, view, tuning = len(pixels), frame.view, self._tuning
        variance = self._factors[1] * reading.variance
        states = begin(view, pixels, reading.inverse_depth, variance, tuning.birth_pixel_std)
        groups = np.where(_at(frame.mask, pixels, False), self._group_near(frame, pixels, states.positions), STATIC)
        lone = np.flatnonzero(groups == LONE)
        free_velocities(states, lone, tuning.speed_std / reading.inverse_depth[lone])
        zeros = np.zeros(count, np.int64)
        return Tracks(
            ids=zeros + TENTATIVE,
            age_frames=zeros + 1,
            sightings=zeros + 1,
            hidden_frames=zeros.copy(),
            contradicted=zeros.copy(),
            groups=groups,
            states=states,
            tangents=_tangents(view, pixels, reading.inverse_depth, reading.slopes),
            templates=klt.capture(frame.image, pixels, self._options.patch_px),
            pixels=pixels,
            evidence=np.zeros((count, 3)),
        )

    def _group_near(self, frame: _Frame, pixels: PoseArray, positions: PoseArray) -> NDArray[np.int64]:
        """(n,) the group of the nearest member in the same region; LONE: there is none."""
        tracks, groups = self._tracks, np.full(len(pixels), LONE, np.int64)
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

    # -- reading ------------------------------------------------------------------------------------------------------

    def _warps(self, view: View) -> PoseArray:
        """(n, 2, 2) from offsets in the templates to offsets in the image."""
        tracks = self._tracks
        warp: PoseArray = view.jacobian(tracks.states.positions)[:, :2] @ tracks.tangents.swapaxes(1, 2)
        return warp

    def _reported(self) -> NDArray[np.int64]:
        """Rows of confirmed tracks in rising order of their ids: the visible ones, and those hidden for least time."""
        ids, hidden_frames = self._tracks.ids, self._tracks.hidden_frames
        rows = np.flatnonzero(ids != TENTATIVE)
        rows = rows[np.argsort(hidden_frames[rows], kind="stable")][: self._max_tracks]
        return rows[np.argsort(ids[rows])]

    def _velocities(self) -> PoseArray:
        """(n, 3) of all tracks; members of a group have that of its motion."""
        tracks, velocities = self._tracks, self._tracks.states.velocities.copy()
        for number, group in self._groups.items():
            rows = np.flatnonzero(tracks.groups == number)
            positions = tracks.states.positions[rows]
            velocities[rows] = group.velocity + np.cross(group.turn_rate, positions - positions.mean(axis=0))
        return velocities

    def _snapshot(self, view: View | None, visible: MaskArray) -> TrackSet:
        tracks, rows = self._tracks, self._reported()
        spread = np.sqrt(np.trace(tracks.states.covariance[rows, :3, :3], axis1=1, axis2=2))
        depth = np.ones(len(rows)) if view is None else self._depths(view)[rows]
        return TrackSet(
            ids=tracks.ids[rows],
            positions_world=tracks.states.positions[rows],
            velocities_world=self._velocities()[rows],
            pixels=tracks.pixels[rows].astype(np.float32),
            confidence=np.maximum(depth / np.maximum(spread, 1e-9), 1.0).astype(np.float32),
            visible=visible[rows],
            dynamic=tracks.groups[rows] != STATIC,
            age_frames=tracks.age_frames[rows],
        )


def _at(values: NDArray[Any], pixels: PoseArray, outside: float | bool) -> NDArray[Any]:
    """(n,) values (h, w) at the nearest pixels to ``pixels`` (n, 2), ``outside`` beyond the image and where NaN."""
    height, width = values.shape
    finite = np.isfinite(pixels[:, 0]) & np.isfinite(pixels[:, 1])
    nearest = np.rint(np.where(finite[:, None], pixels, -1.0)).astype(np.int64)
    x, y = nearest[:, 0], nearest[:, 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.asarray(np.where(inside, values[y.clip(0, height - 1), x.clip(0, width - 1)], outside))


def _tangents(view: View, pixels: PoseArray, inverse_depth: PoseArray, slopes: PoseArray) -> PoseArray:
    """(n, 2, 3) world: from points to their surface at the next pixels to the right and below."""
    here = view.place(pixels, inverse_depth)
    right = view.place(pixels + (1.0, 0.0), inverse_depth + slopes[:, 0])
    below = view.place(pixels + (0.0, 1.0), inverse_depth + slopes[:, 1])
    return np.stack((right - here, below - here), axis=1)


def _axial_std(states: PointStates, view: View) -> PoseArray:
    """(n,) standard deviation of points along the optical axis."""
    axis = view.camera_from_world[2, :3]
    return np.sqrt(np.maximum(states.covariance[:, :3, :3] @ axis @ axis, 0.0))


def _significance(states: PointStates, rows: NDArray[np.int64]) -> PoseArray:
    """(k,) squared Mahalanobis distance of velocities from zero, chi square with 3 degrees of freedom."""
    velocity = states.velocities[rows][..., None]
    solved = np.linalg.solve(states.covariance[rows, 3:, 3:] + 1e-12 * np.eye(3), velocity)
    return (velocity * solved).sum(axis=(1, 2))


def _no_tracks(patch_px: int) -> Tracks:
    whole, taps = np.zeros(0, np.int64), patch_px**2
    return Tracks(
        ids=whole,
        age_frames=whole,
        sightings=whole,
        hidden_frames=whole,
        contradicted=whole,
        groups=whole,
        states=PointStates(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 6, 6))),
        tangents=np.zeros((0, 2, 3)),
        templates=klt.Templates(
            np.zeros((0, taps), np.float32), np.zeros((0, 2, taps), np.float32), np.zeros((0, 2, 2))
        ),
        pixels=np.zeros((0, 2)),
        evidence=np.zeros((0, 3)),
    )
