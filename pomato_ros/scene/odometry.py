"""Camera odometry on keyframes: locate each frame in the local map, extend the map where the view leaves it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import invert
from pomato_ros.scene.landmarks import (
    GrayImage,
    Keyframe,
    LandmarkTable,
    LocalMap,
    keyframe_homography,
    new_corners,
    structure_tensors,
)
from pomato_ros.scene.pose import (
    AbsolutePrior,
    Matches,
    PoseFit,
    displacement,
    fit_pose,
    follow_patches,
    moved,
    ransac_pose,
    measurement_slopes,
    noise_level,
    NoiseLevel,
)
from pomato_ros.structures import DepthMap, Intrinsics, MaskArray, PoseArray


@dataclass(frozen=True, slots=True)
class OdometryTuning:
    """Sigmas and gates of the odometry; pixels are those of an image 640 px wide and scale with it."""

    max_landmarks: int = 600  # measured in one frame
    keyframe_landmarks: int = 300  # visible at once, wanted
    max_keyframes: int = 40
    measured_keyframes: int = 5  # in which landmarks are looked for in one frame
    patch_px: int = 15  # side, of patches compared with a keyframe; pixels of the image as it is
    first_patch_px: int = 15
    image_noise: float = 6.0  # grey levels, of a patch seen from elsewhere (noise, light, resampling)
    least_noise: float = 0.3
    most_noise: float = 50.0
    noise_memory: float = 0.7
    pixel_std_floor: float = 0.25  # px, of a patch found by alignment
    coarse_gate: float = 12.0  # standard deviations, of the first fits
    gate: float = 3.5  # of inliers (chi-square of 3 degrees: 99.3 %)
    least_inliers: int = 15
    least_inlier_ratio: float = 0.2
    acceleration_m_s2: float = 10.0  # std, of the camera; prior of constant velocity
    angular_acceleration_rad_s2: float = 60.0
    outlier_streak: int = 3
    repeated_looks: float = 6.0  # sensor errors at one pixel last for so many frames
    overlap: float = 0.7  # of a keyframe's landmarks still seen, below which a new one is made
    spacing_px: float = 14.0
    correlation: float = 0.75  # least, of a patch with its keyframe's


@dataclass(frozen=True, slots=True)
class FrameInput:
    """What the odometry reads of a frame."""

    stamp_ns: int
    gray: GrayImage
    intrinsics: Intrinsics
    depth: DepthMap | None


@dataclass(frozen=True, slots=True)
class Located:
    """The newest camera."""

    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) x, y, z, rot x, rot y, rot z, world axes
    inliers: int
    inlier_ratio: float
    relocalised: bool = False


TAU = 0.0

class Odometry:
    """All state of the camera's motion: the local map, the last frame and the velocity."""

    def __init__(self, tuning: OdometryTuning = OdometryTuning()) -> None:
        """Start without a map; the first frame is the world's origin."""
        self.tuning = tuning
        self.reset()

    def reset(self) -> None:
        """Forget the map."""
        self.map = LocalMap()
        self._last: tuple[FrameInput, PoseArray, PoseArray] | None = None
        self._velocity = np.zeros(6)  # axes of the camera, m/s and rad/s
        self._velocity_std = (1.0, 3.0)  # m/s and rad/s, while it is not known
        self._noise = NoiseLevel()
        self._measured: tuple[NDArray[np.int64], Matches, PoseFit] | None = None

    # -- locate ------------------------------------------------------------------------------------------------------

    def locate(self, frame: FrameInput, priors: Sequence[AbsolutePrior] = ()) -> Located | None:
        """The camera of ``frame``; None where too few landmarks agree."""
        self._measured = None
        if self._last is None:
            return Located(np.eye(4), np.diag([1e-8] * 6), 0, 1.0)
        last, last_pose, last_covariance = self._last
        seconds = (frame.stamp_ns - last.stamp_ns) * 1e-9
        predicted = moved(last_pose, self._velocity * seconds)
        priors = (*priors, self._motion_prior(predicted, seconds))
        coarse = self._coarse(frame, predicted, priors)
        found = self._fine(frame, coarse, priors)
        if found is None and coarse is not predicted:
            found = self._fine(frame, predicted, priors)
        if found is None:
            return None
        index, matches, fit = found
        self._measured = found
        covariance = self._world_covariance(index[fit.inliers], fit)
        ratio = np.count_nonzero(fit.inliers) / max(1, len(fit.inliers))
        return Located(fit.world_from_camera, covariance, int(np.count_nonzero(fit.inliers)), ratio)

    def _motion_prior(self, predicted: PoseArray, seconds: float) -> AbsolutePrior:
        """Constant velocity, with the accelerations of the tuning as white noise."""
        tuning = self.tuning
        position = max(tuning.acceleration_m_s2 * seconds**2 + self._velocity_std[0] * seconds, 1e-3)
        rotation = max(tuning.angular_acceleration_rad_s2 * seconds**2 + self._velocity_std[1] * seconds, 1e-3)
        return AbsolutePrior(predicted, np.diag([position**-2] * 3 + [rotation**-2] * 3))

    def _coarse(self, frame: FrameInput, predicted: PoseArray, priors: Sequence[AbsolutePrior]) -> PoseArray:
        """Pose from some landmarks followed from the last image over a deep pyramid."""
        assert self._last is not None
        last, last_pose, _ = self._last
        table = self.map.landmarks
        here = np.flatnonzero(np.isfinite(table.last_pixel[:, 0]))
        if len(here) < self.tuning.least_inliers:
            return predicted
        if len(here) > 120:
            here = here[np.linspace(0, len(here) - 1, 120).astype(int)]
        before = table.last_pixel[here]
        guess = self._project(here, predicted, frame.intrinsics)
        guess = np.where(np.isfinite(guess), guess, before)
        pixels, found = follow_patches(last.gray, frame.gray, before, guess, self.tuning.first_patch_px, 3)
        found &= inside(pixels, frame.gray.shape, 1)
        if np.count_nonzero(found) < self.tuning.least_inliers:
            return predicted
        matches = self._matches(here[found], pixels[found], frame, 1.0)
        fit = fit_pose(matches, frame.intrinsics, predicted, (self.tuning.coarse_gate, 5.0), self._noise, priors)
        if np.count_nonzero(fit.inliers) >= max(self.tuning.least_inliers, 0.5 * len(fit.inliers)):
            return fit.world_from_camera
        proposal = ransac_pose(matches, frame.intrinsics, 4.0)
        if proposal is None:
            return fit.world_from_camera
        other = fit_pose(matches, frame.intrinsics, proposal, (5.0,), self._noise)
        better = np.count_nonzero(other.inliers) > 1.3 * np.count_nonzero(fit.inliers)
        return other.world_from_camera if better else fit.world_from_camera

    def _fine(
        self, frame: FrameInput, pose: PoseArray, priors: Sequence[AbsolutePrior]
    ) -> tuple[NDArray[np.int64], Matches, PoseFit] | None:
        """All landmarks in view measured with their own keyframes' patches, and the pose that explains them."""
        index, pixels = self._measure(frame, pose)
        if len(index) < self.tuning.least_inliers:
            return None
        velocity = self._velocity_at(frame, pose)
        self._raw = pixels
        pixels = self._unrolled(pixels, index, pose, velocity, frame)
        matches = self._matches(index, pixels, frame, 0.0, self._raw)
        fit = fit_pose(matches, frame.intrinsics, pose, (10.0,), self._noise, priors)
        shown = noise_level(matches, frame.intrinsics, fit.world_from_camera, fit.squared < 100.0, self._noise)
        self._noise = blended(self._noise, shown, self.tuning)
        fit = fit_pose(matches, frame.intrinsics, fit.world_from_camera, (5.0, self.tuning.gate), self._noise, priors)
        inliers = np.count_nonzero(fit.inliers)
        if inliers < max(self.tuning.least_inliers, self.tuning.least_inlier_ratio * len(index)):
            return None
        return index, matches, fit

    def _velocity_at(self, frame, pose):
        last, last_pose, _ = self._last
        return displacement(last_pose, pose) / max((frame.stamp_ns - last.stamp_ns) * 1e-9, 1e-6)

    def _unrolled(self, pixels, index, pose, velocity, frame, depth=None):
        if depth is None:
            points, _ = self.map.points_world(frame.intrinsics, index)
            camera = (points - pose[:3, 3]) @ pose[:3, :3]
        else:
            from pomato_ros.scene.landmarks import rays_through
            camera = rays_through(pixels, frame.intrinsics) * depth[:, None]
        moving = -velocity[:3] - np.cross(velocity[3:], camera)
        rate = np.einsum('nij,nj->ni', measurement_slopes(camera, frame.intrinsics), moving)[:, :2]
        seconds = TAU * (pixels[:, 1] / frame.gray.shape[0] - 0.5)
        return pixels - rate * seconds[:, None]

    def _measure(self, frame: FrameInput, pose: PoseArray) -> tuple[NDArray[np.int64], PoseArray]:
        """Rows of landmarks found in the frame when the camera is near ``pose``, and their pixels (n, 2)."""
        table = self.map.landmarks
        expected = self._project(np.arange(len(table)), pose, frame.intrinsics)
        visible = inside(expected, frame.gray.shape, 4)
        numbers, counts = np.unique(table.keyframe[visible], return_counts=True)
        chosen = numbers[np.argsort(-counts, kind="stable")][: self.tuning.measured_keyframes]
        rows: list[NDArray[np.int64]] = []
        pixels: list[PoseArray] = []
        for number in chosen.tolist():
            keyframe = self.map.keyframes[number]
            here = np.flatnonzero(visible & (table.keyframe == number))
            homography = keyframe_homography(keyframe, pose, frame.intrinsics)
            start = through(homography, table.pixel[here])
            usable = inside(start, frame.gray.shape, 2) & similar_size(homography, table.pixel[here])
            here, start = here[usable], start[usable]
            if not len(here):
                continue
            warped = cv2.warpPerspective(
                keyframe.gray, homography, frame.gray.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            seen, found = follow_patches(warped, frame.gray, start, expected[here], self.tuning.patch_px, 1)
            found &= inside(seen, frame.gray.shape, 1)
            found &= patch_correlation(warped, frame.gray, start, seen) > self.tuning.correlation
            rows.append(here[found])
            pixels.append(seen[found])
        if not rows:
            return np.zeros(0, np.int64), np.zeros((0, 2))
        return np.concatenate(rows), np.concatenate(pixels)

    def _matches(
        self, index: NDArray[np.int64], pixels: PoseArray, frame: FrameInput, extra_px: float, raw=None
    ) -> Matches:
        """What the fit needs of the landmarks ``index`` measured at ``pixels`` (n, 2)."""
        points, slopes = self.map.points_world(frame.intrinsics, index)
        table = self.map.landmarks.select(index)
        covariance = np.linalg.inv(table.information + 1e-6 * np.eye(2))
        covariance += (self.tuning.pixel_std_floor**2 + extra_px**2) * np.eye(2)
        inverse, std = sampled_depth(frame.depth, pixels if raw is None else raw)
        return Matches(points, slopes * np.sqrt(table.variance)[:, None], pixels, covariance, inverse, std)

    def _project(self, index: NDArray[np.int64], pose: PoseArray, intrinsics: Intrinsics) -> PoseArray:
        """(n, 2) pixels of landmarks in a camera; NaN behind it."""
        points, _ = self.map.points_world(intrinsics, index)
        camera = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = np.where(camera[:, 2] > 1e-3, camera[:, 2], np.nan)
        return np.stack(
            (
                intrinsics.fx_px * camera[:, 0] / depth + intrinsics.cx_px,
                intrinsics.fy_px * camera[:, 1] / depth + intrinsics.cy_px,
            ),
            axis=-1,
        )

    def _world_covariance(self, index: NDArray[np.int64], fit: PoseFit) -> PoseArray:
        """(6, 6) of the fit, in world axes, and of the keyframes that it hangs on, by their share of inliers."""
        turn = np.kron(np.eye(2), fit.world_from_camera[:3, :3])
        covariance = turn @ fit.covariance @ turn.T
        numbers, counts = np.unique(self.map.landmarks.keyframe[index], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            covariance = covariance + count / len(index) * self.map.keyframes[number].covariance
        return 0.5 * (covariance + covariance.T)

    # -- extend ------------------------------------------------------------------------------------------------------

    def extend(self, frame: FrameInput, located: Located | None, static: MaskArray | None) -> None:
        """Take in the located frame: landmarks' depth and history, and a keyframe where the view leaves the map.

        Args:
            frame: as located.
            located: what :meth:`locate` returned for it.
            static: (h, w) pixels that may hold landmarks; None: all.
        """
        if located is None:
            return
        self.map.landmarks.last_pixel[:] = np.nan
        if self._measured is not None:
            self._learn(frame, located, static)
        if self._last is not None:
            last, last_pose, _ = self._last
            seconds = max((frame.stamp_ns - last.stamp_ns) * 1e-9, 1e-6)
            self._velocity = displacement(last_pose, located.world_from_camera) / seconds
            self._velocity_std = (0.0, 0.0)
        self._last = (frame, located.world_from_camera, located.covariance)
        if self._needs_keyframe(frame):
            self._add_keyframe(frame, located, static)

    def _learn(self, frame: FrameInput, located: Located, static: MaskArray | None) -> None:
        """History and depth of the landmarks that were measured; persistent outliers go."""
        assert self._measured is not None
        index, matches, fit = self._measured
        table = self.map.landmarks
        inliers = fit.inliers.copy()
        column, row = np.rint(self._raw).astype(int).T
        if static is not None:
            inliers &= static[row, column]
        table.seen[index[inliers]] += 1
        table.outlier_streak[index[inliers]] = 0
        table.outlier_streak[index[~inliers]] += 1
        table.last_pixel[index[inliers]] = self._raw[inliers]
        self._fuse_depth(frame, located, index[inliers], matches.select(inliers))
        keep = table.outlier_streak < self.tuning.outlier_streak
        if not keep.all():
            self.map.keep(keep)

    def _fuse_depth(
        self, frame: FrameInput, located: Located, index: NDArray[np.int64], matches: Matches
    ) -> None:
        """The sensor's depth of this frame, moved into the landmarks' keyframes.

        Errors at one place last over frames, so that a measurement counts as one of ``repeated_looks``.
        """
        table = self.map.landmarks
        measured = np.isfinite(matches.inverse_depth)
        index, matches = index[measured], matches.select(measured)
        if not len(index):
            return
        rays = np.ones((len(index), 3))
        rays[:, 0] = (matches.pixels[:, 0] - frame.intrinsics.cx_px) / frame.intrinsics.fx_px
        rays[:, 1] = (matches.pixels[:, 1] - frame.intrinsics.cy_px) / frame.intrinsics.fy_px
        points = rays / matches.inverse_depth[:, None] @ located.world_from_camera[:3, :3].T + located.world_from_camera[:3, 3]
        depth = np.empty(len(index))
        for number in np.unique(table.keyframe[index]).tolist():
            rows = table.keyframe[index] == number
            pose = self.map.keyframes[number].world_from_camera
            depth[rows] = (points[rows] - pose[:3, 3]) @ pose[:3, 2]
        good = depth > 1e-3
        index, depth, matches = index[good], depth[good], matches.select(good)
        inverse = 1.0 / depth
        variance = (matches.inverse_depth_std * inverse / matches.inverse_depth) ** 2 * self.tuning.repeated_looks
        gain = table.variance[index] / (table.variance[index] + variance)
        table.inverse_depth[index] += gain * (inverse - table.inverse_depth[index])
        table.variance[index] *= 1.0 - gain

    def _needs_keyframe(self, frame: FrameInput) -> bool:
        """Whether the view has left the map: too few landmarks are seen, or too little of the image has any."""
        pixels = self.map.landmarks.last_pixel
        pixels = pixels[np.isfinite(pixels[:, 0])]
        if not self.map.keyframes:
            return True
        if len(pixels) < self.tuning.overlap * self.tuning.keyframe_landmarks * 0.5:
            return True
        height, width = frame.gray.shape
        occupied = np.zeros((6, 8), bool)
        occupied[(pixels[:, 1] * 6 / height).astype(int), (pixels[:, 0] * 8 / width).astype(int)] = True
        newest = self.map.keyframes[max(self.map.keyframes)]
        return np.count_nonzero(occupied) < self.tuning.overlap * self._occupied_at_keyframe

    def _add_keyframe(self, frame: FrameInput, located: Located, static: MaskArray | None) -> None:
        """New landmarks where the newest image has none."""
        tuning = self.tuning
        scale = frame.gray.shape[1] / 640.0
        border = tuning.patch_px
        allowed = np.zeros(frame.gray.shape, bool)
        allowed[border:-border, border:-border] = True
        if static is not None:
            allowed &= static
        if frame.depth is not None:
            allowed &= frame.depth.valid
        known = self.map.landmarks.last_pixel
        known = known[np.isfinite(known[:, 0])]
        wanted = max(tuning.keyframe_landmarks - len(known), tuning.keyframe_landmarks // 3)
        pixels = new_corners(frame.gray, allowed, known, tuning.spacing_px * scale, wanted)
        number = self.map.created
        inverse, std = sampled_depth(frame.depth, pixels)
        pixels, inverse, std = pixels[np.isfinite(inverse)], inverse[np.isfinite(inverse)], std[np.isfinite(inverse)]
        information = structure_tensors(frame.gray, pixels, tuning.patch_px) / (tuning.image_noise**2)
        rows = len(pixels)
        table = LandmarkTable(
            np.full(rows, number),
            pixels,
            self._unrolled(pixels, None, located.world_from_camera, self._velocity, frame, 1 / inverse) if rows else pixels,
            inverse,
            std**2,
            information,
            np.ones(rows, np.int64),
            np.zeros(rows, np.int64),
            pixels.copy(),
        )
        median = float(np.median(inverse)) if rows else 0.0
        keyframe = Keyframe(number, frame.stamp_ns, frame.gray, located.world_from_camera, located.covariance, median)
        self.map.add_keyframe(keyframe, table)
        if len(self.map.keyframes) > tuning.max_keyframes:
            oldest = min(self.map.keyframes)
            self.map.keep(self.map.landmarks.keyframe != oldest)
        seen = self.map.landmarks.last_pixel
        seen = seen[np.isfinite(seen[:, 0])]
        height, width = frame.gray.shape
        occupied = np.zeros((6, 8), bool)
        occupied[(seen[:, 1] * 6 / height).astype(int), (seen[:, 0] * 8 / width).astype(int)] = True
        self._occupied_at_keyframe = np.count_nonzero(occupied)


def blended(before: NoiseLevel, shown: NoiseLevel, tuning: OdometryTuning) -> NoiseLevel:
    """Variance factors averaged over time in the logarithm, within bounds."""

    def average(old: float, new: float) -> float:
        bounded = min(max(new, tuning.least_noise), tuning.most_noise)
        return float(old**tuning.noise_memory * bounded ** (1.0 - tuning.noise_memory))

    return NoiseLevel(average(before.pixel, shown.pixel), average(before.depth, shown.depth))


def sampled_depth(depth: DepthMap | None, pixels: PoseArray) -> tuple[PoseArray, PoseArray]:
    """Inverse depth and its standard deviation (n,) at the nearest pixels; NaN where not valid."""
    inverse, std = np.full(len(pixels), np.nan), np.full(len(pixels), np.nan)
    if depth is None or not len(pixels):
        return inverse, std
    column, row = np.rint(pixels).astype(int).T
    valid = depth.valid[row, column]
    inverse[valid] = depth.inverse_depth[row, column][valid]
    std[valid] = depth.sigma[row, column][valid]
    return inverse, std


def inside(pixels: PoseArray, shape: tuple[int, ...], border_px: int) -> MaskArray:
    """(n,) which pixels (n, 2) lie in an image (h, w), away from its border."""
    x, y = pixels.T
    return (x >= border_px) & (y >= border_px) & (x <= shape[1] - 1 - border_px) & (y <= shape[0] - 1 - border_px)


def through(homography: PoseArray, pixels: PoseArray) -> PoseArray:
    """Pixels (n, 2) through a homography (3, 3)."""
    homogeneous = pixels @ homography[:, :2].T + homography[:, 2]
    return homogeneous[:, :2] / homogeneous[:, 2:]


def similar_size(homography: PoseArray, pixels: PoseArray) -> MaskArray:
    """(n,) where the homography changes areas by less than a factor of 4; and keeps what is in front there."""
    scale = pixels @ homography[2, :2] + homography[2, 2]
    area = np.linalg.det(homography) / np.where(scale > 1e-6, scale, np.nan) ** 3
    return np.nan_to_num(area) * 4 > 1.0 if not len(pixels) else (np.nan_to_num(area) > 0.25) & (np.nan_to_num(area) < 4.0)


def patch_correlation(one: GrayImage, other: GrayImage, at_one: PoseArray, at_other: PoseArray, side_px: int = 9) -> PoseArray:
    """(n,) normalised cross-correlation of square patches of two images about sub-pixel places (n, 2) each."""
    if not len(at_one):
        return np.zeros(0)
    half = side_px // 2
    offset = np.arange(-half, half + 1, dtype=np.float32)
    dx, dy = (part.ravel() for part in np.meshgrid(offset, offset))
    patches = []
    for image, places in ((one, at_one), (other, at_other)):
        x = places[:, :1].astype(np.float32) + dx
        y = places[:, 1:].astype(np.float32) + dy
        values = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        patches.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-3))
    return np.einsum("ni,ni->n", *patches).astype(np.float64)
