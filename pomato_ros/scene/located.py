"""What the odometry reads of a frame, and what it finds: landmarks measured, a camera located."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TUNED_WIDTH_PX
from pomato_ros.scene.patches import GrayImage
from pomato_ros.scene.pose import Matches, PoseFit
from pomato_ros.structures import DepthMap, Intrinsics, MaskArray, PoseArray


@dataclass(frozen=True, slots=True)
class FrameInput:
    """What the odometry reads of a frame."""

    stamp_ns: int
    gray: GrayImage  # (h, w)
    intrinsics: Intrinsics
    depth: DepthMap | None
    valid: MaskArray | None = None  # (h, w) pixels that show the scene

    @property
    def pixel_scale(self) -> float:
        """Pixels of this image for each pixel of the tuning, whose images are 640 px wide."""
        return self.gray.shape[1] / TUNED_WIDTH_PX


@dataclass(frozen=True, slots=True)
class Located:
    """The newest camera."""

    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) x, y, z, rot x, rot y, rot z, world axes
    inliers: int
    inlier_ratio: float
    fit_covariance: PoseArray  # (6, 6) of the fit alone, without that of the map; axes of the camera
    relocalised: bool = False  # found again after it was lost


@dataclass(frozen=True, slots=True)
class MeasuredLandmarks:
    """Landmarks measured in the newest frame, and the fit on them."""

    index: NDArray[np.int64]  # (n,) rows of the landmark table
    matches: Matches
    fit: PoseFit
    inlier_ratio: float  # of the landmarks, or of the surface they stand for where motions compete


def sampled_depth(depth: DepthMap | None, pixels: PoseArray) -> tuple[PoseArray, PoseArray]:
    """Inverse depth and its standard deviation (n,) at the nearest pixels (n, 2); NaN where not valid."""
    inverse, std = np.full(len(pixels), np.nan), np.full(len(pixels), np.nan)
    if depth is None or not len(pixels):
        return inverse, std
    column, row = np.rint(pixels).astype(int).T
    valid = depth.valid[row, column]
    inverse[valid] = depth.inverse_depth[row, column][valid]
    std[valid] = depth.sigma[row, column][valid]
    return inverse, std
