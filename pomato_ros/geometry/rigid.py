"""Rigid motion in float64: 4x4 poses, their exponential coordinates, and quaternions (x, y, z, w).

``a_from_b`` maps coordinates in b to coordinates in a. A twist is (6,): translation part, then rotation vector (rad).
All functions broadcast over leading axes. A single vector or matrix, which is what an online method mostly has, takes a
short way of its own: NumPy's price of a call is many times that of so little arithmetic.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALL_ANGLE_RAD = 1e-4


def pose_from(rotation: ArrayLike, translation: ArrayLike) -> NDArray[np.float64]:
    """Rotation (..., 3, 3) and translation (..., 3) -> pose (..., 4, 4)."""
    rotation = np.asarray(rotation, dtype=np.float64)
    translation = np.asarray(translation, dtype=np.float64)
    if rotation.ndim == 2 and translation.ndim == 1:
        pose = np.zeros((4, 4))
        pose[:3, :3], pose[:3, 3], pose[3, 3] = rotation, translation, 1.0
        return pose
    pose = np.zeros((*np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]), 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1.0
    return pose


def compose(a_from_b: ArrayLike, b_from_c: ArrayLike) -> NDArray[np.float64]:
    """Chain two poses (..., 4, 4) -> a_from_c."""
    return np.asarray(a_from_b, dtype=np.float64) @ np.asarray(b_from_c, dtype=np.float64)


def invert(a_from_b: ArrayLike) -> NDArray[np.float64]:
    """Pose (..., 4, 4) -> b_from_a, without a general matrix inverse."""
    a_from_b = np.asarray(a_from_b, dtype=np.float64)
    b_rotation = np.swapaxes(a_from_b[..., :3, :3], -1, -2)
    return pose_from(b_rotation, -(b_rotation @ a_from_b[..., :3, 3:])[..., 0])


def transform(a_from_b: ArrayLike, points_b: ArrayLike) -> NDArray[np.float64]:
    """One pose (4, 4) applied to points (..., 3) in b -> the same points in a."""
    a_from_b = np.asarray(a_from_b, dtype=np.float64)
    return np.asarray(points_b, dtype=np.float64) @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def cross_matrix(vector: ArrayLike) -> NDArray[np.float64]:
    """(..., 3) -> (..., 3, 3) with ``cross_matrix(v) @ u == cross(v, u)``."""
    vector = np.asarray(vector, dtype=np.float64)
    if vector.shape == (3,):
        x, y, z = vector.tolist()
        return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    rows = [np.stack(row, axis=-1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, axis=-2)


def rotation_exp(rotation_vector: ArrayLike) -> NDArray[np.float64]:
    """Rotation vector (..., 3), axis times angle in rad -> rotation matrix (..., 3, 3) (Rodrigues)."""
    rotation_vector = np.asarray(rotation_vector, dtype=np.float64)
    if rotation_vector.shape == (3,):
        return _one_rotation(*rotation_vector.tolist())
    sine_term, cosine_term, _ = _exponential_terms(np.linalg.norm(rotation_vector, axis=-1))
    skew = cross_matrix(rotation_vector)
    return np.eye(3) + sine_term * skew + cosine_term * (skew @ skew)


def _one_rotation(x: float, y: float, z: float) -> NDArray[np.float64]:
    """:func:`rotation_exp` of one vector, with ``K^2 = v v^T - a^2 I``."""
    square = x * x + y * y + z * z
    angle = math.sqrt(square)
    if angle < SMALL_ANGLE_RAD:
        s, c = 1 - square / 6, 0.5 - square / 24
    elif math.isfinite(angle):
        s, c = math.sin(angle) / angle, (1 - math.cos(angle)) / square
    else:
        return np.full((3, 3), np.nan)
    return np.array(
        [
            [1 - c * (y * y + z * z), c * x * y - s * z, c * x * z + s * y],
            [c * x * y + s * z, 1 - c * (x * x + z * z), c * y * z - s * x],
            [c * x * z - s * y, c * y * z + s * x, 1 - c * (x * x + y * y)],
        ]
    )


def rotation_log(rotation: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrix (..., 3, 3) -> rotation vector (..., 3), its angle in [0, pi]."""
    rotation = np.asarray(rotation, dtype=np.float64)
    if rotation.shape == (3, 3):
        x, y, z, w = _one_quaternion(*rotation.ravel().tolist())
        length = math.sqrt(x * x + y * y + z * z)
        times = 2.0 * math.atan2(length, w) / length if length > 1e-12 else 2.0
        return np.array([times * x, times * y, times * z])
    quaternion = quaternion_xyzw_from_matrix(rotation)
    sine = np.linalg.norm(quaternion[..., :3], axis=-1, keepdims=True)
    half_angle = np.arctan2(sine, quaternion[..., 3:])
    # sin(a) / a near zero is 1, so the vector is twice the quaternion's imaginary part
    factor = np.divide(2.0 * half_angle, sine, out=np.full_like(sine, 2.0), where=sine > 1e-12)
    return quaternion[..., :3] * factor


