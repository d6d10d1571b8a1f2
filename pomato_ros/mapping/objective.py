"""The objective of DUSt3R's global alignment (section 3.4 of its paper), and the terms that MonST3R adds for video."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pomato_ros.mapping.variables import AlignmentVariables, transform_points

DROPPED_FLOW_LOSS = 50.0  # a pixel whose flow costs as much is an outlier
FLOW_CHECK_PX = 3.0
EPSILON = 1e-6  # keeps divisions finite


@dataclass(frozen=True)
class EdgePointmaps:
    """Pointmaps of E pairs (i, j) of images, in the camera of image i, each pair in a unit of its own.

    Attributes:
        edges: (e, 2) numbers of the images i and j.
        points_i: (e, h, w, 3), X^{i,i}.
        points_j: (e, h, w, 3), X^{j,i}.
        weights_i: (e, h, w), not negative; DUSt3R's are the logarithms of the confidences.
        weights_j: (e, h, w).
    """

    edges: Tensor
    points_i: Tensor
    points_j: Tensor
    weights_i: Tensor
    weights_j: Tensor


def alignment_cost(variables: AlignmentVariables, pairs: EdgePointmaps) -> Tensor:
    """Weighted mean distance of every edge's points, moved into the world, from the images' own.

    ``sum_e sum_p w_i |chi_i(p) - sigma_e P_e X^{i,i}(p)| / pixels + the same for j``, with Euclidean norms that are not
    squared and pixels counted over all edges.
    """
    points_world = variables.points_world()
    world_from_edge = variables.world_from_edge()
    first, second = pairs.edges.unbind(-1)
    return _side(points_world[first], world_from_edge, pairs.points_i, pairs.weights_i) + _side(
        points_world[second], world_from_edge, pairs.points_j, pairs.weights_j
    )


def _side(points_world: Tensor, world_from_edge: Tensor, points_edge: Tensor, weights: Tensor) -> Tensor:
    """Cost of one side of all edges."""
    residual = points_world - transform_points(world_from_edge, points_edge)
    return (weights * residual.norm(dim=-1)).sum() / weights.numel()


def smoothness_steps(world_from_camera: Tensor, translation_weight: float) -> Tensor:
    """(n - 1,) cost of each camera motion: ``|R - I|_F + weight * |t|`` of ``P_t^-1 P_{t+1}`` (MonST3R, eq. 5)."""
    rotation, position = world_from_camera[:, :3, :3], world_from_camera[:, :3, 3]
    back = rotation[:-1].transpose(1, 2)
    turn = back @ rotation[1:]
    step = (back @ (position[1:] - position[:-1])[..., None])[..., 0]
    identity = torch.eye(3, dtype=turn.dtype, device=turn.device)
    return (turn - identity).flatten(1).norm(dim=-1) + translation_weight * step.norm(dim=-1)


def camera_flow(
    depth: Tensor,
    world_from_source: Tensor,
    world_from_target: Tensor,
    source_px: Tensor,
    target_px: Tensor,
    grid: Tensor,
) -> Tensor:
    """(e, h, w, 2) px: where the camera's motion takes each pixel if all stands still.

    ``K_t (R K_s^-1 p + t / depth)`` over its third component, minus p, with the target from the source camera (R, t).

    Args:
        depth: (e, h, w) of the source images.
        world_from_source: (e, 4, 4).
        world_from_target: (e, 4, 4).
        source_px: (e,) focal length.
        target_px: (e,).
        grid: (h, w, 2) pixels relative to the principal point.
    """
    uv = grid / source_px[:, None, None, None]
    rays = torch.cat((uv, torch.ones_like(uv[..., :1])), dim=-1)
    target_rotation = world_from_target[:, :3, :3].transpose(1, 2)
    rotation = target_rotation @ world_from_source[:, :3, :3]
    offset = target_rotation @ (world_from_source[:, :3, 3] - world_from_target[:, :3, 3])[..., None]
    inverse_depth = 1 / (depth + EPSILON)
    homogeneous = (rays.flatten(1, 2) @ rotation.transpose(1, 2)).view(rays.shape)
    homogeneous = homogeneous + inverse_depth[..., None] * offset[:, None, None, :, 0]
    pixels = homogeneous[..., :2] / (homogeneous[..., 2:] + EPSILON) * target_px[:, None, None, None]
    return pixels - grid


def flow_cost(flow: Tensor, measured: Tensor, static: Tensor) -> Tensor:
    """Smooth L1 between two flows (e, h, w, 2) px on ``static`` (e, h, w), outliers dropped, mean of what is left."""
    known = measured.isfinite()
    each = F.smooth_l1_loss(flow, torch.where(known, measured, flow.detach()), reduction="none", beta=1.0)
    kept = (each < DROPPED_FLOW_LOSS) & static[..., None] & known
    return torch.where(kept, each, 0.0).sum() / kept.sum().clamp(min=1)


@dataclass(frozen=True)
class MeasuredFlow:
    """Optical flow along E edges (i, j), both ways, and the pixels where it is the camera's alone.

    Attributes:
        edges: (e, 2) numbers of images.
        flow_ij: (e, h, w, 2) px, from pixels of i.
        flow_ji: (e, h, w, 2) px, from pixels of j.
        static_ij: (e, h, w) pixels of i that count.
        static_ji: (e, h, w) pixels of j that count.
    """

    edges: Tensor
    flow_ij: Tensor
    flow_ji: Tensor
    static_ij: Tensor
    static_ji: Tensor


def sequence_flow_cost(variables: AlignmentVariables, flow: MeasuredFlow) -> Tensor:
    """MonST3R's flow term over all edges, sum of both directions."""
    first, second = flow.edges.unbind(-1)
    there = flow_cost(edge_camera_flow(variables, first, second), flow.flow_ij, flow.static_ij)
    return there + flow_cost(edge_camera_flow(variables, second, first), flow.flow_ji, flow.static_ji)


