"""Simulated depth cameras and stereo pairs on rendered clips: what such a sensor would have measured of the scene."""

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.structures import FloatArray, Intrinsics, MaskArray
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.scene import Scene

RIGHT_NOISE_STEP = 7919  # between the seeds of the left and the right camera's image noise


@dataclass(frozen=True, slots=True)
class StructuredLight:
    """A projector beside a camera, as in the first Kinect.

    Depth noise is sigma(z) = a + b (z - c)^2 (Nguyen, Izadi, Lovell 2012, axial); it is quantised in disparity, steps
    of 1/8 px (Khoshelham, Elberink 2012). Nothing is measured out of range, where the projector does not reach, at
    grazing incidence, and at single pixels. Edges are where a ray through a jittered pixel falls (lateral noise).
    """

    sigma_a_m: float = 0.0012
    sigma_b_per_m: float = 0.0019
    sigma_c_m: float = 0.4
    inverse_step_per_m: float = 0.00287  # of inverse depth: 1/8 px at a focal length of 580 px and a baseline of 75 mm
    lateral_px: float = 0.5  # standard deviation, at the sensor's own resolution
    range_m: tuple[float, float] = (0.4, 8.0)
    projector_baseline_m: float = 0.075
    grazing_deg: float = 75.0  # from the surface normal
    dropout: float = 0.01  # share of single pixels


KINECT = StructuredLight()


def sense_depth(clip: Clip, t: int, sensor: StructuredLight = KINECT, seed: int = 0) -> FloatArray:
    """(h, w) metres that ``sensor`` measures in frame ``t``, NaN where nothing; the same for the same seed."""
    draws = np.random.default_rng([seed, t])
    truth = clip.depth_m[t].numpy()
    depth_m = jittered(truth, sensor.lateral_px, draws)
    sigma_m = sensor.sigma_a_m + sensor.sigma_b_per_m * (depth_m - sensor.sigma_c_m) ** 2
    noisy = depth_m + sigma_m * draws.standard_normal(depth_m.shape, dtype=np.float32)
    steps = np.rint(1.0 / (noisy.clip(0.05) * sensor.inverse_step_per_m)).clip(1.0)
    measured = 1.0 / (steps * sensor.inverse_step_per_m)
    seen = (measured >= sensor.range_m[0]) & (measured <= sensor.range_m[1])
    seen &= ~projector_shadow(truth, clip.intrinsics, sensor.projector_baseline_m)
    seen &= incidence_cosine(truth, clip.intrinsics) > np.cos(np.radians(sensor.grazing_deg))
    seen &= draws.random(depth_m.shape, dtype=np.float32) >= sensor.dropout
    return np.where(seen, measured, np.nan).astype(np.float32)


def jittered(depth_m: FloatArray, sigma_px: float, draws: np.random.Generator) -> FloatArray:
    """(h, w) depth where rays through pixels moved by ``sigma_px`` fall; only edges change, planes are kept.

    The offset along a smooth surface is taken out again: what it changes belongs to the axial noise.
    """
    height, width = depth_m.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = (grid + sigma_px * draws.standard_normal(depth_m.shape, dtype=np.float32) for grid in (columns, rows))
    moved = cv2.remap(depth_m, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.where(np.abs(moved - depth_m) > 0.05 * depth_m, moved, depth_m).astype(np.float32)


def projector_shadow(depth_m: FloatArray, camera: Intrinsics, baseline_m: float) -> MaskArray:
    """(h, w) surfaces that something nearer hides from a projector to the right of the camera.

    In the projector's image a point lies at u = x - f B / z; it is hidden where a pixel further right has a smaller u.
    """
    projected = np.arange(depth_m.shape[1], dtype=np.float32) - camera.fx_px * baseline_m / depth_m
    beyond = np.minimum.accumulate(projected[:, ::-1], axis=1)[:, ::-1]
    shadow = np.zeros(depth_m.shape, bool)
    shadow[:, :-1] = projected[:, :-1] > beyond[:, 1:] + 0.5
    return shadow


def incidence_cosine(depth_m: FloatArray, camera: Intrinsics) -> FloatArray:
    """(h, w) cosine between the line of sight and the surface normal; 1 head-on, 0 grazing."""
    height, width = depth_m.shape
    x = (np.arange(width, dtype=np.float32) - camera.cx_px) / camera.fx_px
    y = (np.arange(height, dtype=np.float32)[:, None] - camera.cy_px) / camera.fy_px
    rays = np.stack(np.broadcast_arrays(x, y, np.float32(1.0)), axis=-1)
    points = rays * depth_m[..., None]
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    size = np.linalg.norm(normal, axis=-1) * np.linalg.norm(rays, axis=-1)
    return (np.abs((normal * rays).sum(axis=-1)) / size.clip(1e-12)).astype(np.float32)


def right_camera(scene: Scene, baseline_m: float) -> Scene:
    """The same scene seen ``baseline_m`` to the right, with image noise of its own: the other half of a stereo pair."""
    shift = torch.eye(4, dtype=torch.float64)
    shift[0, 3] = baseline_m
    blur = scene.blur
    if blur is not None:
        blur = dataclasses.replace(blur, world_from_camera=blur.world_from_camera @ shift)
    sensor = dataclasses.replace(scene.sensor, noise_seed=(scene.sensor.noise_seed + RIGHT_NOISE_STEP) % 2**31)
    return dataclasses.replace(scene, world_from_camera=scene.world_from_camera @ shift, blur=blur, sensor=sensor)


def render_right_images(scene: Scene, baseline_m: float) -> NDArray[np.uint8]:
    """(t, h, w, 3) images of the right camera of a rectified pair whose left camera renders ``scene``."""
    return render(right_camera(scene, baseline_m)).images.numpy()
