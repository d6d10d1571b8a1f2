"""3-D point tracks with lasting ids.

Each track follows a patch of its own in the image and is a Kalman filter in the world. It belongs to the static world,
to a rigid group of moving tracks, or it moves alone: a point of the static world or of a group keeps its place there,
which is the fusion of all frames; a lone point has a constant velocity. Innovations and the motion mask decide.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TrackTuning
from pomato_ros.geometry.rigid import invert
from pomato_ros.scene import klt
from pomato_ros.scene.depth_patches import compare_with_surface, read_inverse_depth
from pomato_ros.scene.point_filter import (
    UNSEEN_VARIANCE,
    Innovations,
    View,
    axial_std,
    begin,
    free_velocities,
    innovate,
    predict,
    update,
)
from pomato_ros.scene.regions import label_regions
from pomato_ros.scene.rows import append, pick
from pomato_ros.scene.seeding import choose_seeds, seed_scores
from pomato_ros.scene.track_birth import begin_tracks, refresh_templates
from pomato_ros.scene.track_groups import TrackGroups
from pomato_ros.scene.track_rows import (
    LONE,
    STATIC,
    TENTATIVE,
    Seen,
    TrackFrame,
    no_tracks,
    values_at,
)
from pomato_ros.scene.track_search import search
from pomato_ros.structures import Correspondence, DepthMap, FloatArray, Intrinsics, MaskArray, PoseArray, TrackSet

CHI_MEDIANS = (1.386, 0.455)  # of chi square with 2 degrees of freedom and with 1


class Tracker:
    """Keeps tracks alive from frame to frame. Ids are never used twice."""

    def __init__(self, max_tracks: int = 400, grid_px: int = 8, tuning: TrackTuning | None = None) -> None:
        """At most ``max_tracks`` at once, seeded at least ``grid_px`` apart."""
        self._max_tracks, self._grid_px = max_tracks, grid_px
        self._tuning = TrackTuning() if tuning is None else tuning
        self._groups = TrackGroups(self._tuning)
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; ids go on."""
        self._tracks = no_tracks(self._tuning.alignment.patch_px**2)
        self._groups.reset()
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
        frame = TrackFrame(
            seconds=max(seconds, 1e-3),
            gray=image_gray,
            before=self._before,
            image=klt.soften(image_gray),
            depth=depth,
            view=View(intrinsics, invert(world_from_camera)),
            mask=mask,
            log_odds=np.where(mask, limit, -limit) if moving_log_odds is None else moving_log_odds.clip(-limit, limit),
            labels=label_regions(mask, depth),
            backward=None if correspondence is None or self._before is None else correspondence(1),
        )
        self._follow(frame)
        self._before, self._last_stamp_ns = image_gray, stamp_ns
        return self._snapshot(frame.view)

    def covariances_world(self) -> PoseArray:
        """(n, 3, 3) of the positions in the last :class:`TrackSet`, row by row."""
        return self._tracks.states.covariance[self._reported(), :3, :3]

    def _follow(self, frame: TrackFrame) -> None:
        """Predict, search, correct, decide what moves, judge what is visible, begin new tracks."""
        tracks, tuning = self._tracks, self._tuning
        before, depth = tracks.states.positions.copy(), tracks.depths(frame.view)
        acceleration = np.where(tracks.groups == LONE, tuning.acceleration_std * depth, 0.0)
        predict(tracks.states, frame.seconds, acceleration, tuning.wander_px * depth / frame.view.intrinsics.fx_px)
        self._groups.predict(tracks, frame.seconds)
        seen = search(tracks, frame, self._factors, tuning)
        self._groups.solve(tracks, frame, seen)
        self._correct(frame, seen)
        log_odds = np.where(seen.sightings.found, values_at(frame.log_odds, seen.sightings.pixels, 0.0), 0.0)
        self._release(frame, seen, log_odds)
        self._groups.regroup(tracks, frame, seen, log_odds, before)
        visible = self._judge(frame, seen)
        if frame.depth is not None:
            scores = seed_scores(frame.image, frame.depth, frame.mask, tuning.seeds)
            refresh_templates(tracks, frame, seen, visible & values_at(scores > 0, tracks.pixels, False), tuning)
            self._tracks = pick(tracks, self._kept())
            self._seed(frame, scores)
        else:
            self._tracks = pick(tracks, self._kept())
        self._groups.prune(self._tracks)

    def _wait(self) -> TrackSet:
        """Nothing is seen."""
        self._tracks.age_frames += 1
        self._tracks.hidden_frames += 1
        self._tracks.pixels[:] = np.nan
        return self._snapshot(None)

    def _correct(self, frame: TrackFrame, seen: Seen) -> None:
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
            if len(seen) >= self._tuning.variance_tracks:
                self._factors[which] *= (np.median(seen) / expected) ** self._tuning.variance_rate
        self._factors = self._factors.clip(1.0, 100.0)

    def _release(self, frame: TrackFrame, seen: Seen, log_odds: PoseArray) -> None:
        """Tracks that left their place move alone; those whose place was refuted begin anew where they are seen.

        They left when ``(1 - m^2) |e|^2 / 2``, the log-likelihood ratio of their decaying sum e of innovations, and the
        mask's log-odds exceed what three more parameters cost.
        """
        tracks, tuning, sightings = self._tracks, self._tuning, seen.sightings
        nats = 0.5 * (1.0 - tuning.evidence_memory**2) * (tracks.evidence**2).sum(axis=-1) - tuning.motion_penalty
        nats += np.where(tracks.groups == STATIC, log_odds, 0.0)
        rows = np.flatnonzero((tracks.groups != LONE) & sightings.found & (nats > 0))
        tracks.groups[rows], tracks.evidence[rows] = LONE, 0.0
        again = rows[~seen.matched[rows] & sightings.ranged[rows]]
        inverse, variance = sightings.inverse_depth[again], sightings.inverse_depth_variance[again]
        fresh = begin(frame.view, sightings.pixels[again], inverse, variance, tuning.birth_pixel_std)
        tracks.states.positions[again], tracks.states.covariance[again] = fresh.positions, fresh.covariance
        seen.matched[again] = seen.ranged[again] = True
        free_velocities(tracks.states, rows, tuning.speed_std * tracks.depths(frame.view)[rows])

    def _judge(self, frame: TrackFrame, seen: Seen) -> MaskArray:
        """(n,) which tracks are visible; notes who is hidden, contradicted and confirmed."""
        tracks, view, tuning = self._tracks, frame.view, self._tuning
        expected = view.observe(tracks.states.positions)
        known = view.inside(expected[:, :2]) & np.isfinite(expected[:, 2])
        visible, other = known & seen.matched, known & ~seen.matched & seen.searched
        if frame.depth is not None:
            sigma = expected[:, 2] ** 2 * axial_std(tracks.states, view)
            place = np.where(known[:, None], expected[:, :2], 0.0)
            surface = compare_with_surface(frame.depth, place, expected[:, 2], sigma, tuning.surface_slack)
            by_image = seen.matched & (seen.ranged | ~(surface.hidden | surface.vacant))
            unknown = ~(surface.seen | surface.hidden | surface.vacant) & np.isfinite(tracks.pixels[:, 0])
            by_place = (surface.seen & self._groups.place_known(tracks)) | (unknown & (tracks.groups == STATIC))
            visible = known & (by_image | by_place)  # what depth says nothing about is as it was
            other = known & ~visible & (surface.vacant | (surface.seen & ~seen.matched))
        tracks.contradicted = np.where(visible, 0, tracks.contradicted + other)
        tracks.hidden_frames = np.where(visible, 0, tracks.hidden_frames + 1)
        tracks.age_frames += 1
        tracks.pixels = np.where(visible[:, None], expected[:, :2], np.nan)
        new = np.flatnonzero((tracks.ids == TENTATIVE) & (tracks.sightings >= tuning.confirm_sightings))
        tracks.ids[new], tracks.age_frames[new] = self._next_id + np.arange(len(new)), 1
        self._next_id += len(new)
        return visible

    def _kept(self) -> NDArray[np.int64]:
        """Rows (k,) of the tracks that stay: not lost, not hidden for too long, not refuted before they had an id."""
        tracks, tuning = self._tracks, self._tuning
        longest = np.where(tracks.groups == LONE, tuning.lone_hidden_frames, tuning.hidden_frames)
        kept = (tracks.hidden_frames <= longest) & (tracks.contradicted < tuning.contradicted_frames)
        kept &= (tracks.ids != TENTATIVE) | (tracks.hidden_frames == 0)
        return np.flatnonzero(kept & np.isfinite(tracks.states.positions).all(axis=-1))

    def _seed(self, frame: TrackFrame, scores: FloatArray) -> None:
        """Begin tracks in cells that hold none, twice as densely on what moves."""
        share = self._tuning.seed_share * max(self._max_tracks, 1)
        side = max(self._grid_px, int(np.ceil(np.sqrt(scores.size / share))))
        resting = self._tracks.pixels[self._tracks.groups == STATIC]
        still = choose_seeds(np.where(frame.mask, np.float32(0), scores), resting, side)
        moving_scores = np.where(frame.mask, scores, np.float32(0))
        moving = choose_seeds(moving_scores, self._tracks.pixels, max(self._grid_px, side // 2))
        pixels = np.concatenate((moving, still))[: self._make_room(len(moving) + len(still))]
        if not len(pixels) or frame.depth is None:
            return
        reading = read_inverse_depth(frame.depth, pixels)
        good = reading.valid & (reading.inverse_depth > 0)
        pixels, reading = pixels[good], pick(reading, good)
        near = self._groups.nearest(self._tracks, frame, pixels, frame.view.place(pixels, reading.inverse_depth))
        self._tracks = append(self._tracks, begin_tracks(frame, pixels, reading, near, self._factors[1], self._tuning))

    def _make_room(self, wanted: int) -> int:
        """How many tracks may begin; of the hidden ones as many are remembered as may be alive, the newest."""
        tracks = self._tracks
        hidden = np.flatnonzero(tracks.hidden_frames > 0)
        full = int(self._tuning.full_share * self._max_tracks)
        room = min(max(full - (len(tracks.ids) - len(hidden)), 0), wanted)
        order = hidden[np.argsort(tracks.hidden_frames[hidden], kind="stable")]
        kept = np.ones(len(tracks.ids), bool)
        kept[order[self._max_tracks :]] = False
        self._tracks = pick(tracks, kept)
        return room

    def _reported(self) -> NDArray[np.int64]:
        """Rows of confirmed tracks in rising order of their ids: the visible ones, and those hidden for least time."""
        ids, hidden_frames = self._tracks.ids, self._tracks.hidden_frames
        rows = np.flatnonzero(ids != TENTATIVE)
        rows = rows[np.argsort(hidden_frames[rows], kind="stable")][: self._max_tracks]
        return rows[np.argsort(ids[rows])]

    def _snapshot(self, view: View | None) -> TrackSet:
        """The confirmed tracks as they are; ``view`` None: the camera is lost."""
        rows = self._reported()
        tracks = pick(self._tracks, rows)
        spread = np.sqrt(np.trace(tracks.states.covariance[:, :3, :3], axis1=1, axis2=2))
        depth = np.ones(len(rows)) if view is None else tracks.depths(view)
        return TrackSet(
            ids=tracks.ids,
            positions_world=tracks.states.positions,
            velocities_world=self._groups.velocities(self._tracks)[rows],
            pixels=tracks.pixels.astype(np.float32),
            confidence=np.maximum(depth / np.maximum(spread, 1e-9), 1.0).astype(np.float32),
            visible=np.isfinite(tracks.pixels[:, 0]),
            dynamic=tracks.groups != STATIC,
            age_frames=tracks.age_frames,
        )
