"""The local map as it grows: what a located frame says of landmarks, and keyframes where the view leaves the map."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import OdometryTuning
from pomato_ros.scene.landmarks import Keyframe, LandmarkTable, LocalMap, rays_through
from pomato_ros.scene.located import FrameInput, Located, MeasuredLandmarks, sampled_depth
from pomato_ros.scene.patches import new_corners, structure_tensors
from pomato_ros.scene.pose import LEAST_DEPTH, Matches
from pomato_ros.scene.readout import image_velocity, row_phase
from pomato_ros.structures import MaskArray, PoseArray

OCCUPANCY_GRID = (6, 8)  # rows, columns


@dataclass(frozen=True, slots=True)
class CameraMotion:
    """What new landmarks need to know beside the frame."""

    velocity: PoseArray | None  # (6,) m/s and rad/s, axes of the camera; None: unknown
    depth_noise: float  # variance factor of measured depth


class MapBuilder:
    """Owns the local map and decides what enters it."""

    def __init__(self, tuning: OdometryTuning) -> None:
        """An empty map."""
        self._tuning = tuning
        self.clear()

    def clear(self) -> None:
        """Begin a new map."""
        self.map = LocalMap()
        self._occupied = 0  # cells with landmarks at the last keyframe

    def can_hold_map(self, frame: FrameInput) -> bool:
        """Whether a map can begin with a frame: enough corners with depth, as a dark one has not."""
        wanted = 2 * self._tuning.least_inliers
        spacing_px = self._tuning.spacing_px * frame.pixel_scale
        corners = new_corners(frame.gray, self._allowed(frame, None), np.zeros((0, 2)), spacing_px, wanted)
        return frame.depth is not None and len(corners) >= self._tuning.least_inliers

    def learn(
        self,
        frame: FrameInput,
        located: Located,
        static: MaskArray | None,
        measured: MeasuredLandmarks,
        depth_noise: float,
    ) -> None:
        """History and depth of the landmarks that were measured; those that are outliers time after time go."""
        table, matches = self.map.landmarks, measured.matches
        inliers = measured.fit.inliers.copy()
        if static is not None:
            column, row = np.rint(matches.seen).astype(int).T
            inliers &= static[row, column]
        index = measured.index
        table.seen[index[inliers]] += 1
        table.outlier_streak[index[inliers]] = 0
        table.outlier_streak[index[~inliers]] += 1
        table.last_pixel[index[inliers]] = matches.seen[inliers]
        self._fuse_depth(frame, located, index[inliers], matches.select(inliers), depth_noise)
        keep = table.outlier_streak < self._tuning.outlier_streak
        if not keep.all():
            self.map.keep(keep)

    def _fuse_depth(
        self, frame: FrameInput, located: Located, index: NDArray[np.int64], matches: Matches, depth_noise: float
    ) -> None:
        """This frame's measured depth, moved into the landmarks' keyframes and averaged by variance.

        A sensor's error at one place lasts over frames, so that a measurement counts as one of ``correlated_frames``.
        """
        table, pose = self.map.landmarks, located.world_from_camera
        measured = np.isfinite(matches.inverse_depth)
        index, matches = index[measured], matches.select(measured)
        points_camera = rays_through(matches.pixels, frame.intrinsics) / matches.inverse_depth[:, None]
        depth = self.map.depth_in_keyframes(points_camera @ pose[:3, :3].T + pose[:3, 3], index)
        good = depth > LEAST_DEPTH
        index, inverse, matches = index[good], 1.0 / depth[good], matches.select(good)
        std = matches.inverse_depth_std * inverse / matches.inverse_depth
        variance = depth_noise * std**2 * self._tuning.correlated_frames
        gain = table.variance[index] / (table.variance[index] + variance)
        table.inverse_depth[index] += gain * (inverse - table.inverse_depth[index])
        table.variance[index] *= 1.0 - gain

    def view_left_map(self, frame: FrameInput, measured: MeasuredLandmarks | None) -> bool:
        """Whether a keyframe is due: few landmarks are seen, or little of the image holds any."""
        tuning, pixels = self._tuning, self.map.last_pixels()
        if len(pixels) >= 2 * tuning.least_inliers:
            pixels = np.concatenate((pixels, majority_of_outliers(measured)))
        few = len(pixels) < tuning.keyframe_inliers
        return few or occupied_cells(pixels, frame.gray.shape) < tuning.keyframe_overlap * self._occupied

    def add_keyframe(
        self,
        frame: FrameInput,
        located: Located,
        static: MaskArray | None,
        measured: MeasuredLandmarks | None,
        motion: CameraMotion,
    ) -> None:
        """A keyframe with new landmarks where the newest image has none."""
        tuning = self._tuning
        known = self.map.last_pixels()
        limit = max(tuning.keyframe_landmarks - len(known), tuning.keyframe_landmarks // 3)
        allowed = self._allowed(frame, static)
        taken = np.concatenate((known, majority_of_outliers(measured)))
        pixels = new_corners(frame.gray, allowed, taken, tuning.spacing_px * frame.pixel_scale, limit)
        table = self._new_landmarks(frame, pixels, motion)
        typical = float(np.median(table.inverse_depth)) if len(table) else 0.0
        keyframe = Keyframe(
            self.map.created,
            frame.stamp_ns,
            frame.gray,
            frame.depth,
            located.world_from_camera,
            located.covariance,
            typical,
        )
        self.map.add_keyframe(keyframe, table)
        if len(self.map.keyframes) > tuning.max_keyframes:
            self.map.drop_keyframe(min(self.map.keyframes))
        self._occupied = occupied_cells(self.map.last_pixels(), frame.gray.shape)

    def _allowed(self, frame: FrameInput, static: MaskArray | None) -> MaskArray:
        """(h, w) pixels that may hold new landmarks: at rest, valid, with depth, off the border."""
        border = self._tuning.patch_px // 2 + 1
        allowed = np.zeros(frame.gray.shape, bool)
        allowed[border:-border, border:-border] = True
        if frame.depth is not None:
            allowed &= clear_of_edges(frame.depth.valid, self._tuning.edge_px)
        for mask in (static, frame.valid):
            if mask is not None:
                allowed &= mask
        return allowed

    def _new_landmarks(self, frame: FrameInput, pixels: PoseArray, motion: CameraMotion) -> LandmarkTable:
        """Landmarks at corners (n, 2) with measured depth."""
        inverse, std = sampled_depth(frame.depth, pixels)
        known = np.isfinite(inverse) & (inverse > 0)
        pixels, inverse, std = pixels[known], inverse[known], std[known]
        rate = np.zeros_like(pixels)
        if motion.velocity is not None:
            camera = rays_through(pixels, frame.intrinsics) / inverse[:, None]
            rate = image_velocity(camera, motion.velocity, frame.intrinsics)
            rate *= row_phase(pixels, frame.gray.shape[0])[:, None]
        return LandmarkTable(
            keyframe=np.full(len(pixels), self.map.created),
            pixel=pixels,
            readout_rate=rate,
            inverse_depth=inverse,
            variance=motion.depth_noise * std**2,
            information=structure_tensors(frame.gray, pixels, self._tuning.patch_px) / self._tuning.image_noise**2,
            seen=np.ones(len(pixels), np.int64),
            outlier_streak=np.zeros(len(pixels), np.int64),
            last_pixel=pixels.copy(),
        )


def majority_of_outliers(measured: MeasuredLandmarks | None) -> PoseArray:
    """(n, 2) px of the newest frame's outliers where they are the majority: movers, which get no new landmarks."""
    if measured is None or np.count_nonzero(measured.fit.inliers) > 0.5 * len(measured.index):
        return np.zeros((0, 2))
    return measured.matches.seen[~measured.fit.inliers]


def clear_of_edges(valid: MaskArray, pixels: int) -> MaskArray:
    """(h, w) pixels whose neighbours within so many pixels have depth too, but for single ones that are missing."""
    closed = cv2.morphologyEx(valid.view(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    side = 2 * pixels + 1
    return np.asarray(cv2.erode(closed, np.ones((side, side), np.uint8)) > 0) & valid


def occupied_cells(pixels: PoseArray, shape: tuple[int, ...]) -> int:
    """How many cells of a coarse grid over an image (h, w) hold at least one of the pixels (n, 2)."""
    rows, columns = OCCUPANCY_GRID
    row = np.clip(pixels[:, 1] * rows / shape[0], 0, rows - 1).astype(int)
    column = np.clip(pixels[:, 0] * columns / shape[1], 0, columns - 1).astype(int)
    return len(np.unique(row * columns + column))
