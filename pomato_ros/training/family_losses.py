"""Each network of the family on the batches that POMATO learns from, with its own paper's losses.

A batch's pairs (v_1, v_2) come in both orders, all first and then all reversed, so the truth of one order holds what
the other order's network outputs need: ``points_1`` of the reversed pair is view 2 in its own camera.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pomato_ros.sources.dust3r.heads import Maps
from pomato_ros.sources.dust3r.recurrent_flow import laplace_loss
from pomato_ros.sources.dust3r.scene_flow import focal_of, project, weighted_rigid
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.training.config import TrainConfig
from pomato_ros.training.d2ust3r_losses import AlignedOutputs, AlignedTruth, aligned_losses, mask_loss
from pomato_ros.training.flow4r_losses import FlowOutputs, FlowTruth, FlowWeights, flow_losses, normalised
from pomato_ros.training.losses import Losses, masked_mean, mean_distance
from pomato_ros.training.matching_loss import MatchingOptions, candidates_at, confident_matching_loss
from pomato_ros.training.pairing import Pairing
from pomato_ros.training.targets import Targets

CANDIDATES = 1024  # matches of a pair; the released MASt3R has 8,192 on images of 512 px
SAME_SURFACE = 0.02  # relative difference of two true points that are one
MATCHING = MatchingOptions(block_size=CANDIDATES)
FLOW_WEIGHTS = FlowWeights()


def family_maps(network: Trunk, images: Tensor, pairs: Pairing) -> Maps:
    """Maps of a batch's pairs, rows as in :class:`pomato_ros.training.samples.WindowBatch`, of images (b, t, 3, h, w).

    A symmetric network evaluates each pair once; its two views are then both orders.
    """
    windows = network.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    orders = pairs.orders[:1] if network.SYMMETRIC else pairs.orders
    tokens_1, tokens_2 = (
        torch.cat([windows[:, list(getattr(order, view))].flatten(0, 1) for order in orders])
        for view in ("view_1", "view_2")
    )
    return network.predict_maps(tokens_1, tokens_2, network.grid_of(images))


def family_losses(network: Trunk, maps: Maps, targets: Targets, config: TrainConfig) -> Losses:
    """The losses of ``network`` on its ``maps``; the errors for the log are in shares of the mean distance.

    ``targets``: in both orders.
    """
    return LOSSES[network.config.architecture](maps, targets, config)


def mast3r_losses(maps: Maps, targets: Targets, config: TrainConfig) -> Losses:
    """Confidence-weighted pointmaps in metres (our truth is metric), and the matching loss on 0.075 of that."""
    size = mean_distance(targets.points_1, targets.points_2, targets.valid_1, targets.valid_2, 1)
    errors = [
        ((maps[f"points_{view}"] - truth) / size).norm(dim=-1)
        for view, truth in ((1, targets.points_1), (2, targets.points_2))
    ]
    valids = targets.valid_1, targets.valid_2
    total = torch.zeros((), device=size.device)
    for error, valid, conf in zip(errors, valids, (maps["conf_1"], maps["conf_2"]), strict=True):
        total = total + masked_mean(conf * error - config.confidence_alpha * conf.log(), valid)
    pixels, valid = true_matches(targets)
    desc, conf_of = (maps["desc_1"], maps["desc_2"]), (maps["desc_conf_1"], maps["desc_conf_2"])
    total = total + MATCHING.weight * confident_matching_loss(candidates_at(desc, conf_of, pixels, valid), MATCHING)
    return logged(total, masked_mean(errors[0], valids[0]), masked_mean(errors[1], valids[1]))


def true_matches(targets: Targets) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Pixels (p, n, 2) of view 1 and view 2, drawn from view 2, and which of them are matches (p, n).

    A pixel of view 2 matches where its point at view 1's time projects to, if view 1 sees that very point there.
    """
    count, (height, width) = targets.valid_2.shape[0], targets.valid_2.shape[1:]
    there = project(targets.points_match, focal_of(targets.points_1)).round().long()
    drawn = torch.randperm(height * width, device=there.device)[:CANDIDATES]
    pixels_2 = torch.stack((drawn % width, drawn // width), dim=-1).expand(count, -1, 2)
    rows = torch.arange(count, device=there.device)[:, None]
    at = there[rows, pixels_2[..., 1], pixels_2[..., 0]]
    limit = torch.tensor((width, height), device=there.device) - 1
    inside = ((at >= 0) & (at <= limit)).all(-1)
    pixels_1 = torch.minimum(at.clamp(min=0), limit)
    point = targets.points_match[rows, pixels_2[..., 1], pixels_2[..., 0]]
    seen = targets.points_1[rows, pixels_1[..., 1], pixels_1[..., 0]]
    same = (point - seen).norm(dim=-1) < SAME_SURFACE * seen.norm(dim=-1)
    known = targets.valid_match[rows, pixels_2[..., 1], pixels_2[..., 0]]
    return (pixels_1, pixels_2), inside & same & known


def d2ust3r_losses(maps: Maps, targets: Targets, _config: TrainConfig) -> Losses:
    """Static and dynamic loss of both passes; mask and flow head where the network has them."""
    flow = project(targets.points_match, focal_of(targets.points_1)) - home_pixels(targets)
    truth = AlignedTruth(
        targets.points_1,
        targets.points_2,
        targets.valid_1,
        targets.valid_2,
        targets.moving,
        ~targets.valid_match,
        flow,
    )
    outputs = AlignedOutputs(*(maps[name] for name in ("points_1", "conf_1", "points_2", "conf_2")))
    found = aligned_losses(outputs, truth)
    total = found.total
    if "mask_logit_2" in maps:
        total = total + mask_loss(maps["mask_logit_2"], targets.moving)
    if "flow_2" in maps:
        found_flow, true_flow, info = (x.permute(0, 3, 1, 2) for x in (maps["flow_2"], flow, maps["flow_info_2"]))
        likely = laplace_loss(found_flow, true_flow, info)
        total = total + masked_mean(likely.mean(1), targets.valid_match)
    size = mean_distance(maps["points_1"], maps["points_2"], targets.valid_1, targets.valid_2, 1)
    true_size = mean_distance(targets.points_1, targets.points_2, targets.valid_1, targets.valid_2, 1)
    errors = [
        masked_mean((maps[name] / size - points / true_size).norm(dim=-1), valid)
        for name, points, valid in (
            ("points_1", targets.points_1, targets.valid_1),
            ("points_2", targets.points_match, targets.valid_match),
        )
    ]
    return logged(total, errors[0], errors[1])


def home_pixels(targets: Targets) -> Tensor:
    """(h, w, 2) x, y of every pixel."""
    height, width = targets.valid_1.shape[1:]
    like = targets.points_1
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device),
        torch.arange(width, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack((x, y), dim=-1)


def flow4r_losses(maps: Maps, targets: Targets, _config: TrainConfig) -> Losses:
    """Both directions of every pair; the truth of a view's flow is in the order in which it is view 2."""
    first, second = torch.arange(len(targets.points_1)).chunk(2)
    directions = ((2, first, second), (1, second, first))
    total = torch.zeros((), device=targets.points_1.device)
    errors = []
    for view, rows, reversed_rows in directions:
        truth = flow_truth(targets, rows, reversed_rows)
        outputs = FlowOutputs(*(maps[f"{name}_{view}"] for name in ("points", "points_vt", "weight", "conf")))
        own, true = normalised(outputs, truth)
        losses = flow_losses(own, true, FLOW_WEIGHTS)
        total = total + losses.total
        errors.append(masked_mean((own.points - true.points).norm(dim=-1), true.has_points))
        errors.append(masked_mean((own.moved - true.moved).norm(dim=-1), true.has_flow))
    return logged(total, 0.5 * (errors[0] + errors[2]), 0.5 * (errors[1] + errors[3]))


def flow_truth(targets: Targets, rows: Tensor, reversed_rows: Tensor) -> FlowTruth:
    """Truth of view 2 of the pairs ``rows`` toward view 1; ``reversed_rows`` are the same pairs the other way round."""
    points, valid = targets.points_1[reversed_rows], targets.valid_1[reversed_rows]
    seen = targets.points_2[rows]
    both = valid & targets.valid_2[rows]
    motion = weighted_rigid(
        points.flatten(1, 2).double(), seen.flatten(1, 2).double(), both.flatten(1).double() + 1e-12
    ).to(points.dtype)
    known = targets.valid_match[rows] & valid
    return FlowTruth(points, targets.points_match[rows], motion, focal_of(points), both, known, known, dynamic=True)


def logged(total: Tensor, error_1: Tensor, error_2: Tensor) -> Losses:
    """The total, and what the journal is given."""
    zero = torch.zeros((), device=total.device)
    return Losses(total, error_1.detach(), error_2.detach(), zero, zero, zero, zero, zero)


LOSSES: dict[str, Callable[[Maps, Targets, TrainConfig], Losses]] = {
    "mast3r": mast3r_losses,
    "d2ust3r": d2ust3r_losses,
    "flow4r": flow4r_losses,
}
