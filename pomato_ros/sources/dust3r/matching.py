"""MASt3R's fast reciprocal matching (paper, section 3.3 and appendix B): a walk between nearest neighbours.

Every start pixel of image 1 goes to its nearest neighbour in image 2, from there to that one's nearest in image 1, and
so on. Similarity never falls on the way, so that walks end in reciprocal pairs; k starts cost O(k w h).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.sources.dust3r.neighbours import NeighbourIndex

MOST_ROUNDS = 10
BORDER_PX = 3


@dataclass(frozen=True, slots=True)
class Matches:
    """Pixels that are each other's nearest neighbours, (m, 2) int64 (x, y) of each image."""

    pixels_1: Tensor
    pixels_2: Tensor

    def __len__(self) -> int:
        """Number of matches."""
        return len(self.pixels_1)

    def select(self, keep: Tensor) -> "Matches":
        """Those of a mask or of indices."""
        return Matches(self.pixels_1[keep], self.pixels_2[keep])


@dataclass(frozen=True, slots=True)
class Walk:
    """Where the walks of some start pixels ended; flat indices x + w y."""

    index_1: Tensor  # (k,)
    index_2: Tensor  # (k,)
    converged: Tensor  # (k,) the last round changed nothing
    moved_to: Tensor  # (h1 * w1,) image-1 pixel that each start or visited pixel went to in its last round, else -1

    def pairs(self) -> Tensor:
        """(m, 2) distinct ends of the walks that converged, ordered by pixel of image 1, then of image 2."""
        return torch.stack((self.index_1, self.index_2), dim=-1)[self.converged].unique(dim=0)


