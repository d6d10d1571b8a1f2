"""RAFT's pieces without parameters: correlation pyramid and look-up, convex up-sampling, mixture of two Laplaces."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE_LOG_SPREAD = (0.0, 10.0)  # clamps of the wide component's log spread
SMALL_LOG_SPREAD = (0.0, 0.0)  # and of the narrow one's: SEA-RAFT M holds it at 1 px


def all_pairs(features_1: Tensor, features_2: Tensor) -> Tensor:
    """(b, h1, w1, h2, w2) scaled products ``<f1, f2> / sqrt(c)`` of features (b, c, h, w) each."""
    products = torch.einsum("bchw,bcij->bhwij", features_1, features_2)
    return products / math.sqrt(features_1.shape[1])


def pyramid(volume: Tensor, levels: int) -> list[Tensor]:
    """(b * h1 * w1, 1, h2, w2) of volume (b, h1, w1, h2, w2), and coarser ones of the second image.

    Two by two cells are averaged for each further level, as long as both sides have two cells.
    """
    found = [volume.flatten(0, 2)[:, None]]
    while len(found) < levels and min(found[-1].shape[-2:]) >= 2:
        found.append(F.avg_pool2d(found[-1], 2))
    return found


def look_up(levels: Sequence[Tensor], places: Tensor, radius: int) -> Tensor:
    """Read a window of every level about each place, bilinearly, zero outside.

    Levels follow one another; inside a level the offset in x is the slow index, as RAFT has it. Places are divided by
    cells, not by cells - 1, so that a level of one cell is no division by zero.

    Args:
        levels: of :func:`pyramid`.
        places: (b, 2, h1, w1) x, y in cells of the finest level.
        radius: the window is 2 radius + 1 cells wide.

    Returns:
        (b, levels * (2 radius + 1)^2, h1, w1).
    """
    batch, _, height, width = places.shape
    offsets = torch.arange(-radius, radius + 1, dtype=places.dtype, device=places.device)
    window = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), dim=-1)  # [i, j] = (x, y) offsets
    centres = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    found = []
    for number, level in enumerate(levels):
        cells = torch.tensor((level.shape[-1], level.shape[-2]), dtype=places.dtype, device=places.device)
        grid = (2 * (centres / 2**number + window) + 1) / cells - 1
        read = F.grid_sample(level, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        found.append(read.view(batch, height, width, -1))
    return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


def upsample_convexly(flow: Tensor, logits: Tensor, factor: int) -> Tensor:
    """Flow (b, 2, h, w) in cells -> (b, 2, factor h, factor w) in fine cells, each a convex sum of nine coarse ones.

    ``logits``: (b, 9 * factor^2, h, w), neighbour-major.
    """
    batch, _, height, width = flow.shape
    shares = logits.view(batch, 1, 9, factor, factor, height, width).softmax(2)
    around = F.unfold(factor * flow, 3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    fine = (shares * around).sum(2)  # (b, 2, factor, factor, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, factor * height, factor * width)


def upsample_bilinearly(flow: Tensor, factor: int) -> Tensor:
    """The same without learned shares, corners aligned."""
    size = factor * flow.shape[-2], factor * flow.shape[-1]
    return factor * F.interpolate(flow, size=size, mode="bilinear", align_corners=True)


def log_spreads(
    info: Tensor, large: tuple[float, float] = LARGE_LOG_SPREAD, small: tuple[float, float] = SMALL_LOG_SPREAD
) -> Tensor:
    """(b, 2, h, w) log b of both components, of info (b, 4, h, w): two weights' logits, two raw log spreads."""
    return torch.stack((info[:, 2].clamp(*large), info[:, 3].clamp(*small)), dim=1)


def laplace_loss(
    flow: Tensor,
    truth: Tensor,
    info: Tensor,
    large: tuple[float, float] = LARGE_LOG_SPREAD,
    small: tuple[float, float] = SMALL_LOG_SPREAD,
) -> Tensor:
    """(b, 2, h, w) negative log likelihood of each flow component under a mixture of two Laplaces (SEA-RAFT).

    ``logsumexp(w) - logsumexp_m(w_m - log 2 - log b_m - |d| / b_m)``.

    Args:
        flow: (b, 2, h, w).
        truth: (b, 2, h, w).
        info: (b, 4, h, w), see :func:`log_spreads`.
        large: clamps of the wide component's log spread.
        small: of the narrow one's.
    """
    weights, spreads = info[:, :2], log_spreads(info, large, small)
    distance = (flow - truth).abs()[:, :, None]  # (b, xy, component, h, w)
    inside = weights[:, None] - math.log(2) - spreads[:, None] - distance * (-spreads[:, None]).exp()
    return weights.logsumexp(1)[:, None] - inside.logsumexp(2)


def flow_sigma(info: Tensor) -> Tensor:
    """(b, h, w) standard deviation of each flow component, px: the mixture's variance is ``sum w 2 b^2``."""
    spreads = log_spreads(info)
    return (2 * (info[:, :2].softmax(1) * (2 * spreads).exp()).sum(1)).sqrt()
