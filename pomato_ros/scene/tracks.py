"""3-D point tracks: seeded on the reference frame, followed there from, handed over between windows.

The matching pointmap says where each track of the reference frame is now; where its looks are found again in the image
and the surface there is as far as it should be, its pixel is taken from the image and the pointmap, the more from the
latter the better the two agree on the whole, and its depth from the surface and the pointmap.
Without that pointmap they are found in the image alone: what rests and is not found waits at its place, what moves goes
on as it did. Moving tracks that go together are carried by the motion that they share (:mod:`pomato_ros.scene.bodies`).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.rigid import invert, transform
from pomato_ros.scene.bodies import ALONE, PIXEL_STD, Bodies, BodyTracks, in_world, regions_at
from pomato_ros.scene.features import softened
from pomato_ros.scene.follow import follow_from
from pomato_ros.scene.moving import without_strays
from pomato_ros.scene.surface import (
    OCCLUSION_SHARE,
    depth_at,
    inside,
    jumps,
    nearest_pixels,
    sample,
    uncovered_at,
    visible_at,
)
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray, TrackSet

PATCH_PX = 11  # that is compared with the reference frame's: tracks need not lie on corners
FAR, NEAR = 3, 1  # levels of the image pyramid above the image, of a start that is rough and of one that is good
STEPS = 10  # most of Lucas and Kanade's on a level
TEXTURE_PX = 9  # side of the patch whose texture a seed is chosen by
SEED_JUMP_PX, BIRTH_JUMP_PX = 7, 5  # a seed and a track's first look keep half of these away from jumps in depth
JUMP_RATIO = 1.1
AT_JUMP = 1e-3  # by which the texture at a jump counts
VELOCITY_SMOOTHING = 0.5  # weight of the newest difference
LOOKS_KEPT = 20.0  # a resting track's place is a mean over about so many looks
RECENT_SHARE = 0.4  # weight of the newest look in the mean over recent ones
MOVED_SHARE = 0.035  # of the depth: recent looks that lie farther from the place say that it moved after all
LONGEST_STEP = 0.07  # of the depth: a look farther off pulls a place no more than one so far
SURE_LOOKS = 4.0  # after which a resting track that is out of sight waits where it is
REST_SHARE = 0.02  # of the long side: farther from its place the image of a resting track is another one's
FOUND_PX = 0.5  # by how much a place found in the image errs
ASTRAY = 5.0  # times farther from where the matching pointmap has it than usual, a place found is another one's
FEW_PLACES = 8  # tell nothing of what is usual
LEAST_SHARE = 0.15  # in the places found, that a matching pointmap has which is sure where the image shows nothing
TOLD_SHARE = 0.4  # of the matching pointmap's depth in a look, the surface's having the rest
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

    def at_rest(self) -> MaskArray:
        """(n,) those that have a place where they stay, in the world or on the body that carries them."""
        return (~self.dynamic | (self.bodies != ALONE)) & (self.looks > 0)


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
    blur_px: int = 1  # side of the square over which points_matched is to be the median, 1 or 5
    depth_variance_factor: float = 1.0  # of the depth's errors, a good network's being 1


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
        self._last_image: NDArray[np.uint8] | None = None  # softened, as the next
        self._reference_image: NDArray[np.uint8] | None = None
        self._seen_pixels: dict[int, dict[int, tuple[float, float]]] = {}

    def update(self, observation: TrackObservation) -> TrackSet:
        """Follow every track to the newest frame."""
        if observation.reference_stamp_ns != self._reference_stamp_ns:
            self._hand_over(observation)
        followed = np.isfinite(self._alive.reference_pixels[:, 0])
        told = self._read(observation, followed)
        image = softened(observation.image_rgb)
        places, found, told = self._find(image, told, followed, observation)
        self._carry(places, found, followed, told, observation)
        looks = self._look(places, found, followed, told, observation)
        seen = followed if observation.points_matched is not None else followed & found
        moves = seen | (followed & self._alive.dynamic)
        sure = found | (told.share > LEAST_SHARE)
        self._move(transform(observation.world_from_camera, looks), moves, sure, looks[:, 2], observation)
        in_camera = transform(invert(observation.world_from_camera), self._alive.positions_world)
        image_pixels = project(in_camera, observation.intrinsics.matrix())
        visible = visible_at(image_pixels, in_camera[:, 2], observation.depth)
        visible &= seen | uncovered_at(image_pixels, in_camera[:, 2], observation.depth)
        self._note(observation, image_pixels, visible)
        self._last_image = image
        kept = (self._alive.hidden_frames <= FADE_FRAMES) & np.isfinite(self._alive.positions_world[:, 2])
        self._alive = self._alive.pick(kept)
        return self._snapshot(
            self._alive.image_pixels.astype(np.float32), told.confidence[kept].astype(np.float32), visible[kept]
        )

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
        seen = self._seen_pixels.get(observation.reference_stamp_ns, {})
        found = np.array([track_id in seen for track_id in self._alive.ids], dtype=bool)
        self._alive = self._alive.pick(found | (self._alive.at_rest() & (self._alive.looks >= SURE_LOOKS)))
        nowhere = (np.nan, np.nan)
        places = np.array([seen.get(i, nowhere) for i in self._alive.ids.tolist()], dtype=np.float64).reshape(-1, 2)
        height, width = observation.depth.shape
        self._alive.reference_pixels = places.clip(0, (width - 1, height - 1))  # maps have no values beyond centres
        self._reference_stamp_ns = observation.reference_stamp_ns
        self._reference_image = softened(observation.reference_rgb)
        self._seed(observation)

    def _seed(self, observation: TrackObservation) -> None:
        """New tracks in grid cells that hold none, evenly thinned down to the limit."""
        seeds = self._places_for_seeds(observation)
        followed = self._alive.reference_pixels[np.isfinite(self._alive.reference_pixels[:, 0])]
        taken = {tuple(cell) for cell in (followed // self._grid_px).astype(int)}
        free = np.array([tuple(cell) not in taken for cell in (seeds // self._grid_px).astype(int)], dtype=bool)
        room = max(0, self._max_tracks - len(self._alive.ids))
        candidates = seeds[free]
        chosen = candidates[np.unique(np.linspace(0, len(candidates) - 1, min(room, len(candidates))).astype(int))]
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

    def _places_for_seeds(self, observation: TrackObservation) -> PoseArray:
        """(n, 2) pixels of the reference frame, one in each grid cell: where texture tells most, off jumps in depth."""
        assert self._reference_image is not None  # noqa: S101
        worth: FloatArray = cv2.cornerMinEigenVal(self._reference_image, TEXTURE_PX)
        if observation.points_matched is not None:
            depth = observation.points_matched[..., 2].numpy()
            if np.isfinite(depth).all():
                at_jump = jumps(without_strays(depth), SEED_JUMP_PX, JUMP_RATIO)
                worth = np.where(at_jump, np.float32(AT_JUMP) * worth, worth)
        return best_of_cells(worth, self._grid_px)

    def _read(self, observation: TrackObservation, followed: MaskArray) -> _Told:
        """What the matching pointmap says of the ``followed`` tracks (n,): nothing, and confidence 1, of the others.

        Without it where they are expected, and 1.
        """
        points, confidence = np.full((len(followed), 3), np.nan), np.ones(len(followed))
        if observation.points_matched is None or observation.conf_match is None:
            expected = transform(invert(observation.world_from_camera), self._expected_world(observation.stamp_ns))
            points[followed] = expected[followed]
        elif followed.any():
            pixels = self._alive.reference_pixels[followed]
            maps, confidences = observation.points_matched.numpy(), observation.conf_match.numpy()[..., None]
            points[followed] = sample(maps, pixels, observation.blur_px) * observation.metres_per_unit
            with np.errstate(invalid="ignore"):
                told = sample(confidences, pixels)[:, 0]
            confidence[followed] = np.where(np.isfinite(told), told, 1.0)
        return _Told(points, confidence, project(points, observation.intrinsics.matrix()))

    def _find(
        self, image: NDArray[np.uint8], told: _Told, followed: MaskArray, observation: TrackObservation
    ) -> tuple[PoseArray, MaskArray, _Told]:
        """Pixels (n, 2) where tracks look as on the reference frame, which were found (n,), how the pointmap errs.

        Found are only those that the surface there is as far away as what is known of them has it, of what rests those
        that are about where they were, and those that the matching pointmap does not contradict. Its say in the place
        is by how well it agrees with the image.
        """
        alive = self._alive
        places, found = np.zeros_like(alive.reference_pixels), np.zeros_like(followed)
        expected = transform(invert(observation.world_from_camera), self._expected_world(observation.stamp_ns))
        expected_px = project(expected, observation.intrinsics.matrix())
        if not followed.any() or self._reference_image is None:
            return places, found, told
        start = alive.reference_pixels[followed]
        if observation.reference_stamp_ns == observation.stamp_ns:
            places[followed], found[followed] = start, True
        else:
            begin = np.where(inside(told.pixels[followed], image.shape)[:, None], told.pixels[followed], start)
            before, at = alive.image_pixels[followed], expected_px[followed]
            rests = alive.at_rest()[followed] & inside(at, image.shape)
            begin = np.where(rests[:, None], at, begin)  # the camera's pose, or a body's motion, says where it is
            known = np.isfinite(before[:, 0]) & ~rests
            if known.any() and self._last_image is not None:
                near, good = follow_from(
                    self._last_image,
                    image,
                    before[known],
                    before[known],
                    PATCH_PX,
                    levels=FAR,
                    steps=STEPS,
                    checked=False,
                )
                begin[known] = np.where(good[:, None], near, begin[known])
            places[followed], found[followed] = follow_from(
                self._reference_image, image, start, begin, PATCH_PX, levels=NEAR, steps=STEPS
            )
        surface_m = depth_at(observation.depth, places)
        away_px = np.linalg.norm(places - expected_px, axis=-1)
        with np.errstate(all="ignore"):
            fits = np.abs(surface_m - expected[:, 2]) < OCCLUSION_SHARE * expected[:, 2]
            fits &= ~alive.at_rest() | (alive.bodies != ALONE) | (away_px < REST_SHARE * max(image.shape))
        if observation.points_matched is not None and observation.reference_stamp_ns != observation.stamp_ns:
            places, agree, usual_px = agreed(places, told.pixels, found)
            told = replace(told, usual_px=usual_px)
            found &= agree
        return places, found & np.isfinite(surface_m) & (fits | (alive.looks == 0)), told

    def _carry(
        self, places: PoseArray, found: MaskArray, followed: MaskArray, told: _Told, observation: TrackObservation
    ) -> None:
        """Take the tracks that go together along with their bodies' motion.

        ``places`` (n, 2) of those ``found`` (n,) count, and where the matching pointmap has the others, if it is good.
        """
        alive, shape = self._alive, observation.depth.shape
        if not (alive.dynamic.any() or (alive.bodies != ALONE).any()):
            return
        pixel_std = np.full(len(found), PIXEL_STD)
        if told.usual_px < TOLD_PX:
            more = followed & ~found & inside(told.pixels, shape)
            places, found = np.where(more[:, None], told.pixels, places), found | more
            pixel_std[more] = max(PIXEL_STD, told.usual_px)
        camera_from_world = invert(observation.world_from_camera)
        points = transform(camera_from_world, alive.positions_world)
        expected = transform(camera_from_world, self._expected_world(observation.stamp_ns))[:, 2]
        depth = depth_at(observation.depth, places)
        with np.errstate(invalid="ignore"):
            seen = found & (alive.looks > 0) & (np.abs(depth - expected) < OCCLUSION_SHARE * depth)
        seen &= np.isfinite(points).all(axis=-1)
        labels = np.where(seen, regions_at(observation.dynamic_mask, *nearest_pixels(places, shape)), 0)
        tracks = BodyTracks(alive.bodies, points, places, pixel_std, depth, seen, labels, alive.dynamic)
        bodies, motions = self._bodies.update(
            tracks, observation.intrinsics.matrix(), observation.depth_variance_factor
        )
        left = (alive.bodies != ALONE) & (bodies == ALONE)
        alive.looks = np.where(left, np.minimum(alive.looks, 1.0), alive.looks)
        alive.bodies = bodies
        seconds = max((observation.stamp_ns - self._last_stamp_ns) * 1e-9, 1e-6)
        for motion in motions:
            now_from_before = in_world(motion.newest_from_before, observation.world_from_camera)
            mine, before = motion.tracks, alive.positions_world[motion.tracks]
            for places_world in (alive.positions_world, alive.recent_world, alive.seen_world):
                places_world[mine] = transform(now_from_before, places_world[mine])
            alive.rays_world[mine] = alive.rays_world[mine] @ now_from_before[:3, :3].T
            velocities = (alive.positions_world[mine] - before) / seconds
            weight = np.where(motion.new[mine], 1.0, VELOCITY_SMOOTHING)[:, None]
            alive.velocities_world[mine] += weight * (velocities - alive.velocities_world[mine])

    def _look(
        self, places: PoseArray, found: MaskArray, followed: MaskArray, told: _Told, observation: TrackObservation
    ) -> PoseArray:
        """(n, 3) where the tracks are seen, in the camera; NaN where a look tells nothing.

        Those ``found`` (n,) are on the surface at their ``places`` (n, 2), those that rest and that the matching
        pointmap has about where they should be on the surface there, the others where the pointmap has them. Where it
        is good, its depth counts, too: it errs by itself. A first look beside a jump in depth could be of either side.
        """
        alive, shape, camera_matrix = self._alive, observation.depth.shape, observation.intrinsics.matrix()
        expected = transform(invert(observation.world_from_camera), alive.positions_world)
        expected_px = project(expected, camera_matrix)
        with np.errstate(invalid="ignore"):
            apart_px = np.linalg.norm(told.pixels - expected_px, axis=-1)
            waits = followed & ~found & alive.at_rest() & inside(expected_px, shape)
            waits &= (apart_px < max(ASTRAY * told.usual_px, FOUND_PX)) & np.isfinite(told.usual_px)
            places = np.where(waits[:, None], expected_px, places)
            depth = depth_at(observation.depth, places)
            waits &= np.abs(depth - expected[:, 2]) < OCCLUSION_SHARE * expected[:, 2]
            looks = np.where((found | waits)[:, None], unproject(places, depth, camera_matrix), told.points)
            if told.share > LEAST_SHARE:
                ratio = told.points[:, 2] / looks[:, 2]
                alike = np.abs(ratio - 1.0) < TOLD_DEPTH
                looks = looks * np.where(alike, np.abs(ratio) ** TOLD_SHARE, 1.0)[:, None]
        first = alive.looks == 0
        if first.any():
            at_px = project(looks, camera_matrix)
            at_jump = jumps(observation.depth, BIRTH_JUMP_PX, JUMP_RATIO)[nearest_pixels(at_px, shape)]
            looks[first & (at_jump | ~inside(at_px, shape))] = np.nan
        return looks

    def _expected_world(self, stamp_ns: int) -> PoseArray:
        """(n, 3) where tracks are expected at ``stamp_ns``: what moves goes on as it did."""
        seconds = (stamp_ns - self._last_stamp_ns) * 1e-9
        alive = self._alive
        moves = (alive.dynamic | (alive.bodies != ALONE))[:, None]
        return alive.positions_world + np.where(moves, seconds * alive.velocities_world, 0.0)

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
            moved = np.linalg.norm(recent - alive.positions_world, axis=-1) > MOVED_SHARE * depth_m
        alive.bodies = np.where(followed & moved, ALONE, alive.bodies)
        looks = np.where(moved, 1.0 / RECENT_SHARE, alive.looks)
        looks = np.where(alive.dynamic & (alive.bodies == ALONE), 0.0, looks)
        start = np.where(moved[:, None], recent, alive.positions_world)
        step = limited(seen_world - start, longest_m) / np.minimum(looks + 1.0, LOOKS_KEPT)[:, None]
        on_ray = (~moved & np.isfinite(alive.rays_world[:, 0]))[:, None]
        step = np.where(on_ray, along(step, alive.rays_world), step)
        mean = start + step
        positions = np.where((looks > 0)[:, None] & np.isfinite(mean), mean, seen_world)
        begins = followed & (moved | (looks == 0))
        ray = positions - observation.world_from_camera[:3, 3]
        with np.errstate(invalid="ignore", divide="ignore"):
            ray = np.where(sure[:, None], ray / np.linalg.norm(ray, axis=-1, keepdims=True), np.nan)
        alive.rays_world = np.where(begins[:, None], ray, alive.rays_world)
        alive.positions_world = np.where(followed[:, None], positions, alive.positions_world)
        alive.recent_world = np.where(followed[:, None], recent, alive.recent_world)
        alive.looks = np.where(followed, np.minimum(looks + 1.0, LOOKS_KEPT), alive.looks)
        alive.velocities_world = self._velocities(seen_world, followed, observation.stamp_ns)
        alive.seen_world = np.where(followed[:, None], seen_world, alive.positions_world)
        alive.age_frames = alive.age_frames + 1
        self._last_stamp_ns = observation.stamp_ns

    def _velocities(self, seen_world: PoseArray, followed: MaskArray, stamp_ns: int) -> PoseArray:
        """(n, 3) from the last looks, smoothed; its body's of what one carries, 0 at first and of what waits."""
        seconds = max((stamp_ns - self._last_stamp_ns) * 1e-9, 1e-6)
        difference = (seen_world - self._alive.seen_world) / seconds
        known = followed & np.isfinite(difference).all(axis=-1)
        smoothed = (1 - VELOCITY_SMOOTHING) * self._alive.velocities_world + VELOCITY_SMOOTHING * difference
        own = np.where(known[:, None], smoothed, 0.0)
        return np.where((self._alive.bodies != ALONE)[:, None], self._alive.velocities_world, own)

    def _note(self, observation: TrackObservation, image_pixels: PoseArray, visible: MaskArray) -> None:
        """Remember where each visible track is in this frame, and whether it lies on something that moves."""
        nearest = np.rint(image_pixels[visible]).astype(int)
        self._alive.dynamic[visible] = observation.dynamic_mask[nearest[:, 1], nearest[:, 0]]
        self._alive.hidden_frames = np.where(visible, 0, self._alive.hidden_frames + 1)
        self._alive.image_pixels = np.where(visible[:, None], image_pixels, np.nan)
        places = zip(self._alive.ids[visible].tolist(), image_pixels[visible].tolist(), strict=True)
        self._seen_pixels[observation.stamp_ns] = {track_id: (x, y) for track_id, (x, y) in places}

    def forget_frames_before(self, stamp_ns: int) -> None:
        """Drop what is remembered of frames that no window can start from any more."""
        self._seen_pixels = {stamp: seen for stamp, seen in self._seen_pixels.items() if stamp >= stamp_ns}

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
    height, width = worth.shape
    middle = grid_px // 2
    rows, columns = len(range(middle, height, grid_px)), len(range(middle, width, grid_px))
    whole = np.zeros((rows * grid_px, columns * grid_px), np.float32)
    part = worth[: rows * grid_px, : columns * grid_px]
    whole[: part.shape[0], : part.shape[1]] = part
    cells = whole.reshape(rows, grid_px, columns, grid_px).swapaxes(1, 2).copy()  # (rows, columns, y, x)
    if grid_px > 2:
        cells[:, :, [0, -1], :] = cells[:, :, :, [0, -1]] = 0.0
    flat = cells.reshape(rows, columns, grid_px * grid_px)
    best = np.where(flat.max(axis=-1, initial=0.0) > 0, flat.argmax(axis=-1), middle * grid_px + middle)
    y = grid_px * np.arange(rows)[:, None] + best // grid_px
    x = grid_px * np.arange(columns) + best % grid_px
    return np.stack((x.ravel(), y.ravel()), axis=-1).astype(np.float64)


