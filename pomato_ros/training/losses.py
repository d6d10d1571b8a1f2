"""The paper's regression and confidence losses on pointmaps (eqs. 3, 4, 6-8); losses on camera and object motion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.training.attention import Watched, attention_loss
from pomato_ros.training.config import TrainConfig
from pomato_ros.training.flow import flow_loss, patch_flow
from pomato_ros.training.targets import Targets


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
    flow: Tensor


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of (p, h, w) over each pair's valid pixels, then over the pairs that have any; 0 where there is none.

    A pair counts alike whether its truth is dense or sparse tracks.
    """
    counts = valid.sum((1, 2))
    means = torch.where(valid, values, 0.0).sum((1, 2)) / counts.clamp(min=1)
    return means.sum() / (counts > 0).sum().clamp(min=1)


def mean_distance(points_1: Tensor, points_2: Tensor, valid_1: Tensor, valid_2: Tensor, frames: int) -> Tensor:
    """(p, 1, 1, 1): mean distance to the origin of both views' valid points, one value for each window of ``frames``.

    Where a window has no valid point it is 1.
    """
    both = ((points_1, valid_1), (points_2, valid_2))
    sums = torch.stack([(points.norm(dim=-1) * valid).sum((1, 2)) for points, valid in both]).sum(0)
    counts = torch.stack([valid.sum((1, 2)) for _, valid in both]).sum(0)
    windows, pixels = (values.unflatten(0, (-1, frames)).sum(1, keepdim=True) for values in (sums, counts))
    distance = torch.where(pixels > 0, windows / pixels.clamp(min=1), 1.0)
    return distance.expand(-1, frames).flatten()[:, None, None, None]


def confidence_loss(error: Tensor, conf: Tensor, valid: Tensor, config: TrainConfig) -> Tensor:
    """The paper's eq. 4, ``C * |error| - alpha * log C``, or the mean error plus that with the error taken as given.

    The paper lets C weigh the error's own gradient (``confidence_weighs_error``); on small batches from nothing a few
    confident mistakes then make up most of it (gradient norms near 100). Otherwise every pixel teaches geometry alike,
    and C only learns to tell how large the error is. As C is above 1, an alpha below the mean error would hold it
    there, so it is at least that.
    """
    if config.confidence_weighs_error:
        return masked_mean(conf * error - config.confidence_alpha * conf.log(), valid)
    given = error.detach()
    alpha = masked_mean(given, valid).clamp(min=config.confidence_alpha)
    return masked_mean(error + conf * given - alpha * conf.log(), valid)


def balanced_motion_loss(error: Tensor, moving: Tensor, valid: Tensor) -> Tensor:
    """Mean error over valid still pixels plus, where anything moves, the mean over valid moving pixels."""
    parts = [
        torch.where(kind, error, 0.0).sum() / kind.sum().clamp(min=1) for kind in (valid & ~moving, valid & moving)
    ]
    return parts[0] + parts[1]


def swap_order(rows: Tensor) -> Tensor:
    """For every row of a batch with both orders the row of the same pair in the other order."""
    return rows.roll(len(rows) // 2, dims=0)


def pointmap_losses(
    heads: list[HeadOutput],
    tokens: tuple[Tensor, Tensor],
    attention: Watched,
    targets: Targets,
    frames: int,
    both_orders: bool,
    config: TrainConfig,
) -> Losses:
    """Losses of two heads (points_1, points_2) or three (and points_match) on the rows of a training batch.

    Prediction and truth are each divided by the mean distance of their own first two pointmaps; the matching pointmap
    uses the same divisor (as the released code does, not the paper's z_m), because the moving mask compares it with
    points_2 in one scale. Pixels without truth take no part in anything.

    Windows (``frames`` > 1; the paper's temporal losses, eqs. 6 to 8) are compared in one scale for the window, which
    makes frames consistent with one another, and to a lesser share with each pair in a scale of its own, which a bad
    frame elsewhere does not disturb. The released code does both in the ratio 3 to 1; the default keeps the ratio and
    makes the sum 1, so that a window counts like a pair. The paper reads some heads only for each task; here all are
    taught on all pairs, since the truth of all of them is at hand.

    Two losses of our own are on differences of pointmaps, where what the maps err in common cancels and motion remains:
    X^{2,1} - X^{2,2}, the camera's motion as seen by view 2 (the second map is head 1 of the same pair in the other
    order, so ``both_orders`` must be there), and X_m^{2,1} - X^{2,1}, the objects' motion.

    Args:
        heads: what the network says, rows as in ``targets``.
        tokens: (p, n, c) of both decoders' last blocks, see :func:`pomato_ros.training.flow.flow_loss`.
        attention: see :func:`attention_loss`; empty where its weight is 0.
        targets: the truth.
        frames: rows of one window, in order; 1 for pairs.
        both_orders: the second half of the rows are the pairs of the first half the other way round.
        config: weights of the terms.
    """
    shares = {1: 1.0} if frames == 1 else {1: config.pair_scale_share, frames: 1 - config.pair_scale_share}
    valids = (targets.valid_1, targets.valid_2, targets.valid_match)[: len(heads)]
    total = torch.zeros((), device=targets.points_1.device)
    zero = total
    for group, share in shares.items():
        scale_true = mean_distance(targets.points_1, targets.points_2, targets.valid_1, targets.valid_2, group)
        scale_predicted = mean_distance(heads[0].points, heads[1].points, targets.valid_1, targets.valid_2, group)
        truths = (targets.points_1, targets.points_2, targets.points_match)[: len(heads)]
        errors = [
            (head.points / scale_predicted - truth / scale_true).norm(dim=-1)
            for head, truth in zip(heads, truths, strict=True)
        ]
        for error, head, valid in zip(errors, heads, valids, strict=True):
            total = total + share * confidence_loss(error, head.conf, valid, config)
    # from here on in the scale of the window, the last of the two
    ego = motion = led = zero
    if both_orders:
        ego_predicted = heads[1].points / scale_predicted - swap_order(heads[0].points / scale_predicted)
        ego_true = targets.points_2 / scale_true - swap_order(targets.points_1 / scale_true)
        ego = masked_mean((ego_predicted - ego_true).norm(dim=-1), targets.valid_2)
    if len(heads) == 3:
        moved_predicted = (heads[2].points - heads[1].points) / scale_predicted
        moved_true = (targets.points_match - targets.points_2) / scale_true
        moved_error = (moved_predicted - moved_true).norm(dim=-1)
        motion = balanced_motion_loss(moved_error, targets.moving, targets.valid_match)
    if attention[1]:
        matches = targets.patch_matches.flatten(1, 2).flatten(2, 3)
        led = attention_loss(attention[1], matches)
        if both_orders:
            led = 0.5 * (led + attention_loss(attention[0], swap_order(matches)))
    read = zero
    if config.flow_weight:
        flow, known = patch_flow(targets.patch_matches)
        read = flow_loss(tokens[1], flow, known)
        if both_orders:
            read = 0.5 * (read + flow_loss(tokens[0], swap_order(flow), swap_order(known)))
    total = total + config.ego_weight * ego + config.motion_weight * motion
    total = total + config.attention_weight * led + config.flow_weight * read
    means = [masked_mean(error, valid).detach() for error, valid in zip(errors, valids, strict=True)]
    means += [zero] * (3 - len(errors))
    return Losses(total, means[0], means[1], means[2], ego.detach(), motion.detach(), led.detach(), read.detach())
