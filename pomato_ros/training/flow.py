"""Asks the decoders' tokens how far their patch moved between the views, without parameters of its own.

Attention led to the right patch (:mod:`pomato_ros.training.attention`) need not tell the heads where that was. This
loss is the error of the best linear reading of motion from tokens: the reading is solved for on one half of a batch's
pairs and judged on the other half, so that only what tokens of different pairs say alike counts.
"""

import torch
from torch import Tensor

RIDGE = 1e-2  # share of the tokens' own mean square that is added to the normal equations
LEAST_SEEN = 0.5  # share of a patch that the other view must see for its motion to be asked
LEAST_FLOW = 0.05  # patches; where motion varies by less on average, errors count as shares of this
KNOWN_PER_CHANNEL = 2  # patches that one half of the pairs must have, or reading them is fitting noise


def patch_flow(matches: Tensor) -> tuple[Tensor, Tensor]:
    """Motion of each patch's content between two views.

    Args:
        matches: (p, gh, gw, gh, gw), :func:`pomato_ros.training.targets.share_patches` of each pair.

    Returns:
        (p, n, 2) x, y in patches, exact to a pixel for uniform motion though counted by whole patches: a pixel more of
        shift moves a further sixteenth of a patch's pixels to the next one; and (p, n) bool where it is known.
    """
    rows, columns = matches.shape[1:3]
    shares = matches.flatten(3).flatten(1, 2)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack((x, y), dim=-1).flatten(0, 1).to(shares)
    seen = shares.sum(-1)
    there = shares @ places / seen.clamp(min=1e-6)[..., None]
    return there - places, seen >= LEAST_SEEN


def flow_loss(tokens: Tensor, flow: Tensor, known: Tensor) -> Tensor:
    """Mean error of motion read from ``tokens`` (p, n, c), in shares of its mean distance from the batch's median.

    About 1, or somewhat above: tokens tell nothing. ``flow`` (p, n, 2) and ``known`` (p, n) as from :func:`patch_flow`.
    0 where one half of the pairs has too few known patches (:data:`KNOWN_PER_CHANNEL`).
    """
    with torch.autocast(tokens.device.type, enabled=False):
        tokens = tokens.float()
        halves = [
            (tokens[part][known[part]], flow[part][known[part]]) for part in (slice(0, None, 2), slice(1, None, 2))
        ]
        if min(len(values) for values, _ in halves) < KNOWN_PER_CHANNEL * tokens.shape[-1]:
            return tokens.sum() * 0.0
        errors = [reading_error(*halves[0], *halves[1]), reading_error(*halves[1], *halves[0])]
        return torch.stack(errors).mean()


def reading_error(given: Tensor, given_flow: Tensor, asked: Tensor, asked_flow: Tensor) -> Tensor:
    """Error on ``asked`` of the linear reading that fits ``given`` best, in shares of saying the median for all."""
    middle = given_flow.median(0).values
    matrix = torch.nn.functional.pad(given, (0, 1), value=1.0)
    normal = matrix.T @ matrix
    ridge = RIDGE * normal.diagonal().mean() * torch.eye(len(normal), device=normal.device)
    reading = torch.linalg.solve(normal + ridge, matrix.T @ (given_flow - middle))
    read = torch.nn.functional.pad(asked, (0, 1), value=1.0) @ reading
    error = (read - (asked_flow - middle)).norm(dim=-1).mean()
    return error / (asked_flow - middle).norm(dim=-1).mean().clamp(min=LEAST_FLOW)
