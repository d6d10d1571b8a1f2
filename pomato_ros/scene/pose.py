"""Camera pose by one robust fit over landmarks, measured depth and priors, each weighted by its covariance.

Every landmark i gives a residual of pixel and inverse depth against the local map,

    r_i = (u, v, rho)_measured - h(T_camera_world X_i),   S_i = diag(S_pixel, sigma_rho^2) + a_i a_i^T,

where ``a_i`` is the derivative of h by the landmark's own inverse depth times its standard deviation: an uncertain
depth makes the residual soft along the epipolar line only. The pose is the maximum of a redescending likelihood
(Geman and McClure 1987), its gate narrowed from coarse to fine; the covariance is the inverse of the weighted normal
matrix. Variance factors of pixels and of depth are estimated online from the residuals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.least_squares import NormalEquations, geman_mcclure, minimise
from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp, rotation_log
from pomato_ros.structures import Intrinsics, MaskArray, PoseArray

MEDIAN_CHI2 = {1: 0.455, 2: 1.386}  # medians of the chi-square distribution by degrees of freedom
LEAST_DEPTH = 1e-3  # nearer points, and those behind the camera, say nothing
BEHIND_VARIANCE = 1e18
FEWEST_FOR_NOISE = 10  # residuals that a variance factor is estimated from
RANSAC_DRAWS = 200


@dataclass(frozen=True, slots=True)
class NoiseLevel:
    """Variance factors: by how much measured variances exceed those that sensors and patches claim."""

    pixel: float = 1.0
    depth: float = 1.0


@dataclass(frozen=True, slots=True)
class Matches:
    """Landmarks measured in one frame; row i of each array is one landmark."""

    points_world: PoseArray  # (n, 3)
    slopes_world: PoseArray  # (n, 3) one standard deviation of the inverse depth, as a displacement
    pixels: PoseArray  # (n, 2) measured, readout taken out
    seen: PoseArray  # (n, 2) measured, as in the image
    readout_rate: PoseArray  # (n, 2) px by which a second of readout time changes the residual
    pixel_covariance: PoseArray  # (n, 2, 2) px^2
    inverse_depth: PoseArray  # (n,) measured in this frame; NaN where it was not
    inverse_depth_std: PoseArray  # (n,)
    surface: PoseArray  # (n,) weight: surface that the landmark stands for, relative to the others'

    def select(self, index: MaskArray | NDArray[np.int64]) -> "Matches":
        """Some of the rows."""
        return Matches(*(getattr(self, name)[index] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class AbsolutePrior:
    """A Gaussian on the camera's pose in the world."""

    world_from_camera: PoseArray  # (4, 4)
    information: PoseArray  # (6, 6) of x, y, z, rot x, rot y, rot z in axes of the camera


@dataclass(frozen=True, slots=True)
class PoseFit:
    """The camera among the landmarks."""

    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) x, y, z, rot x, rot y, rot z, axes of the camera
    squared: PoseArray  # (n,) squared Mahalanobis distances of the matches
    inliers: MaskArray  # (n,)


def fit_pose(
    matches: Matches,
    intrinsics: Intrinsics,
    world_from_camera: PoseArray,
    gates: Sequence[float],
    noise: NoiseLevel = NoiseLevel(),
    priors: Sequence[AbsolutePrior] = (),
) -> PoseFit:
    """The camera near ``world_from_camera`` that explains the matches.

    Args:
        matches: what was measured.
        intrinsics: of the image.
        world_from_camera: (4, 4) the start.
        gates: of the robust kernel, in standard deviations, one round each; the last also decides inliers.
        noise: variance factors of the matches' covariances.
        priors: on the pose.
    """
    pose = world_from_camera
    for gate in gates:
        problem = _Problem(matches, intrinsics, gate, noise, tuple(priors))
        solution = minimise(problem.linearise, moved, pose, iterations=8)
        pose = solution.state
    squared = problem.squared(pose)
    return PoseFit(pose, solution.covariance(), squared, squared < gates[-1] ** 2)


def moved(world_from_camera: PoseArray, step: PoseArray) -> PoseArray:
    """The camera displaced by ``step`` (6,): translation, then rotation vector, in axes of the camera."""
    rotation = world_from_camera[:3, :3]
    return pose_from(rotation @ rotation_exp(step[3:]), world_from_camera[:3, 3] + rotation @ step[:3])


def displacement(world_from_a: PoseArray, world_from_b: PoseArray) -> PoseArray:
    """(6,) the step with ``moved(world_from_a, step) = world_from_b``."""
    a_from_world = world_from_a[:3, :3].T
    shift = a_from_world @ (world_from_b[:3, 3] - world_from_a[:3, 3])
    return np.concatenate((shift, rotation_log(a_from_world @ world_from_b[:3, :3])))


