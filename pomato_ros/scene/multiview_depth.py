"""Depth where the sensor has none: points at rest triangulated from flow over several gaps and the camera's motion.

A pixel of the newest frame with ray r = K^-1 [u v 1]^T is seen in an earlier frame, whose camera has it at
``X' ~ R r + rho t`` for the inverse depth rho (homogeneous, so that rho = 0 is infinitely far). With its pixel there
on the plane z = 1, x' = K^-1 [u' v' 1]^T, both rows of ``x' (a_z + rho t_z) = a_xy + rho t_xy``, a = R r, are linear:
``c rho = b`` with ``c = x' t_z - t_xy`` and ``b = a_xy - x' a_z`` (Hartley, Zisserman 2004, sec. 12.2). All gaps
together are solved by weighted least squares. Errors of flow are independent between gaps; errors of the pose are
common to all pixels and are counted in full. What disagrees across the epipolar line moves or is badly matched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pomato_ros.config import MultiviewTuning
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.structures import Correspondence, DepthMap, FloatArray, Intrinsics, MaskArray, PoseArray


@dataclass(frozen=True, slots=True, eq=False)
class ViewPair:
    """The newest frame and an earlier one."""

    correspondence: Correspondence
    earlier_from_newest: PoseArray  # (4, 4), metres
    covariance: PoseArray  # (6, 6) of x, y, z, rot x, rot y, rot z of that pose in axes of the earlier camera


def triangulate(
    pairs: Sequence[ViewPair], intrinsics: Intrinsics, static: MaskArray | None, tuning: MultiviewTuning
) -> DepthMap | None:
    """Inverse depth of the newest frame by triangulation, valid where parallax makes it certain enough.

    Args:
        pairs: at several gaps; those without enough translation add nothing.
        intrinsics: of both frames.
        static: (h, w) pixels at rest; None: all. Others are not valid.
        tuning: gates.

    Returns:
        Metric inverse depth with a standard deviation that includes the poses' errors; None without a pair.
    """
    if not pairs:
        return None
    shape = pairs[0].correspondence.visible.shape
    rays = pixel_rays(shape[0], shape[1], intrinsics)
    sums = [_normal_equation(pair, rays, intrinsics) for pair in pairs]
    information = np.sum([each.information for each in sums], axis=0)
    seen = information > 0
    inverse = np.zeros(shape, np.float32)
    np.divide(np.sum([each.product for each in sums], axis=0), information, out=inverse, where=seen)
    sigma, excess = _uncertainty(pairs, sums, rays, inverse, information, intrinsics)
    limit = np.maximum(tuning.relative_sigma * inverse, tuning.far_sigma)
    valid = seen & (excess < tuning.residual_gate) & (sigma < limit) & (inverse > tuning.least_inverse_depth)
    if static is not None:
        valid &= static
    return DepthMap(inverse, sigma.astype(np.float32), valid, metric=True)


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


@dataclass(frozen=True, slots=True, eq=False)
class _Equation:
    """One pair's part of ``information rho = product`` for each pixel (h, w), and what its residual needs."""

    information: FloatArray  # sum c^2 / sigma^2, 0 where not visible
    product: FloatArray  # sum c b / sigma^2
    c: FloatArray  # (h, w, 2)
    b: FloatArray  # (h, w, 2)
    weight: FloatArray  # (h, w) 1 / sigma^2 on the plane z = 1


def pixel_rays(height: int, width: int, intrinsics: Intrinsics) -> FloatArray:
    """(h, w, 3) directions through the pixels' centres with z = 1."""
    pixels = pixel_grid(height, width)
    plane = (pixels - (intrinsics.cx_px, intrinsics.cy_px)) / (intrinsics.fx_px, intrinsics.fy_px)
    return np.concatenate((plane, np.ones((height, width, 1))), axis=-1).astype(np.float32)


