"""Where a pixel would be in an earlier frame if its point were at rest, and how far flow is from there.

With camera matrix K, rotation R and translation t of the newest camera in the earlier one, a pixel p with inverse depth
r is seen at ``H p + r e`` in homogeneous pixels, ``H = K R K^-1`` and ``e = K t`` (Hartley, Zisserman 2004, sec. 9.3).
In pixels that is ``far + u way``: far the place at infinite depth, way the direction ``e_xy - e_z far`` along the
epipolar line, and ``u = r / (z + r e_z)`` with z the third coordinate of ``H p``. Points in front of both cameras have
u from 0 to a limit: rest allows a piece of the line. A measured depth narrows it further.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TwoViewTuning
from pomato_ros.geometry.rigid import compose, pose_exp
from pomato_ros.structures import FloatArray, PoseArray, PosePrior

LEAST_Z = 0.02  # of H p + r e: a point nearer to the earlier camera's plane has no place in its image
NO_LIMIT = 1e6  # of u, where the piece of line does not end


@dataclass(frozen=True, slots=True, eq=False)
class PairGeometry:
    """Where points at rest go from the newest frame to an earlier one, in homogeneous pixels ``H p + r e``."""

    homography: PoseArray  # (3, 3) H
    epipole: PoseArray  # (3,) e; zero: nothing has parallax


def geometry_of(earlier_from_newest: PoseArray, camera_matrix: PoseArray) -> PairGeometry:
    """``K R K^-1`` and ``K t`` of a relative pose (4, 4)."""
    at_infinity = camera_matrix @ earlier_from_newest[:3, :3] @ np.linalg.inv(camera_matrix)
    return PairGeometry(at_infinity, camera_matrix @ earlier_from_newest[:3, 3])


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Flow from some pixels of the newest frame to an earlier one, with what is known of their depth; all (n,)."""

    x: FloatArray  # px in the newest frame
    y: FloatArray
    to_x: FloatArray  # px in the earlier frame
    to_y: FloatArray
    variance: FloatArray  # px^2, of each coordinate of the match
    inverse_depth: FloatArray  # any number where the weight is 0
    weight: FloatArray  # 1 / variance of the inverse depth; 0: unknown

    def chosen(self, rows: NDArray[np.int64]) -> "Matches":
        """Those in ``rows`` (m,)."""
        fields = dataclasses.fields(self)
        return Matches(**{field.name: np.ascontiguousarray(getattr(self, field.name)[rows]) for field in fields})


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """The place of each match, if its point were at rest, that flow and depth together make most probable; all (n,)."""

    x: FloatArray  # px in the earlier frame
    y: FloatArray
    inverse_depth: FloatArray
    square: FloatArray  # squared residual in standard deviations, of flow and depth together
    slack: FloatArray  # px^2, variance along the epipolar line that the depth's uncertainty leaves
    along_x: FloatArray  # unit vector along the line
    along_y: FloatArray


def rest_of(matches: Matches, geometry: PairGeometry) -> Rest:
    """The most probable place at rest of each match, within the piece of epipolar line that rest allows.

    Minimises ``|m - far - u way|^2 / s^2 + (u - u_0)^2 / s_u^2`` over u, m the match, s its standard deviation, u_0 and
    s_u what the depth says.
    """
    h = geometry.homography.astype(np.float32)
    e_x, e_y, e_z = geometry.epipole.astype(np.float32).tolist()
    z = np.maximum(h[2, 0] * matches.x + h[2, 1] * matches.y + h[2, 2], np.float32(LEAST_Z))
    far_x = (h[0, 0] * matches.x + h[0, 1] * matches.y + h[0, 2]) / z
    far_y = (h[1, 0] * matches.x + h[1, 1] * matches.y + h[1, 2]) / z
    way_x, way_y = e_x - e_z * far_x, e_y - e_z * far_y
    ahead = np.maximum(z + e_z * matches.inverse_depth, np.float32(LEAST_Z))
    u_0 = matches.inverse_depth / ahead
    weight_u = matches.weight * (ahead * ahead / z) ** 2
    length_square = np.maximum(way_x * way_x + way_y * way_y, np.float32(1e-12))
    weight_flow = length_square / matches.variance
    along = (matches.to_x - far_x) * way_x + (matches.to_y - far_y) * way_y
    u = (along / matches.variance + weight_u * u_0) / (weight_flow + weight_u)
    u = np.clip(u, 0.0, np.float32(1.0 / e_z if e_z > 1.0 / NO_LIMIT else NO_LIMIT))
    x, y = far_x + u * way_x, far_y + u * way_y
    square = ((matches.to_x - x) ** 2 + (matches.to_y - y) ** 2) / matches.variance + weight_u * (u - u_0) ** 2
    length = np.sqrt(length_square)
    free = length_square / np.maximum(weight_u, np.float32(1e-12))
    free[u <= 0] = 0.0
    inverse_depth = np.minimum(u * z / np.maximum(1.0 - u * e_z, np.float32(1e-6)), np.float32(NO_LIMIT))
    return Rest(x, y, inverse_depth, square, free, way_x / length, way_y / length)


