"""What every dataset gives: frames with depth and pose, and the truth of pairs of them wherever it is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.geometry.camera import crop_homography, project, resize_homography, transform_intrinsics, unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import compose, invert, transform
from pomato_ros.structures import Intrinsics

MOTION_FLOOR_M = 1e-3  # a point that went less far than this did not move: positions are stored in single precision
TRACK_DEPTH_SHARE = 0.02  # a track belongs to a pixel when it misses the pixel's depth by no more than this share
TRACK_DEPTH_FLOOR_M = 0.02  # and this (PointOdyssey stores depth in steps of 1.5 cm)
AGREEMENT_SHARE = 0.02  # of the depth, by which two frames may differ on one surface


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """N points followed through a clip's T frames."""

    points_world: Tensor  # (t, n, 3) float64, metres; anything where not known
    known: Tensor  # (t, n) bool: the position is true, whether seen or hidden
    visible: Tensor  # (t, n) bool: the point is seen in that frame


@dataclass(frozen=True, slots=True, eq=False)
class PairTruth:
    """Truth of view 1 and view 2, metres, all in camera 1; zero (or False) wherever it is not valid.

    Names as in :class:`pomato_ros.training.targets.Targets`.
    """

    points_1: Tensor  # (h, w, 3) float32
    points_2: Tensor  # (h, w, 3) float32: pixels of view 2 at view 2's time
    points_match: Tensor  # (h, w, 3) float32: pixels of view 2 at view 1's time
    moving: Tensor  # (h, w) bool: pixels of view 2 whose point moved between the two times
    valid_1: Tensor  # (h, w) bool: of points_1
    valid_2: Tensor  # (h, w) bool: of points_2
    valid_match: Tensor  # (h, w) bool: of points_match and moving
    pixels_match: Tensor  # (h, w, 2) float32: x, y of points_match in view 1; anything where it is not seen
    seen: Tensor  # (h, w) bool: valid_match, in view 1's image, and on the surface seen there