def pose_exp(twist: ArrayLike) -> NDArray[np.float64]:
    """Twist (..., 6) -> pose (..., 4, 4), the exponential of SE(3)."""
    twist = np.asarray(twist, dtype=np.float64)
    translation = _left_jacobian(twist[..., 3:]) @ twist[..., :3, None]
    return pose_from(rotation_exp(twist[..., 3:]), translation[..., 0])


def pose_log(pose: ArrayLike) -> NDArray[np.float64]:
    """Pose (..., 4, 4) -> twist (..., 6), the inverse of :func:`pose_exp` for angles below pi."""
    pose = np.asarray(pose, dtype=np.float64)
    rotation_vector = rotation_log(pose[..., :3, :3])
    translation = np.linalg.solve(_left_jacobian(rotation_vector), pose[..., :3, 3:])
    return np.concatenate((translation[..., 0], rotation_vector), axis=-1)


def interpolate(a_from_b: ArrayLike, a_from_c: ArrayLike, fraction: float) -> NDArray[np.float64]:
    """The pose a ``fraction`` (0 .. 1) of the way from the first pose to the second, along the screw between them."""
    return compose(a_from_b, pose_exp(fraction * pose_log(compose(invert(a_from_b), a_from_c))))


def rotation_angle(rotation: ArrayLike) -> NDArray[np.float64]:
    """Angle of rotation matrices (..., 3, 3) in rad, 0 .. pi; exact for small angles too."""
    return np.linalg.norm(rotation_log(rotation), axis=-1)


def matrix_from_quaternion_xyzw(quaternion_xyzw: ArrayLike) -> NDArray[np.float64]:
    """Quaternion (..., 4) of any length above zero -> rotation matrix (..., 3, 3).

    Raises:
        ValueError: a quaternion has no direction (zero or not finite).
    """
    quaternion = np.asarray(quaternion_xyzw, dtype=np.float64)
    length = np.linalg.norm(quaternion, axis=-1, keepdims=True)
    if not np.all(np.isfinite(length) & (length > 0)):
        raise ValueError("a quaternion (x, y, z, w) must be finite and not zero; check the pose it came from")
    imaginary, real = np.split(quaternion / length, [3], axis=-1)
    skew = cross_matrix(imaginary)
    return np.eye(3) + 2.0 * real[..., None] * skew + 2.0 * (skew @ skew)


def quaternion_xyzw_from_matrix(rotation: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrix (..., 3, 3) -> unit quaternion (..., 4) with w >= 0.

    Each row of the symmetric 4x4 matrix below is the quaternion times four of its components; the longest row is used.
    """
    r = np.asarray(rotation, dtype=np.float64)
    if r.shape == (3, 3):
        return np.array(_one_quaternion(*r.ravel().tolist()))
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    xw, yw, zw = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    rows = (
        (1 + xx - yy - zz, xy, xz, xw),
        (xy, 1 - xx + yy - zz, yz, yw),
        (xz, yz, 1 - xx - yy + zz, zw),
        (xw, yw, zw, 1 + xx + yy + zz),
    )
    products = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    longest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(products, longest[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    return np.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def _one_quaternion(
    xx: float, xy: float, xz: float, yx: float, yy: float, yz: float, zx: float, zy: float, zz: float
) -> tuple[float, float, float, float]:
    """:func:`quaternion_xyzw_from_matrix` of one matrix, given row by row."""
    squares = (1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz)
    longest = max(range(4), key=squares.__getitem__)
    square = squares[longest]
    x, y, z, w = (
        (square, xy + yx, xz + zx, zy - yz),
        (xy + yx, square, yz + zy, xz - zx),
        (xz + zx, yz + zy, square, yx - xy),
        (zy - yz, xz - zx, yx - xy, square),
    )[longest]
    length = math.sqrt(x * x + y * y + z * z + w * w) * (-1.0 if w < 0 else 1.0)
    return x / length, y / length, z / length, w / length


def _exponential_terms(angle: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """sin(a)/a, (1-cos(a))/a^2, (a-sin(a))/a^3 with their series near zero, shaped (..., 1, 1)."""
    angle = angle[..., None, None]
    small = angle < SMALL_ANGLE_RAD
    safe = np.where(small, 1.0, angle)
    square = angle**2
    return (
        np.where(small, 1 - square / 6, np.sin(safe) / safe),
        np.where(small, 0.5 - square / 24, (1 - np.cos(safe)) / safe**2),
        np.where(small, 1 / 6 - square / 120, (safe - np.sin(safe)) / safe**3),
    )


def _left_jacobian(rotation_vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) -> (..., 3, 3): what turns the translation part of a twist into a pose's translation."""
    _, cosine_term, cubic_term = _exponential_terms(np.linalg.norm(rotation_vector, axis=-1))
    skew = cross_matrix(rotation_vector)
    return np.eye(3) + cosine_term * skew + cubic_term * (skew @ skew)
