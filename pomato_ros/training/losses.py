"""The paper's regression and confidence losses on pointmaps (eqs. 3 and 4), and losses on camera and object motion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.training.attention import Watched, attention_loss
from pomato_ros.training.config import TrainConfig
from pomato_ros.training.samples import Targets


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """Points (p, h, w, 3) and confidence (p, h, w) of one head."""

    points: Tensor
    conf: Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """``total`` is to be minimised; the rest is for the log: mean errors relative to the mean distance."""

    total: Tensor
    error_1: Tensor
    error_2: Tensor
    error_match: Tensor
    ego: Tensor
    motion: Tensor
    attention: Tensor


def mean_distance(points_1: Tensor, points_2: Tensor, frames: int) -> Tensor:
    """(p, 1, 1, 1): the mean distance to the origin of both views' points, one value for each window of ``frames``."""
    distance = 0.5 * (points_1.norm(dim=-1).mean((1, 2)) + points_2.norm(dim=-1).mean((1, 2)))
    per_window = distance.unflatten(0, (-1, frames)).mean(1, keepdim=True).expand(-1, frames)
    return per_window.flatten()[:, None, None, None]


def confidence_loss(error: Tensor, conf: Tensor, alpha: float) -> Tensor:
    """Mean error plus mean of ``C * |error| - alpha * log C`` with the error taken as given.

    The paper's loss (eq. 4) lets C weigh the error's own gradient; on small batches a few confident mistakes then make
    up most of it (gradient norms near 100). Here every pixel teaches geometry alike, and C only learns to tell how
    large the error is. As C is above 1, an alpha below the mean error would hold it there, so it is at least that.
    """
    weight = error.detach().mean().clamp(min=alpha)
    return error.mean() + (conf * error.detach() - weight * conf.log()).mean()


def balanced_motion_loss(error: Tensor, moving: Tensor) -> Tensor:
    """Mean error over still pixels plus, where anything moves, the mean over moving pixels."""
    still = (error * ~moving).sum() / (~moving).sum().clamp(min=1)
    return still + (error * moving).sum() / moving.sum().clamp(min=1)


def swap_order(rows: Tensor) -> Tensor:
    """For every row of a :class:`WindowBatch` the row of the same pair in the other order."""
    return rows.roll(len(rows) // 2, dims=0)


def pointmap_losses(
    heads: list[HeadOutput], attention: Watched, targets: Targets, frames: int, config: TrainConfig
) -> Losses:
    """Losses of two heads (points_1, points_2) or three (and points_match) on the rows of a :class:`WindowBatch`.

    Prediction and truth are each divided by the mean distance of their own first two pointmaps, over the window; the
    matching pointmap uses the same divisor (as the released code does, not the paper's z_m), because the moving mask
    compares it with points_2 in one scale.

    Two losses are on differences of pointmaps, where what the maps err in common cancels and motion remains: X^{2,1} -
    X^{2,2}, the camera's motion as seen by view 2 (the second map is head 1 of the same pair in the other order), and
    X_m^{2,1} - X^{2,1}, the objects' motion.
    """
    scale_true = mean_distance(targets.points_1, targets.points_2, frames)
    scale_predicted = mean_distance(heads[0].points, heads[1].points, frames)
    truths = (targets.points_1, targets.points_2, targets.points_match)[: len(heads)]
    errors = [
        (head.points / scale_predicted - truth / scale_true).norm(dim=-1)
        for head, truth in zip(heads, truths, strict=True)
    ]
    total = sum(
        (confidence_loss(error, head.conf, config.confidence_alpha) for error, head in zip(errors, heads, strict=True)),
        start=torch.zeros(()),
    )
    ego_predicted = heads[1].points / scale_predicted - swap_order(heads[0].points / scale_predicted)
    ego_true = targets.points_2 / scale_true - swap_order(targets.points_1 / scale_true)
    ego = (ego_predicted - ego_true).norm(dim=-1).mean()
    total = total + config.ego_weight * ego
    motion = torch.zeros(())
    if len(heads) == 3:
        moved_predicted = (heads[2].points - heads[1].points) / scale_predicted
        moved_true = (targets.points_match - targets.points_2) / scale_true
        motion = balanced_motion_loss((moved_predicted - moved_true).norm(dim=-1), targets.moving)
        total = total + config.motion_weight * motion
    matches = targets.patch_matches.flatten(1, 2).flatten(2, 3)
    led = 0.5 * (attention_loss(attention[0], swap_order(matches)) + attention_loss(attention[1], matches))
    total = total + config.attention_weight * led
    means = [error.mean().detach() for error in errors] + [torch.zeros(())] * (3 - len(errors))
    return Losses(total, means[0], means[1], means[2], ego.detach(), motion.detach(), led.detach())
