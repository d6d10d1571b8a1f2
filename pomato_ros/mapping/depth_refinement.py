"""A network's depth maps brought onto adjusted points: a smooth correction for each image, then agreement over time."""

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import invert
from pomato_ros.mapping.bundle import BundleResult, depth_at

LEAST_POINTS = 12  # an image with fewer keeps the correction of all images together
RIDGE = 30.0  # observations' worth of belief in no correction beyond the common factor
ROUNDS = 5
LEAST_RESIDUAL = 0.02  # of log depth: smaller ones weigh alike
NEIGHBOURS = 4  # images before and after that are warped into an image
AGREEMENT = 0.25  # share by which two depths of one surface may differ


def corrected_depth(depth: NDArray[np.float32], result: BundleResult) -> NDArray[np.float32]:
    """(n, h, w) depth times ``exp(a + b x + c y + d log depth)`` of each image, fitted to the points that it sees.

    Least absolute difference of logarithms by reweighted ridge regression; x, y in image widths from the centre.
    """
    seen = result.inliers
    pose = invert(result.world_from_camera)[seen.image]
    points = result.points_world[seen.track]
    adjusted = np.einsum("oj,oj->o", pose[:, 2, :3], points) + pose[:, 2, 3]
    own = depth_at(depth, seen)
    usable = np.isfinite(own) & (adjusted > 0)
    image, logs = seen.image[usable], np.log(adjusted[usable] / own[usable])
    features = _features(seen.pixels[usable], own[usable], depth.shape[1:], depth)
    common = float(np.median(logs)) if len(logs) else 0.0
    corrected = np.empty_like(depth)
    grid = pixel_grid(*depth.shape[1:]).reshape(-1, 2)
    for number, own_depth in enumerate(depth):
        chosen = image == number
        weights = _fit(features[chosen], logs[chosen] - common) if chosen.sum() >= LEAST_POINTS else np.zeros(4)
        with np.errstate(invalid="ignore", divide="ignore"):
            correction = _features(grid, own_depth.ravel(), depth.shape[1:], depth) @ weights
        corrected[number] = own_depth * np.exp(common + correction).reshape(own_depth.shape)
    return corrected


def agreed_depth(
    depth: NDArray[np.float32],
    moving: NDArray[np.bool_],
    world_from_camera: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
) -> NDArray[np.float32]:
    """(n, h, w): each image's depth averaged in its logarithm with what neighbours see of the same surface at rest."""
    averaged = np.empty_like(depth)
    for number in range(len(depth)):
        logs, weight = np.log(depth[number]), np.ones(depth.shape[1:], np.float32)
        total = np.where(np.isfinite(logs), logs, 0.0)
        for other in range(max(0, number - NEIGHBOURS), min(len(depth), number + NEIGHBOURS + 1)):
            if other != number:
                relative = invert(world_from_camera[number]) @ world_from_camera[other]
                seen = _rendered(depth[other], ~moving[other], relative, camera_matrix)
                agrees = (np.abs(seen / depth[number] - 1) < AGREEMENT) & ~moving[number]
                total += np.where(agrees, np.log(np.where(agrees, seen, 1.0)), 0.0)
                weight += agrees
        averaged[number] = np.where(np.isfinite(logs), np.exp(total / weight), np.nan)
    return averaged


def _features(
    pixels: NDArray[np.float64], depth: NDArray[np.floating], shape: tuple[int, ...], all_depth: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(o, 4) of the correction: 1, x, y, log of the depth over the median one."""
    height, width = shape
    x, y = (pixels[:, 0] - width / 2) / width, (pixels[:, 1] - height / 2) / width
    return np.stack((np.ones(len(pixels)), x, y, np.log(depth / np.nanmedian(all_depth))), axis=-1)


def _fit(features: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) ridge regression of least absolute difference; the first feature is not held back."""
    ridge = np.diag([1e-6, RIDGE, RIDGE, RIDGE])
    weights: NDArray[np.float64] = np.zeros(features.shape[1])
    share = np.ones(len(target))
    for _ in range(ROUNDS):
        weighted = features * share[:, None]
        weights = np.asarray(np.linalg.solve(weighted.T @ features + ridge, weighted.T @ target), np.float64)
        share = 1 / np.maximum(np.abs(target - features @ weights) / LEAST_RESIDUAL, 1.0)
    return weights


def _rendered(
    depth: NDArray[np.float32],
    static: NDArray[np.bool_],
    target_from_source: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
) -> NDArray[np.float32]:
    """(h, w) depth of another image's surfaces in the target's pixels, nearest first; NaN where none falls."""
    height, width = depth.shape
    usable = static & np.isfinite(depth) & (depth > 0)
    points = unproject(pixel_grid(height, width)[usable], depth[usable], camera_matrix)
    seen = points @ target_from_source[:3, :3].T + target_from_source[:3, 3]
    seen = seen[seen[:, 2] > 0]
    column, row = np.rint((seen @ camera_matrix.T)[:, :2] / seen[:, 2:]).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = np.full(height * width, np.inf)
    np.minimum.at(found, row[inside] * width + column[inside], seen[inside, 2])
    return np.where(np.isfinite(found), found, np.nan).reshape(height, width).astype(np.float32)
