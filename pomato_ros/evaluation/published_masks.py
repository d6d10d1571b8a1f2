"""Moving masks as the published code makes them for parity only."""

import torch
from torch import Tensor

from pomato_ros.pointmap_scene.motion_mask import motion_distance


def mean_rule(points: Tensor, points_match: Tensor, factor: float) -> Tensor:
    """``|X_m - X| > factor * mean`` with the mean over each image; (n, h, w, 3) -> (n, h, w) bool."""
    distance = motion_distance(points, points_match)
    return distance > factor * distance.mean(dim=(-2, -1), keepdim=True)


def row_of_edge(edges: Tensor, first: int, second: int) -> int:
    """Row of the edge (first, second) in edges (e, 2).

    Raises:
        KeyError: no such edge.
    """
    rows = torch.nonzero((edges == torch.tensor([first, second])).all(dim=1)).flatten()
    if not len(rows):
        raise KeyError(f"no edge ({first}, {second})")
    return int(rows[0])


def mirrored_masks(edges: Tensor, points_2: Tensor, points_match: Tensor, factor: float) -> Tensor:
    """Mask of each edge (i, j) on the pixels of image i: from view 2 of the mirrored edge (j, i).

    Args:
        edges: (e, 2), with each edge's mirror.
        points_2: (e, h, w, 3), reconstruction of view 2.
        points_match: (e, h, w, 3), matching pointmap of view 2.
        factor: means.

    Raises:
        KeyError: an edge has no mirror.
    """
    masks = mean_rule(points_2, points_match, factor)
    return torch.stack([masks[row_of_edge(edges, int(j), int(i))] for i, j in edges])


def adjacent_masks(edges: Tensor, points_2: Tensor, points_match: Tensor, factor: float) -> Tensor:
    """One mask per frame: entry i from the edge (i, i + 1), whose pixels are frame i + 1's; the last one is empty.

    Arguments and errors as :func:`mirrored_masks`. -> (frames, h, w) bool.
    """
    masks = mean_rule(points_2, points_match, factor)
    frames = int(edges.max()) + 1
    chosen = [masks[row_of_edge(edges, i, i + 1)] for i in range(frames - 1)]
    return torch.stack([*chosen, torch.zeros_like(masks[0])])
