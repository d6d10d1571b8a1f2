"""MASt3R's matching loss: InfoNCE over descriptors of true matches, weighed by the descriptors' confidence.

As trained (released code): temperature 0.05, "proper" mode, alpha 10, total = pointmap loss + 0.075 times this. The
paper's equation prints the exponent as -tau D D; the code divides by the temperature, without the minus.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_SHARE = 1e-8


@dataclass(frozen=True, slots=True)
class MatchingOptions:
    """The released recipe.

    Attributes:
        temperature: of the products of descriptors.
        mode: of InfoNCE: proper (columns and rows apart), all (one sum over everything), dual (rows times columns).
        alpha: weight of the log confidence.
        conf_mode: of a match from its two descriptors' confidences: mean or prod.
        block_size: most candidates compared with each other; more are shuffled and cut into blocks.
        negative_quantile: false matches get this quantile of the true ones' losses, so that their confidence falls;
            0: they are left out.
        weight: of the matching loss beside the pointmaps'.
    """

    temperature: float = 0.05
    mode: str = "proper"
    alpha: float = 10.0
    conf_mode: str = "mean"
    block_size: int = 8192
    negative_quantile: float = 0.0
    weight: float = 0.075


@dataclass(frozen=True, slots=True)
class Candidates:
    """Descriptors and confidences at N candidate matches of each of P pairs of images.

    False matches serve as negatives of the others' descriptors, and are no rows of their own.
    """

    desc_1: Tensor  # (p, n, d)
    desc_2: Tensor
    conf_1: Tensor  # (p, n)
    conf_2: Tensor
    valid: Tensor  # (p, n) true matches


def candidates_at(
    desc: tuple[Tensor, Tensor], conf: tuple[Tensor, Tensor], pixels: tuple[Tensor, Tensor], valid: Tensor
) -> Candidates:
    """Read maps at candidate matches.

    Args:
        desc: (p, h, w, d) of view 1 and of view 2.
        conf: (p, h, w) of both.
        pixels: (p, n, 2) integer x, y in both.
        valid: (p, n) which of them are true.
    """
    rows = torch.arange(len(valid), device=valid.device)[:, None]
    at = [(rows, xy[..., 1], xy[..., 0]) for xy in pixels]
    return Candidates(desc[0][at[0]], desc[1][at[1]], conf[0][at[0]], conf[1][at[1]], valid)


def proper_shares(similar: Tensor) -> list[Tensor]:
    """Of (p, n, n) exponentials, the diagonal's share of its column and of its row."""
    own = similar.diagonal(dim1=-2, dim2=-1)
    return [own / similar.sum(-2), own / similar.sum(-1)]


def share_of_all(similar: Tensor) -> list[Tensor]:
    """The diagonal's share of everything."""
    return [similar.diagonal(dim1=-2, dim2=-1) / similar.sum((-2, -1))[:, None]]


def dual_shares(similar: Tensor) -> list[Tensor]:
    """The product of the diagonal's shares of its column and row."""
    own = similar.diagonal(dim1=-2, dim2=-1)
    return [own.square() / (similar.sum(-2) * similar.sum(-1))]


SHARES: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "proper": proper_shares,
    "all": share_of_all,
    "dual": dual_shares,
}


def info_nce(desc_1: Tensor, desc_2: Tensor, temperature: float, mode: str) -> Tensor:
    """(p, n) loss of each candidate, of descriptors (p, n, d): minus the logs of its shares of similarity.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in SHARES:
        raise ValueError(f"InfoNCE mode must be one of {', '.join(SHARES)}; got {mode!r}")
    similar = torch.exp(desc_1 @ desc_2.mT / temperature)
    return torch.stack([-share.clamp(min=LEAST_SHARE).log() for share in SHARES[mode](similar)]).sum(0)


def in_blocks(candidates: Candidates, block_size: int, generator: torch.Generator | None) -> Candidates:
    """Candidates of each pair shuffled and cut into blocks, (p * blocks, block_size) each; unchanged where they fit.

    Raises:
        ValueError: they are no whole number of blocks.
    """
    count = candidates.valid.shape[1]
    if count <= block_size:
        return candidates
    if count % block_size:
        raise ValueError(f"expected a multiple of {block_size} candidates a pair, got {count}; choose another number")
    order = torch.randperm(count, generator=generator).to(candidates.valid.device)

    def cut(x: Tensor) -> Tensor:
        return x[:, order].unflatten(1, (-1, block_size)).flatten(0, 1)

    parts = (candidates.desc_1, candidates.desc_2, candidates.conf_1, candidates.conf_2, candidates.valid)
    return Candidates(*(cut(part) for part in parts))


def matching_losses(
    candidates: Candidates, options: MatchingOptions, generator: torch.Generator | None = None
) -> tuple[Tensor, Candidates]:
    """InfoNCE of every true match (m,), and the candidates in the blocks they were compared in.

    Args:
        candidates: of all pairs.
        options: temperature, mode and size of blocks.
        generator: shuffles where there is more than one block.
    """
    blocks = in_blocks(candidates, options.block_size, generator)
    losses = info_nce(blocks.desc_1, blocks.desc_2, options.temperature, options.mode)
    return losses[blocks.valid], blocks


def confident_matching_loss(
    candidates: Candidates, options: MatchingOptions, generator: torch.Generator | None = None
) -> Tensor:
    """Mean over true matches of ``c l - alpha log c``, and the same over false ones where they take part.

    A true match's c is the mean or product of its two descriptors' confidences; a false one's are both on their own,
    with the chosen quantile of the true ones' losses in place of l, as a number.
    """
    losses, blocks = matching_losses(candidates, options, generator)
    if not losses.numel():
        return (blocks.desc_1.sum() + blocks.conf_1.sum()) * 0
    conf_1, conf_2, valid = blocks.conf_1, blocks.conf_2, blocks.valid
    conf = conf_1[valid] * conf_2[valid] if options.conf_mode == "prod" else 0.5 * (conf_1[valid] + conf_2[valid])
    total = (conf * losses - options.alpha * conf.log()).mean()
    if options.negative_quantile and not bool(valid.all()):
        level = losses.detach().quantile(options.negative_quantile)
        false = torch.cat((conf_1[~valid], conf_2[~valid]))
        total = total + (level * false - options.alpha * false.log()).mean()
    return total
