"""Flow4R's equations (1) to (9): from points and their flow to camera motion, object motion, tracks, focal, image flow.

P (..., h, w, 3) are points of image I in its own camera, P_vt the same points in the camera of I' at the time of I'.
T maps coordinates of camera I to coordinates of camera I'.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TINY = 1e-8  # depth, length or sum of singular values taken for zero, relative to the largest


class NearestRotation(torch.autograd.Function):
    """The rotation R that maximises tr(R H): ``V diag(1, 1, det(V U^T)) U^T`` of ``H = U S V^T``.

    Its gradient divides by sums of singular values only, so equal ones do no harm, where the gradient through U and V
    would divide by their differences. With M = R H, whose eigenvectors are V and eigenvalues m, a change dH turns R by
    ``V ((A^T - A) / (m_i + m_j)) V^T R`` with ``A = V^T R dH V``; where m_i + m_j vanishes R is not determined and the
    gradient is zero.
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor) -> Tensor:
        """H (..., 3, 3) -> R (..., 3, 3)."""
        left, values, right = torch.linalg.svd(products)
        axes = right.mT
        sign = torch.linalg.det(axes @ left.mT).sign()
        signs = torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), dim=-1)
        rotation = (axes * signs[..., None, :]) @ left.mT
        ctx.save_for_backward(rotation, axes, values * signs)
        return rotation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """dL/dR -> dL/dH."""
        rotation, axes, values = ctx.saved_tensors
        sums = values[..., :, None] + values[..., None, :]
        solid = sums.abs() > TINY * values.abs().amax(-1)[..., None, None].clamp(min=torch.finfo(values.dtype).tiny)
        turned = axes.mT @ (gradients[0] @ rotation.mT) @ axes
        shares = torch.where(solid, turned / torch.where(solid, sums, 1.0), 0.0)
        return rotation.mT @ axes @ (shares.mT - shares) @ axes.mT


def weighted_rigid(points: Tensor, moved: Tensor, weights: Tensor) -> Tensor:
    """(..., 4, 4) the rigid motion T that minimises ``sum W |P_vt - T P|^2`` (eq. 2), differentiable in all three.

    Args:
        points: P (..., n, 3).
        moved: P_vt (..., n, 3).
        weights: W (..., n), at least 0; any sum.
    """
    shares = (weights / weights.sum(-1, keepdim=True))[..., None]
    centre, moved_centre = (shares * points).sum(-2), (shares * moved).sum(-2)
    products = (shares * (points - centre[..., None, :])).mT @ (moved - moved_centre[..., None, :])
    rotation: Tensor = NearestRotation.apply(products)  # type: ignore[no-untyped-call]
    translation = moved_centre - (rotation @ centre[..., None])[..., 0]
    upper = torch.cat((rotation, translation[..., None]), dim=-1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=upper.dtype, device=upper.device)
    return torch.cat((upper, last.expand(*upper.shape[:-2], 1, 4)), dim=-2)


