"""Pose of a camera from pixels and the 3-D points they see: most of them or RANSAC, then least squares on inliers.

``reference`` is the frame of the points. A result says either a pose with its covariance or why there is none.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dposv

from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp
from pomato_ros.structures import MaskArray, PoseArray

MIN_POINTS = 4
FOCAL_CANDIDATES = 21
REFINEMENT_STEPS = 10
LAST_STEP = 5e-2  # share of the cost by which a step lowers it that is the last,
LAST_STEP_PX = 0.2  # or by so little does it move the pixels: what it leaves is of second order
RANSAC_POINTS = 600  # of a refined pose: so many, drawn at random, tell which sample is right; least squares takes all
MAJORITY_POINTS = 300  # so many of them tell whether most agree, so that no samples are needed:
MAJORITY = 0.8  # this share,
NEAR = 6.0  # of which as many lie within so many thresholds of a start that is near enough,
CONCENTRATIONS = 5  # at most so often after leaving out those that disagree
LOST_INLIERS = 0.01  # share of the inliers that least squares on all of them may cost
LEAST_VARIANCE_PX2 = 1e-12  # of residuals: what fits exactly is not sure of what it does not determine
MONOMIALS = 12  # of derivatives and errors; one of them is 0: so many rows multiply in less time than eleven
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
    start: PoseArray | None = None,
) -> PnpSolution | PnpFailure:
    """Pose of a camera with known intrinsics.

    Args:
        pixels: (n, 2) of (x, y).
        points_reference: (n, 3), what each pixel sees.
        camera_matrix: (3, 3).
        threshold_px: largest reprojection error of an inlier; the published method takes 5 px on 512 px images.
        iterations: most RANSAC draws, where fewer than ``MAJORITY`` of the points agree.
        seed: decides the order in which points are drawn; the same seed gives the same answer.
        refine: least squares on all inliers; without it every pose begins with RANSAC.
        start: (4, 4) a pose that may be near; where most points then agree, it is taken instead of one from nothing.
    """
    pixels, points = np.asarray(pixels, dtype=np.float64), np.asarray(points_reference, dtype=np.float64)
    if pixels.ndim != 2 or pixels.shape[1] != 2 or points.shape != (len(pixels), 3):
        raise ValueError(f"expected pixels (n, 2) and points (n, 3), got {pixels.shape} and {points.shape}")
    matrix = np.asarray(camera_matrix, dtype=np.float64)
    columns, rows = _columns(pixels, points)
    with np.errstate(invalid="ignore"):  # no number among some shows in their sum
        usable = np.isfinite(columns.sum(axis=0) + rows.sum(axis=0))
    order = drawn_order(seed, len(usable))
    order = order[usable[order]]
    if len(order) < MIN_POINTS:
        return PnpFailure(f"a pose needs at least {MIN_POINTS} finite points, got {len(order)}")
    drawn = order[:RANSAC_POINTS] if refine else order
    pose = None
    if refine and start is not None:
        some = drawn[:MAJORITY_POINTS]
        pose = _of_majority_near(start, columns.take(some, axis=1), rows.take(some, axis=1), matrix, threshold_px)
    if refine and pose is None:
        pose = _of_majority(pixels[drawn], points[drawn], matrix, threshold_px)
    if pose is None:
        pose = _ransac(pixels[drawn], points[drawn], matrix, threshold_px, iterations)
    if pose is None:
        return PnpFailure(f"no pose agrees with {MIN_POINTS} of {len(order)} points within {threshold_px} px")
    pixels, points = columns, rows
    inliers, equations = _inliers(pose, pixels, points, matrix, threshold_px), None
    if refine:
        few = drawn if len(drawn) < len(order) else None
        pose, inliers, equations = _refine_on_inliers(pose, pixels, points, matrix, threshold_px, inliers, few)
    return _solution(pose, pixels, points, matrix, inliers, equations)


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
    pixels, points = _columns(pixels, points_reference)
    matrix = best.camera_matrix
    pose, inliers, equations = _refine_on_inliers(
        best.reference_from_camera, pixels, points, matrix, threshold_px, best.inliers
    )
    return _solution(pose, pixels, points, matrix, inliers, equations)


def drawn_order(seed: int, count: int) -> NDArray[np.int64]:
    """(n,) all numbers below ``count`` in the random order that belongs to ``seed``."""
    order = _order_below_power(seed, max(count - 1, 1).bit_length())
    return order[order < count]


@lru_cache(maxsize=8)
def _order_below_power(seed: int, bits: int) -> NDArray[np.int64]:
    order = np.random.default_rng(seed).permutation(1 << bits)
    order.setflags(write=False)
    return order


def focal_candidates(long_side_px: int) -> NDArray[np.float64]:
    """(21,) focal lengths in px, evenly spaced in their logarithm from half to three times the long side."""
    return np.geomspace(long_side_px / 2, 3 * long_side_px, FOCAL_CANDIDATES)


def _refined(
    pose: NDArray[np.float64], pixels: NDArray[np.float64], points: NDArray[np.float64], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NormalEquations]:
    """Least reprojection error of pixels (2, n) and points (3, n) by Gauss-Newton from a nearby pose; all count alike.

    With the pose come the equations there, or a negligible step before.

    A step that should lower the cost by less than ``LAST_STEP`` of it, or move the pixels by less than
    ``LAST_STEP_PX``, is the last: there the cost is a paraboloid, and what it is after the step need not be looked at.
    """
    equations = normal_equations(pose, pixels, points, matrix)
    for _ in range(REFINEMENT_STEPS):
        step = _solve(equations)
        moved = pose_from(rotation_exp(step[3:]) @ pose[:3, :3], pose[:3, 3] + step[:3])
        lower = float(-step @ equations.gradient)  # of which as much again the step moves the pixels, squared
        if lower < max(LAST_STEP * equations.cost, LAST_STEP_PX**2 * equations.count):
            return moved, equations
        there = normal_equations(moved, pixels, points, matrix)
        if not there.cost < equations.cost:
            break
        pose, equations = moved, there
    return pose, equations


def _solve(equations: NormalEquations) -> NDArray[np.float64]:
    """(6,) the step to the least cost; the shortest of them where points do not determine it."""
    _, step, failed = dposv(equations.matrix, -equations.gradient)
    if failed or not np.isfinite(step).all():
        step = np.linalg.lstsq(equations.matrix, -equations.gradient, rcond=None)[0]
    return np.asarray(step)


def _covariance(equations: NormalEquations) -> NDArray[np.float64]:
    """(6, 6) covariance at a least-squares optimum: inverse normal equations times the residuals' variance.

    Position in the points' unit, then rotation in rad, both along the reference's axes. Directions the points do not
    determine come out with a very large variance rather than an error.
    """
    variance_px2 = max(equations.cost / max(2 * equations.count - 6, 1), LEAST_VARIANCE_PX2)
    values, vectors = np.linalg.eigh(equations.matrix)
    floor = max(float(values[-1]) * 1e-15, np.finfo(np.float64).tiny)
    return vectors @ np.diag(variance_px2 / np.maximum(values, floor)) @ vectors.T


def _of_majority_near(
    start: NDArray[np.float64],
    pixels: NDArray[np.float64],
    points: NDArray[np.float64],
    matrix: NDArray[np.float64],
    threshold_px: float,
) -> NDArray[np.float64] | None:
    """Pose (4, 4) that nearly all of pixels (2, n) and points (3, n) agree on, by least squares from ``start``.

    None where that is too far off.
    """
    least, pose = MAJORITY * pixels.shape[1], start
    squared = _squared_errors(pose, pixels, points, matrix)
    if np.count_nonzero(squared < threshold_px**2) < least:
        near = np.flatnonzero(squared < (NEAR * threshold_px) ** 2)
        if len(near) < max(least, MIN_POINTS):
            return None
        pose, _ = _refined(pose, pixels.take(near, axis=1), points.take(near, axis=1), matrix)
        squared = _squared_errors(pose, pixels, points, matrix)
    return pose if np.count_nonzero(squared < threshold_px**2) >= least else None


def _of_majority(
    pixels: NDArray[np.float64], points: NDArray[np.float64], matrix: NDArray[np.float64], threshold_px: float
) -> NDArray[np.float64] | None:
    """Pose (4, 4) that nearly all of pixels (n, 2) and points (n, 3) agree on, or None: where samples must be drawn.

    SQPnP of all of them, then of those that agree with it, but at least the better half, until most do.
    """
    pixels, points = pixels[:MAJORITY_POINTS], points[:MAJORITY_POINTS]
    columns = _columns(pixels, points)
    chosen = np.ones(len(pixels), dtype=bool)
    for number in range(CONCENTRATIONS):
        if np.count_nonzero(chosen) < MIN_POINTS:
            return None
        try:
            found, turn, shift = cv2.solvePnP(points[chosen], pixels[chosen], matrix, None, flags=cv2.SOLVEPNP_SQPNP)
        except cv2.error:  # OpenCV's own answer to degenerate points
            return None
        if not found:
            return None
        pose = invert(pose_from(rotation_exp(turn[:, 0]), shift[:, 0]))
        squared = _squared_errors(pose, *columns, matrix)
        agree = squared < threshold_px**2
        share = np.count_nonzero(agree) / len(agree)
        if share >= MAJORITY and number:
            return pose
        chosen = agree if share > 0.5 else squared <= np.median(squared)
    return None


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
    drawn: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NormalEquations | None]:
    """Two rounds of least squares, each on the inliers of the pose before; keeps a pose only if it loses few of them.

    ``pixels`` (2, n), ``points`` (3, n). The first round only finds the inliers of the second: those ``drawn`` do.
    The equations are those of all inliers that the second round began with, if its pose is kept.
    """
    equations = None
    for few in (drawn, None):
        chosen = np.flatnonzero(inliers) if few is None else few[inliers[few]]
        if len(chosen) < MIN_POINTS:
            break
        refined, found = _refined(pose, pixels.take(chosen, axis=1), points.take(chosen, axis=1), matrix)
        refined_inliers = _inliers(refined, pixels, points, matrix, threshold_px)
        if np.count_nonzero(refined_inliers) < (1.0 - LOST_INLIERS) * np.count_nonzero(inliers):
            break
        settled = few is None and np.array_equal(refined_inliers, inliers)
        pose, inliers, equations = refined, refined_inliers, found if few is None else None
        if settled:
            break
    return pose, inliers, equations


def _solution(
    pose: NDArray[np.float64],
    pixels: NDArray[np.float64],
    points: NDArray[np.float64],
    matrix: NDArray[np.float64],
    inliers: NDArray[np.bool_],
    equations: NormalEquations | None,
) -> PnpSolution | PnpFailure:
    """Pose and inliers, of pixels (2, n) and points (3, n), with their covariance and residual.

    ``equations``: of nearly all of the inliers, nearly there, if anybody knows them.
    """
    chosen = np.flatnonzero(inliers)
    if len(chosen) < MIN_POINTS:
        return PnpFailure(f"only {len(chosen)} points agree with the best pose, expected {MIN_POINTS}")
    if equations is None:
        equations = normal_equations(pose, pixels.take(chosen, axis=1), points.take(chosen, axis=1), matrix)
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
    """(n,) points (3, n) in front of the camera that land within the threshold of their pixel (2, n)."""
    return _squared_errors(pose, pixels, points, matrix) < threshold_px**2


def _squared_errors(
    pose: NDArray[np.float64], pixels: NDArray[np.float64], points: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) px^2 between where points (3, n) land and their pixels (2, n); infinite of points behind the camera."""
    to_image = matrix @ pose[:3, :3].T
    seen = to_image @ points
    seen -= (to_image @ pose[:3, 3])[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        errors = seen[:2] * (1.0 / seen[2])
        errors -= pixels
        errors *= errors
        squared: NDArray[np.float64] = errors[0] + errors[1]
        np.putmask(squared, ~((seen[2] > 0) & (squared < np.inf)), np.inf)  # NaN compares as not below
    return squared


def _columns(pixels: ArrayLike, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (n, 2) and points (n, 3) as rows of coordinates (2, n) and (3, n)."""
    return (
        np.ascontiguousarray(np.asarray(pixels, dtype=np.float64).T),
        np.ascontiguousarray(np.asarray(points, dtype=np.float64).T),
    )


def normal_equations(
    pose: NDArray[np.float64], pixels: NDArray[np.float64], points: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NormalEquations:
    """Least squares of the reprojection errors of pixels (2, n) and points (3, n) about a pose.

    A point behind the camera makes the cost infinite. The rows of :func:`linearised` are sums of a few monomials, which
    are summed up in their stead: that takes less time. All are along the camera's own axes; only the sums are turned
    to the reference's, once.
    """
    count = points.shape[1]
    sums = np.zeros((MONOMIALS, MONOMIALS))
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        rows = _monomials(pose, pixels[:, block], points[:, block], matrix)
        sums += rows @ rows.T
    along_x, along_y = _by_monomials(float(matrix[0, 0]), float(matrix[0, 1]), float(matrix[1, 1]))
    products = along_x @ sums @ along_x.T + along_y @ sums @ along_y.T
    cost = float(products[6, 6])
    if not np.isfinite(cost):
        return NormalEquations(np.zeros((6, 6)), np.zeros(6), np.inf, count)
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = pose[:3, :3]
    return NormalEquations(turn @ products[:6, :6] @ turn.T, turn @ products[:6, 6], cost, count)


def _monomials(
    pose: NDArray[np.float64], pixels: NDArray[np.float64], points: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(12, n) what the rows of :func:`linearised` are sums of: 1/z, a/z, b/z, ab, aa, bb, a, b, both errors, 1, 0."""
    rows = np.empty((MONOMIALS, points.shape[1]))
    x, y, z = in_camera(pose, points)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.divide(1.0, np.where(z > 0, z, np.nan), out=rows[0])
    ab = rows[6:8]
    a, b = np.multiply(x, inverse, out=ab[0]), np.multiply(y, inverse, out=ab[1])
    np.multiply(ab, inverse, out=rows[1:3])
    np.multiply(a, b, out=rows[3])
    np.multiply(ab, ab, out=rows[4:6])
    errors = np.matmul(matrix[:2, :2], ab, out=rows[8:10])
    errors += matrix[:2, 2:]
    errors -= pixels
    rows[10], rows[11] = 1.0, 0.0
    return rows


@lru_cache(maxsize=8)
def _by_monomials(fx: float, skew: float, fy: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(7, 12) which multiples of the monomials are the six derivatives and the error, along x, and along y."""
    along_x, along_y = np.zeros((2, 7, MONOMIALS))
    along_x[0, 0] = -fx
    along_x[1, 0] = -skew
    along_x[2, 1], along_x[2, 2] = fx, skew
    along_x[3, 3], along_x[3, 5], along_x[3, 10] = fx, skew, skew
    along_x[4, 4], along_x[4, 3], along_x[4, 10] = -fx, -skew, -fx
    along_x[5, 7], along_x[5, 6] = fx, -skew
    along_y[1, 0] = -fy
    along_y[2, 2] = fy
    along_y[3, 5], along_y[3, 10] = fy, fy
    along_y[4, 3] = -fy
    along_y[5, 6] = -fy
    along_x[6, 8] = along_y[6, 9] = 1.0
    for along in (along_x, along_y):
        along.setflags(write=False)
    return along_x, along_y


def linearised(
    pose: NDArray[np.float64], pixels: NDArray[np.float64], points: NDArray[np.float64], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(8, n) of the errors along x, and along y, of pixels (2, n) and points (3, n): six derivatives, errors, zeros.

    The derivatives are by the camera's position and rotation along its own axes. Moving it by dt moves a point p in it
    by ``-dt``, turning it by w moves the point by ``p x w``; so a pixel whose derivative by p is g has ``-g`` and
    ``g x p``. With ``p = z (a, b, 1)`` and ``q = fx a + s b``, s the skew, g is ``(fx, s, -q) / z`` along x and
    ``(0, fy, -fy b) / z`` along y. Eight rows are multiplied with each other in less time than seven.
    """
    x, y, z = in_camera(pose, points)
    fx, skew, fy = matrix[0, 0], matrix[0, 1], matrix[1, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / np.where(z > 0, z, np.nan)
    a, b = x * inverse, y * inverse
    along_x, along_y = np.empty((2, 8, points.shape[1]))
    along_x[7] = along_y[7] = 0.0
    q = fx * a
    if skew:
        q += skew * b
    np.multiply(inverse, -fx, out=along_x[0])
    np.multiply(inverse, -skew, out=along_x[1])
    np.multiply(q, inverse, out=along_x[2])
    np.multiply(q, b, out=along_x[3])
    along_x[3] += skew
    np.multiply(q, a, out=along_x[4])
    np.subtract(-fx, along_x[4], out=along_x[4])
    np.multiply(b, fx, out=along_x[5])
    if skew:
        along_x[5] -= skew * a
    np.subtract(q, pixels[0] - matrix[0, 2], out=along_x[6])
    along_y[0] = 0.0
    np.multiply(inverse, -fy, out=along_y[1])
    np.multiply(b, fy, out=q)
    np.multiply(q, inverse, out=along_y[2])
    np.multiply(q, b, out=along_y[3])
    along_y[3] += fy
    np.multiply(q, -a, out=along_y[4])
    np.multiply(a, -fy, out=along_y[5])
    np.subtract(q, pixels[1] - matrix[1, 2], out=along_y[6])
    return along_x, along_y


def in_camera(
    pose: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """x, y, z (n,) of points (3, n) in the camera at ``pose``."""
    back = pose[:3, :3].T
    x, y, z = back @ points
    to_x, to_y, to_z = (back @ pose[:3, 3]).tolist()
    x -= to_x
    y -= to_y
    z -= to_z
    return x, y, z
