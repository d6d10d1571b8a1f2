"""Depth where the sensor has none: points at rest triangulated from flow over several gaps and the camera's motion.

A pixel of the newest frame with ray r = K^-1 [u v 1]^T is seen in an earlier frame, whose camera has it at
``X' ~ R r + rho t`` for the inverse depth rho (homogeneous, so that rho = 0 is infinitely far). With its pixel there
on the plane z = 1, x' = K^-1 [u' v' 1]^T, both rows of ``x' (a_z + rho t_z) = a_xy + rho t_xy``, a = R r, are linear:
``c rho = b`` with ``c = x' t_z - t_xy`` and ``b = a_xy - x' a_z`` (Hartley, Zisserman 2004, sec. 12.2). All gaps
together are solved by weighted least squares. Errors of flow are independent between gaps; errors of the pose are
common to all pixels and are counted in full. What disagrees across the epipolar line moves or is badly matched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import MultiviewTuning
from pomato_ros.structures import Correspondence, DepthMap, FloatArray, Intrinsics, MaskArray, PoseArray, PosePrior

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class ViewPair:
    """The newest frame and an earlier one."""

    correspondence: Correspondence
    earlier_from_newest: PoseArray  # (4, 4), metres
    covariance: PoseArray  # (6, 6) of x, y, z, rot x, rot y, rot z of that pose in axes of the earlier camera


def triangulate(
    pairs: Sequence[ViewPair], intrinsics: Intrinsics, wanted: MaskArray | None, tuning: MultiviewTuning
) -> DepthMap | None:
    """Inverse depth of the newest frame by triangulation, valid where parallax makes it certain enough.

    Args:
        pairs: at several gaps; those without enough translation add nothing.
        intrinsics: of both frames.
        wanted: (h, w) pixels at rest whose depth is asked for; None: all. Others are not valid.
        tuning: gates.

    Returns:
        Metric inverse depth with a standard deviation that includes the poses' errors; None without a pair.
    """
    if not pairs:
        return None
    shape = pairs[0].correspondence.visible.shape
    rows = np.flatnonzero(np.ones(shape, bool) if wanted is None else wanted)
    rays = pixel_rays(rows, shape[1], intrinsics)
    equations = [_equation(pair, rows, rays, intrinsics, tuning.flow_floor_px) for pair in pairs]
    information = np.sum([each.information for each in equations], axis=0)
    seen = information > 0
    inverse = np.sum([each.product for each in equations], axis=0) / np.where(seen, information, 1.0)
    sigma, excess = _uncertainty(pairs, equations, inverse, np.where(seen, information, 1.0))
    limit = np.maximum(tuning.relative_sigma * inverse, tuning.far_sigma)
    valid = seen & (excess < tuning.residual_gate) & (sigma < limit) & (inverse > tuning.least_inverse_depth)
    return DepthMap(
        _image(shape, rows, inverse.astype(np.float32)),
        _image(shape, rows, sigma.astype(np.float32)),
        _image(shape, rows, valid),
        metric=True,
    )


def fill_depth(measured: DepthMap | None, triangulated: DepthMap | None) -> DepthMap | None:
    """The sensor's depth, and triangulated depth where it has none; None without either."""
    if measured is None or triangulated is None:
        return measured if triangulated is None else triangulated
    return DepthMap(
        np.where(measured.valid, measured.inverse_depth, triangulated.inverse_depth),
        np.where(measured.valid, measured.sigma, triangulated.sigma),
        measured.valid | triangulated.valid,
        measured.metric,
    )


def useful_gap(poses: Mapping[int, PosePrior | None], intrinsics: Intrinsics, tuning: MultiviewTuning) -> int | None:
    """The shortest gap with ample parallax, else the one with most, if that is enough; None: no gap has enough.

    Parallax is by how many pixels what is as far as :attr:`MultiviewTuning.useful_depth_m` moves, the rotation apart.

    Args:
        poses: of the newest camera in earlier ones by gap, metres; None: unknown.
        intrinsics: of the newest.
        tuning: ``useful_depth_m``, ``least_parallax_px`` and ``ample_parallax_px``.
    """
    scale = intrinsics.fx_px / tuning.useful_depth_m
    parallax_px = {
        gap: scale * float(np.linalg.norm(pose.earlier_from_newest[:3, 3]))
        for gap, pose in sorted(poses.items())
        if pose is not None
    }
    ample = [gap for gap, px in parallax_px.items() if px > tuning.ample_parallax_px]
    enough = [gap for gap, px in parallax_px.items() if px > tuning.least_parallax_px]
    return ample[0] if ample else max(enough, key=parallax_px.__getitem__, default=None)


@dataclass(frozen=True, slots=True, eq=False)
class _Equation:
    """One pair's part of ``information rho = product`` for each pixel (n,), and what its residual needs."""

    information: FloatArray  # sum c^2 / sigma^2, 0 where not visible
    product: FloatArray  # sum c b / sigma^2
    c: tuple[FloatArray, FloatArray]
    b: tuple[FloatArray, FloatArray]
    a: tuple[FloatArray, FloatArray, FloatArray]
    weight: FloatArray  # 1 / sigma^2 of a row; 0 where not visible


