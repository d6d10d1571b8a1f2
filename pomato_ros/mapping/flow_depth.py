"""Dense depth of a chunk from optical flow between adjusted cameras, with a network's depth where parallax is small.

A pixel with normalised coordinates r = (u, v, 1) and inverse depth q is seen in another camera at
``x' = (R r + q t)_xy / (R r + q t)_z``; each flow vector gives two equations linear in q, ``a q = b`` with
``a = t_xy - x' t_z`` and ``b = x' (R r)_z - (R r)_xy``, so ``q = a.b / a.a`` with variance ``(sigma / (f |a|))^2``.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import compose, invert

GAPS = (-12, -8, -5, -3, 3, 5, 8, 12)  # frames, to the other image
FLOW_SIGMA_PX = 0.5
CHECK_PX = 1.5  # flow there and back
OFF_LINE_PX = 1.5  # farther from the epipolar line a match is an outlier
PRIOR_SIGMA = 0.6  # relative, of the network's inverse depth
OUTLIER_SIGMAS = 3.0
ROUNDS = 4
LEAST_CERTAINTY = 4.0  # inverse depth over its standard deviation; less leaves the depth as it was
LARGEST_CHANGE = 1.5  # of log depth; more is an outlier


def triangulated_depth(
    images_rgb: Sequence[NDArray[np.uint8]],
    moving: NDArray[np.bool_],
    depth: NDArray[np.float32],
    world_from_camera: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
) -> NDArray[np.float32]:
    """(n, h, w) most likely depth of what rests, given flow to other images; ``depth`` where nothing else is known.

    Args:
        images_rgb: n images (h, w, 3).
        moving: (n, h, w), pixels that keep ``depth``.
        depth: (n, h, w) to begin with, in the unit of the poses.
        world_from_camera: (n, 4, 4).
        camera_matrix: (3, 3).
    """
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images_rgb]
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    refined = depth.copy()
    for number in range(len(grey)):
        measured = []
        for other in (number + gap for gap in GAPS):
            if 0 <= other < len(grey):
                flow = np.asarray(solver.calc(grey[number], grey[other], None))
                back = np.asarray(solver.calc(grey[other], grey[number], None))
                relative = compose(invert(world_from_camera[other]), world_from_camera[number])
                measured.append(_inverse_depth(flow, _confirmed(flow, back), relative, camera_matrix))
        if measured:
            fused = _fuse(depth[number], measured)
            refined[number] = np.where(moving[number] | ~(fused > 0), depth[number], fused)
    return refined


def _inverse_depth(
    flow: NDArray[np.float32],
    confirmed: NDArray[np.bool_],
    other_from_camera: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inverse depth (h, w) by one flow field and its standard deviation, infinite where it says nothing."""
    height, width = flow.shape[:2]
    inverse = np.linalg.inv(camera_matrix)
    pixels = np.concatenate((pixel_grid(height, width), np.ones((height, width, 1))), axis=-1)
    turned = pixels @ (other_from_camera[:3, :3] @ inverse).T
    target = pixels.copy()
    target[..., :2] += flow
    seen = (target @ inverse.T)[..., :2]
    shift = other_from_camera[:3, 3]
    a = shift[:2] - seen * shift[2]
    b = seen * turned[..., 2:] - turned[..., :2]
    length = np.linalg.norm(a, axis=-1)
    value = (a * b).sum(axis=-1) / np.maximum(length**2, 1e-18)
    depth_ratio = np.abs(turned[..., 2] + value * shift[2])  # depth in the other camera over depth here
    off_px = np.linalg.norm(b - a * value[..., None], axis=-1) / np.maximum(depth_ratio, 1e-6) * camera_matrix[0, 0]
    sigma = FLOW_SIGMA_PX * np.maximum(depth_ratio, 1e-6) / (camera_matrix[0, 0] * np.maximum(length, 1e-18))
    return value, np.where(confirmed & (off_px < OFF_LINE_PX), sigma, np.inf)


def _fuse(
    depth: NDArray[np.float32], measured: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Depth (h, w) of the weighted mean of inverse depths, outliers left out; the network's own is one of them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        prior = 1 / depth.astype(np.float64)
        known = np.isfinite(prior) & (prior > 0)
        values = np.stack([np.where(known, prior, 1.0), *(value for value, _ in measured)])
        sigmas = np.stack([np.where(known, PRIOR_SIGMA * prior, np.inf), *(sigma for _, sigma in measured)])
        weights = 1 / sigmas**2
        mean = _weighted_median(values, weights)
        for _ in range(ROUNDS):
            inlier = np.abs(values - mean) < OUTLIER_SIGMAS * sigmas
            share = np.where(inlier, weights, 0.0)
            total = share.sum(axis=0)
            mean = np.where(total > 0, (share * values).sum(axis=0) / total, mean)
        certain = (mean > 0) & (mean * np.sqrt(total) > LEAST_CERTAINTY)
        near = np.abs(np.log(mean / values[0])) < LARGEST_CHANGE
        return np.where(certain & near, 1 / mean, np.nan)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(h, w) weighted median over the first axis."""
    order = np.argsort(values, axis=0)
    cumulated = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    middle = (cumulated >= 0.5 * cumulated[-1:]).argmax(axis=0)
    return np.take_along_axis(np.take_along_axis(values, order, axis=0), middle[None], axis=0)[0]


def _confirmed(flow: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(h, w) pixels whose flow ends in the image where the flow back leads home."""
    height, width = flow.shape[:2]
    target = (pixel_grid(height, width) + flow).astype(np.float32)
    returned = cv2.remap(back, target[..., 0], target[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((target >= 0) & (target <= (width - 1, height - 1))).all(axis=-1)
    return np.asarray(inside & (np.linalg.norm(flow + returned, axis=-1) < CHECK_PX))