class KnownNeighbours:
    """Nearest neighbours in one image of another image's pixels, each searched for once."""

    def __init__(self, values: Tensor, index: NeighbourIndex) -> None:
        """``values`` (n, d) of the pixels that ask, ``index`` of the image that is searched."""
        self._values = values
        self._index = index
        self._known = torch.full((len(values),), -1, dtype=torch.long, device=values.device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Flat indices (k,) -> flat indices (k,) in the other image."""
        new = pixels[self._known[pixels] < 0].unique()
        if len(new):
            self._known[new] = self._index.nearest(self._values[new])
        return self._known[pixels]


def start_grid(height: int, width: int, step_px: int, device: torch.device | None = None) -> Tensor:
    """(k,) flat indices of every ``step_px``-th pixel of every ``step_px``-th row, ascending, half a step inside."""
    rows = torch.arange(step_px // 2, height, step_px, device=device)
    columns = torch.arange(step_px // 2, width, step_px, device=device)
    return (columns + width * rows[:, None]).flatten()


def searches(values_1: Tensor, values_2: Tensor, euclidean: bool = False) -> tuple[KnownNeighbours, KnownNeighbours]:
    """From image 1 (h1, w1, d) into image 2 (h2, w2, d), and back."""
    forth = KnownNeighbours(values_1.flatten(0, 1), NeighbourIndex(values_2, euclidean))
    return forth, KnownNeighbours(values_2.flatten(0, 1), NeighbourIndex(values_1, euclidean))


def walk(
    starts: Tensor,
    forth: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    pixels_1: int,
    rounds: int = MOST_ROUNDS,
    whole_rounds: bool = False,
) -> Walk:
    """Walk from each start until its pair no longer changes, or for ``rounds``.

    Args:
        starts: (k,) flat indices in image 1.
        forth: nearest neighbour in image 2 of pixels of image 1.
        back: and the other way round.
        pixels_1: number of pixels of image 1.
        rounds: most rounds there and back.
        whole_rounds: a walk ends in image 1 only, as convergence basins need it.
    """
    index_1 = starts.clone()
    index_2 = torch.full_like(index_1, -1)
    active = torch.ones_like(index_1, dtype=torch.bool)
    moved_to = torch.full((pixels_1,), -1, dtype=torch.long, device=starts.device)
    for _ in range(rounds):
        before_1, before_2 = index_1.clone(), index_2.clone()
        index_2[active] = forth(index_1[active])
        if not whole_rounds:
            active = active & (index_2 != before_2)
        index_1[active] = back(index_2[active])
        moved_to[before_1[active]] = index_1[active]
        active = active & (index_1 != before_1)
        if not bool(active.any()):
            break
    return Walk(index_1, index_2, ~active, moved_to)


@torch.no_grad()
def reciprocal_matches(desc_1: Tensor, desc_2: Tensor, step_px: int = 8, euclidean: bool = False) -> Matches:
    """Reciprocal pairs that the walks of a grid of starts end in, each once, ordered by pixel of image 1 then 2.

    Args:
        desc_1: (h1, w1, d) of image 1: descriptors, or points (x, y, z) with ``euclidean``.
        desc_2: (h2, w2, d) of image 2.
        step_px: between starts; 8 makes 3,072 starts of 512x384.
        euclidean: nearest by distance in place of the largest inner product.
    """
    height, width = desc_1.shape[:2]
    forth, back = searches(desc_1, desc_2, euclidean)
    starts = start_grid(height, width, step_px, desc_1.device)
    return ends_of(walk(starts, forth, back, height * width), width, desc_2.shape[1])


def ends_of(walked: Walk, width_1: int, width_2: int) -> Matches:
    """Distinct ends of the walks that converged, ordered by pixel of image 1, then of image 2."""
    pairs = walked.pairs()
    return Matches(pixels_at(pairs[:, 0], width_1), pixels_at(pairs[:, 1], width_2))


def pixels_at(index: Tensor, width: int) -> Tensor:
    """Flat indices (k,) -> (k, 2) of x, y."""
    return torch.stack((index % width, index // width), dim=-1)


@torch.no_grad()
def matches_of_starts(
    desc_1: Tensor, desc_2: Tensor, starts_xy: Tensor, tolerance_px: float = 0.0, euclidean: bool = False
) -> Matches:
    """One round trip from explicit pixels.

    With a tolerance, a start is kept, with its nearest neighbour in image 2, where the way back ends less than
    ``tolerance_px`` from it; without one, exact cycles alone are kept, each once, in the order of pixels.

    Args:
        desc_1: (h1, w1, d).
        desc_2: (h2, w2, d).
        starts_xy: (k, 2) integer x, y in image 1.
        tolerance_px: see above.
        euclidean: as in :func:`reciprocal_matches`.
    """
    height, width = desc_1.shape[:2]
    forth, back = searches(desc_1, desc_2, euclidean)
    starts = starts_xy[:, 0].long() + width * starts_xy[:, 1].long()
    walked = walk(starts, forth, back, height * width, rounds=1)
    if tolerance_px <= 0:
        return ends_of(walked, width, desc_2.shape[1])
    offset = (pixels_at(walked.index_1, width) - pixels_at(starts, width)).double().norm(dim=-1)
    kept = torch.stack((starts, walked.index_2), dim=-1)[offset < tolerance_px].unique(dim=0)
    return Matches(pixels_at(kept[:, 0], width), pixels_at(kept[:, 1], desc_2.shape[1]))


def inside_border(matches: Matches, size_1_hw: tuple[int, int], size_2_hw: tuple[int, int]) -> Tensor:
    """(m,) whether both pixels lie at least 3 px from every border of their image."""
    inside = torch.ones(len(matches), dtype=torch.bool, device=matches.pixels_1.device)
    for pixels, (height, width) in ((matches.pixels_1, size_1_hw), (matches.pixels_2, size_2_hw)):
        limit = torch.tensor((width - BORDER_PX, height - BORDER_PX), device=pixels.device)
        inside &= ((pixels >= BORDER_PX) & (pixels < limit)).all(-1)
    return inside


def values_at(maps: Tensor, pixels_xy: Tensor) -> Tensor:
    """Map (h, w, ...) at integer pixels (m, 2) -> (m, ...)."""
    return maps[pixels_xy[:, 1], pixels_xy[:, 0]]


@torch.no_grad()
def pair_matches(
    passes: Sequence[tuple[Tensor, Tensor]], confs: Sequence[tuple[Tensor, Tensor]], step_px: int = 8
) -> tuple[Matches, Tensor]:
    """Matches walked from both images in each pass, each match once, with its confidence (m,).

    The confidence of a match is that of its two descriptors in the first pass that found it: the smaller one where
    there is one pass, the root of their product where there are both pair orders.

    Args:
        passes: descriptors (h, w, d) of image 1 and image 2: of the pass (1, 2), and of the pass (2, 1) if it is there.
        confs: (h, w) of the same descriptors.
        step_px: between starts.
    """
    indices, values = [], []
    for (desc_1, desc_2), of_pass in zip(passes, confs, strict=True):
        found = torch.cat(both_directions(desc_1, desc_2, step_px))
        conf_1, conf_2 = (conf.flatten()[pixels] for conf, pixels in zip(of_pass, found.unbind(-1), strict=True))
        indices.append(found)
        values.append(torch.minimum(conf_1, conf_2) if len(passes) == 1 else (conf_1 * conf_2).sqrt())
    pairs, first = unique_rows(torch.cat(indices))
    widths = passes[0][0].shape[1], passes[0][1].shape[1]
    matches = Matches(pixels_at(pairs[:, 0], widths[0]), pixels_at(pairs[:, 1], widths[1]))
    return matches, torch.cat(values)[first]


def unique_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows of (m, 2) in ascending order, and the number of the first row that each of them is."""
    distinct, which = rows.unique(dim=0, return_inverse=True)
    numbers = torch.arange(len(rows), device=rows.device)
    return distinct, numbers.new_full((len(distinct),), len(rows)).scatter_reduce(0, which, numbers, "amin")


def both_directions(desc_1: Tensor, desc_2: Tensor, step_px: int) -> tuple[Tensor, Tensor]:
    """Walks from image 1 and walks from image 2: flat indices (m, 2) in image 1 and image 2 each."""
    (height_1, width_1), (height_2, width_2) = desc_1.shape[:2], desc_2.shape[:2]
    forth, back = searches(desc_1, desc_2)
    first = walk(start_grid(height_1, width_1, step_px, desc_1.device), forth, back, height_1 * width_1)
    second = walk(start_grid(height_2, width_2, step_px, desc_1.device), back, forth, height_2 * width_2)
    return first.pairs(), second.pairs().flip(-1)