@dataclass(slots=True)
class _Problem:
    """Normal equations of one round; covariances of residuals are those at its start."""

    matches: Matches
    intrinsics: Intrinsics
    gate: float
    noise: NoiseLevel
    priors: tuple[AbsolutePrior, ...]
    roots: PoseArray | None = None  # (n, 3, 3) of the inverse covariances

    def linearise(self, world_from_camera: PoseArray) -> NormalEquations:
        """Normal equations at a pose; step axes are the camera's."""
        residuals, jacobians = residuals_at(self.matches, self.intrinsics, world_from_camera)
        roots = self._roots(world_from_camera)
        white = np.matmul(roots, np.concatenate((jacobians, residuals[..., None]), axis=2))
        robust, costs = geman_mcclure((white[..., 6] ** 2).sum(axis=1), self.gate)
        weights = self.matches.surface * robust
        rows = white.reshape(-1, 7)
        products = (rows * np.repeat(weights, 3)[:, None]).T @ rows
        matrix, gradient = products[:6, :6], products[:6, 6]
        cost = float(self.matches.surface @ costs)
        for prior in self.priors:
            step = displacement(prior.world_from_camera, world_from_camera)
            matrix = matrix + prior.information
            gradient = gradient + prior.information @ step
            cost += float(step @ prior.information @ step)
        return NormalEquations(matrix, gradient, cost)

    def squared(self, world_from_camera: PoseArray) -> PoseArray:
        """(n,) squared Mahalanobis distances at a pose."""
        residuals, _ = residuals_at(self.matches, self.intrinsics, world_from_camera)
        white = np.matmul(self._roots(world_from_camera), residuals[..., None])[..., 0]
        return np.asarray((white**2).sum(axis=1), np.float64)

    def _roots(self, world_from_camera: PoseArray) -> PoseArray:
        """(n, 3, 3) lower triangular R with ``R^T R = S^-1``: rows of residuals become independent, of variance 1."""
        if self.roots is None:
            covariances = covariances_at(self.matches, self.intrinsics, world_from_camera, self.noise)
            roots = np.asarray(np.linalg.inv(np.linalg.cholesky(covariances)), np.float64)
            roots[~np.isfinite(self.matches.inverse_depth), 2, :] = 0.0
            self.roots = roots
        return self.roots


