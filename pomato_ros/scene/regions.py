"""Connected regions of the moving mask, split where depth jumps."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.scene.depth_patches import DEFAULTS, depth_jumps
from pomato_ros.structures import DepthMap, MaskArray

STRIDE = 2  # of the pixels that regions are found on
LEAST_SHARE = 0.001  # of the image; smaller regions are noise
REACH = 4.0  # strided pixels from a region's smooth inside that belong to it


def label_regions(mask: MaskArray, depth: DepthMap | None) -> NDArray[np.int32]:
    """Numbers from 1 of the regions of a mask (h, w), 0 outside; every second row and column of pixels.

    Pixels beside jumps in depth separate regions; afterwards they belong to the nearest one.
    """
    moving = np.ascontiguousarray(mask[::STRIDE, ::STRIDE])
    inside = moving if depth is None else moving & ~depth_jumps(_strided(depth), 3, DEFAULTS.step)
    if not inside.any():
        return np.zeros(moving.shape, np.int32)
    away, nearest = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_CCOMP
    )
    labels = np.where(moving & (away < REACH), nearest, 0)
    large = np.atleast_1d(np.bincount(labels.ravel()) >= max(LEAST_SHARE * moving.size, 1))
    large[0] = False
    numbers: NDArray[np.int32] = np.where(large, np.cumsum(large), 0).astype(np.int32)
    return numbers[labels]


def labels_at(labels: NDArray[np.int32], pixels: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) numbers of the regions that ``pixels`` (n, 2) of the whole image lie in; 0: in none, or not finite."""
    finite = np.isfinite(pixels[:, 0]) & np.isfinite(pixels[:, 1])
    nearest = np.rint(np.where(finite[:, None], pixels, 0.0) / STRIDE).astype(np.int64)
    x, y = nearest[:, 0].clip(0, labels.shape[1] - 1), nearest[:, 1].clip(0, labels.shape[0] - 1)
    return np.where(finite, labels[y, x], 0).astype(np.int64)


def _strided(depth: DepthMap) -> DepthMap:
    few = np.s_[::STRIDE, ::STRIDE]
    return DepthMap(
        np.ascontiguousarray(depth.inverse_depth[few]),
        np.ascontiguousarray(depth.sigma[few]),
        np.ascontiguousarray(depth.valid[few]),
        depth.metric,
    )
