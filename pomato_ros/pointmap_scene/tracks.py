"""3-D point tracks: seeded on the reference frame, followed there from, handed over between windows.

The matching pointmap says where each track of the reference frame is now; where its looks are found again in the image
and the surface there is as far as it should be, its pixel is taken from the image and the pointmap, the more from the
latter the better the two agree on the whole, and its depth from the surface and the pointmap.
Without that pointmap they are found in the image alone: what rests and is not found waits at its place, what moves goes
on as it did. Moving tracks that go together are carried by the motion that they share (`bodies.py`).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.rigid import invert, transform
from pomato_ros.pointmap_scene.bodies import ALONE, FOUND_PX, Bodies, BodyTracks, medians, motion_in_world, regions_at
from pomato_ros.pointmap_scene.features import SoftImage, softened
from pomato_ros.pointmap_scene.follow import follow_from
from pomato_ros.pointmap_scene.moving import BLUR_PX, without_strays
from pomato_ros.pointmap_scene.surface import (
    OCCLUSION_SHARE,
    depth_at,
    inside,
    jumps,
    jumps_at,
    nearest_pixels,
    sample,
    visible_at,
)
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray, TrackSet

PATCH_PX = 8  # that is compared with the reference frame's: tracks need not lie on corners
FAR, NEAR = 2, 0  # levels of the pyramid above half the image, for a rough start, and above the image from a good one
STEPS = 4  # most of Lucas and Kanade's on a level
TEXTURE_PX = 9  # side of the patch whose texture a seed is chosen by
SEED_JUMP_PX, BIRTH_JUMP_PX = 7, 5  # a seed and a track's first look keep half of these away from jumps in depth
JUMP_RATIO = 1.1
AT_JUMP = 1e-3  # by which the texture at a jump counts
AROUND_CELL_PX = max(TEXTURE_PX // 2 + 1, SEED_JUMP_PX // 2 + BLUR_PX // 2)  # what tells of a pixel lies so near
FEW_CELLS = 60  # in as many or fewer, seeds are looked for cell by cell
VELOCITY_SMOOTHING = 0.5  # weight of the newest difference
LOOKS_KEPT = 15.0  # a resting track's place is a mean over about so many looks
RECENT_SHARE = 0.4  # weight of the newest look in the mean over recent ones
MOVED_SHARE = 0.035  # of the depth: recent looks that lie farther from the place say that it moved after all
LONGEST_STEP = 0.07  # of the depth: a look farther off pulls a place no more than one so far
SURE_LOOKS = 4.0  # after which a resting track that is out of sight waits where it is
REST_SHARE = 0.02  # of the long side: farther from its place the image of a resting track is another one's
ASTRAY = 5.0  # times farther from where the matching pointmap has it than usual, a place found is another one's
FEW_PLACES = 8  # tell nothing of what is usual
LEAST_SHARE = 0.15  # in the places found, that a matching pointmap has which is sure where the image shows nothing
TOLD_BLUR_PX = 3  # medians over squares of this side are what a matching pointmap says
TOLD_SHARE = 0.3  # of the matching pointmap's depth in a look, the surface's having the rest
TOLD_DEPTH = 0.1  # of the depth, by which the two differ if they are of different things
TOLD_PX = 1.5  # what a matching pointmap that errs by more says tells nothing of bodies
FADE_FRAMES = 12  # a track hidden for longer than a window is given up


@dataclass(slots=True)
class _Alive:
    """Rows of equal length, one a track; places in the world, metres."""

    ids: NDArray[np.int64]
    reference_pixels: PoseArray  # (n, 2) on the reference frame, where the matching pointmap is read; NaN: it waits
    image_pixels: PoseArray  # (n, 2) where it was visible in the frame before; NaN: it was not
    positions_world: PoseArray  # (n, 3)
    rays_world: PoseArray  # (n, 3) of length 1, on which a resting track's place stays; NaN: on none
    seen_world: PoseArray  # (n, 3) the last look
    recent_world: PoseArray  # (n, 3) mean over recent looks
    looks: PoseArray  # (n,) that the position is the mean of
    velocities_world: PoseArray  # (n, 3)
    age_frames: NDArray[np.int64]
    hidden_frames: NDArray[np.int64]
    dynamic: MaskArray
    bodies: NDArray[np.int64]  # that carry them; ALONE: none

    def pick(self, index: NDArray[np.int64] | MaskArray) -> "_Alive":
        """Some of the tracks."""
        return _Alive(
            self.ids[index],
            self.reference_pixels[index],
            self.image_pixels[index],
            self.positions_world[index],
            self.rays_world[index],
            self.seen_world[index],
            self.recent_world[index],
            self.looks[index],
            self.velocities_world[index],
            self.age_frames[index],
            self.hidden_frames[index],
            self.dynamic[index],
            self.bodies[index],
        )

    def carried(self) -> MaskArray:
        """(n,) those on a body."""
        carried: MaskArray = self.bodies != ALONE
        return carried

    def moving(self) -> MaskArray:
        """(n,) those that are not where they were in the world."""
        return self.dynamic | self.carried()

    def at_rest(self) -> MaskArray:
        """(n,) those that have a place where they stay, in the world or on the body that carries them."""
        return (~self.dynamic | self.carried()) & (self.looks > 0)


@dataclass(frozen=True, slots=True)
class TrackObservation:
    """What the newest frame says: everything in the newest camera and in metres."""

    stamp_ns: int
    reference_stamp_ns: int
    image_rgb: NDArray[np.uint8]  # (h, w, 3)
    reference_rgb: NDArray[np.uint8]  # (h, w, 3)
    points_matched: torch.Tensor | None  # (h, w, 3): the reference frame's pixels at the newest time; None: not told
    conf_match: torch.Tensor | None  # (h, w)
    depth: FloatArray  # (h, w) of the newest frame, NaN where invalid
    dynamic_mask: MaskArray  # (h, w)
    intrinsics: Intrinsics
    world_from_camera: PoseArray
    metres_per_unit: float = 1.0  # of points_matched
    blur_px: int = 1  # side of the square over which points_matched is to be the median: 1, 3 or 5
    image_soft: SoftImage | None = None  # of image_rgb, where somebody has that
    depth_variance_factor: float = 1.0  # of the depth's errors, a good network's being 1


@dataclass(frozen=True, slots=True)
class _Seen:
    """The tracks that were visible in a frame."""

    ids: NDArray[np.int64]  # (n,) ascending
    pixels: PoseArray  # (n, 2)

    def of(self, ids: NDArray[np.int64]) -> PoseArray:
        """(m, 2) the pixels of the tracks ``ids`` (m,), NaN of those that were not."""
        pixels = np.full((len(ids), 2), np.nan)
        if len(self.ids):
            row = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
            found = self.ids[row] == ids
            pixels[found] = self.pixels[row[found]]
        return pixels


@dataclass(frozen=True, slots=True)
class _Expected:
    """The tracks as the newest camera would see them; in its frame, metres."""

    camera_from_world: PoseArray
    camera_matrix: PoseArray  # (3, 3)
    before: PoseArray  # (n, 3) where they were in the world, the frame before
    now: PoseArray  # (n, 3) where they are if what moves goes on as it did


@dataclass(frozen=True, slots=True)
class _Found:
    """What the newest image shows of the tracks."""

    places: PoseArray  # (n, 2) px
    depth: PoseArray  # (n,) of the surface there
    known: MaskArray  # (n,) which of them count


@dataclass(frozen=True, slots=True)
class _Told:
    """What the matching pointmap says."""

    points: PoseArray  # (n, 3) in the camera, metres; NaN: nothing
    confidence: PoseArray  # (n,)
    pixels: PoseArray  # (n, 2)
    usual_px: float = np.inf  # by which it errs

    @property
    def share(self) -> float:
        """What it has in a place that is found in the image, too."""
        return share_of(self.usual_px)


class Tracker:
    """Keeps tracks alive from frame to frame and window to window. Ids are never used twice."""

    def __init__(self, max_tracks: int, grid_px: int) -> None:
        """At most ``max_tracks`` at once, seeded ``grid_px`` apart on the network's image."""
        self._max_tracks, self._grid_px = max_tracks, grid_px
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; ids go on."""
        self._alive = _no_tracks()
        self._bodies = Bodies()
        self._reference_stamp_ns: int | None = None
        self._last_stamp_ns = 0
        self._last_half: NDArray[np.uint8] | None = None  # SoftImage.half of the last image
        self._reference_image: NDArray[np.uint8] | None = None
        self._seen: dict[int, _Seen] = {}

    def update(self, observation: TrackObservation) -> TrackSet:
        """Follow every track to the newest frame."""
        if observation.reference_stamp_ns != self._reference_stamp_ns:
            self._hand_over(observation)
        followed = np.isfinite(self._alive.reference_pixels[:, 0])
        expected = self._expected(observation)
        told = self._read(observation, followed, expected)
        image = SoftImage.of(observation.image_rgb) if observation.image_soft is None else observation.image_soft
        found, told = self._find(image, told, followed, expected, observation)
        before = expected.before
        if self._carry(found, followed, told, expected, observation):
            before = transform(expected.camera_from_world, self._alive.positions_world)
        looks = self._look(before, found, followed, told, expected.camera_matrix, observation)
        seen = followed if observation.points_matched is not None else followed & found.known
        moves = seen | (followed & self._alive.dynamic & (self._alive.bodies == ALONE))
        moves &= np.isfinite(looks[:, 2]) | (self._alive.looks == 0)  # what tells nothing leaves a track where it is
        sure = found.known | (told.share > LEAST_SHARE)
        self._move(transform(observation.world_from_camera, looks), moves, sure, looks[:, 2], observation)
        in_camera = transform(expected.camera_from_world, self._alive.positions_world)
        image_pixels = project(in_camera, expected.camera_matrix)
        visible = visible_at(image_pixels, in_camera[:, 2], observation.depth, must_touch=~seen)
        self._note(observation, image_pixels, visible)
        self._last_half = image.half
        confidence = told.confidence
        kept = (self._alive.hidden_frames <= FADE_FRAMES) & np.isfinite(self._alive.positions_world[:, 2])
        if not kept.all():
            self._alive, confidence, visible = self._alive.pick(kept), confidence[kept], visible[kept]
        return self._snapshot(self._alive.image_pixels.astype(np.float32), confidence.astype(np.float32), visible)

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        self._alive.positions_world = centre_world + factor * (self._alive.positions_world - centre_world)
        self._alive.seen_world = centre_world + factor * (self._alive.seen_world - centre_world)
        self._alive.recent_world = centre_world + factor * (self._alive.recent_world - centre_world)
        self._alive.velocities_world = factor * self._alive.velocities_world

    def _hand_over(self, observation: TrackObservation) -> None:
        """Continue tracks from where they were seen in the new reference frame, and seed the empty cells.

        What rests, in the world or on a body, and was not seen there waits at its place, till it is uncovered and a
        window begins where it is seen.
        """
        seen = self._seen.get(observation.reference_stamp_ns, NOT_SEEN)
        places = seen.of(self._alive.ids)
        goes_on = np.isfinite(places[:, 0]) | (self._alive.at_rest() & (self._alive.looks >= SURE_LOOKS))
        self._alive, places = self._alive.pick(goes_on), places[goes_on]
        height, width = observation.depth.shape
        self._alive.reference_pixels = places.clip(0, (width - 1, height - 1))  # maps have no values beyond centres
        self._reference_stamp_ns = observation.reference_stamp_ns
        self._reference_image = softened(observation.reference_rgb)
        self._seed(observation)

    def _seed(self, observation: TrackObservation) -> None:
        """New tracks in grid cells that hold none, evenly thinned down to the limit."""
        rows, columns = grid_of(observation.depth.shape, self._grid_px)
        free = np.ones((rows, columns), dtype=bool)
        followed = self._alive.reference_pixels[np.isfinite(self._alive.reference_pixels[:, 0])]
        column, row = (followed // self._grid_px).astype(np.int64).T
        on_grid = (row < rows) & (column < columns)
        free[row[on_grid], column[on_grid]] = False
        cells = np.flatnonzero(free)
        room = max(0, self._max_tracks - len(self._alive.ids))
        cells = cells[np.unique(np.linspace(0, len(cells) - 1, min(room, len(cells))).astype(int))]
        chosen = self._places_for_seeds(observation, cells)
        count = len(chosen)
        ids = np.arange(self._next_id, self._next_id + count)
        self._next_id += count
        old = self._alive
        self._alive = _Alive(
            np.concatenate((old.ids, ids)),
            np.concatenate((old.reference_pixels, chosen)),
            np.concatenate((old.image_pixels, np.full((count, 2), np.nan))),
            np.concatenate((old.positions_world, np.full((count, 3), np.nan))),
            np.concatenate((old.rays_world, np.full((count, 3), np.nan))),
            np.concatenate((old.seen_world, np.full((count, 3), np.nan))),
            np.concatenate((old.recent_world, np.full((count, 3), np.nan))),
            np.concatenate((old.looks, np.zeros(count))),
            np.concatenate((old.velocities_world, np.zeros((count, 3)))),
            np.concatenate((old.age_frames, np.zeros(count, dtype=np.int64))),
            np.concatenate((old.hidden_frames, np.zeros(count, dtype=np.int64))),
            np.concatenate((old.dynamic, np.zeros(count, dtype=bool))),
            np.concatenate((old.bodies, np.full(count, ALONE))),
        )

    def _places_for_seeds(self, observation: TrackObservation, cells: NDArray[np.int64]) -> PoseArray:
        """(n, 2) pixels of the reference frame in cells (n,), which are counted through by rows.

        They are where texture tells most, off jumps in depth.
        """
        size, (height, width) = self._grid_px, observation.depth.shape
        if len(cells) > FEW_CELLS:
            return best_of_cells(self._worth(observation, (0, height), (0, width)), size)[cells]
        row, column = np.divmod(cells, max(1, grid_of((height, width), size)[1]))
        worth = np.zeros((len(cells), size, size), np.float32)
        for cell, top, left in zip(worth, (size * row).tolist(), (size * column).tolist(), strict=True):
            begin_y, begin_x = max(0, top - AROUND_CELL_PX), max(0, left - AROUND_CELL_PX)
            end_y, end_x = (min(side, at + size + AROUND_CELL_PX) for side, at in ((height, top), (width, left)))
            part = self._worth(observation, (begin_y, end_y), (begin_x, end_x))
            inner = part[top - begin_y : top - begin_y + size, left - begin_x : left - begin_x + size]
            cell[: inner.shape[0], : inner.shape[1]] = inner
        y, x = np.divmod(best_pixels(worth), size)
        return np.stack((size * column + x, size * row + y), axis=-1).astype(np.float64)

    def _worth(self, observation: TrackObservation, rows: tuple[int, int], columns: tuple[int, int]) -> FloatArray:
        """(h, w) of a part of the reference frame, from its first row and column up to its last."""
        assert self._reference_image is not None  # noqa: S101
        part = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
        worth: FloatArray = cv2.cornerMinEigenVal(self._reference_image[part], TEXTURE_PX)
        if observation.points_matched is not None:
            depth = observation.points_matched.numpy()[..., 2][part]
            if np.isfinite(depth).all():
                at_jump = jumps(without_strays(depth), SEED_JUMP_PX, JUMP_RATIO)
                worth = np.where(at_jump, np.float32(AT_JUMP) * worth, worth)
        return worth

    def _expected(self, observation: TrackObservation) -> _Expected:
        """Where tracks were, and where they are expected; what moves goes on as it did."""
        camera_from_world = invert(observation.world_from_camera)
        before = now = transform(camera_from_world, self._alive.positions_world)
        rows = np.flatnonzero(self._alive.moving())
        if len(rows):
            seconds = (observation.stamp_ns - self._last_stamp_ns) * 1e-9
            now = before.copy()
            now[rows] += seconds * (self._alive.velocities_world[rows] @ camera_from_world[:3, :3].T)
        return _Expected(camera_from_world, observation.intrinsics.matrix(), before, now)

    def _read(self, observation: TrackObservation, followed: MaskArray, expected: _Expected) -> _Told:
        """What the matching pointmap says of the ``followed`` tracks (n,): nothing, and confidence 1, of the others.

        Without it where they are expected, and 1.
        """
        points, confidence = np.full((len(followed), 3), np.nan), np.ones(len(followed))
        if observation.points_matched is None or observation.conf_match is None:
            points[followed] = expected.now[followed]
        elif followed.any():
            rows = np.flatnonzero(followed)
            pixels = self._alive.reference_pixels.take(rows, axis=0)
            maps, confidences = observation.points_matched.numpy(), observation.conf_match.numpy()
            points[rows] = sample(maps, pixels, observation.blur_px) * observation.metres_per_unit
            told = confidences[nearest_pixels(pixels, confidences.shape)]
            confidence[rows] = np.where(np.isfinite(told), told, 1.0)
        return _Told(points, confidence, project(points, expected.camera_matrix))

    def _find(
        self,
        image: SoftImage,
        told: _Told,
        followed: MaskArray,
        expected: _Expected,
        observation: TrackObservation,
    ) -> tuple[_Found, _Told]:
        """Where tracks look as on the reference frame, and how the matching pointmap errs.

        ``image`` is the newest frame's.
        Found are only those that the surface there is as far away as what is known of them has it, of what rests those
        that are about where they were, and those that the matching pointmap does not contradict. Its say in the place
        is by how well it agrees with the image.
        """
        alive, rows, shape = self._alive, np.flatnonzero(followed), image.whole.shape
        everywhere = _Found(
            np.zeros_like(alive.reference_pixels), np.full(len(followed), np.nan), np.zeros_like(followed)
        )
        if not len(rows) or self._reference_image is None:
            return everywhere, told
        start, told_px = alive.reference_pixels.take(rows, axis=0), told.pixels.take(rows, axis=0)
        expected_px, at_rest = project(expected.now.take(rows, axis=0), expected.camera_matrix), alive.at_rest()[rows]
        if observation.reference_stamp_ns == observation.stamp_ns:
            places, found = start, np.ones(len(rows), dtype=bool)
        else:
            rests = at_rest & inside(expected_px, shape)
            begin = np.where(inside(told_px, shape)[:, None], told_px, start)
            begin = np.where(rests[:, None], expected_px, begin)  # the camera's pose, or a body's motion, tells
            known = np.flatnonzero(~rests)
            before = alive.image_pixels[rows[known]]
            met = np.isfinite(before[:, 0])
            known, before = known[met], before[met]
            if len(known) and self._last_half is not None:
                before *= 0.5
                near, good = follow_from(
                    self._last_half, image.half, before, before, PATCH_PX, levels=FAR, steps=STEPS, checked=False
                )
                begin[known[good]] = 2.0 * near[good]
            places, found = follow_from(
                self._reference_image, image.whole, start, begin, PATCH_PX, levels=NEAR, steps=STEPS
            )
        if observation.points_matched is not None and observation.reference_stamp_ns != observation.stamp_ns:
            places, agree, usual_px = agreed(places, told_px, found)
            told = replace(told, usual_px=usual_px)
            found &= agree
        surface_m, expected_m = depth_at(observation.depth, places), expected.now[rows, 2]
        with np.errstate(invalid="ignore"):
            fits = np.abs(surface_m - expected_m) < OCCLUSION_SHARE * expected_m
            about_there = lengths(places - expected_px) < REST_SHARE * max(shape)
            fits &= ~at_rest | alive.carried()[rows] | about_there
        everywhere.places[rows], everywhere.depth[rows] = places, surface_m
        everywhere.known[rows] = found & np.isfinite(surface_m) & (fits | (alive.looks[rows] == 0))
        return everywhere, told

    def _carry(
        self, found: _Found, followed: MaskArray, told: _Told, expected: _Expected, observation: TrackObservation
    ) -> bool:
        """Take the tracks that go together along with their bodies' motion; whether there were any.

        Places that are ``found`` count, and where the matching pointmap has the others, if it is good.
        """
        alive, shape = self._alive, observation.depth.shape
        rows = np.flatnonzero(alive.moving())
        if not len(rows):
            return False
        places, depth, seen = found.places[rows], found.depth[rows], found.known[rows]
        pixel_std = np.full(len(rows), FOUND_PX)
        if told.usual_px < TOLD_PX:
            told_px = told.pixels[rows]
            more = followed[rows] & ~seen & inside(told_px, shape)
            places[more], pixel_std[more] = told_px[more], max(FOUND_PX, told.usual_px)
            depth[more] = depth_at(observation.depth, told_px[more])
            seen |= more
        points, bodies, dynamic = expected.before[rows], alive.bodies[rows], alive.dynamic[rows]
        with np.errstate(invalid="ignore"):
            seen &= (alive.looks[rows] > 0) & (np.abs(depth - expected.now[rows, 2]) < OCCLUSION_SHARE * depth)
        seen &= np.isfinite(points).all(axis=-1)
        nearest = nearest_pixels(places, shape)
        labels = (seen & observation.dynamic_mask[nearest]).astype(np.int64)
        if (labels[dynamic & (bodies == ALONE)] > 0).any():  # or there is none that could join others
            labels = np.where(seen, regions_at(observation.dynamic_mask, *nearest), 0)
        tracks = BodyTracks(bodies, points, places, pixel_std, depth, seen, labels, dynamic)
        newest, motions = self._bodies.update(tracks, expected.camera_matrix, observation.depth_variance_factor)
        left = rows[(bodies != ALONE) & (newest == ALONE)]
        alive.looks[left] = np.minimum(alive.looks[left], 1.0)
        alive.bodies[rows] = newest
        if not motions:
            return False
        carried = np.flatnonzero(newest != ALONE)
        mine, each = rows[carried], motion_in_world(np.array(list(motions.values())), observation.world_from_camera)
        now_from_before = each[np.searchsorted(list(motions), newest[carried])]  # (k, 4, 4)
        before = (alive.positions_world[mine], alive.recent_world[mine], alive.seen_world[mine], alive.rays_world[mine])
        now = np.stack(before, axis=1) @ now_from_before[:, :3, :3].swapaxes(1, 2)  # (k, 4, 3)
        now[:, :3] += now_from_before[:, None, :3, 3]
        alive.positions_world[mine], alive.recent_world[mine], alive.seen_world[mine] = now[:, :3].swapaxes(0, 1)
        alive.rays_world[mine] = now[:, 3]
        seconds = max((observation.stamp_ns - self._last_stamp_ns) * 1e-9, 1e-6)
        velocities, so_far = (now[:, 0] - before[0]) / seconds, alive.velocities_world[mine]
        weight = np.where(bodies[carried] == ALONE, 1.0, VELOCITY_SMOOTHING)[:, None]
        alive.velocities_world[mine] = so_far + weight * (velocities - so_far)
        return True

    def _look(
        self,
        expected: PoseArray,
        found: _Found,
        followed: MaskArray,
        told: _Told,
        camera_matrix: PoseArray,
        observation: TrackObservation,
    ) -> PoseArray:
        """(n, 3) where the tracks are seen, in the camera; NaN where a look tells nothing.

        Those ``found`` are on the surface at their places, those that rest and that the matching pointmap has about
        where they are ``expected`` (n, 3) on the surface there, the others where the pointmap has them. Where it is
        good, its depth counts, too: it errs by itself. A first look beside a jump in depth could be of either side.
        """
        alive, shape = self._alive, observation.depth.shape
        looks, rows = told.points.copy(), np.flatnonzero(found.known)
        pixels, depth = found.places[rows], found.depth[rows]
        with np.errstate(all="ignore"):
            if np.isfinite(told.usual_px):
                waiting = np.flatnonzero(followed & ~found.known & alive.at_rest())
                waiting_px = project(expected[waiting], camera_matrix)
                near = lengths(told.pixels[waiting] - waiting_px) < max(ASTRAY * told.usual_px, FOUND_PX)
                near &= inside(waiting_px, shape)
                waiting, waiting_px = waiting[near], waiting_px[near]
                waiting_m, expected_m = depth_at(observation.depth, waiting_px), expected[waiting, 2]
                there = np.abs(waiting_m - expected_m) < OCCLUSION_SHARE * expected_m
                rows = np.concatenate((rows, waiting[there]))
                pixels = np.concatenate((pixels, waiting_px[there]))
                depth = np.concatenate((depth, waiting_m[there]))
            looks[rows] = unproject(pixels, depth, camera_matrix)
            if told.share > LEAST_SHARE:
                ratio = told.points[rows, 2] / depth
                alike = np.abs(ratio - 1.0) < TOLD_DEPTH
                looks[rows] *= np.where(alike, np.abs(ratio) ** TOLD_SHARE, 1.0)[:, None]
        first = np.flatnonzero(alive.looks == 0)
        if len(first):
            at_px = project(looks[first], camera_matrix)
            at_jump = jumps_at(observation.depth, *nearest_pixels(at_px, shape), BIRTH_JUMP_PX, JUMP_RATIO)
            looks[first[at_jump | ~inside(at_px, shape)]] = np.nan
        return looks

    def _move(
        self,
        seen_world: PoseArray,
        followed: MaskArray,
        sure: MaskArray,
        depth_m: PoseArray,
        observation: TrackObservation,
    ) -> None:
        """New positions of the ``followed`` tracks, smoothed velocities, one frame older.

        What rests, in the world or on the body that has carried it, is at the mean of where it was seen, ``p += (x - p)
        / n``, steps being limited, and if it was ``sure`` (n,) where in the image it began, on that ray, whatever errs
        across it: ``p += r r^T (x - p) / n``. What moves alone is where it is seen now.
        """
        alive = self._alive
        longest_m = LONGEST_STEP * np.abs(depth_m)
        recent = alive.recent_world + RECENT_SHARE * limited(seen_world - alive.recent_world, longest_m)
        recent = np.where(np.isfinite(recent), recent, seen_world)
        with np.errstate(invalid="ignore"):
            moved = lengths(recent - alive.positions_world) > MOVED_SHARE * depth_m
        carried = alive.carried()
        alive.bodies[followed & moved] = ALONE
        looks = np.where(moved, 1.0 / RECENT_SHARE, alive.looks)
        looks = np.where(alive.dynamic & (alive.bodies == ALONE), 0.0, looks)
        start = np.where(moved[:, None], recent, alive.positions_world)
        step = limited(seen_world - start, longest_m) / np.minimum(looks + 1.0, LOOKS_KEPT)[:, None]
        on_ray = (~moved & np.isfinite(alive.rays_world[:, 0]))[:, None]
        step = np.where(on_ray, along(step, alive.rays_world), step)
        mean = start + step
        positions = np.where((looks > 0)[:, None] & np.isfinite(mean), mean, seen_world)
        begins = np.flatnonzero(followed & (moved | (looks == 0)))
        ray = positions[begins] - observation.world_from_camera[:3, 3]
        with np.errstate(invalid="ignore", divide="ignore"):
            alive.rays_world[begins] = np.where(sure[begins, None], ray / lengths(ray)[:, None], np.nan)
        np.copyto(alive.positions_world, positions, where=followed[:, None])
        np.copyto(alive.recent_world, recent, where=followed[:, None])
        np.copyto(alive.looks, np.minimum(looks + 1.0, LOOKS_KEPT), where=followed)
        alive.velocities_world = self._velocities(seen_world, followed & ~carried, carried, observation.stamp_ns)
        alive.seen_world = np.where(followed[:, None], seen_world, alive.positions_world)
        alive.age_frames = alive.age_frames + 1
        self._last_stamp_ns = observation.stamp_ns

    def _velocities(self, seen_world: PoseArray, followed: MaskArray, carried: MaskArray, stamp_ns: int) -> PoseArray:
        """(n, 3) from the last looks, smoothed; a body's of what it has ``carried``, 0 at first and of what waits."""
        seconds = max((stamp_ns - self._last_stamp_ns) * 1e-9, 1e-6)
        difference = (seen_world - self._alive.seen_world) / seconds
        known = followed & np.isfinite(difference).all(axis=-1)
        smoothed = (1 - VELOCITY_SMOOTHING) * self._alive.velocities_world + VELOCITY_SMOOTHING * difference
        own = np.where(known[:, None], smoothed, 0.0)
        return np.where(carried[:, None], self._alive.velocities_world, own)

    def _note(self, observation: TrackObservation, image_pixels: PoseArray, visible: MaskArray) -> None:
        """Remember where each visible track is in this frame, and whether it lies on something that moves."""
        rows = np.flatnonzero(visible)
        places = image_pixels.take(rows, axis=0)
        self._alive.dynamic[rows] = observation.dynamic_mask[nearest_pixels(places, observation.dynamic_mask.shape)]
        self._alive.hidden_frames = np.where(visible, 0, self._alive.hidden_frames + 1)
        self._alive.image_pixels = np.where(visible[:, None], image_pixels, np.nan)
        self._seen[observation.stamp_ns] = _Seen(self._alive.ids[rows], places)

    def forget_frames_before(self, stamp_ns: int) -> None:
        """Drop what is remembered of frames that no window can start from any more."""
        self._seen = {stamp: seen for stamp, seen in self._seen.items() if stamp >= stamp_ns}

    def _snapshot(self, pixels: FloatArray, confidence: FloatArray, visible: MaskArray) -> TrackSet:
        alive = self._alive
        return TrackSet(
            ids=alive.ids.copy(),
            positions_world=alive.positions_world.copy(),
            velocities_world=alive.velocities_world.copy(),
            pixels=pixels,
            confidence=confidence,
            visible=visible,
            dynamic=alive.dynamic.copy(),
            age_frames=alive.age_frames.copy(),
        )


