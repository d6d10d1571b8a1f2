"""3-D point tracks: seeded on the reference frame, followed by the matching pointmap, handed over between windows."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.geometry.camera import project
from pomato_ros.geometry.grid import sample_bilinear
from pomato_ros.geometry.rigid import transform
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray, TrackSet

OCCLUSION_SHARE = 0.1  # a track this share of its depth behind the surface at its pixel is hidden
VELOCITY_SMOOTHING = 0.5  # weight of the newest difference
FADE_FRAMES = 12  # a track hidden for longer than a window is given up


@dataclass(slots=True)
class _Alive:
    """Rows of equal length, one a track."""

    ids: NDArray[np.int64]
    reference_pixels: PoseArray  # (n, 2) on the reference frame, where the matching pointmap is read
    positions_world: PoseArray  # (n, 3)
    velocities_world: PoseArray  # (n, 3)
    age_frames: NDArray[np.int64]
    hidden_frames: NDArray[np.int64]
    dynamic: MaskArray

    def pick(self, index: NDArray[np.int64] | MaskArray) -> "_Alive":
        """Some of the tracks."""
        return _Alive(
            self.ids[index],
            self.reference_pixels[index],
            self.positions_world[index],
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
    points_matched: torch.Tensor  # (h, w, 3): the reference frame's pixels at the newest time
    conf_match: torch.Tensor  # (h, w)
    depth: FloatArray  # (h, w) of the newest frame, NaN where invalid
    dynamic_mask: MaskArray  # (h, w)
    intrinsics: Intrinsics
    world_from_camera: PoseArray


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
        self._seen_pixels: dict[int, dict[int, tuple[float, float]]] = {}

    def update(self, observation: TrackObservation) -> TrackSet:
        """Follow every track to the newest frame."""
        if observation.reference_stamp_ns != self._reference_stamp_ns:
            self._hand_over(observation)
        maps = torch.cat((observation.points_matched, observation.conf_match[..., None]), dim=-1)
        pixels = torch.from_numpy(self._alive.reference_pixels)
        sampled = sample_bilinear(maps[None].double(), pixels)[0].numpy() if len(pixels) else np.zeros((0, 4))
        sampled = sampled.reshape(len(pixels), 4)
        self._move(transform(observation.world_from_camera, sampled[:, :3]), observation.stamp_ns)
        image_pixels = project(sampled[:, :3], observation.intrinsics.matrix())
        visible = visible_at(image_pixels, sampled[:, 2], observation.depth)
        self._note(observation, image_pixels, visible)
        kept = (self._alive.hidden_frames <= FADE_FRAMES) & np.isfinite(self._alive.positions_world[:, 2])
        self._alive = self._alive.pick(kept)
        shown = np.where(visible[:, None], image_pixels, np.nan).astype(np.float32)
        return self._snapshot(shown[kept], sampled[kept, 3].astype(np.float32), visible[kept])

    def _hand_over(self, observation: TrackObservation) -> None:
        """Continue tracks from where they were seen in the new reference frame, and seed the empty cells."""
        seen = self._seen_pixels.get(observation.reference_stamp_ns, {})
        found = np.array([track_id in seen for track_id in self._alive.ids], dtype=bool)
        self._alive = self._alive.pick(found)
        places = np.array([seen[i] for i in self._alive.ids], dtype=np.float64).reshape(-1, 2)
        height, width = observation.depth.shape
        self._alive.reference_pixels = places.clip(0, (width - 1, height - 1))  # maps have no values beyond centres
        self._reference_stamp_ns = observation.reference_stamp_ns
        self._seed(observation)

    def _seed(self, observation: TrackObservation) -> None:
        """New tracks at the middle of grid cells that hold none, evenly thinned down to the limit."""
        height, width = observation.depth.shape
        y, x = np.mgrid[self._grid_px // 2 : height : self._grid_px, self._grid_px // 2 : width : self._grid_px]
        centres = np.stack((x.ravel(), y.ravel()), axis=-1).astype(np.float64)
        taken = {tuple(cell) for cell in (self._alive.reference_pixels // self._grid_px).astype(int)}
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
            np.concatenate((old.positions_world, np.full((count, 3), np.nan))),
            np.concatenate((old.velocities_world, np.zeros((count, 3)))),
            np.concatenate((old.age_frames, np.zeros(count, dtype=np.int64))),
            np.concatenate((old.hidden_frames, np.zeros(count, dtype=np.int64))),
            np.concatenate((old.dynamic, np.zeros(count, dtype=bool))),
        )

    def _move(self, positions_world: PoseArray, stamp_ns: int) -> None:
        """New positions, smoothed velocities, one frame older."""
        seconds = max((stamp_ns - self._last_stamp_ns) * 1e-9, 1e-6)
        difference = (positions_world - self._alive.positions_world) / seconds
        fresh = (~np.isfinite(difference)).any(axis=-1, keepdims=True)
        smoothed = (1 - VELOCITY_SMOOTHING) * self._alive.velocities_world + VELOCITY_SMOOTHING * difference
        self._alive.velocities_world = np.where(fresh, 0.0, smoothed)
        self._alive.positions_world = positions_world
        self._alive.age_frames = self._alive.age_frames + 1
        self._last_stamp_ns = stamp_ns

    def _note(self, observation: TrackObservation, image_pixels: PoseArray, visible: MaskArray) -> None:
        """Remember where each visible track is in this frame, and whether it lies on something that moves."""
        nearest = np.rint(image_pixels[visible]).astype(int)
        self._alive.dynamic[visible] = observation.dynamic_mask[nearest[:, 1], nearest[:, 0]]
        self._alive.hidden_frames = np.where(visible, 0, self._alive.hidden_frames + 1)
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


def empty_track_set() -> TrackSet:
    """No tracks."""
    return Tracker(0, 1)._snapshot(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, bool))


def _no_tracks() -> _Alive:
    return _Alive(
        np.zeros(0, np.int64),
        np.zeros((0, 2)),
        np.zeros((0, 3)),
        np.zeros((0, 3)),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros(0, bool),
    )