def _normal_equation(pair: ViewPair, rays: FloatArray, intrinsics: Intrinsics) -> _Equation:
    """Both rows of one pair, weighted by its flow's standard deviation."""
    rotation = pair.earlier_from_newest[:3, :3].astype(np.float32)
    shift = pair.earlier_from_newest[:3, 3].astype(np.float32)
    match = pair.correspondence
    centre = np.array([intrinsics.cx_px, intrinsics.cy_px], np.float32)
    focal = np.array([intrinsics.fx_px, intrinsics.fy_px], np.float32)
    plane = (match.pixels - centre) / focal
    turned = rays @ rotation.T
    c = plane * shift[2] - shift[:2]
    b = turned[..., :2] - plane * turned[..., 2:]
    visible = match.visible & np.isfinite(match.sigma_px) & (turned[..., 2] > 0)
    sigma = match.sigma_px / np.float32(focal.mean()) * turned[..., 2]
    weight = np.zeros(visible.shape, np.float32)
    np.divide(np.float32(1.0), sigma * sigma, out=weight, where=visible & (sigma > 0))
    c, b = np.where(visible[..., None], c, 0.0), np.where(visible[..., None], b, 0.0)
    return _Equation(weight * (c * c).sum(axis=-1), weight * (c * b).sum(axis=-1), c, b, weight)


def _uncertainty(
    pairs: Sequence[ViewPair],
    equations: Sequence[_Equation],
    rays: FloatArray,
    inverse: FloatArray,
    information: FloatArray,
    intrinsics: Intrinsics,
) -> tuple[FloatArray, FloatArray]:
    """Standard deviation of inverse depth (h, w), and the mean squared normalised residual (h, w)."""
    safe = np.where(information > 0, information, 1.0)
    common = np.zeros(inverse.shape, np.float32)  # standard deviation by the poses, added up: they err alike
    squares, rows = np.zeros(inverse.shape, np.float32), np.zeros(inverse.shape, np.float32)
    for pair, equation in zip(pairs, equations, strict=True):
        pose_variance = _pose_variance(pair, equation, rays, inverse)
        length = np.sqrt((equation.c * equation.c).sum(axis=-1))
        common += equation.weight / safe * length * np.sqrt(pose_variance)
        residual = equation.c * inverse[..., None] - equation.b
        variance = np.where(equation.weight > 0, 1.0 / np.where(equation.weight > 0, equation.weight, 1.0), np.inf)
        squares += (residual * residual).sum(axis=-1) / (variance + pose_variance)
        rows += 2.0 * (equation.weight > 0)
    excess = squares / np.maximum(rows - 1.0, 1.0)
    scatter = np.maximum(excess, 1.0)  # more than flow and poses explain makes the answer less certain
    sigma = np.sqrt(scatter / safe + common * common)
    return sigma.astype(np.float32), excess.astype(np.float32)


def _pose_variance(pair: ViewPair, equation: _Equation, rays: FloatArray, inverse: FloatArray) -> FloatArray:
    """(h, w) variance of the rows along c by the pose's error, on the plane z = 1 times a_z.

    An error (v, w) of the pose moves ``X' / rho`` by ``v rho + w x a``, thus row i by ``(.)_i - x'_i (.)_z``.
    """
    rotation = pair.earlier_from_newest[:3, :3].astype(np.float32)
    a = rays @ rotation.T
    length = np.sqrt((equation.c * equation.c).sum(axis=-1, keepdims=True))
    direction = equation.c / np.where(length > 0, length, 1.0)
    plane = (a[..., :2] - equation.b) / np.where(a[..., 2:] > 0, a[..., 2:], 1.0)
    normal = np.concatenate((direction, -(direction * plane).sum(axis=-1, keepdims=True)), axis=-1)  # (h, w, 3)
    jacobian = np.concatenate((normal * inverse[..., None], np.cross(a, normal)), axis=-1)
    covariance = pair.covariance.astype(np.float32)
    return np.asarray(((jacobian @ covariance) * jacobian).sum(axis=-1), np.float32)
