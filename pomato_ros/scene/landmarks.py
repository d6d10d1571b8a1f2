"""The local map: keyframes and the landmarks anchored in them.

A landmark is a corner of a keyframe's image with the inverse depth at which it was seen there (the inverse depth
parametrisation, Civera et al. 2008): ``X_world = T_world_keyframe (K^-1 [u v 1]^T / rho)``. It is always measured with
the patch of its own keyframe, never with what the last image showed, so that a camera that stands still or comes back
does not drift.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import invert
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

GrayImage = NDArray[np.uint8]


@dataclass(slots=True)
class Keyframe:
    """One image that landmarks are anchored in."""

    number: int  # rising, never reused
    stamp_ns: int
    gray: GrayImage  # (h, w)
    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) x, y, z, rot x, rot y, rot z, world axes, against the first frame
    median_inverse_depth: float  # of its landmarks
    descriptors: NDArray[np.uint8] | None = None  # (m, 32) ORB, computed when a lost camera asks for it
    descriptor_pixels: FloatArray | None = None  # (m, 2)
    inverse_depth: FloatArray | None = None  # (h, w) at the keyframe, 0 where unknown; for relocalisation


@dataclass(slots=True)
class LandmarkTable:
    """One row a landmark."""

    keyframe: NDArray[np.int64]  # (n,) number of its keyframe
    pixel: PoseArray  # (n, 2) x, y in the keyframe
    inverse_depth: PoseArray  # (n,) in the keyframe
    variance: PoseArray  # (n,) of the inverse depth
    information: PoseArray  # (n, 2, 2) of its pixel: the patch's structure tensor over the image noise, 1/px^2
    seen: NDArray[np.int64]  # (n,) frames in which it was an inlier
    outlier_streak: NDArray[np.int64]  # (n,) frames in a row in which it was measured and was an outlier
    last_pixel: PoseArray  # (n, 2) in the newest frame, NaN when it was not an inlier there

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
    whole, one = np.zeros(0, np.int64), np.zeros(0)
    return LandmarkTable(
        whole, np.zeros((0, 2)), one, one.copy(), np.zeros((0, 2, 2)), whole.copy(), whole.copy(), np.zeros((0, 2))
    )


@dataclass(slots=True)
class LocalMap:
    """Keyframes by number and all their landmarks."""

    keyframes: dict[int, Keyframe] = field(default_factory=dict)
    landmarks: LandmarkTable = field(default_factory=no_landmarks)
    created: int = 0  # keyframes so far

    def add_keyframe(self, keyframe: Keyframe, landmarks: LandmarkTable) -> None:
        """Add a keyframe and what is anchored in it."""
        self.keyframes[keyframe.number] = keyframe
        self.landmarks = self.landmarks.append(landmarks)
        self.created = keyframe.number + 1

    def keep(self, index: MaskArray) -> None:
        """Drop all landmarks but these, and keyframes that hold none."""
        self.landmarks = self.landmarks.select(index)
        used = set(self.landmarks.keyframe.tolist())
        newest = max(self.keyframes, default=-1)
        self.keyframes = {number: kept for number, kept in self.keyframes.items() if number in used or number == newest}

    def points_world(self, intrinsics: Intrinsics, index: NDArray[np.int64] | None = None) -> tuple[PoseArray, PoseArray]:
        """Positions (n, 3) in world and their derivatives by inverse depth (n, 3)."""
        table = self.landmarks if index is None else self.landmarks.select(index)
        rays = rays_through(table.pixel, intrinsics)
        points, slopes = np.empty_like(rays), np.empty_like(rays)
        for number in np.unique(table.keyframe).tolist():
            rows = table.keyframe == number
            pose = self.keyframes[number].world_from_camera
            rotated = rays[rows] @ pose[:3, :3].T
            depth = 1.0 / table.inverse_depth[rows]
            points[rows] = rotated * depth[:, None] + pose[:3, 3]
            slopes[rows] = -rotated * (depth**2)[:, None]
        return points, slopes


def rays_through(pixels: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(n, 3) points at depth 1 on the rays of pixels (n, 2)."""
    rays = np.ones((len(pixels), 3))
    rays[:, 0] = (pixels[:, 0] - intrinsics.cx_px) / intrinsics.fx_px
    rays[:, 1] = (pixels[:, 1] - intrinsics.cy_px) / intrinsics.fy_px
    return rays


def keyframe_homography(keyframe: Keyframe, world_from_camera: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(3, 3) pixels of the keyframe -> pixels of a camera, for a plane at the keyframe's median depth.

    ``H = K (R + rho t n^T) K^-1`` with n = (0, 0, 1) in the keyframe: takes up rotation and the change of size, so that
    patches can be compared by translation alone.
    """
    camera_from_keyframe = invert(world_from_camera) @ keyframe.world_from_camera
    plane = camera_from_keyframe[:3, :3].copy()
    plane[:, 2] += keyframe.median_inverse_depth * camera_from_keyframe[:3, 3]
    matrix = intrinsics.matrix()
    return matrix @ plane @ np.linalg.inv(matrix)


def structure_tensors(gray: GrayImage, pixels: PoseArray, patch_px: int) -> PoseArray:
    """(n, 2, 2) sums of gradient products over square patches about pixels (n, 2), grey levels squared per px^2."""
    gx = cv2.Scharr(gray, cv2.CV_32F, 1, 0) * np.float32(1 / 32)
    gy = cv2.Scharr(gray, cv2.CV_32F, 0, 1) * np.float32(1 / 32)
    size = (patch_px, patch_px)
    column, row = np.rint(pixels).astype(int).T
    products = [cv2.boxFilter(one * other, -1, size, normalize=False) for one, other in ((gx, gx), (gx, gy), (gy, gy))]
    xx, xy, yy = (product[row, column].astype(np.float64) for product in products)
    return np.stack((np.stack((xx, xy), -1), np.stack((xy, yy), -1)), -2)


def new_corners(gray: GrayImage, allowed: MaskArray, taken: PoseArray, spacing_px: float, limit: int) -> PoseArray:
    """(n, 2) corners (Shi and Tomasi 1994) in allowed pixels, at least ``spacing_px`` from each other and from taken.

    Args:
        gray: (h, w).
        allowed: (h, w).
        taken: (m, 2) pixels of landmarks that are seen already.
        spacing_px: least distance.
        limit: most of them.
    """
    mask = allowed.astype(np.uint8)
    for x, y in np.rint(taken).astype(int).tolist():
        cv2.circle(mask, (x, y), max(1, round(spacing_px)), 0, -1)
    found = cv2.goodFeaturesToTrack(gray, limit, 0.005, spacing_px, mask=mask, blockSize=5)
    return np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64)
