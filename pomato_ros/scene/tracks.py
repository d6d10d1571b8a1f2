"""3-D point tracks: seeded on the reference frame, followed there from, handed over between windows.

The matching pointmap says where each track of the reference frame is now; where its looks are found again in the image
and the surface there is as far as it should be, its pixel is taken from the image and the pointmap, the more from the
latter the better the two agree on the whole, and its depth from the surface.
Without that pointmap they are found in the image alone: what rests and is not found waits at its place, what moves goes
on as it did.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.rigid import invert, transform
from pomato_ros.scene.features import softened
from pomato_ros.scene.follow import follow_from
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray, TrackSet

PATCH_PX = 11  # that is compared with the reference frame's: tracks need not lie on corners
FAR, NEAR = 3, 1  # levels of the image pyramid above the image, of a start that is rough and of one that is good
STEPS = 10  # most of Lucas and Kanade's on a level
OCCLUSION_SHARE = 0.1  # a track this share of its depth behind the surface at its pixel is hidden
VELOCITY_SMOOTHING = 0.5  # weight of the newest difference
LOOKS_KEPT = 30.0  # a resting track's place is a mean over about so many looks
RECENT_SHARE = 0.4  # weight of the newest look in the mean over recent ones
MOVED_SHARE = 0.035  # of the depth: recent looks that lie farther from the place say that it moved after all
LONGEST_STEP = 0.07  # of the depth: a look farther off pulls a place no more than one so far
SURE_LOOKS = 4.0  # after which a resting track that is out of sight waits where it is
REST_SHARE = 0.02  # of the long side: farther from its place the image of a resting track is another one's
FOUND_PX = 0.5  # by how much a place found in the image errs
ASTRAY = 5.0  # times farther from where the matching pointmap has it than usual, a place found is another one's
FEW_PLACES = 8  # tell nothing of what is usual
LEAST_SHARE = 0.15  # in the places found, that a matching pointmap has which is sure where the image shows nothing
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
        )


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
        sampled = self._read(observation, followed)
        image = softened(observation.image_rgb)
        places, found, pointmap_share = self._find(image, sampled, followed, observation)
        told = followed if observation.points_matched is not None else followed & found
        seen = np.where(found[:, None], self._on_surface(places, observation), sampled[:, :3])
        moves = told | (followed & self._alive.dynamic)
        sure = found | (pointmap_share > LEAST_SHARE)
        self._move(transform(observation.world_from_camera, seen), moves, sure, seen[:, 2], observation)
        in_camera = transform(invert(observation.world_from_camera), self._alive.positions_world)
        image_pixels = project(in_camera, observation.intrinsics.matrix())
        visible = visible_at(image_pixels, in_camera[:, 2], observation.depth)
        visible &= told | uncovered_at(image_pixels, in_camera[:, 2], observation.depth)
        self._note(observation, image_pixels, visible)
        self._last_image = image
        kept = (self._alive.hidden_frames <= FADE_FRAMES) & np.isfinite(self._alive.positions_world[:, 2])
        self._alive = self._alive.pick(kept)
        return self._snapshot(
            self._alive.image_pixels.astype(np.float32), sampled[kept, 3].astype(np.float32), visible[kept]
        )

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        self._alive.positions_world = centre_world + factor * (self._alive.positions_world - centre_world)
        self._alive.seen_world = centre_world + factor * (self._alive.seen_world - centre_world)
        self._alive.recent_world = centre_world + factor * (self._alive.recent_world - centre_world)
        self._alive.velocities_world = factor * self._alive.velocities_world

    def _hand_over(self, observation: TrackObservation) -> None:
        """Continue tracks from where they were seen in the new reference frame, and seed the empty cells.

        What rests and was not seen there waits at its place, till it is uncovered and a window begins where it is seen.
        """
        seen = self._seen_pixels.get(observation.reference_stamp_ns, {})
        found = np.array([track_id in seen for track_id in self._alive.ids], dtype=bool)
        self._alive = self._alive.pick(found | (~self._alive.dynamic & (self._alive.looks >= SURE_LOOKS)))
        nowhere = (np.nan, np.nan)
        places = np.array([seen.get(i, nowhere) for i in self._alive.ids.tolist()], dtype=np.float64).reshape(-1, 2)
        height, width = observation.depth.shape
        self._alive.reference_pixels = places.clip(0, (width - 1, height - 1))  # maps have no values beyond centres
        self._reference_stamp_ns = observation.reference_stamp_ns
        self._reference_image = softened(observation.reference_rgb)
        self._seed(observation)

    def _seed(self, observation: TrackObservation) -> None:
        """New tracks at the middle of grid cells that hold none, evenly thinned down to the limit."""
        height, width = observation.depth.shape
        y, x = np.mgrid[self._grid_px // 2 : height : self._grid_px, self._grid_px // 2 : width : self._grid_px]
        centres = np.stack((x.ravel(), y.ravel()), axis=-1).astype(np.float64)
        followed = self._alive.reference_pixels[np.isfinite(self._alive.reference_pixels[:, 0])]
        taken = {tuple(cell) for cell in (followed // self._grid_px).astype(int)}
        free = np.array([tuple(cell) not in taken for cell in (centres // self._grid_px).astype(int)], dtype=bool)
        room = max(0, self._max_tracks - len(self._alive.ids))
        candidates = centres[free]
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
        )

    def _read(self, observation: TrackObservation, followed: MaskArray) -> PoseArray:
        """(n, 4) points in the camera and confidence at the ``followed`` tracks' pixels; NaN and 1 for what waits.

        Without matching pointmap where they are expected, and 1.
        """
        sampled = np.full((len(followed), 4), np.nan)
        sampled[:, 3] = 1.0
        if observation.points_matched is None or observation.conf_match is None:
            expected = transform(invert(observation.world_from_camera), self._expected_world(observation.stamp_ns))
            sampled[followed, :3] = expected[followed]
        elif followed.any():
            pixels = self._alive.reference_pixels[followed]
            points, confidence = observation.points_matched.numpy(), observation.conf_match.numpy()[..., None]
            sampled[followed, :3] = sample(points, pixels, observation.blur_px) * observation.metres_per_unit
            with np.errstate(invalid="ignore"):
                told = sample(confidence, pixels)
            sampled[followed, 3:] = np.where(np.isfinite(told), told, 1.0)
        return sampled

    def _find(
        self,
        image: NDArray[np.uint8],
        sampled: PoseArray,
        followed: MaskArray,
        observation: TrackObservation,
    ) -> tuple[PoseArray, MaskArray, float]:
        """Pixels (n, 2) where tracks look as on the reference frame, which were found (n,), the pointmap's say in them.

        Found are only those that the surface there is as far away as what is known of them has it, of what rests those
        that are about where they were, and those that the matching pointmap does not contradict. Its say in the place
        is by how well it agrees with the image.
        """
        alive = self._alive
        places, found = np.zeros_like(alive.reference_pixels), np.zeros_like(followed)
        expected = transform(invert(observation.world_from_camera), self._expected_world(observation.stamp_ns))
        expected_px = project(expected, observation.intrinsics.matrix())
        if not followed.any() or self._reference_image is None:
            return places, found, 0.0
        start = alive.reference_pixels[followed]
        if observation.reference_stamp_ns == observation.stamp_ns:
            places[followed], found[followed] = start, True
        else:
            height, width = image.shape
            told = project(sampled[followed, :3], observation.intrinsics.matrix())
            inside = np.all((told >= 0) & (told <= np.array((width - 1, height - 1))), axis=-1)
            begin = np.where(inside[:, None], told, start)
            before = alive.image_pixels[followed]
            at = expected_px[followed]
            rests = ~alive.dynamic[followed] & (alive.looks[followed] > 0)
            rests &= np.all((at >= 0) & (at <= np.array((width - 1, height - 1))), axis=-1)
            begin = np.where(rests[:, None], at, begin)  # the camera's pose says where it is
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
        surface_m = self._on_surface(places, observation)[:, 2]
        away_px = np.linalg.norm(places - expected_px, axis=-1)
        with np.errstate(all="ignore"):
            fits = np.abs(surface_m - expected[:, 2]) < OCCLUSION_SHARE * expected[:, 2]
            fits &= alive.dynamic | (away_px < REST_SHARE * max(image.shape))
        share = 0.0
        if observation.points_matched is not None and observation.reference_stamp_ns != observation.stamp_ns:
            told_px = project(sampled[:, :3], observation.intrinsics.matrix())
            places, agree, share = agreed(places, told_px, found)
            found &= agree
        return places, found & np.isfinite(surface_m) & (fits | (alive.looks == 0)), share

    def _expected_world(self, stamp_ns: int) -> PoseArray:
        """(n, 3) where tracks are expected at ``stamp_ns``: what moves goes on as it did."""
        seconds = (stamp_ns - self._last_stamp_ns) * 1e-9
        alive = self._alive
        return alive.positions_world + np.where(alive.dynamic[:, None], seconds * alive.velocities_world, 0.0)

    def _on_surface(self, places: PoseArray, observation: TrackObservation) -> PoseArray:
        """(n, 3) what is seen at pixels ``places`` (n, 2), in the camera; NaN without depth there."""
        height, width = observation.depth.shape
        nearest = np.rint(places).astype(int).clip(0, (width - 1, height - 1))
        depth = observation.depth[nearest[:, 1], nearest[:, 0]].astype(np.float64)
        return unproject(places, depth, observation.intrinsics.matrix())

    def _move(
        self,
        seen_world: PoseArray,
        followed: MaskArray,
        sure: MaskArray,
        depth_m: PoseArray,
        observation: TrackObservation,
    ) -> None:
        """New positions of the ``followed`` tracks, smoothed velocities, one frame older.

        What rests is at the mean of where it was seen, ``p += (x - p) / n``, steps being limited, and if it was
        ``sure`` (n,) where in the image it began, on that ray, whatever errs across it: ``p += r r^T (x - p) / n``.
        What moves is where it is seen now.
        """
        alive = self._alive
        longest_m = LONGEST_STEP * np.abs(depth_m)
        recent = alive.recent_world + RECENT_SHARE * limited(seen_world - alive.recent_world, longest_m)
        recent = np.where(np.isfinite(recent), recent, seen_world)
        with np.errstate(invalid="ignore"):
            moved = np.linalg.norm(recent - alive.positions_world, axis=-1) > MOVED_SHARE * depth_m
        looks = np.where(alive.dynamic, 0.0, np.where(moved, 1.0 / RECENT_SHARE, alive.looks))
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
        """(n, 3) from the last looks, smoothed; 0 at first and of what waits."""
        seconds = max((stamp_ns - self._last_stamp_ns) * 1e-9, 1e-6)
        difference = (seen_world - self._alive.seen_world) / seconds
        known = followed & np.isfinite(difference).all(axis=-1)
        smoothed = (1 - VELOCITY_SMOOTHING) * self._alive.velocities_world + VELOCITY_SMOOTHING * difference
        return np.where(known[:, None], smoothed, 0.0)

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


def visible_at(pixels: PoseArray, depth_m: PoseArray, surface_m: FloatArray) -> MaskArray:
    """(n,) points at ``pixels`` (n, 2) and ``depth_m`` (n,) inside the image and not behind ``surface_m`` (h, w)."""
    height, width = surface_m.shape
    x, y = pixels.T
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    nearest = np.rint(np.where(inside[:, None], pixels, 0.0)).astype(int)
    surface = surface_m[nearest[:, 1].clip(0, height - 1), nearest[:, 0].clip(0, width - 1)]
    with np.errstate(invalid="ignore"):
        return inside & (depth_m < surface * (1 + OCCLUSION_SHARE))


def uncovered_at(pixels: PoseArray, depth_m: PoseArray, surface_m: FloatArray) -> MaskArray:
    """(n,) points inside the image that lie on the surface, neither behind it nor far before it."""
    height, width = surface_m.shape
    with np.errstate(invalid="ignore"):
        nearest = np.rint(np.where(np.isfinite(pixels), pixels, -1.0)).clip(-1, max(height, width)).astype(int)
        inside = (nearest >= 0).all(axis=-1) & (nearest < (width, height)).all(axis=-1)
        surface = surface_m[nearest[:, 1].clip(0, height - 1), nearest[:, 0].clip(0, width - 1)]
        return inside & (np.abs(depth_m - surface) < OCCLUSION_SHARE * surface)


def sample(maps: FloatArray, pixels: PoseArray, blur_px: int = 1) -> PoseArray:
    """Values (n, c) of ``maps`` (h, w, c) between the centres of pixels, at ``pixels`` (n, 2) inside the image.

    With ``blur_px`` 5, of the medians over squares of that side; they are taken only where they are read, in a strip of
    all that lies around the pixels. What is not finite is read as it is.
    """
    height, width, channels = maps.shape
    corner = np.floor(pixels).astype(int)
    share = (pixels - corner)[:, None, :]
    margin = blur_px // 2
    reach = np.arange(-margin, margin + 2)
    x = (corner[:, 0, None] + reach).clip(0, width - 1)
    y = (corner[:, 1, None] + reach).clip(0, height - 1)
    around = maps.reshape(-1, channels).take(y.T[:, :, None] * width + x, axis=0)  # (side, n, side, c)
    middle = slice(margin, margin + 2)
    corners = around[middle, :, middle].astype(np.float64)
    if margin:
        side = len(reach)
        strip = cv2.medianBlur(np.ascontiguousarray(around.reshape(side, -1, channels), np.float32), blur_px)
        medians = strip.reshape(around.shape)[middle, :, middle]
        usable = np.isfinite(around).all(axis=(0, 2, 3))
        corners = np.where(usable[None, :, None, None], medians, corners)
    upper, lower = corners[:, :, 0] + share[..., 0] * (corners[:, :, 1] - corners[:, :, 0])
    return upper + share[..., 1] * (lower - upper)


def agreed(found_px: PoseArray, told_px: PoseArray, found: MaskArray) -> tuple[PoseArray, MaskArray, float]:
    """Places (n, 2) by image and matching pointmap, which are not contradicted (n,), and the pointmap's share in them.

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
        return found_px, np.ones(len(found), dtype=bool), 0.0
    usual_px = float(np.median(apart_px[comparable]))
    near = comparable & (apart_px <= max(ASTRAY * usual_px, FOUND_PX))
    share = FOUND_PX**2 / (FOUND_PX**2 + usual_px**2)
    together = np.where(near[:, None], found_px + share * (told_px - found_px), found_px)
    return together, near | ~comparable, share


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
    )
