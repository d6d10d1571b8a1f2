"""Pose of a camera from pixels and the 3-D points they see: RANSAC, then least squares on all inliers.

``reference`` is the frame of the points. A result says either a pose with its covariance or why there is none.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp
from pomato_ros.structures import MaskArray, PoseArray

MIN_POINTS = 4
FOCAL_CANDIDATES = 21
REFINEMENT_STEPS = 10
STEP_TOLERANCE = 1e-10
RANSAC_POINTS = 2000  # of a refined pose: so many, drawn at random, tell which sample is right; least squares takes all
BLOCK = 4096  # points taken together: as many as the processor keeps at hand


@dataclass(frozen=True, slots=True)
class PnpSolution:
    """A camera's pose and how well it explains the pixels."""

    reference_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) of position x, y, z (points' unit) and rotation x, y, z (rad), reference axes
    inliers: MaskArray  # (n,), below the reprojection threshold
    residual_px: float  # root mean square reprojection error of the inliers
    camera_matrix: PoseArray  # (3, 3), with the focal length that was given or found

    @property
    def inlier_ratio(self) -> float:
        """Share of the given points that agree with the pose."""
        return float(self.inliers.mean())

    @property
    def focal_px(self) -> float:
        """Focal length along x."""
        return float(self.camera_matrix[0, 0])


@dataclass(frozen=True, slots=True)
class PnpFailure:
    """No pose, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """Least squares of reprojection errors about a pose: position x, y, z, then rotation, reference axes."""

    matrix: NDArray[np.float64]  # (6, 6) J^T J
    gradient: NDArray[np.float64]  # (6,) J^T r
    cost: float  # px^2, r^T r
    count: int  # of points


def solve_pose(
    pixels: ArrayLike,
    points_reference: ArrayLike,
    camera_matrix: ArrayLike,
    *,
    threshold_px: float,
    iterations: int,
    seed: int,
    refine: bool = True,
) -> PnpSolution | PnpFailure:
    """Pose of a camera with known intrinsics.

    Args:
        pixels: (n, 2) of (x, y).
        points_reference: (n, 3), what each pixel sees.
        camera_matrix: (3, 3).
        threshold_px: largest reprojection error of an inlier; the published method takes 5 px on 512 px images.
        iterations: most RANSAC draws.
        seed: decides the order in which points are drawn; the same seed gives the same answer.
        refine: least squares on all inliers after RANSAC.
    """
    pixels, points = np.asarray(pixels, dtype=np.float64), np.asarray(points_reference, dtype=np.float64)
    if pixels.ndim != 2 or pixels.shape[1] != 2 or points.shape != (len(pixels), 3):
        raise ValueError(f"expected pixels (n, 2) and points (n, 3), got {pixels.shape} and {points.shape}")
    matrix = np.asarray(camera_matrix, dtype=np.float64)
    usable = np.isfinite(pixels).all(axis=-1) & np.isfinite(points).all(axis=-1)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(usable))
    if len(order) < MIN_POINTS:
        return PnpFailure(f"a pose needs at least {MIN_POINTS} finite points, got {len(order)}")
    drawn = order[:RANSAC_POINTS] if refine else order
    pose = _ransac(pixels[drawn], points[drawn], matrix, threshold_px, iterations)
    if pose is None:
        return PnpFailure(f"no pose agrees with {MIN_POINTS} of {len(order)} points within {threshold_px} px")
    inliers = _inliers(pose, pixels, points, matrix, threshold_px)
    if refine:
        pose, inliers = _refine_on_inliers(pose, pixels, points, matrix, threshold_px, inliers)
    return _solution(pose, pixels, points, matrix, inliers)


def solve_pose_and_focal(
    pixels: ArrayLike,
    points_reference: ArrayLike,
    principal_point: tuple[float, float],
    image_size_wh: tuple[int, int],
    *,
    threshold_px: float,
    iterations: int,
    seed: int,
) -> PnpSolution | PnpFailure:
    """Pose and focal length of a camera, both unknown: the candidate with most inliers, the smallest one on a tie.

    Arguments as in :func:`solve_pose`; ``principal_point`` (x, y) in px.
    """
    best: PnpSolution | PnpFailure = PnpFailure("no focal length gives a pose")
    most = -1
    for focal_px in focal_candidates(max(image_size_wh)):
        matrix = np.array([[focal_px, 0, principal_point[0]], [0, focal_px, principal_point[1]], [0, 0, 1.0]])
        result = solve_pose(
            pixels, points_reference, matrix, threshold_px=threshold_px, iterations=iterations, seed=seed, refine=False
        )
        if isinstance(result, PnpSolution) and result.inliers.sum() > most:
            best, most = result, int(result.inliers.sum())
    if isinstance(best, PnpFailure):
        return best
    pixels, points = np.asarray(pixels, dtype=np.float64), np.asarray(points_reference, dtype=np.float64)
    matrix = best.camera_matrix
    pose, inliers = _refine_on_inliers(best.reference_from_camera, pixels, points, matrix, threshold_px, best.inliers)
    return _solution(pose, pixels, points, matrix, inliers)


def focal_candidates(long_side_px: int) -> NDArray[np.float64]:
    """(21,) focal lengths in px, evenly spaced in their logarithm from half to three times the long side."""
    return np.geomspace(long_side_px / 2, 3 * long_side_px, FOCAL_CANDIDATES)


def refine_pose(
    reference_from_camera: ArrayLike, pixels: ArrayLike, points_reference: ArrayLike, camera_matrix: ArrayLike
) -> NDArray[np.float64]:
    """Least reprojection error by Gauss-Newton from a nearby pose; all points count alike. -> pose (4, 4)."""
    pose = np.asarray(reference_from_camera, dtype=np.float64)
    equations = normal_equations(pose, pixels, points_reference, camera_matrix)
    for _ in range(REFINEMENT_STEPS):
        step = np.linalg.lstsq(equations.matrix, -equations.gradient, rcond=None)[0]
        moved = pose_from(rotation_exp(step[3:]) @ pose[:3, :3], pose[:3, 3] + step[:3])
        there = normal_equations(moved, pixels, points_reference, camera_matrix)
        if not there.cost < equations.cost:
            break
        converged = equations.cost - there.cost < STEP_TOLERANCE * equations.cost
        pose, equations = moved, there
        if converged:
            break
    return pose


def pose_covariance(
    reference_from_camera: ArrayLike, pixels: ArrayLike, points_reference: ArrayLike, camera_matrix: ArrayLike
) -> NDArray[np.float64]:
    """(6, 6) covariance at a least-squares optimum: inverse normal equations times the residuals' variance.

    Position in the points' unit, then rotation in rad, both along the reference's axes. Directions the points do not
    determine come out with a very large variance rather than an error.
    """
    return _covariance(normal_equations(reference_from_camera, pixels, points_reference, camera_matrix))


def _covariance(equations: NormalEquations) -> NDArray[np.float64]:
    variance_px2 = equations.cost / max(2 * equations.count - 6, 1)
    values, vectors = np.linalg.eigh(equations.matrix)
    floor = max(float(values[-1]) * 1e-15, np.finfo(np.float64).tiny)
    return vectors @ np.diag(variance_px2 / np.maximum(values, floor)) @ vectors.T


def _ransac(
    pixels: NDArray[np.float64],
    points: NDArray[np.float64],
    matrix: NDArray[np.float64],
    threshold_px: float,
    iterations: int,
) -> NDArray[np.float64] | None:
    """OpenCV's RANSAC over SQPnP -> pose (4, 4), or None."""
    try:
        found, rotation_vector, translation, inliers = cv2.solvePnPRansac(
            points,
            pixels,
            matrix,
            None,
            iterationsCount=iterations,
            reprojectionError=threshold_px,
            flags=cv2.SOLVEPNP_SQPNP,
        )
    except cv2.error:  # OpenCV's own answer to degenerate samples
        return None
    if not found or inliers is None or len(inliers) < MIN_POINTS:
        return None
    camera_from_reference = pose_from(rotation_exp(rotation_vector[:, 0]), translation[:, 0])
    return invert(camera_from_reference) if np.isfinite(camera_from_reference).all() else None


def _refine_on_inliers(
    pose: NDArray[np.float64],
    pixels: NDArray[np.float64],
    points: NDArray[np.float64],
    matrix: NDArray[np.float64],
    threshold_px: float,
    inliers: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Two rounds of least squares, each on the inliers of the pose before; keeps a pose only if it loses no inlier."""
    for _ in range(2):
        if inliers.sum() < MIN_POINTS:
            break
        refined = refine_pose(pose, pixels[inliers], points[inliers], matrix)
        refined_inliers = _inliers(refined, pixels, points, matrix, threshold_px)
        if refined_inliers.sum() < inliers.sum():
            break
        settled = np.array_equal(refined_inliers, inliers)
        pose, inliers = refined, refined_inliers
        if settled:
            break
    return pose, inliers


def _solution(
    pose: NDArray[np.float64],
    pixels: NDArray[np.float64],
    points: NDArray[np.float64],
    matrix: NDArray[np.float64],
    inliers: NDArray[np.bool_],
) -> PnpSolution | PnpFailure:
    """Pose and inliers with their covariance and residual."""
    if inliers.sum() < MIN_POINTS:
        return PnpFailure(f"only {int(inliers.sum())} points agree with the best pose, expected {MIN_POINTS}")
    equations = normal_equations(pose, pixels[inliers], points[inliers], matrix)
    return PnpSolution(
        reference_from_camera=pose,
        covariance=_covariance(equations),
        inliers=inliers,
        residual_px=float(np.sqrt(equations.cost / equations.count)),
        camera_matrix=matrix,
    )


def _inliers(
    pose: NDArray[np.float64],
    pixels: NDArray[np.float64],
    points: NDArray[np.float64],
    matrix: NDArray[np.float64],
    threshold_px: float,
) -> NDArray[np.bool_]:
    """(n,) points in front of the camera that land within the threshold of their pixel."""
    x, y, z, _ = _in_camera(pose, points)
    error_x, error_y = _misses(x, y, z, pixels, matrix)
    return error_x**2 + error_y**2 < threshold_px**2  # NaN compares as not below


def normal_equations(
    reference_from_camera: ArrayLike, pixels: ArrayLike, points_reference: ArrayLike, camera_matrix: ArrayLike
) -> NormalEquations:
    """Least squares of reprojection errors about a pose; a point behind the camera makes the cost infinite.

    With ``p_c = R^T (p - t)``: moving t by dt gives ``-R^T dt``, turning R by exp(w) gives ``R^T ((p - t) x w)``; so a
    pixel whose derivative by p_c is g has the derivatives ``-b`` and ``b x (p - t)`` with ``b = R g``.
    """
    pose, matrix = np.asarray(reference_from_camera, dtype=np.float64), np.asarray(camera_matrix, dtype=np.float64)
    points, pixels = np.asarray(points_reference, dtype=np.float64), np.asarray(pixels, dtype=np.float64)
    products = np.zeros((7, 7))
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        rows = _linearise(pose, pixels[block], points[block], matrix)
        products += rows @ rows.T
    cost = float(products[6, 6])
    if not np.isfinite(cost):
        return NormalEquations(np.zeros((6, 6)), np.zeros(6), np.inf, len(points))
    return NormalEquations(products[:6, :6], products[:6, 6], cost, len(points))


def _linearise(
    pose: NDArray[np.float64], pixels: NDArray[np.float64], points: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(7, 2n) the six derivatives of the errors and the errors themselves; all along x, then all along y."""
    count = len(points)
    x, y, z, offset = _in_camera(pose, points)
    rows = np.empty((7, 2 * count))
    rows[6, :count], rows[6, count:] = _misses(x, y, z, pixels, matrix)
    inverse = 1.0 / np.where(z > 0, z, np.nan)
    by_point = np.zeros((3, 2 * count))
    by_point[0, :count] = matrix[0, 0] * inverse
    by_point[1, :count], by_point[1, count:] = matrix[0, 1] * inverse, matrix[1, 1] * inverse
    by_point[2, :count] = -(matrix[0, 0] * x + matrix[0, 1] * y) * inverse**2
    by_point[2, count:] = -matrix[1, 1] * y * inverse**2
    b, crossed = (pose[:3, :3] @ by_point).reshape(3, 2, count), rows[3:6].reshape(3, 2, count)
    for axis in range(3):
        following, last = (axis + 1) % 3, (axis + 2) % 3
        np.subtract(b[following] * offset[last], b[last] * offset[following], out=crossed[axis])
    np.negative(b.reshape(3, -1), out=rows[:3])
    return rows


def _in_camera(
    pose: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """x, y, z (n,) of points (n, 3) in the camera at ``pose``, and (3, n) their offsets from it, reference axes."""
    offset = np.ascontiguousarray(points.T) - pose[:3, 3:]
    x, y, z = pose[:3, :3].T @ offset
    return x, y, z, offset


def _misses(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    pixels: NDArray[np.float64],
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reprojection errors (n,) along x and along y, px; NaN behind the camera."""
    inverse = np.divide(1.0, z, out=np.full_like(z, np.nan), where=z > 0)
    column, row = x * inverse, y * inverse
    along_x = matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2] - pixels[:, 0]
    return along_x, matrix[1, 1] * row + matrix[1, 2] - pixels[:, 1]