def refined(matches: Matches, prior: PosePrior, camera_matrix: PoseArray, tuning: TwoViewTuning) -> PosePrior:
    """The pose that most matches agree with, near a prior one, and its covariance.

    Gauss-Newton with Geman and McClure's weights on the residuals of :func:`rest_of`, with the prior's information on
    the correction; residuals count as uncertain as the pose still is, so that its error does not reject them.

    Args:
        matches: some thousand, spread over the image.
        prior: the pose to begin with.
        camera_matrix: (3, 3).
        tuning: ``steps``, ``inlier_gate`` and ``correlated``.
    """
    pose, covariance = prior.earlier_from_newest, prior.covariance
    information = np.linalg.inv(prior.covariance)
    offset = np.zeros(6)  # of the prior from the pose, as a twist in the earlier camera
    for _ in range(tuning.steps):
        normal, right = _normal_equations(matches, pose, covariance, camera_matrix, tuning)
        covariance = np.linalg.inv(normal + information)
        step = covariance @ (right + information @ offset)
        offset = offset - step
        pose = compose(pose_exp(step), pose)
    return PosePrior(prior.gap, pose, covariance)


def _normal_equations(
    matches: Matches, pose: PoseArray, covariance: PoseArray, camera_matrix: PoseArray, tuning: TwoViewTuning
) -> tuple[PoseArray, PoseArray]:
    """(6, 6) and (6,) of a Gauss-Newton step of the earlier camera's axes."""
    rest = rest_of(matches, geometry_of(pose, camera_matrix))
    rows_x, rows_y = jacobian(rest, matches, pose, camera_matrix)
    rows_along = rows_x * rest.along_x + rows_y * rest.along_y
    rows_across = rows_y * rest.along_x - rows_x * rest.along_y
    uncertain = np.einsum("in,in->n", rows_across, covariance.astype(np.float32) @ rows_across)
    square = rest.square * matches.variance / (matches.variance + uncertain)
    robust = (1.0 + square * np.float32(1.0 / tuning.inlier_gate**2)) ** -2 / np.float32(tuning.correlated)
    across, along = robust / matches.variance, robust / (matches.variance + rest.slack)
    normal = (rows_along * along) @ rows_along.T + (rows_across * across) @ rows_across.T
    right = rows_x @ (across * (matches.to_x - rest.x)) + rows_y @ (across * (matches.to_y - rest.y))
    return normal.astype(np.float64), right.astype(np.float64)


def jacobian(
    rest: Rest, matches: Matches, earlier_from_newest: PoseArray, camera_matrix: PoseArray
) -> tuple[FloatArray, FloatArray]:
    """(6, n) derivatives of x, and of y, of places at rest by a small motion x, y, z, rot of the earlier camera's axes.

    A motion (d, w) moves a point P by ``d + w x P``; with P = (a, b, 1) / r the pixel of the point moves by
    ``f_x (r d_x - a r d_z - a b w_x + (1 + a^2) w_y - b w_z)``, y alike. r is that in the earlier camera.
    """
    fx, fy, cx, cy = (camera_matrix[row, column] for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    a = ((rest.x - cx) / fx).astype(np.float32)
    b = ((rest.y - cy) / fy).astype(np.float32)
    rotation, translation = earlier_from_newest[:3, :3], earlier_from_newest[:3, 3]
    ray_x = ((matches.x - cx) / fx).astype(np.float32)
    ray_y = ((matches.y - cy) / fy).astype(np.float32)
    z = np.float32(rotation[2, 0]) * ray_x + np.float32(rotation[2, 1]) * ray_y + np.float32(rotation[2, 2])
    r = rest.inverse_depth / np.maximum(z + np.float32(translation[2]) * rest.inverse_depth, np.float32(LEAST_Z))
    zero = np.zeros_like(a)
    rows_x = np.stack((r, zero, -a * r, -a * b, 1 + a * a, -b)) * np.float32(fx)
    rows_y = np.stack((zero, r, -b * r, -1 - b * b, a * b, a)) * np.float32(fy)
    return rows_x, rows_y


def pose_variance(rows_x: FloatArray, rows_y: FloatArray, covariance: PoseArray) -> FloatArray:
    """(n,) px^2: mean over x and y of the variance of places at rest that the pose's covariance makes."""
    small = covariance.astype(np.float32)
    total = np.einsum("in,in->n", rows_x, small @ rows_x) + np.einsum("in,in->n", rows_y, small @ rows_y)
    return np.asarray(np.float32(0.5) * total)
