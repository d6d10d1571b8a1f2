"""Checks a depth sensor's noise model on a recording: residuals in standard deviations against what other frames saw.

    python tools/depth_noise.py ../shared/data/seven_scenes --sensor structured_light

The truth of a pixel is the median of what the frames before and after it measured of the same surface, with the
relative poses refined by point-to-plane alignment, so that the pose truth's own errors stay out. About 1 is calibrated.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import PomatoConfig
from pomato_ros.datasets.sensors.layouts import open_sequence
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import invert, pose_exp
from pomato_ros.sources.rgbd import RgbdSource
from pomato_ros.structures import DepthMap, Intrinsics

FloatValues = NDArray[np.float64]
SPAN = 4  # frames before and after
LEAST_SEEN = 5  # of these, so that the median is one
NEAR = 0.05  # share of the depth within which another frame sees the same surface
ALIGNMENTS = 4
WILD = 5.0
MEDIAN_VARIANCE = np.pi / 2  # of a median of n over that of a mean, over n
BANDS_M = (0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)


@dataclass(frozen=True)
class View:
    """One frame's depth and where its camera truly is."""

    depth: DepthMap
    world_from_camera: FloatValues


def points_of(depth: DepthMap, camera: Intrinsics) -> FloatValues:
    """(h, w, 3) in the camera, NaN where not valid."""
    height, width = depth.valid.shape
    rays = (pixel_grid(height, width) - (camera.cx_px, camera.cy_px)) / (camera.fx_px, camera.fy_px)
    z = np.where(depth.valid, 1.0 / np.where(depth.valid, depth.inverse_depth, 1.0), np.nan)
    return np.concatenate((rays, np.ones((height, width, 1))), axis=-1) * z[..., None]


def residual(
    other: View, points: FloatValues, other_from_own: FloatValues, camera: Intrinsics
) -> tuple[FloatValues, FloatValues]:
    """How much farther the other frame saw points (h, w), along its axis, NaN where unseen; and the points there."""
    moved = points @ other_from_own[:3, :3].T + other_from_own[:3, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = (camera.fx_px * moved[..., 0] / moved[..., 2] + camera.cx_px).astype(np.float32)
        y = (camera.fy_px * moved[..., 1] / moved[..., 2] + camera.cy_px).astype(np.float32)
    x, y = np.nan_to_num(x, nan=-10.0), np.nan_to_num(y, nan=-10.0)
    known = cv2.remap(other.depth.valid.astype(np.float32), x, y, cv2.INTER_LINEAR) > 0.999
    seen = cv2.remap(other.depth.inverse_depth, x, y, cv2.INTER_LINEAR)
    farther = np.where(known, 1.0 / np.where(known, seen, 1.0), np.nan) - moved[..., 2]
    return np.where(np.abs(farther) < NEAR * moved[..., 2], farther, np.nan), moved


def align(own: View, other: View, points: FloatValues, camera: Intrinsics) -> FloatValues:
    """``other_from_own`` (4, 4), refined from the true one: least squares of the residuals along the normals."""
    other_from_own = invert(other.world_from_camera) @ own.world_from_camera
    normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    for _ in range(ALIGNMENTS):
        farther, moved = residual(other, points, other_from_own, camera)
        turned = normals @ other_from_own[:3, :3].T
        error = farther * turned[..., 2]
        good = np.isfinite(error) & (np.abs(error) < 3 * 1.4826 * np.nanmedian(np.abs(error)))
        jacobian = np.concatenate((turned, np.cross(moved, turned)), axis=-1)[good]
        step = np.linalg.lstsq(jacobian, error[good], rcond=None)[0]
        other_from_own = pose_exp(step) @ other_from_own
    return other_from_own


def normalised_residuals(views: list[View], n: int, camera: Intrinsics) -> tuple[FloatValues, FloatValues]:
    """Depth (k,) and residual in standard deviations (k,) of the pixels of frame ``n`` that enough others saw."""
    own, points = views[n], points_of(views[n].depth, camera)
    others = [views[m] for m in range(n - SPAN, n + SPAN + 1) if m != n]
    z = points[..., 2]
    predicted = []
    for other in others:
        farther, _ = residual(other, points, align(own, other, points, camera), camera)
        predicted.append(1.0 / (z + farther))
    stack = np.stack(predicted)
    count = np.isfinite(stack).sum(axis=0)
    usable = count >= LEAST_SEEN
    difference = own.depth.inverse_depth[usable] - np.nanmedian(stack[:, usable], axis=0)
    sigma = own.depth.sigma[usable] * np.sqrt(1.0 + MEDIAN_VARIANCE / count[usable])
    return z[usable], difference / sigma


def robust_std(values: FloatValues) -> float:
    """1.4826 times the median absolute value."""
    return float(1.4826 * np.median(np.abs(values)))


def main(arguments: list[str]) -> int:
    """Print the normalised residual's robust standard deviation, whole and by depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="recording with depth and true poses")
    parser.add_argument("--sensor", default=PomatoConfig().sensor.depth_sensor)
    parser.add_argument("--image-size", type=int, default=0, help="working size; 0: the default")
    parser.add_argument("--every", type=int, default=10, help="score every n-th frame")
    options = parser.parse_args(arguments)
    config = PomatoConfig().with_values({"depth_sensor": options.sensor, "image_size": options.image_size})
    source, sequence = RgbdSource(config), open_sequence(options.folder)
    if sequence.world_from_camera is None:
        parser.error(f"{options.folder} has no true poses")
    prepared = [source.prepare(frame) for frame in sequence]
    views = [
        View(frame.depth, pose)
        for frame, pose in zip(prepared, sequence.world_from_camera, strict=True)
        if frame.depth is not None
    ]
    camera = prepared[0].intrinsics
    assert camera is not None  # the source refuses frames without
    scored = [normalised_residuals(views, n, camera) for n in range(SPAN, len(views) - SPAN, options.every)]
    z, values = (np.concatenate(parts) for parts in zip(*scored, strict=True))
    sys.stdout.write(
        f"all: {robust_std(values):.3f} ({len(values)} pixels; over 5 sigma {np.mean(abs(values) > 5):.4f})\n"
    )
    for low, high in zip(BANDS_M, BANDS_M[1:], strict=False):
        band = (z >= low) & (z < high)
        if band.sum() > 1000:
            sys.stdout.write(f"{low:g} to {high:g} m: {robust_std(values[band]):.3f} ({band.mean():.0%})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
