"""The local map: keyframes and the landmarks anchored in them.

A landmark is a corner of a keyframe's image with the inverse depth at which it was seen there (the inverse depth
parametrisation, Civera et al. 2008): ``X_world = T_world_keyframe (K^-1 [u v 1]^T / rho)``. It is always measured with
the patch of its own keyframe, never with what the last image showed, so that a camera that stands still or comes back
does not drift.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import invert
from pomato_ros.scene.patches import GrayImage
from pomato_ros.structures import DepthMap, Intrinsics, MaskArray, PoseArray


@dataclass(slots=True)
class Keyframe:
    """One image that landmarks are anchored in."""

    number: int  # rising, never reused
    stamp_ns: int
    gray: GrayImage  # (h, w)
    depth: DepthMap | None  # for relocalisation
    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) x, y, z, rot x, rot y, rot z, world axes, against the first frame
    typical_inverse_depth: float  # median of its landmarks


@dataclass(slots=True)
class LandmarkTable:
    """One row a landmark."""

    keyframe: NDArray[np.int64]  # (n,) number of its keyframe
    pixel: PoseArray  # (n, 2) x, y in the keyframe, as seen
    readout_rate: PoseArray  # (n, 2) px by which a second of readout time moves that pixel
    inverse_depth: PoseArray  # (n,) in the keyframe
    variance: PoseArray  # (n,) of the inverse depth
    information: PoseArray  # (n, 2, 2) of its pixel in a patch comparison, 1/px^2
    seen: NDArray[np.int64]  # (n,) frames in which it was an inlier
    outlier_streak: NDArray[np.int64]  # (n,) frames in a row in which it was measured and was an outlier
    last_pixel: PoseArray  # (n, 2) in the newest located frame, NaN where it was no inlier there

    def __len__(self) -> int:
        return len(self.keyframe)

    def select(self, index: MaskArray | NDArray[np.int64]) -> "LandmarkTable":
        """Some of the rows."""
        return LandmarkTable(*(getattr(self, name)[index] for name in self.__slots__))

    def append(self, other: "LandmarkTable") -> "LandmarkTable":
        """The rows of both."""
        parts = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return LandmarkTable(*(np.concatenate(part) for part in parts))


def no_landmarks() -> LandmarkTable:
    """An empty table."""

    def whole() -> NDArray[np.int64]:
        return np.zeros(0, np.int64)

    def real(*shape: int) -> PoseArray:
        return np.zeros((0, *shape))

    return LandmarkTable(whole(), real(2), real(2), real(), real(), real(2, 2), whole(), whole(), real(2))


@dataclass(slots=True)
class LocalMap:
    """Keyframes by number, and all their landmarks."""

    keyframes: dict[int, Keyframe] = field(default_factory=dict)
    landmarks: LandmarkTable = field(default_factory=no_landmarks)
    created: int = 0  # keyframes so far

    def add_keyframe(self, keyframe: Keyframe, landmarks: LandmarkTable) -> None:
        """Add a keyframe and what is anchored in it."""
        self.keyframes[keyframe.number] = keyframe
        self.landmarks = self.landmarks.append(landmarks)
        self.created = keyframe.number + 1

    def keep(self, index: MaskArray) -> None:
        """Drop all landmarks but these, and keyframes that hold none; the newest keyframe stays."""
        self.landmarks = self.landmarks.select(index)
        used = set(self.landmarks.keyframe.tolist()) | {max(self.keyframes, default=-1)}
        self.keyframes = {number: kept for number, kept in self.keyframes.items() if number in used}

    def drop_keyframe(self, number: int) -> None:
        """Forget a keyframe and its landmarks."""
        self.landmarks = self.landmarks.select(self.landmarks.keyframe != number)
        del self.keyframes[number]

    def last_pixels(self) -> PoseArray:
        """(m, 2) where the inliers of the newest located frame were seen."""
        pixels = self.landmarks.last_pixel
        return pixels[np.isfinite(pixels[:, 0])]

    def points_world(
        self, intrinsics: Intrinsics, readout_s: float, index: NDArray[np.int64]
    ) -> tuple[PoseArray, PoseArray]:
        """Positions (n, 3) of the landmarks ``index`` in world, and their derivatives by inverse depth (n, 3)."""
        table = self.landmarks.select(index)
        rays = rays_through(table.pixel - readout_s * table.readout_rate, intrinsics)
        points, slopes = np.empty_like(rays), np.empty_like(rays)
        for number in np.unique(table.keyframe).tolist():
            rows = table.keyframe == number
            pose = self.keyframes[number].world_from_camera
            rotated = rays[rows] @ pose[:3, :3].T
            depth = 1.0 / table.inverse_depth[rows]
            points[rows] = rotated * depth[:, None] + pose[:3, 3]
            slopes[rows] = -rotated * (depth**2)[:, None]
        return points, slopes

    def depth_in_keyframes(self, points_world: PoseArray, index: NDArray[np.int64]) -> PoseArray:
        """(n,) depth of points (n, 3), each along the optical axis of its landmark's keyframe."""
        depth = np.empty(len(index))
        numbers = self.landmarks.keyframe[index]
        for number in np.unique(numbers).tolist():
            rows = numbers == number
            pose = self.keyframes[number].world_from_camera
            depth[rows] = (points_world[rows] - pose[:3, 3]) @ pose[:3, 2]
        return depth


def rays_through(pixels: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(n, 3) points at depth 1 on the rays of pixels (n, 2)."""
    rays = np.ones((len(pixels), 3))
    rays[:, 0] = (pixels[:, 0] - intrinsics.cx_px) / intrinsics.fx_px
    rays[:, 1] = (pixels[:, 1] - intrinsics.cy_px) / intrinsics.fy_px
    return rays


def keyframe_homography(keyframe: Keyframe, world_from_camera: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(3, 3) pixels of the keyframe -> pixels of a camera, for a plane at the keyframe's typical depth.

    ``H = K (R + rho t n^T) K^-1`` with n = (0, 0, 1) in the keyframe: it takes up rotation and the change of size, so
    that patches can be compared by translation alone.
    """
    camera_from_keyframe = invert(world_from_camera) @ keyframe.world_from_camera
    plane = camera_from_keyframe[:3, :3].copy()
    plane[:, 2] += keyframe.typical_inverse_depth * camera_from_keyframe[:3, 3]
    matrix = intrinsics.matrix()
    return matrix @ plane @ np.linalg.inv(matrix)


def through_homography(homography: PoseArray, pixels: PoseArray) -> tuple[PoseArray, PoseArray]:
    """Pixels (n, 2) through a homography (3, 3), and by how much it scales areas there (n,); NaN behind the camera."""
    homogeneous = pixels @ homography[:, :2].T + homography[:, 2]
    scale = np.where(homogeneous[:, 2] > 1e-6, homogeneous[:, 2], np.nan)
    return homogeneous[:, :2] / scale[:, None], np.linalg.det(homography) / scale**3