def pixel_rays(rows: NDArray[np.int64], width: int, intrinsics: Intrinsics) -> tuple[FloatArray, FloatArray]:
    """X and y (n,) on the plane z = 1 of pixels by their flat numbers (n,)."""
    v, u = np.divmod(rows, width)
    x, y = (u - intrinsics.cx_px) / intrinsics.fx_px, (v - intrinsics.cy_px) / intrinsics.fy_px
    return x.astype(np.float32), y.astype(np.float32)


def _image(shape: tuple[int, ...], rows: NDArray[np.int64], values: NDArray[Scalar]) -> NDArray[Scalar]:
    """Values (n,) of pixels as an image (h, w), zero elsewhere."""
    image = np.zeros(shape, values.dtype)
    image.reshape(-1)[rows] = values
    return image


def _equation(
    pair: ViewPair,
    rows: NDArray[np.int64],
    rays: tuple[FloatArray, FloatArray],
    intrinsics: Intrinsics,
    floor_px: float,
) -> _Equation:
    """Both rows of one pair, weighted by its flow's standard deviation."""
    rotation, match = pair.earlier_from_newest[:3, :3].astype(np.float32), pair.correspondence
    tx, ty, tz = pair.earlier_from_newest[:3, 3].astype(np.float32)
    x, y = rays
    a = (
        rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2],
        rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2],
        rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2],
    )
    pixels = match.pixels.reshape(-1, 2)[rows]
    seen_x = (pixels[:, 0] - np.float32(intrinsics.cx_px)) / np.float32(intrinsics.fx_px)
    seen_y = (pixels[:, 1] - np.float32(intrinsics.cy_px)) / np.float32(intrinsics.fy_px)
    sigma_px = np.hypot(match.sigma_px.reshape(-1)[rows], np.float32(floor_px))
    sigma = sigma_px * a[2] * np.float32(2.0 / (intrinsics.fx_px + intrinsics.fy_px))
    visible = match.visible.reshape(-1)[rows] & (sigma > 0)
    weight = np.where(visible, 1.0 / np.where(visible, sigma * sigma, 1.0), 0.0).astype(np.float32)
    cx, cy = (np.where(visible, value, 0.0) for value in (seen_x * tz - tx, seen_y * tz - ty))
    bx, by = (np.where(visible, value, 0.0) for value in (a[0] - seen_x * a[2], a[1] - seen_y * a[2]))
    return _Equation(weight * (cx * cx + cy * cy), weight * (cx * bx + cy * by), (cx, cy), (bx, by), a, weight)


def _uncertainty(
    pairs: Sequence[ViewPair],
    equations: Sequence[_Equation],
    inverse: FloatArray,
    information: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Standard deviation of inverse depth (n,), and the mean squared normalised residual (n,)."""
    common = np.zeros(inverse.shape, np.float32)  # standard deviation by the poses, added up: they err alike
    squares, rows = np.zeros(inverse.shape, np.float32), np.zeros(inverse.shape, np.float32)
    for pair, equation in zip(pairs, equations, strict=True):
        (cx, cy), (bx, by) = equation.c, equation.b
        pose_variance = _pose_variance(pair, equation, inverse)
        common += equation.weight / information * np.sqrt((cx * cx + cy * cy) * pose_variance)
        squared = (cx * inverse - bx) ** 2 + (cy * inverse - by) ** 2
        squares += squared * equation.weight / (1.0 + pose_variance * equation.weight)
        rows += 2.0 * (equation.weight > 0)
    excess = squares / np.maximum(rows - 1.0, 1.0)
    scatter = np.maximum(excess, 1.0)  # more than flow and poses explain makes the answer less certain
    return np.sqrt(scatter / information + common * common), excess


def _pose_variance(pair: ViewPair, equation: _Equation, inverse: FloatArray) -> FloatArray:
    """(n,) variance of the rows along c by the pose's error, on the plane z = 1 times a_z.

    An error (v, w) of the pose moves ``X' / rho`` by ``v rho + w x a``, thus row i by ``(.)_i - x'_i (.)_z``.
    """
    (cx, cy), (bx, by), (ax, ay, az) = equation.c, equation.b, equation.a
    length = np.sqrt(cx * cx + cy * cy)
    length = np.where(length > 0, length, 1.0)
    nx, ny = cx / length, cy / length
    nz = -(nx * (ax - bx) + ny * (ay - by)) / np.where(az > 0, az, 1.0)
    jacobian = np.stack(
        (nx * inverse, ny * inverse, nz * inverse, ay * nz - az * ny, az * nx - ax * nz, ax * ny - ay * nx)
    )
    root = np.linalg.cholesky(pair.covariance + 1e-15 * np.eye(6)).astype(np.float32)
    return np.asarray(((root.T @ jacobian) ** 2).sum(axis=0), np.float32)
