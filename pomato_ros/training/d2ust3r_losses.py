"""D²USt3R's losses (6) to (10), of one pair order; the swapped pass is the same with the images exchanged, and added.

Printed as sums over pixels, they are means over each view's valid pixels here, as in DUSt3R's code, so that a view's
weight does not depend on how much of it has truth.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pomato_ros.sources.dust3r.time_aligned import inside_image, pixel_places, sample_at

ALPHA = 0.2  # weight of log C, DUSt3R's


@dataclass(frozen=True, slots=True)
class AlignedOutputs:
    """A pass (1, 2): pointmaps of both views in camera 1 with their confidences."""

    points_1: Tensor  # X^{1,1} (p, h, w, 3)
    conf_1: Tensor  # (p, h, w), above 1
    points_2: Tensor  # X^{2,1} (p, h, w, 3)
    conf_2: Tensor


@dataclass(frozen=True, slots=True)
class AlignedTruth:
    """Truth of the same pass; movers at their own image's time, the loss aligns them itself."""

    points_1: Tensor  # (p, h, w, 3) camera 1, time 1
    points_2: Tensor  # (p, h, w, 3) camera 1, time 2
    valid_1: Tensor  # (p, h, w)
    valid_2: Tensor
    moving_2: Tensor  # M_dyn^2 (p, h, w)
    occluded_2: Tensor  # M_occ^2 (p, h, w): not seen in image 1
    flow_2: Tensor  # b (p, h, w, 2) from image 2 to image 1, px


@dataclass(frozen=True, slots=True)
class AlignedLosses:
    """Scalars."""

    static: Tensor  # (7)
    dynamic: Tensor  # (8), this pass's half
    total: Tensor  # (9)


def mean_length(points_1: Tensor, points_2: Tensor, valid_1: Tensor, valid_2: Tensor) -> Tensor:
    """Z (p, 1, 1, 1): the mean distance of both views' valid points."""
    total = torch.where(valid_1, points_1.norm(dim=-1), 0.0) + torch.where(valid_2, points_2.norm(dim=-1), 0.0)
    count = valid_1.sum((-2, -1)) + valid_2.sum((-2, -1))
    return (total.sum((-2, -1)) / count.clamp(min=1)).clamp(min=1e-8)[:, None, None, None]


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a mask, 0 where it is empty."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def aligned_losses(outputs: AlignedOutputs, truth: AlignedTruth, alpha: float = ALPHA) -> AlignedLosses:
    """Static and dynamic loss of one pass.

    Truth of a mover that both images see is X^{1,1} at the pixel that flow leads to, read at the nearest one: between
    pixels of two surfaces there is nothing. Nothing is asked of movers that image 1 does not see, or whose pixel there
    has no truth.
    """
    size = mean_length(outputs.points_1, outputs.points_2, truth.valid_1, truth.valid_2)
    true_size = mean_length(truth.points_1, truth.points_2, truth.valid_1, truth.valid_2)
    error_1 = (outputs.points_1 / size - truth.points_1 / true_size).norm(dim=-1)
    error_2 = (outputs.points_2 / size - truth.points_2 / true_size).norm(dim=-1)
    error_2 = torch.where(truth.moving_2, 0.0, error_2)
    static = mean_where(outputs.conf_1 * error_1 - alpha * outputs.conf_1.log(), truth.valid_1)
    static = static + mean_where(outputs.conf_2 * error_2 - alpha * outputs.conf_2.log(), truth.valid_2)
    aligned, seen = aligned_points(truth)
    moved = (outputs.points_2 / size - aligned / true_size).norm(dim=-1)
    asked = truth.moving_2 & ~truth.occluded_2 & truth.valid_2 & seen
    count = truth.valid_2.sum().clamp(min=1)  # a mover's pixel counts as much as a resting one
    dynamic = torch.where(asked, outputs.conf_2 * moved, 0.0).sum() / count
    return AlignedLosses(static, dynamic, static + dynamic)


def aligned_points(truth: AlignedTruth) -> tuple[Tensor, Tensor]:
    """Where image 2's pixels were at time 1 (p, h, w, 3), read along the flow, and whether there is truth (p, h, w)."""
    height, width = truth.valid_1.shape[1:]
    there = pixel_places(height, width, truth.flow_2) + truth.flow_2
    valid = truth.valid_1[..., None].to(truth.points_1.dtype)
    read = sample_at(torch.cat((truth.points_1, valid), dim=-1), there, "nearest")
    return read[..., :3], (read[..., 3] > 0.5) & inside_image(there, height, width)


def mask_loss(logits: Tensor, moving: Tensor) -> Tensor:
    """Mean binary cross-entropy over all pixels (10), of logits and masks (p, h, w)."""
    return F.binary_cross_entropy_with_logits(logits, moving.to(logits.dtype))