def residuals_at(matches: Matches, intrinsics: Intrinsics, world_from_camera: PoseArray) -> tuple[PoseArray, PoseArray]:
    """Residuals (n, 3) of u, v (px) and inverse depth, and their derivatives (n, 3, 6) by a step of the camera.

    For a step (v, omega) of the camera in its own axes a point moves by ``-v - omega x X_c``.
    """
    points = (matches.points_world - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    x, y = points[:, 0], points[:, 1]
    inverse = 1.0 / np.maximum(points[:, 2], 1e-6)
    right, down = x * inverse, y * inverse  # on the plane at depth 1
    fx, fy = intrinsics.fx_px, intrinsics.fy_px
    residuals = np.empty_like(points)
    residuals[:, 0] = matches.pixels[:, 0] - (fx * right + intrinsics.cx_px)
    residuals[:, 1] = matches.pixels[:, 1] - (fy * down + intrinsics.cy_px)
    residuals[:, 2] = np.where(np.isfinite(matches.inverse_depth), matches.inverse_depth - inverse, 0.0)
    slopes = np.zeros((len(points), 3, 6))
    slopes[:, 0, 0], slopes[:, 0, 2] = fx * inverse, -fx * right * inverse
    slopes[:, 0, 3], slopes[:, 0, 4], slopes[:, 0, 5] = -fx * right * down, fx * (1.0 + right**2), -fx * down
    slopes[:, 1, 1], slopes[:, 1, 2] = fy * inverse, -fy * down * inverse
    slopes[:, 1, 3], slopes[:, 1, 4], slopes[:, 1, 5] = -fy * (1.0 + down**2), fy * right * down, fy * right
    slopes[:, 2, 2] = -(inverse**2)
    slopes[:, 2, 3], slopes[:, 2, 4] = -down * inverse, right * inverse
    return residuals, slopes


def measurement_slopes(points_camera: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(n, 3, 3) derivatives of (u, v, 1/z) by the point in the camera (n, 3)."""
    x, y, z = points_camera.T
    inverse = 1.0 / np.maximum(z, 1e-6)
    slopes = np.zeros((len(points_camera), 3, 3))
    slopes[:, 0, 0], slopes[:, 0, 2] = intrinsics.fx_px * inverse, -intrinsics.fx_px * x * inverse**2
    slopes[:, 1, 1], slopes[:, 1, 2] = intrinsics.fy_px * inverse, -intrinsics.fy_px * y * inverse**2
    slopes[:, 2, 2] = -(inverse**2)
    return slopes


def covariances_at(
    matches: Matches, intrinsics: Intrinsics, world_from_camera: PoseArray, noise: NoiseLevel
) -> PoseArray:
    """(n, 3, 3) covariances of the residuals; depth that was not measured is uncorrelated, of variance 1."""
    points = (matches.points_world - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    slopes = matches.slopes_world @ world_from_camera[:3, :3]
    along = np.einsum("nij,nj->ni", measurement_slopes(points, intrinsics), slopes)
    covariance = along[:, :, None] * along[:, None, :]
    covariance[:, :2, :2] += noise.pixel * matches.pixel_covariance
    measured = np.isfinite(matches.inverse_depth)
    covariance[~measured, 2, :] = 0.0
    covariance[~measured, :, 2] = 0.0
    covariance[:, 2, 2] += np.where(measured, noise.depth * matches.inverse_depth_std**2, 1.0)
    behind = points[:, 2] < LEAST_DEPTH
    covariance[behind] = BEHIND_VARIANCE * np.eye(3)
    return covariance


def noise_level(
    matches: Matches, intrinsics: Intrinsics, world_from_camera: PoseArray, noise: NoiseLevel
) -> NoiseLevel:
    """Variance factors that residuals at a pose show: medians of squared distances over those of chi-square."""
    residuals, _ = residuals_at(matches, intrinsics, world_from_camera)
    covariance = covariances_at(matches, intrinsics, world_from_camera, noise)
    by_pixel = np.einsum("ni,nij,nj->n", residuals[:, :2], np.linalg.inv(covariance[:, :2, :2]), residuals[:, :2])
    measured = np.isfinite(matches.inverse_depth)
    by_depth = residuals[measured, 2] ** 2 / covariance[measured, 2, 2]
    return NoiseLevel(noise.pixel * _factor(by_pixel, MEDIAN_CHI2[2]), noise.depth * _factor(by_depth, MEDIAN_CHI2[1]))


def _factor(squared: PoseArray, median_chi2: float) -> float:
    return float(np.median(squared)) / median_chi2 if len(squared) >= FEWEST_FOR_NOISE else 1.0


def readout_change(matches: Matches, intrinsics: Intrinsics, fit: PoseFit, noise: NoiseLevel) -> tuple[float, float]:
    """By how much the inliers' residuals want another readout time (s), and the information behind that (1/s^2).

    One more unknown t beside the pose p, which is eliminated (Schur complement):
    ``I = H_tt - H_tp H_pp^-1 H_pt`` with ``H_ab = J_a^T W J_b``.
    """
    rows = matches.select(fit.inliers)
    residuals, by_pose = residuals_at(rows, intrinsics, fit.world_from_camera)
    weights = np.linalg.inv(covariances_at(rows, intrinsics, fit.world_from_camera, noise)[:, :2, :2])
    residuals, by_pose, by_time = residuals[:, :2], by_pose[:, :2], rows.readout_rate
    weighted = np.einsum("nij,nj->ni", weights, by_time)
    matrix = np.tensordot(by_pose, weights @ by_pose, axes=((0, 1), (0, 1))) + 1e-9 * np.eye(6)
    mixed = np.einsum("nij,ni->j", by_pose, weighted)
    shared = np.linalg.solve(matrix, mixed)
    information = float((by_time * weighted).sum() - mixed @ shared)
    gradient = float((residuals * weighted).sum())
    gradient -= float(np.einsum("nij,nik,nk->j", by_pose, weights, residuals) @ shared)
    return (-gradient / information, information) if information > 0.0 else (0.0, 0.0)


def ransac_pose(matches: Matches, intrinsics: Intrinsics, gate_px: float) -> PoseArray | None:
    """(4, 4) world_from_camera by three points (P3P) in RANSAC, without a start; None if too few matches agree."""
    if len(matches.pixels) < 6:
        return None
    found, rotation, translation, inliers = cv2.solvePnPRansac(
        matches.points_world,
        matches.pixels,
        intrinsics.matrix(),
        None,
        iterationsCount=RANSAC_DRAWS,
        reprojectionError=gate_px,
        flags=cv2.SOLVEPNP_AP3P,
    )
    if not found or inliers is None or len(inliers) < 6:
        return None
    return invert(pose_from(cv2.Rodrigues(rotation)[0], translation[:, 0]))