def agreed(found_px: PoseArray, told_px: PoseArray, found: MaskArray) -> tuple[PoseArray, MaskArray, float]:
    """Places (n, 2) by image and matching pointmap, which are not contradicted (n,), and by how much the latter errs.

    The image errs by pixels, the pointmap by shares of the depth, which nobody tells; how far the two are usually apart
    shows it. So a weak pointmap has no say, and a good one holds what slides along plain surfaces.

    Args:
        found_px: (n, 2) where the image shows them.
        told_px: (n, 2) where the pointmap has them, NaN where it does not tell.
        found: (n,) whose place in the image counts.
    """
    apart_px = np.linalg.norm(told_px - found_px, axis=-1)
    comparable = found & np.isfinite(apart_px)
    if np.count_nonzero(comparable) < FEW_PLACES:
        return found_px, np.ones(len(found), dtype=bool), np.inf
    usual_px = float(np.median(apart_px[comparable]))
    near = comparable & (apart_px <= max(ASTRAY * usual_px, FOUND_PX))
    together = np.where(near[:, None], found_px + share_of(usual_px) * (told_px - found_px), found_px)
    return together, near | ~comparable, usual_px


def share_of(usual_px: float) -> float:
    """What a matching pointmap that usually errs by ``usual_px`` has in a place that is found in the image, too."""
    return FOUND_PX**2 / (FOUND_PX**2 + usual_px**2)


def along(steps: PoseArray, directions: PoseArray) -> PoseArray:
    """(n, 3) the parts of ``steps`` (n, 3) along ``directions`` (n, 3) of length 1."""
    return (steps * directions).sum(axis=-1, keepdims=True) * directions


def limited(steps: PoseArray, longest: PoseArray) -> PoseArray:
    """(n, 3) vectors, each no longer than ``longest`` (n,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.minimum(1.0, longest / np.linalg.norm(steps, axis=-1))
    return steps * np.where(np.isfinite(factor), factor, 1.0)[:, None]


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
