"""Depth read at points between pixels, with its variance, and where a surface hides what lies behind it."""

from dataclasses import dataclass

import cv2
import numpy as np

from pomato_ros.config import SurfaceTuning
from pomato_ros.structures import DepthMap, MaskArray, PoseArray

DEFAULTS = SurfaceTuning()


@dataclass(frozen=True, slots=True)
class DepthReading:
    """Inverse depth at some points of an image."""

    inverse_depth: PoseArray  # (n,)
    variance: PoseArray  # (n,) of independent errors of pixels
    slopes: PoseArray  # (n, 2) change per pixel to the right and down
    valid: MaskArray  # (n,)


def no_reading(count: int) -> DepthReading:
    """Nothing measured."""
    return DepthReading(np.zeros(count), np.ones(count), np.zeros((count, 2)), np.zeros(count, bool))


def read_inverse_depth(
    depth: DepthMap, pixels: PoseArray, wanted: MaskArray | None = None, tuning: SurfaceTuning | None = None
) -> DepthReading:
    """Inverse depth at ``pixels`` (n, 2): a plane, whose inverse depth is linear in the image, through their surface.

    Pixels of a patch that differ from its median by more than noise and slope allow belong to another surface.

    Args:
        depth: of the frame.
        pixels: (n, 2).
        wanted: (n,) which of them are read; None: all.
        tuning: size and gates; None: the defaults.
    """
    if wanted is None:
        return _read(depth, pixels, tuning or DEFAULTS)
    reading, rows = no_reading(len(pixels)), np.flatnonzero(wanted)
    some = _read(depth, pixels[rows], tuning or DEFAULTS)
    reading.inverse_depth[rows], reading.variance[rows] = some.inverse_depth, some.variance
    reading.slopes[rows], reading.valid[rows] = some.slopes, some.valid
    return reading


def _read(depth: DepthMap, pixels: PoseArray, tuning: SurfaceTuning) -> DepthReading:
    columns, rows, inside = _patch(depth, pixels, tuning.radius_px)
    values, sigma = depth.inverse_depth[rows, columns], depth.sigma[rows, columns]
    valid = depth.valid[rows, columns] & inside
    middle = _middles(np.where(valid, values, np.nan))
    with np.errstate(invalid="ignore"):
        near = (
            np.abs(values - middle[:, None]) < tuning.same_surface * np.abs(middle)[:, None] + tuning.noise_gate * sigma
        )
    weights = np.where(valid & near, 1.0 / np.maximum(sigma, 1e-9) ** 2, 0.0)
    values = np.where(weights > 0, values, 0.0)
    basis = np.stack((np.ones(rows.shape), columns - pixels[:, :1], rows - pixels[:, 1:]), axis=1)
    scale = 1.0 / np.maximum(weights.sum(axis=-1), 1e-12)
    weighted = basis * (weights * scale[:, None])[:, None]
    normal = weighted @ basis.swapaxes(1, 2)
    normal[:, 0, 0] += 1e-12
    usual_slope = tuning.usual_slope * np.where(np.isfinite(middle), np.maximum(np.abs(middle), 1e-9), 1.0)
    normal[:, [1, 2], [1, 2]] += (scale / usual_slope**2)[:, None]
    inverse = np.linalg.inv(normal)
    solved = (inverse @ (weighted @ values[..., None]))[..., 0]
    counted = np.count_nonzero(weights, axis=-1)
    return DepthReading(solved[:, 0], inverse[:, 0, 0] * scale, solved[:, 1:], counted >= tuning.least_pixels)


@dataclass(frozen=True, slots=True)
class SurfaceComparison:
    """How points lie to the surface that the image shows where they project."""

    seen: MaskArray  # (n,) the surface is about as far
    hidden: MaskArray  # (n,) it is nearer
    vacant: MaskArray  # (n,) it is farther: nothing is where the point should be


def compare_with_surface(
    depth: DepthMap,
    pixels: PoseArray,
    inverse_depth: PoseArray,
    sigma: PoseArray,
    slack: float,
    noise_gate: float = DEFAULTS.noise_gate,
) -> SurfaceComparison:
    """Compare points with the four pixels around their projections ``pixels`` (n, 2).

    Args:
        depth: of the frame.
        pixels: (n, 2).
        inverse_depth: (n,) of the points.
        sigma: (n,) standard deviation of that.
        slack: share of the inverse depth that counts as the same surface.
        noise_gate: standard deviations that do.
    """
    height, width = depth.valid.shape
    corner = np.floor(pixels).astype(np.int64)
    columns = (corner[:, :1] + np.array([0, 1, 0, 1])).clip(0, width - 1)
    rows = (corner[:, 1:] + np.array([0, 0, 1, 1])).clip(0, height - 1)
    valid = depth.valid[rows, columns]
    values = depth.inverse_depth[rows, columns]
    tolerance = noise_gate * np.hypot(depth.sigma[rows, columns], sigma[:, None]) + slack * inverse_depth[:, None]
    difference = values - inverse_depth[:, None]
    known = valid.any(axis=-1)
    farther = (~valid | (difference < -tolerance)).all(axis=-1) & known
    nearer = (~valid | (difference > tolerance)).all(axis=-1) & known
    return SurfaceComparison(known & ~farther & ~nearer, nearer, farther)


def depth_jumps(depth: DepthMap, window_px: int, ratio: float, noise_gate: float = DEFAULTS.noise_gate) -> MaskArray:
    """(h, w) where depth is invalid, or differs within ``window_px`` by more than ``ratio`` and noise allow."""
    kernel = np.ones((window_px, window_px), np.uint8)
    near = cv2.dilate(np.where(depth.valid, depth.inverse_depth, np.float32(0)), kernel)
    far = cv2.erode(np.where(depth.valid, depth.inverse_depth, np.float32(np.inf)), kernel)
    jumps: MaskArray = ~depth.valid | (near - far > ratio * near + 2.0 * noise_gate * depth.sigma)
    return jumps


def _patch(depth: DepthMap, pixels: PoseArray, radius: int) -> tuple[np.ndarray, np.ndarray, MaskArray]:
    """Columns, rows and which are inside, (n, k) each, of the pixels around points."""
    height, width = depth.valid.shape
    reach = np.arange(-radius, radius + 1)
    across, down = (axis.ravel() for axis in np.meshgrid(reach, reach))
    nearest = np.rint(pixels).astype(np.int64)
    columns, rows = nearest[:, :1] + across, nearest[:, 1:] + down
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    return columns.clip(0, width - 1), rows.clip(0, height - 1), inside


def _middles(values: PoseArray) -> PoseArray:
    """(n,) medians of rows (n, k), NaN where all of a row are NaN."""
    ordered = np.sort(values, axis=1)  # NaN come last
    count = np.count_nonzero(~np.isnan(values), axis=1)
    return np.where(count > 0, ordered[np.arange(len(values)), (np.maximum(count, 1) - 1) // 2], np.nan)