def weighted_similarity(points: Tensor, moved: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Rigid motion (..., 4, 4) and scale s (...) that minimise ``sum W |P_vt - T (s P)|^2`` (Umeyama)."""
    rigid = weighted_rigid(points, moved, weights)
    shares = (weights / weights.sum(-1, keepdim=True))[..., None]
    centred = points - (shares * points).sum(-2, keepdim=True)
    moved_centre = (shares * moved).sum(-2, keepdim=True)
    turned = centred @ rigid[..., :3, :3].mT
    tiny = torch.finfo(points.dtype).tiny
    scale = (shares * turned * (moved - moved_centre)).sum((-2, -1)) / (shares * centred.square()).sum((-2, -1)).clamp(
        min=tiny
    )
    found = rigid.clone()
    centre = (shares * points).sum(-2)
    found[..., :3, 3] = moved_centre[..., 0, :] - scale[..., None] * (rigid[..., :3, :3] @ centre[..., None])[..., 0]
    return found, scale


def robust_similarity(points: Tensor, moved: Tensor, weights: Tensor, rounds: int = 15) -> tuple[Tensor, Tensor]:
    """:func:`weighted_similarity` that movers do not pull: weights times Geman and McClure's of each residual.

    Their scale is the weighted median residual of each round, so that up to half of the points may move.
    """
    share = weights
    for _ in range(rounds):
        motion, scale = weighted_similarity(points, moved, share)
        there = (scale[..., None, None] * points) @ motion[..., :3, :3].mT + motion[..., None, :3, 3]
        squared = (there - moved).square().sum(-1)
        level = squared.median(-1, keepdim=True).values.clamp(min=torch.finfo(points.dtype).eps)
        share = weights / (1 + squared / (4 * level)).square()
    return weighted_similarity(points, moved, share)


def rigid_of_maps(points: Tensor, moved: Tensor, weights: Tensor) -> Tensor:
    """:func:`weighted_rigid` of maps (..., h, w, 3), (..., h, w, 3) and (..., h, w)."""
    return weighted_rigid(points.flatten(-3, -2), moved.flatten(-3, -2), weights.flatten(-2))


def apply_rigid(motion: Tensor, points: Tensor) -> Tensor:
    """T (..., 4, 4) on maps (..., h, w, 3)."""
    rotation, translation = motion[..., None, None, :3, :3], motion[..., None, None, :3, 3]
    return (rotation @ points[..., None])[..., 0] + translation


def inverse_rigid(motion: Tensor) -> Tensor:
    """T^-1 (..., 4, 4) of rigid motions."""
    rotation = motion[..., :3, :3].mT
    upper = torch.cat((rotation, -rotation @ motion[..., :3, 3:]), dim=-1)
    return torch.cat((upper, motion[..., 3:, :]), dim=-2)


@dataclass(frozen=True, slots=True)
class FlowParts:
    """What a pair's flow consists of, maps (..., h, w, 3)."""

    other_from_own: Tensor  # (..., 4, 4) T, camera I to camera I'
    flow: Tensor  # F = P_vt - P (1)
    seen_from_other: Tensor  # P_v = T P (3): at the time of I, from camera I'
    camera_flow: Tensor  # F_v = P_v - P (4)
    object_flow: Tensor  # F_t = F - F_v (5), in camera I'
    tracked: Tensor  # P_t = T^-1 P_vt (6): at the time of I', in camera I


def split_flow(points: Tensor, moved: Tensor, weights: Tensor) -> FlowParts:
    """Camera's and objects' parts of the flow from P to P_vt, with the camera's motion fitted under weights W.

    Other weights give another body's motion: a mask of one object its own, a mask of the ground the camera's on it.
    """
    motion = rigid_of_maps(points, moved, weights)
    seen = apply_rigid(motion, points)
    flow = moved - points
    return FlowParts(motion, flow, seen, seen - points, moved - seen, apply_rigid(inverse_rigid(motion), moved))


def centred_pixels(height: int, width: int, like: Tensor) -> Tensor:
    """(h, w, 2) pixels relative to the principal point (w / 2, h / 2)."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device) - height / 2,
        torch.arange(width, dtype=like.dtype, device=like.device) - width / 2,
        indexing="ij",
    )
    return torch.stack((x, y), dim=-1)


def directions(points: Tensor) -> Tensor:
    """(x / z, y / z) of points (..., 3), 0 where that is not finite."""
    depth = points[..., 2:]
    return torch.where(depth.abs() > TINY, points[..., :2] / torch.where(depth.abs() > TINY, depth, 1.0), 0.0)


def focal_of(points: Tensor) -> Tensor:
    """(...) focal length, px, of P (..., h, w, 3): ``sum (p - c) . q / sum q . q`` with q = (x / z, y / z) (7)."""
    height, width = points.shape[-3:-1]
    rays = directions(points)
    pixels = centred_pixels(height, width, points)
    return (pixels * rays).sum((-3, -2, -1)) / rays.square().sum((-3, -2, -1))


def project(points: Tensor, focal_px: Tensor) -> Tensor:
    """Pixels (..., h, w, 2) of points (..., h, w, 3), principal point (w / 2, h / 2) (8)."""
    height, width = points.shape[-3:-1]
    centre = torch.tensor((width / 2, height / 2), dtype=points.dtype, device=points.device)
    return focal_px[..., None, None, None] * directions(points) + centre


def image_flow(points: Tensor, moved: Tensor, focal_px: Tensor) -> Tensor:
    """(..., h, w, 2) pixels that P_vt is from P in the images (9)."""
    return project(moved, focal_px) - project(points, focal_px)


def anchor_factors(anchor_points: Tensor) -> Tensor:
    """(n,) what to multiply each pair's points, flows and translation by to have the first pair's unit.

    ``anchor_points``: P (n, h, w, 3) of one anchor image in its pairs with others.
    """
    sizes = anchor_points.norm(dim=-1).mean((-2, -1))
    return sizes[0] / sizes
