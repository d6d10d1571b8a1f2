"""Flow4R's losses (10) to (17), of one direction of P pairs; a pair's two directions are added."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.sources.dust3r.scene_flow import apply_rigid, project, rigid_of_maps


@dataclass(frozen=True, slots=True)
class FlowWeights:
    """Weights of the terms in the total (17), and of log C."""

    points: float = 1.0
    flow: float = 0.5
    image_flow: float = 0.3
    weights: float = 0.5
    camera_flow: float = 0.5
    alpha: float = 0.2


@dataclass(frozen=True, slots=True)
class FlowOutputs:
    """Of one image of each pair toward the other."""

    points: Tensor  # P (p, h, w, 3)
    moved: Tensor  # P_vt (p, h, w, 3)
    weights: Tensor  # W (p, h, w), sums to 1
    conf: Tensor  # C (p, h, w), above 1


@dataclass(frozen=True, slots=True)
class FlowTruth:
    """The same in truth."""

    points: Tensor  # (p, h, w, 3)
    moved: Tensor  # (p, h, w, 3)
    other_from_own: Tensor  # (p, 4, 4)
    focal_px: Tensor  # (p,)
    has_points: Tensor  # (p, h, w) valid depth
    has_flow: Tensor  # scene flow or 3-D tracks
    has_image_flow: Tensor  # optical flow or 2-D tracks
    dynamic: bool  # the data set has things that move; else every pixel's flow is the camera's


@dataclass(frozen=True, slots=True)
class FlowLosses:
    """Scalars."""

    points: Tensor  # L_P (10)
    flow: Tensor  # L_F (11)
    image_flow: Tensor  # L_f (12)
    weights: Tensor  # L_W (13)
    camera_flow: Tensor  # L_Fv (14, 15)
    total: Tensor  # (16, 17)


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a mask, 0 where it is empty."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def mean_norm(points: Tensor, mask: Tensor) -> Tensor:
    """(p, 1, 1, 1) mean length of points (p, h, w, 3) over a mask (p, h, w)."""
    lengths = torch.where(mask, points.norm(dim=-1), 0.0)
    return (lengths.sum((-2, -1)) / mask.sum((-2, -1)).clamp(min=1)).clamp(min=1e-8)[:, None, None, None]


def normalised(outputs: FlowOutputs, truth: FlowTruth) -> tuple[FlowOutputs, FlowTruth]:
    """Both in their own unit: the mean distance of their points, as in DUSt3R; translations follow."""
    mask = truth.has_points
    size, true_size = mean_norm(outputs.points, mask), mean_norm(truth.points, mask)
    motion = truth.other_from_own.clone()
    motion[:, :3, 3] /= true_size[:, 0, 0]
    return (
        FlowOutputs(outputs.points / size, outputs.moved / size, outputs.weights, outputs.conf),
        FlowTruth(
            truth.points / true_size,
            truth.moved / true_size,
            motion,
            truth.focal_px,
            truth.has_points,
            truth.has_flow,
            truth.has_image_flow,
            truth.dynamic,
        ),
    )


def flow_losses(outputs: FlowOutputs, truth: FlowTruth, weights: FlowWeights) -> FlowLosses:
    """All terms of outputs and truth that are normalised already, see :func:`normalised`.

    L_W alone reaches W: the fit T and the points that it moves are otherwise taken as they are.
    """
    log_conf = weights.alpha * outputs.conf.log()

    def confident(error: Tensor, share: Tensor | float = 1.0) -> Tensor:
        return share * outputs.conf * error - log_conf

    seen_truth = apply_rigid(truth.other_from_own, truth.points)
    on_points = masked(confident((outputs.points - truth.points).norm(dim=-1)), truth.has_points)
    on_flow = masked(confident((outputs.moved - truth.moved).norm(dim=-1)), truth.has_flow)
    pixels = [project(points, truth.focal_px) for points in (outputs.moved, truth.moved)]
    on_image = masked((pixels[0] - pixels[1]).norm(dim=-1), truth.has_image_flow)
    still = outputs.points.detach()
    seen = apply_rigid(rigid_of_maps(still, outputs.moved.detach(), outputs.weights), still)
    on_weights = masked((seen - seen_truth).norm(dim=-1), truth.has_points)
    count = outputs.weights.shape[-2] * outputs.weights.shape[-1]
    share = outputs.weights.detach() * count if truth.dynamic else 1.0
    on_camera = masked(confident((outputs.moved - seen_truth).norm(dim=-1), share), truth.has_points)
    total = (
        weights.points * on_points
        + weights.flow * on_flow
        + weights.image_flow * on_image
        + weights.weights * on_weights
        + weights.camera_flow * on_camera
    )
    return FlowLosses(on_points, on_flow, on_image, on_weights, on_camera, total)