def matched_flow(points_match: Tensor, focal_px: Tensor, grid: Tensor) -> Tensor:
    """(e, h, w, 2) px: where matching pointmaps (e, h, w, 3) have their pixels in camera 1's image (POMATO).

    The projection minus the pixel, both of ``grid`` (h, w, 2) relative to the principal point; NaN where not ahead.
    """
    ahead = torch.where(points_match[..., 2:] > 0, points_match[..., 2:], torch.nan)
    pixels = points_match[..., :2] / ahead * focal_px
    return pixels - grid


def edge_camera_flow(variables: AlignmentVariables, source: Tensor, target: Tensor) -> Tensor:
    """(e, h, w, 2) px: :func:`camera_flow` between the images numbered ``source`` (e,) and ``target`` (e,)."""
    poses, focals_px = variables.world_from_camera(), variables.focals_px()
    return camera_flow(
        variables.depth()[source],
        poses[source],
        poses[target],
        focals_px[source],
        focals_px[target],
        variables.pixels(),
    )


def consistent_flow(flow: Tensor, back: Tensor, threshold_px: float = FLOW_CHECK_PX) -> Tensor:
    """(e, h, w) pixels whose flow (e, h, w, 2) stays in the image and is undone by ``back`` at its end.

    As published, both components of the sum of flow and way back are added before the absolute value is compared.
    """
    height, width = flow.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    target = torch.stack((x, y), dim=-1).to(flow) + flow
    last = flow.new_tensor([max(width - 1, 1), max(height - 1, 1)])
    normalised = 2 * target / last - 1
    undone = F.grid_sample(back.permute(0, 3, 1, 2), normalised, mode="bilinear", align_corners=True)
    inside = ((normalised > -1) & (normalised < 1)).all(dim=-1)
    return inside & ((flow + undone.permute(0, 2, 3, 1)).sum(dim=-1).abs() < threshold_px)