def best_of_cells(worth: FloatArray, grid_px: int) -> PoseArray:
    """(n, 2) the pixel of most ``worth`` (h, w) in each cell of a grid whose middle lies in the image, else that.

    Cells are ``grid_px`` wide; pixels at their sides, which neighbours would be next to, are left out where others are.
    """
    rows, columns = grid_of(worth.shape, grid_px)
    whole = np.zeros((rows * grid_px, columns * grid_px), np.float32)
    part = worth[: rows * grid_px, : columns * grid_px]
    whole[: part.shape[0], : part.shape[1]] = part
    best = best_pixels(whole.reshape(rows, grid_px, columns, grid_px).swapaxes(1, 2).copy())
    y = grid_px * np.arange(rows)[:, None] + best // grid_px
    x = grid_px * np.arange(columns) + best % grid_px
    return np.stack((x.ravel(), y.ravel()), axis=-1).astype(np.float64)


def best_pixels(cells: FloatArray) -> NDArray[np.int64]:
    """(...) the pixel of most worth in cells (..., y, x), counted through by rows; their sides are set to 0."""
    size = cells.shape[-1]
    if size > 2:
        cells[..., [0, -1], :] = cells[..., [0, -1]] = 0.0
    flat = cells.reshape(*cells.shape[:-2], size * size)
    best: NDArray[np.int64] = np.where(flat.max(axis=-1, initial=0.0) > 0, flat.argmax(axis=-1), size // 2 * (size + 1))
    return best


def grid_of(shape: tuple[int, ...], grid_px: int) -> tuple[int, int]:
    """Rows and columns of the grid's cells whose middle lies in an image (h, w)."""
    return len(range(grid_px // 2, shape[0], grid_px)), len(range(grid_px // 2, shape[1], grid_px))


def agreed(found_px: PoseArray, told_px: PoseArray, found: MaskArray) -> tuple[PoseArray, MaskArray, float]:
    """Places (n, 2) by image and matching pointmap, which are not contradicted (n,), and by how much the latter errs.

    The image errs by pixels, the pointmap by shares of the depth, which nobody tells; how far the two are usually apart
    shows it. So a weak pointmap has no say, and a good one holds what slides along plain surfaces.

    Args:
        found_px: (n, 2) where the image shows them.
        told_px: (n, 2) where the pointmap has them, NaN where it does not tell.
        found: (n,) whose place in the image counts.
    """
    apart_px = lengths(told_px - found_px)
    comparable = found & np.isfinite(apart_px)
    if np.count_nonzero(comparable) < FEW_PLACES:
        return found_px, np.ones(len(found), dtype=bool), np.inf
    usual_px = float(medians(apart_px[None, comparable])[0])
    near = comparable & (apart_px <= max(ASTRAY * usual_px, FOUND_PX))
    together = np.where(near[:, None], found_px + share_of(usual_px) * (told_px - found_px), found_px)
    return together, near | ~comparable, usual_px


def share_of(usual_px: float) -> float:
    """What a matching pointmap that usually errs by ``usual_px`` has in a place that is found in the image, too."""
    return FOUND_PX**2 / (FOUND_PX**2 + usual_px**2)


def along(steps: PoseArray, directions: PoseArray) -> PoseArray:
    """(n, 3) the parts of ``steps`` (n, 3) along ``directions`` (n, 3) of length 1."""
    return ((steps * directions) @ np.ones((3, 1))) * directions


def lengths(vectors: PoseArray) -> PoseArray:
    """(n,) of vectors (n, d)."""
    return np.sqrt((vectors * vectors) @ np.ones(vectors.shape[1]))


def limited(steps: PoseArray, longest: PoseArray) -> PoseArray:
    """(n, 3) vectors, each no longer than ``longest`` (n,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return steps * np.fmin(1.0, longest / lengths(steps))[:, None]  # 1 of what is no number


def empty_track_set() -> TrackSet:
    """No tracks."""
    return Tracker(0, 1)._snapshot(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, bool))


def _no_tracks() -> _Alive:
    return _Alive(
        np.zeros(0, np.int64),
        np.zeros((0, 2)),
        np.zeros((0, 2)),
        np.zeros((0, 3)),
        np.zeros((0, 3)),
        np.zeros((0, 3)),
        np.zeros((0, 3)),
        np.zeros(0),
        np.zeros((0, 3)),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros(0, bool),
        np.zeros(0, np.int64),
    )


NOT_SEEN = _Seen(np.zeros(0, np.int64), np.zeros((0, 2)))