@dataclass(frozen=True, slots=True, eq=False)
class RecordedClip:
    """Frames of one sequence in the order they were asked for.

    Pixel centres are at integers, camera frames are optical (x right, y down, z forward), the world is any right-handed
    frame that does not move. What is known of motion: nothing (the default), that the world stands still, or tracks.
    """

    images: Tensor  # (t, h, w, 3) uint8 RGB
    depth_m: Tensor  # (t, h, w) float32 along the optical axis; 0 where it is not known
    world_from_camera: Tensor  # (t, 4, 4) float64
    intrinsics: tuple[Intrinsics, ...]  # of each frame
    still: bool = False
    tracks: Tracks | None = None

    def __post_init__(self) -> None:
        """Parts that do not belong together are refused.

        Raises:
            ValueError: counts or sizes differ.
        """
        frames, height, width = self.depth_m.shape
        shapes = (tuple(self.images.shape), tuple(self.world_from_camera.shape), len(self.intrinsics))
        if shapes != ((frames, height, width, 3), (frames, 4, 4), frames):
            raise ValueError(
                f"expected images, poses and cameras for a depth of {tuple(self.depth_m.shape)}, got {shapes}; "
                "images and depth maps must have one size"
            )
        if self.tracks is not None and len(self.tracks.points_world) != frames:
            raise ValueError(f"expected tracks through {frames} frames, got {len(self.tracks.points_world)}")

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.depth_m)

    def valid(self, t: int) -> Tensor:
        """(h, w) bool: pixels of frame ``t`` with a depth."""
        return self.depth_m[t] > 0

    def points_camera(self, t: int) -> Tensor:
        """(h, w, 3) float32: the point each pixel of frame ``t`` sees, in camera ``t``; zero where not valid."""
        return torch.from_numpy(self._points_camera(t)).float()

    def points_transferred(self, source: int, target: int) -> Tensor:
        """(h, w, 3) float32: what each pixel of ``source`` sees, as it is then, in camera ``target``; zero likewise."""
        return torch.from_numpy(self._points_transferred(source, target)).float()

    def pair(self, view_1: int, view_2: int) -> PairTruth:
        """All that is known of two frames."""
        matched, moving, valid_match = self._match(view_2, view_1)
        pixels, seen = self._sight(matched, valid_match, view_1)
        return PairTruth(
            points_1=self.points_camera(view_1),
            points_2=self.points_transferred(view_2, view_1),
            points_match=torch.from_numpy(matched).float(),
            moving=torch.from_numpy(moving),
            valid_1=self.valid(view_1),
            valid_2=self.valid(view_2),
            valid_match=torch.from_numpy(valid_match),
            pixels_match=torch.from_numpy(pixels).float(),
            seen=torch.from_numpy(seen),
        )

    def agreement(self, source: int, target: int) -> float:
        """Share of the pixels of ``source`` that land on ``target``'s surface, of all that land in its image.

        Near 1 for neighbouring frames but for what moved or is hidden; low where a pose, depth or camera was
        misunderstood: the check to make on a dataset of unknown origin. NaN if nothing lands in the image.
        """
        points = self._points_transferred(source, target)[self.valid(source).numpy()]
        rows, columns, inside = self._pixels(points, target)
        depth = self.depth_m[target].numpy()[rows, columns]
        seen = depth > 0
        if not seen.any():
            return float("nan")
        return float((np.abs(points[inside, 2] - depth) < AGREEMENT_SHARE * depth)[seen].mean())

    def nearer_than(self, far_m: float) -> "RecordedClip":
        """The same with no depth known from ``far_m`` on."""
        return replace(self, depth_m=torch.where(self.depth_m < far_m, self.depth_m, 0.0))

    def fitted(self, size_wh: tuple[int, int]) -> "RecordedClip":
        """The middle of every frame at another size: scaled until it covers ``size_wh``, then cropped.

        Colours are averaged, depth is that of the nearest pixel. Rays through pixels stay.
        """
        height, width = self.depth_m.shape[1:]
        scale = max(size_wh[0] / width, size_wh[1] / height)
        scaled_wh = (max(size_wh[0], round(scale * width)), max(size_wh[1], round(scale * height)))
        left, top = (scaled_wh[0] - size_wh[0]) // 2, (scaled_wh[1] - size_wh[1]) // 2
        resize = resize_homography(scaled_wh[0] / width, scaled_wh[1] / height)
        fitted_from_own = crop_homography(left, top) @ resize
        own_from_fitted = np.linalg.inv(fitted_from_own)
        columns = _nearest(np.arange(size_wh[0]) * own_from_fitted[0, 0] + own_from_fitted[0, 2], width)
        rows = _nearest(np.arange(size_wh[1]) * own_from_fitted[1, 1] + own_from_fitted[1, 2], height)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = [cv2.resize(image, scaled_wh, interpolation=method) for image in self.images.numpy()]
        crop = (slice(top, top + size_wh[1]), slice(left, left + size_wh[0]))
        return replace(
            self,
            images=torch.from_numpy(np.stack([image[crop] for image in scaled])),
            depth_m=self.depth_m[:, rows][:, :, columns],
            intrinsics=tuple(transform_intrinsics(fitted_from_own, camera, size_wh) for camera in self.intrinsics),
        )

    def _points_camera(self, t: int) -> NDArray[np.float64]:
        """(h, w, 3): see :meth:`points_camera`."""
        depth = self.depth_m[t].numpy()
        return unproject(pixel_grid(*depth.shape), depth, self.intrinsics[t].matrix())

    def _points_transferred(self, source: int, target: int) -> NDArray[np.float64]:
        """(h, w, 3): see :meth:`points_transferred`."""
        target_from_source = compose(invert(self.world_from_camera[target]), self.world_from_camera[source])
        valid = self.valid(source).numpy()[..., None]
        return np.where(valid, transform(target_from_source, self._points_camera(source)), 0.0)

    def _match(self, source: int, target: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Where the points of ``source``'s pixels are at ``target``'s time, in its camera; which moved; which is known.

        A track gives its displacement to the pixel it is seen in, so that what stands still matches exactly. Of several
        tracks in a pixel, the one nearest to its centre is taken.
        """
        transferred = self._points_transferred(source, target)
        moving = np.zeros(transferred.shape[:2], dtype=bool)
        if self.still:
            return transferred, moving, self.valid(source).numpy()
        known = np.zeros_like(moving)
        matched = np.zeros_like(transferred)
        if self.tracks is None:
            return matched, moving, known
        usable = (self.tracks.visible[source] & self.tracks.known[source] & self.tracks.known[target]).numpy()
        start_world, end_world = (self.tracks.points_world[t].numpy()[usable] for t in (source, target))
        chosen, rows, columns = self._seen(start_world, source)
        displacement_world = (end_world - start_world)[chosen]
        displacement = displacement_world @ np.asarray(self.world_from_camera[target])[:3, :3]
        known[rows, columns] = True
        matched[rows, columns] = transferred[rows, columns] + displacement
        moving[rows, columns] = np.linalg.norm(displacement_world, axis=-1) > MOTION_FLOOR_M
        return matched, moving, known

    def _sight(
        self, points_camera: NDArray[np.float64], valid: NDArray[np.bool_], t: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Pixels (h, w, 2) in frame ``t`` of points (h, w, 3) of its camera, and which of the valid are seen there."""
        points = points_camera[valid]
        rows, columns, inside = self._pixels(points, t)
        depth = self.depth_m[t].numpy()[rows, columns]
        on_surface = (depth > 0) & (np.abs(points[inside, 2] - depth) < AGREEMENT_SHARE * depth)
        seen = np.zeros(valid.size, dtype=bool)
        seen[np.flatnonzero(valid)[inside][on_surface]] = True
        return project(points_camera, self.intrinsics[t].matrix()), seen.reshape(valid.shape)

    def _seen(
        self, points_world: NDArray[np.float64], t: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Indices of points that lie on the surface that frame ``t`` sees, at most one a pixel, with row and column."""
        points = transform(invert(self.world_from_camera[t]), points_world)
        rows, columns, inside = self._pixels(points, t)
        index = np.flatnonzero(inside)
        depth = self.depth_m[t].numpy()[rows, columns].astype(np.float64)
        slack = TRACK_DEPTH_SHARE * depth + TRACK_DEPTH_FLOOR_M
        on_surface = (depth > 0) & (np.abs(points[index, 2] - depth) < slack)
        index, rows, columns = index[on_surface], rows[on_surface], columns[on_surface]
        offset = project(points[index], self.intrinsics[t].matrix()) - np.stack((columns, rows), axis=-1)
        nearest_first = np.argsort(np.linalg.norm(offset, axis=-1), kind="stable")
        pixel = rows * self.depth_m.shape[2] + columns
        first = nearest_first[np.unique(pixel[nearest_first], return_index=True)[1]]
        return index[first], rows[first], columns[first]

    def _pixels(
        self, points_camera: NDArray[np.float64], t: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Row and column in frame ``t`` of the points (n, 3) of its camera that lie in its image, and which do."""
        height, width = self.depth_m.shape[1:]
        pixels = project(points_camera, self.intrinsics[t].matrix())  # NaN behind the camera
        inside = np.all((pixels > -0.5) & (pixels < (width - 0.5, height - 0.5)), axis=-1)
        columns, rows = np.rint(pixels[inside]).astype(np.intp).T
        return rows, columns, inside


class RecordedSequence(Protocol):
    """One camera's video in a dataset; nothing is read before it is needed."""

    @property
    def name(self) -> str:
        """What tells it from the dataset's others."""
        ...

    def __len__(self) -> int:
        """The number of frames."""
        ...

    def read(self, frames: Sequence[int]) -> RecordedClip:
        """The frames with these numbers (from 0, in any order).

        Raises:
            IndexError: there is no such frame.
            OSError: a file is missing or cannot be read.
            ValueError: a file holds something else than it should.
        """
        ...


def _nearest(position_px: NDArray[np.float64], size_px: int) -> NDArray[np.intp]:
    """The pixels nearest to positions along one axis."""
    return np.clip(np.rint(position_px), 0, size_px - 1).astype(np.intp)
