"""Camera odometry on keyframes: locate each frame in the local map, extend the map where the view leaves it.

`locate` follows landmarks in two passes. A coarse one takes some of them from the last image over a deep pyramid; a
fine one measures all landmarks in view with the patches of their own keyframes, warped to the coarse pose. `extend`
takes in what the frame says of the landmarks' depth and, where the view has left the map, makes a keyframe of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import OdometryTuning
from pomato_ros.scene.landmarks import (
    Keyframe,
    LocalMap,
    keyframe_homography,
    through_homography,
)
from pomato_ros.scene.located import FrameInput, Located, MeasuredLandmarks, sampled_depth
from pomato_ros.scene.map_building import CameraMotion, MapBuilder
from pomato_ros.scene.patches import (
    follow_patches,
    inside,
    patch_correlation,
)
from pomato_ros.scene.pose import (
    LEAST_DEPTH,
    AbsolutePrior,
    Matches,
    NoiseLevel,
    displacement,
    fit_pose,
    moved,
    noise_level,
    ransac_pose,
    readout_change,
)
from pomato_ros.scene.readout import Readout, image_velocity, row_phase
from pomato_ros.scene.relocalisation import Relocaliser
from pomato_ros.scene.rivals import camera_among_rivals, surface_share
from pomato_ros.structures import Intrinsics, MaskArray, PoseArray

FIRST_COVARIANCE = np.diag([1e-8] * 6)  # 0.1 mm and 0.006 deg: the first frame is the world, no covariance is zero


@dataclass(frozen=True, slots=True)
class _LastFrame:
    frame: FrameInput
    located: Located


class Odometry:
    """All state of the camera's motion: local map, last frame, velocity, noise and readout time."""

    def __init__(self, tuning: OdometryTuning) -> None:
        """Start without a map."""
        self.tuning = tuning
        self.readout = Readout()
        self._relocaliser = Relocaliser()
        self._builder = MapBuilder(tuning)
        self.reset()

    def reset(self) -> None:
        """Forget the map; the next frame is the world's origin. The readout time, the camera's own, is kept."""
        self._builder.clear()
        self.noise = NoiseLevel()
        self._start = Located(np.eye(4), FIRST_COVARIANCE, 0, 1.0, FIRST_COVARIANCE)  # of a map that begins
        self._last: _LastFrame | None = None  # None while no frame has begun a map
        self._velocity: PoseArray | None = None  # (6,) m/s and rad/s, axes of the camera; None while unknown
        self._measured: MeasuredLandmarks | None = None
        self._is_lost = False
        self._relocaliser.reset()

    @property
    def map(self) -> LocalMap:
        """Keyframes and landmarks."""
        return self._builder.map

    def locate(self, frame: FrameInput, priors: Sequence[AbsolutePrior] = ()) -> Located | None:
        """The camera of ``frame``; None where too few landmarks agree on one."""
        self._measured = None
        if self._last is None:
            return self._start if self._builder.can_hold_map(frame) else None
        last = self._last.located.world_from_camera
        seconds = max((frame.stamp_ns - self._last.frame.stamp_ns) * 1e-9, 1e-6)
        if self._velocity is None or seconds > self.tuning.prediction_s:
            predicted = last
        else:
            predicted = moved(last, self._velocity * seconds)
        priors = (*priors, self._motion_prior(predicted, seconds))
        coarse = self._coarse(frame, predicted, priors)
        measured = self._fine(frame, coarse, priors)
        if measured is None and coarse is not predicted:
            measured = self._fine(frame, predicted, priors)
        relocalised = measured is None or self._is_lost
        if measured is None:
            measured = self._found_again(frame)
        self._is_lost = measured is None
        if measured is None:
            return self._restarted(frame, seconds)
        return self._located(frame, measured, seconds, relocalised)

    def _located(self, frame: FrameInput, measured: MeasuredLandmarks, seconds: float, relocalised: bool) -> Located:
        """The camera by a fit that is to be learned from."""
        self._measured, fit = measured, measured.fit
        self.readout = self.readout.updated(
            *readout_change(measured.matches, frame.intrinsics, fit, self.noise), limit_s=seconds
        )
        inliers = int(np.count_nonzero(fit.inliers))
        return Located(
            fit.world_from_camera,
            self._world_covariance(measured),
            inliers,
            measured.inlier_ratio,
            self.tuning.correlated_residuals * fit.covariance,
            relocalised,
        )

    def _found_again(self, frame: FrameInput) -> MeasuredLandmarks | None:
        """A fit at the pose where a keyframe is recognised; None where none is."""
        pose = self._relocaliser.locate(frame.gray, self.map.keyframes, frame.intrinsics)
        return None if pose is None else self._fine(frame, pose, ())

    def _restarted(self, frame: FrameInput, seconds: float) -> Located | None:
        """After a while without a pose: a new map where the camera was last, as uncertain as the time unseen makes it.

        A frame that could not hold a map, a dark one for instance, does not begin one.
        """
        if seconds < self.tuning.restart_s or self._last is None:
            return None
        if not self._builder.can_hold_map(frame):
            return None
        last = self._last.located
        unseen = [(self.tuning.unseen_speed_m_s * seconds) ** 2] * 3 + [
            (self.tuning.unseen_turn_rad_s * seconds) ** 2
        ] * 3
        covariance = last.covariance + np.diag(unseen)
        self._builder.clear()
        self._last, self._velocity = None, None
        self._is_lost = False
        self._start = Located(last.world_from_camera, covariance, 0, 1.0, covariance, relocalised=True)
        return self._start

    def extend(self, frame: FrameInput, located: Located | None, static: MaskArray | None) -> None:
        """Take in a located frame: landmarks' depth and history, and a keyframe where the view leaves the map.

        Args:
            frame: as located.
            located: what :meth:`locate` returned for it.
            static: (h, w) pixels that may hold landmarks; None: all.
        """
        if located is None:
            return
        self.map.landmarks.last_pixel[:] = np.nan
        if self._measured is not None:
            self._builder.learn(frame, located, static, self._measured, self.noise.depth)
        if self._last is not None:
            self._velocity = self._velocity_to(frame, located.world_from_camera)
        if self._builder.view_left_map(frame, self._measured):
            motion = CameraMotion(self._velocity, self.noise.depth)
            self._builder.add_keyframe(frame, located, static, self._measured, motion)
        if self._last is None and len(self.map.landmarks) < self.tuning.least_inliers:
            self._builder.clear()  # without depth or texture no map can begin: the next frame may
            return
        self._last = _LastFrame(frame, located)

    # -- locate ------------------------------------------------------------------------------------------------------

    def _motion_prior(self, predicted: PoseArray, seconds: float) -> AbsolutePrior:
        """Constant velocity with random accelerations; while the velocity is unknown, a bound on it."""
        tuning = self.tuning
        position, rotation = tuning.acceleration_m_s2 * seconds**2, tuning.angular_acceleration_rad_s2 * seconds**2
        if self._velocity is None:
            position, rotation = position + tuning.speed_m_s * seconds, rotation + tuning.turn_rate_rad_s * seconds
        return AbsolutePrior(predicted, np.diag([position**-2] * 3 + [rotation**-2] * 3))

    def _velocity_to(self, frame: FrameInput, world_from_camera: PoseArray) -> PoseArray:
        """(6,) m/s and rad/s since the last frame, axes of the camera."""
        assert self._last is not None  # noqa: S101
        seconds = max((frame.stamp_ns - self._last.frame.stamp_ns) * 1e-9, 1e-6)
        return displacement(self._last.located.world_from_camera, world_from_camera) / seconds

    def _coarse(self, frame: FrameInput, predicted: PoseArray, priors: Sequence[AbsolutePrior]) -> PoseArray:
        """Pose (4, 4) from some landmarks followed from the last image; ``predicted`` where they do not agree."""
        assert self._last is not None  # noqa: S101
        tuning = self.tuning
        here = np.flatnonzero(np.isfinite(self.map.landmarks.last_pixel[:, 0]))
        if len(here) > tuning.coarse_landmarks:
            here = here[np.linspace(0, len(here) - 1, tuning.coarse_landmarks).astype(int)]
        before = self.map.landmarks.last_pixel[here]
        expected = self._project(here, predicted, frame.intrinsics)
        guess = np.where(np.isfinite(expected), expected, before)
        pixels, found = follow_patches(self._last.frame.gray, frame.gray, before, guess, tuning.patch_px, 3)
        found &= inside(pixels, frame.gray.shape, 1)
        if np.count_nonzero(found) < tuning.least_inliers:
            return predicted
        matches = self._matches(here[found], pixels[found], frame, predicted, tuning.coarse_pixel_std)
        gates = (tuning.coarse_gate, tuning.middle_gate)
        fit = fit_pose(matches, frame.intrinsics, predicted, gates, self.noise, priors)
        agreeing = np.count_nonzero(fit.inliers)
        if agreeing >= max(tuning.least_inliers, 0.5 * len(fit.inliers)):
            return fit.world_from_camera
        proposal = ransac_pose(matches, frame.intrinsics, tuning.ransac_gate_px * frame.pixel_scale)
        if proposal is not None:
            other = fit_pose(matches, frame.intrinsics, proposal, gates[1:], self.noise)
            if np.count_nonzero(other.inliers) > 1.3 * agreeing:
                return other.world_from_camera
        return fit.world_from_camera

    def _fine(self, frame: FrameInput, pose: PoseArray, priors: Sequence[AbsolutePrior]) -> MeasuredLandmarks | None:
        """All landmarks in view measured with their own keyframes' patches, and the pose that explains them."""
        tuning = self.tuning
        index, pixels = self._measure(frame, pose)
        if len(index) < tuning.least_inliers:
            return None
        matches = self._matches(index, pixels, frame, pose, 0.0)
        fit = fit_pose(matches, frame.intrinsics, pose, (tuning.coarse_gate,), self.noise, priors)
        start, rows, spread = fit.world_from_camera, fit.inliers, np.zeros((6, 6))
        rivalry = camera_among_rivals(matches, frame.intrinsics, (start, *self._rest()), self.noise, tuning)
        if rivalry is not None:
            best = rivalry.best.fit
            start, rows, spread = best.world_from_camera, best.squared < tuning.gate**2, rivalry.spread()
            matches = replace(matches, surface=np.where(rows, matches.surface, 0.0))
        shown = noise_level(matches.select(rows), frame.intrinsics, start, self.noise)
        self.noise = blended(self.noise, shown, tuning)
        gates = (tuning.middle_gate, tuning.gate)
        fit = fit_pose(matches, frame.intrinsics, start, gates, self.noise, priors)
        fit = replace(fit, inliers=fit.inliers & (matches.surface > 0))
        ratio = float(np.mean(fit.inliers))
        if rivalry is not None:
            ratio = max(ratio, surface_share(matches, fit, tuning))
        if np.count_nonzero(fit.inliers) < tuning.least_inliers or ratio < tuning.least_inlier_ratio:
            return None
        fit = replace(fit, covariance=fit.covariance + spread / tuning.correlated_residuals)
        return MeasuredLandmarks(index, matches, fit, ratio)

    def _rest(self) -> tuple[PoseArray, ...]:
        """The last camera: a hypothesis of every frame is that the camera has not moved."""
        return () if self._last is None else (self._last.located.world_from_camera,)

    def _measure(self, frame: FrameInput, pose: PoseArray) -> tuple[NDArray[np.int64], PoseArray]:
        """Rows of landmarks found in the frame when the camera is near ``pose``, and their pixels (n, 2)."""
        table = self.map.landmarks
        expected = self._project(np.arange(len(table)), pose, frame.intrinsics)
        visible = inside(expected, frame.gray.shape, self.tuning.patch_px // 2)
        numbers, counts = np.unique(table.keyframe[visible], return_counts=True)
        chosen = numbers[np.argsort(-counts, kind="stable")][: self.tuning.measured_keyframes]
        rows, pixels = [np.zeros(0, np.int64)], [np.zeros((0, 2))]
        for number in chosen.tolist():
            here = np.flatnonzero(visible & (table.keyframe == number))
            found, seen = self._measure_from(self.map.keyframes[number], here, expected[here], frame, pose)
            rows.append(found)
            pixels.append(seen)
        return np.concatenate(rows), np.concatenate(pixels)

    def _measure_from(
        self, keyframe: Keyframe, here: NDArray[np.int64], expected: PoseArray, frame: FrameInput, pose: PoseArray
    ) -> tuple[NDArray[np.int64], PoseArray]:
        """The same for landmarks ``here`` of one keyframe, searched at ``expected`` (n, 2)."""
        homography = keyframe_homography(keyframe, pose, frame.intrinsics)
        start, area = through_homography(homography, self.map.landmarks.pixel[here])
        most = self.tuning.most_area_change
        usable = inside(start, frame.gray.shape, 2) & (area < most) & (area > 1.0 / most)
        here, start, expected = here[usable], start[usable], expected[usable]
        if not len(here):
            return here, start
        warped = cv2.warpPerspective(
            keyframe.gray, homography, frame.gray.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        seen, found = follow_patches(warped, frame.gray, start, expected, self.tuning.patch_px, 1)
        found &= inside(seen, frame.gray.shape, 1)
        found &= patch_correlation(warped, frame.gray, start, seen) > self.tuning.correlation
        return here[found], seen[found]

    def _matches(
        self, index: NDArray[np.int64], seen: PoseArray, frame: FrameInput, pose: PoseArray, extra_std_px: float
    ) -> Matches:
        """What the fit needs of the landmarks ``index`` seen at ``seen`` (n, 2) by a camera near ``pose``."""
        tuning, readout_s = self.tuning, self.readout.seconds
        points, slopes = self.map.points_world(frame.intrinsics, readout_s, index)
        table = self.map.landmarks.select(index)
        covariance = np.asarray(np.linalg.inv(table.information + 1e-6 * np.eye(2)), np.float64)
        covariance += ((tuning.pixel_std**2 + extra_std_px**2) * frame.pixel_scale**2) * np.eye(2)
        camera = (points - pose[:3, 3]) @ pose[:3, :3]
        velocity = self._velocity_to(frame, pose)
        now = image_velocity(camera, velocity, frame.intrinsics) * row_phase(seen, frame.gray.shape[0])[:, None]
        inverse, std = sampled_depth(frame.depth, seen)
        return Matches(
            points_world=points,
            slopes_world=slopes * np.sqrt(table.variance)[:, None],
            pixels=seen - readout_s * now,
            seen=seen,
            readout_rate=table.readout_rate - now,
            pixel_covariance=covariance,
            inverse_depth=inverse,
            inverse_depth_std=std,
            surface=surface_weights(camera[:, 2], tuning.surface_power, tuning.most_surface),
        )

    def _project(self, index: NDArray[np.int64], pose: PoseArray, intrinsics: Intrinsics) -> PoseArray:
        """(n, 2) pixels of landmarks in a camera at ``pose``; NaN behind it."""
        points, _ = self.map.points_world(intrinsics, self.readout.seconds, index)
        camera = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = np.where(camera[:, 2] > LEAST_DEPTH, camera[:, 2], np.nan)
        x = intrinsics.fx_px * camera[:, 0] / depth + intrinsics.cx_px
        y = intrinsics.fy_px * camera[:, 1] / depth + intrinsics.cy_px
        return np.stack((x, y), axis=-1)

    def _world_covariance(self, measured: MeasuredLandmarks) -> PoseArray:
        """(6, 6) of the fit in world axes, plus that of the keyframes it rests on, by their share of the inliers."""
        fit = measured.fit
        turn = np.kron(np.eye(2), fit.world_from_camera[:3, :3])
        covariance = self.tuning.correlated_residuals * (turn @ fit.covariance @ turn.T)
        keyframes = self.map.landmarks.keyframe[measured.index[fit.inliers]]
        numbers, counts = np.unique(keyframes, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            covariance += count / len(keyframes) * self.map.keyframes[number].covariance
        return 0.5 * (covariance + covariance.T)


def surface_weights(depth: PoseArray, power: float, most: float) -> PoseArray:
    """(n,) weights of landmarks by depth (n,), relative to the median."""
    depth = np.maximum(depth, LEAST_DEPTH)
    return np.asarray(np.clip((depth / np.median(depth)) ** power, 1.0 / most, most)) if len(depth) else depth


def blended(before: NoiseLevel, shown: NoiseLevel, tuning: OdometryTuning) -> NoiseLevel:
    """Variance factors averaged over frames in the logarithm, within bounds."""

    def average(old: float, new: float) -> float:
        bounded = min(max(new, tuning.least_noise), tuning.most_noise)
        return float(old**tuning.noise_memory * bounded ** (1.0 - tuning.noise_memory))

    return NoiseLevel(average(before.pixel, shown.pixel), average(before.depth, shown.depth))
