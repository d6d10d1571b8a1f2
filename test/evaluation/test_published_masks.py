"""The published code's masks, bugs included."""

import pytest
import torch

from pomato_ros.evaluation.published_masks import adjacent_masks, mean_rule, mirrored_masks, row_of_edge

EDGES = torch.tensor([[1, 0], [2, 1], [0, 1], [1, 2]])


def maps_with_a_mover_at(row_of_mover: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pointmaps of four edges; one of them has a moving pixel in its corner."""
    points = torch.rand(4, 6, 8, 3, generator=torch.Generator().manual_seed(0))
    match = points + 0.01
    match[row_of_mover, 0, 0] += 1.0
    return points, match


def test_mean_rule_is_per_image() -> None:
    points, match = maps_with_a_mover_at(1)
    masks = mean_rule(points, match, 3.0)
    assert masks[1, 0, 0]
    assert masks.sum() == 1


def test_the_mask_of_an_edge_comes_from_its_mirror() -> None:
    masks = mirrored_masks(EDGES, *maps_with_a_mover_at(1), factor=3.0)
    assert masks[3, 0, 0]  # edge (1, 2) from the mirrored edge (2, 1)
    assert masks.sum() == 1


def test_adjacent_masks_belong_to_the_later_frame_and_the_last_is_empty() -> None:
    masks = adjacent_masks(EDGES, *maps_with_a_mover_at(3), factor=3.0)
    assert masks.shape == (3, 6, 8)
    assert masks[1, 0, 0]
    assert masks.sum() == 1


def test_a_missing_edge_is_named() -> None:
    with pytest.raises(KeyError, match="no edge"):
        row_of_edge(EDGES, 0, 2)
