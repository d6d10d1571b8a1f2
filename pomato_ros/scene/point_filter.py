"""Kalman filters of many points at once: position and velocity in the world, seen as pixel and inverse depth.

A point at rest is the same filter whose velocity is zero and known, so that its position is the fusion of all frames.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import Intrinsics, MaskArray, PoseArray

UNSEEN_VARIANCE = 1e12  # of a coordinate that was not measured


@dataclass(slots=True)
class PointStates:
    """Gaussian states, one row a point."""

    positions: PoseArray  # (n, 3) world
    velocities: PoseArray  # (n, 3) world, a second
    covariance: PoseArray  # (n, 6, 6) of both; rows and columns of a velocity that is known to be zero are zero


@dataclass(slots=True)
class Sightings:
    """What a frame shows of points, one row a point."""

    pixels: PoseArray  # (n, 2)
    pixel_covariance: PoseArray  # (n, 2, 2)
    inverse_depth: PoseArray  # (n,)
    inverse_depth_variance: PoseArray  # (n,)
    found: MaskArray  # (n,) the pixel is measured
    ranged: MaskArray  # (n,) the inverse depth is measured

    def measured(self) -> PoseArray:
        """(n, 3) pixel x, y and inverse depth."""
        return np.concatenate((self.pixels, self.inverse_depth[:, None]), axis=-1)


@dataclass(slots=True)
class Innovations:
    """Measurements less predictions: pixel x, y and inverse depth."""

    residual: PoseArray  # (n, 3); 0 where not measured
    jacobian: PoseArray  # (n, 3, 3) by the position in the world
    noise: PoseArray  # (n, 3, 3) covariance of the measurement
    total: PoseArray  # (n, 3, 3) covariance of the residual

    def normalised(self) -> PoseArray:
        """(n, 3) residuals in their own standard deviations, axis by axis."""
        return self.residual / np.sqrt(np.diagonal(self.total, axis1=1, axis2=2))

    def pixel_distance(self) -> PoseArray:
        """(n,) squared Mahalanobis distance of the pixel, chi square with 2 degrees of freedom."""
        (a, b), (_, d) = self.total[:, :2, :2].transpose(1, 2, 0)
        x, y = self.residual[:, 0], self.residual[:, 1]
        return (d * x * x - 2 * b * x * y + a * y * y) / (a * d - b * b)

    def depth_distance(self) -> PoseArray:
        """(n,) squared Mahalanobis distance of the inverse depth, chi square with 1 degree of freedom."""
        return self.residual[:, 2] ** 2 / self.total[:, 2, 2]


@dataclass(frozen=True, slots=True)
class View:
    """A camera at a known pose."""

    intrinsics: Intrinsics
    camera_from_world: PoseArray  # (4, 4)

    def observe(self, positions: PoseArray) -> PoseArray:
        """(n, 3) pixel x, y and inverse depth of points (n, 3) of the world; NaN behind the camera."""
        camera, k = positions @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3], self.intrinsics
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / np.where(camera[:, 2] > 0, camera[:, 2], np.nan)
        x, y = k.fx_px * camera[:, 0] * inverse + k.cx_px, k.fy_px * camera[:, 1] * inverse + k.cy_px
        return np.stack((x, y, inverse), axis=-1)

    def jacobian(self, positions: PoseArray) -> PoseArray:
        """(n, 3, 3) of :meth:`observe` by the position; zero behind the camera."""
        camera, k = positions @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3], self.intrinsics
        ahead = camera[:, 2] > 0
        inverse = np.where(ahead, 1.0 / np.where(ahead, camera[:, 2], 1.0), 0.0)
        by = np.zeros((len(positions), 3, 3))
        by[:, 0, 0], by[:, 0, 2] = k.fx_px * inverse, -k.fx_px * camera[:, 0] * inverse**2
        by[:, 1, 1], by[:, 1, 2] = k.fy_px * inverse, -k.fy_px * camera[:, 1] * inverse**2
        by[:, 2, 2] = -(inverse**2)
        return by @ self.camera_from_world[:3, :3]

    def place(self, pixels: PoseArray, inverse_depth: PoseArray) -> PoseArray:
        """(n, 3) world: the points that are seen at pixels (n, 2) with inverse depths (n,)."""
        k = self.intrinsics
        x, y = (pixels[:, 0] - k.cx_px) / k.fx_px, (pixels[:, 1] - k.cy_px) / k.fy_px
        rays = np.stack((x, y, np.ones(len(pixels))), axis=-1)
        camera = rays / inverse_depth[:, None]
        return (camera - self.camera_from_world[:3, 3]) @ self.camera_from_world[:3, :3]

    def inside(self, pixels: PoseArray, margin_px: float = -0.5) -> MaskArray:
        """(n,) pixels (n, 2) that are inside the image, by a margin."""
        low, high = margin_px, np.array([self.intrinsics.width_px, self.intrinsics.height_px]) - 1 - margin_px
        with np.errstate(invalid="ignore"):
            return np.asarray(((pixels >= low) & (pixels <= high)).all(axis=-1))


def begin(
    view: View, pixels: PoseArray, inverse_depth: PoseArray, variance: PoseArray, pixel_std: float
) -> PointStates:
    """Points at rest, seen for the first time at ``pixels`` (n, 2) with inverse depths (n,) and their variances."""
    positions = view.place(pixels, inverse_depth)
    world_by_seen = np.linalg.inv(view.jacobian(positions)) if len(pixels) else np.zeros((0, 3, 3))
    noise = np.zeros((len(pixels), 3, 3))
    noise[:, 0, 0] = noise[:, 1, 1] = pixel_std**2
    noise[:, 2, 2] = variance
    covariance = np.zeros((len(pixels), 6, 6))
    covariance[:, :3, :3] = world_by_seen @ noise @ world_by_seen.swapaxes(1, 2)
    return PointStates(positions, np.zeros((len(pixels), 3)), covariance)


def free_velocities(states: PointStates, rows: NDArray[np.int64], std: PoseArray) -> None:
    """Points ``rows`` (k,) may move from now on; ``std`` (k,) of their velocities about those held."""
    states.covariance[rows, 3:, :] = states.covariance[rows, :, 3:] = 0.0
    for axis in (3, 4, 5):
        states.covariance[rows, axis, axis] = std**2


def hold(states: PointStates, rows: NDArray[np.int64]) -> None:
    """Points ``rows`` (k,) are at rest from now on."""
    states.velocities[rows] = 0.0
    states.covariance[rows, 3:, :] = states.covariance[rows, :, 3:] = 0.0


def predict(states: PointStates, seconds: float, acceleration_std: PoseArray, wander_std: PoseArray) -> None:
    """Move states on by ``seconds``: constant velocity, disturbed by white acceleration.

    ``Q = a^2 [[dt^4 / 4, dt^3 / 2], [dt^3 / 2, dt^2]]`` (Bar-Shalom et al., Estimation with Applications, 6.3.2).

    Args:
        states: changed in place.
        seconds: since the last frame.
        acceleration_std: (n,) a second squared; 0 for what rests.
        wander_std: (n,) of the position itself, a frame.
    """
    covariance, identity = states.covariance, np.eye(3)
    states.positions += seconds * states.velocities
    mixed = seconds * (covariance[:, :3, 3:] + seconds * covariance[:, 3:, 3:])
    covariance[:, :3, :3] += seconds * covariance[:, 3:, :3] + mixed
    covariance[:, :3, 3:] += seconds * covariance[:, 3:, 3:]
    power = acceleration_std[:, None, None] ** 2 * identity
    covariance[:, :3, :3] += 0.25 * seconds**4 * power + wander_std[:, None, None] ** 2 * identity
    covariance[:, :3, 3:] += 0.5 * seconds**3 * power
    covariance[:, 3:, 3:] += seconds**2 * power
    covariance[:, 3:, :3] = covariance[:, :3, 3:].swapaxes(1, 2)


def innovate(states: PointStates, view: View, sightings: Sightings) -> Innovations:
    """Compare what is seen with what is expected."""
    count = len(states.positions)
    residual, noise = np.zeros((count, 3)), np.zeros((count, 3, 3))
    expected = view.observe(states.positions)
    found, ranged = sightings.found, sightings.ranged
    residual[:, :2] = np.where(found[:, None], sightings.pixels - expected[:, :2], 0.0)
    residual[:, 2] = np.where(ranged, sightings.inverse_depth - expected[:, 2], 0.0)
    residual[~np.isfinite(residual)] = 0.0
    noise[:, :2, :2] = np.where(found[:, None, None], sightings.pixel_covariance, UNSEEN_VARIANCE * np.eye(2))
    noise[:, 2, 2] = np.where(ranged, sightings.inverse_depth_variance, UNSEEN_VARIANCE)
    jacobian = view.jacobian(states.positions)
    total = jacobian @ states.covariance[:, :3, :3] @ jacobian.swapaxes(1, 2) + noise
    return Innovations(residual, jacobian, noise, total)


def update(states: PointStates, innovations: Innovations, rows: NDArray[np.int64]) -> None:
    """Correct the states of ``rows`` (k,) in place: ``K = P H^T S^-1, x += K r, P -= K S K^T``."""
    if not len(rows):
        return
    jacobian, residual = innovations.jacobian[rows], innovations.residual[rows]
    cross = states.covariance[rows, :, :3] @ jacobian.swapaxes(1, 2)
    gain = cross @ np.linalg.inv(innovations.total[rows])
    step = (gain @ residual[..., None])[..., 0]
    states.positions[rows] += step[:, :3]
    states.velocities[rows] += step[:, 3:]
    corrected = states.covariance[rows] - gain @ cross.swapaxes(1, 2)
    states.covariance[rows] = 0.5 * (corrected + corrected.swapaxes(1, 2))


def axial_std(states: PointStates, view: View) -> PoseArray:
    """(n,) standard deviation of points along the optical axis."""
    axis = view.camera_from_world[2, :3]
    return np.sqrt(np.maximum(states.covariance[:, :3, :3] @ axis @ axis, 0.0))
