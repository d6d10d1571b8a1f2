"""Reciprocal matching against brute force, its rules, and large images matched window by window."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.coarse_to_fine import (
    choose_windows,
    cover_greedily,
    distinct_matches,
    fine_matches,
    window_grid,
    window_size,
)
from pomato_ros.sources.dust3r.mast3r import Mast3r
from pomato_ros.sources.dust3r.matching import (
    Matches,
    inside_border,
    matches_of_starts,
    pair_matches,
    reciprocal_matches,
    searches,
    start_grid,
    walk,
)
from pomato_ros.sources.dust3r.neighbours import NeighbourIndex
from pomato_ros.sources.dust3r.trunk import Trunk


def descriptors(height: int, width: int, spacing: int, seed: int = 0) -> Tensor:
    """Unit vectors that change over ``spacing`` pixels; 1: every pixel on its own."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 8, height // spacing + 2, width // spacing + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic") if spacing > 1 else coarse[..., 1:-1, 1:-1]
    return F.normalize(smooth[0].permute(1, 2, 0), dim=-1)


def brute(queries: Tensor, values: Tensor) -> Tensor:
    return (queries @ values.flatten(0, 1).T).argmax(-1)


@pytest.mark.parametrize("spacing", [1, 4, 16])
@pytest.mark.parametrize("size_hw", [(40, 56), (37, 51)])
def test_tiles_that_are_ruled_out_never_hold_the_nearest(spacing: int, size_hw: tuple[int, int]) -> None:
    values, queries = descriptors(*size_hw, spacing), descriptors(32, 32, spacing, 1).flatten(0, 1)
    assert torch.equal(NeighbourIndex(values).nearest(queries), brute(queries, values))
    assert torch.equal(NeighbourIndex(values).nearest(values.flatten(0, 1)), brute(values.flatten(0, 1), values))


def test_of_equally_near_pixels_the_lowest_is_taken() -> None:
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(12, 1)[torch.arange(24).flip(0)].reshape(4, 6, 2)
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert NeighbourIndex(values).nearest(queries).tolist() == brute(queries, values).tolist() == [1, 0]


def test_euclidean_search_is_that_of_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    values, queries = torch.randn(21, 30, 3, generator=generator), torch.randn(200, 3, generator=generator)
    distance = torch.cdist(queries.double(), values.flatten(0, 1).double())
    assert torch.equal(NeighbourIndex(values, euclidean=True).nearest(queries), distance.argmin(-1))


@pytest.mark.parametrize("spacing", [1, 8])
def test_starts_at_every_pixel_find_every_reciprocal_pair(spacing: int) -> None:
    desc_1, desc_2 = descriptors(24, 32, spacing), descriptors(20, 28, spacing, 1)
    forth, back = brute(desc_1.flatten(0, 1), desc_2), brute(desc_2.flatten(0, 1), desc_1)
    mutual = (back[forth] == torch.arange(len(forth))).nonzero()[:, 0]
    found = reciprocal_matches(desc_1, desc_2, 1)
    assert (found.pixels_1[:, 0] + 32 * found.pixels_1[:, 1]).tolist() == mutual.tolist()
    assert (found.pixels_2[:, 0] + 28 * found.pixels_2[:, 1]).tolist() == forth[mutual].tolist()


def test_every_walk_climbs_and_ends_in_a_reciprocal_pair() -> None:
    desc_1, desc_2 = descriptors(24, 32, 4), descriptors(24, 32, 4, 1)
    forth, back = searches(desc_1, desc_2)
    starts = start_grid(24, 32, 4)
    assert starts.tolist() == sorted(set(starts.tolist()))
    values_1, values_2 = desc_1.flatten(0, 1), desc_2.flatten(0, 1)
    similarity = torch.full((len(starts),), -torch.inf)
    for rounds in range(1, 8):
        walked = walk(starts, forth, back, 24 * 32, rounds)
        now = (values_1[walked.index_1] * values_2[walked.index_2]).sum(-1)
        assert (now >= similarity - 1e-6).all()
        similarity = now
    assert walked.converged.all()
    assert torch.equal(back(walked.index_2), walked.index_1)
    assert torch.equal(forth(walked.index_1), walked.index_2)


def test_an_image_matches_itself_everywhere() -> None:
    desc = descriptors(32, 40, 1)
    found = reciprocal_matches(desc, desc, 8)
    assert torch.equal(found.pixels_1, found.pixels_2)
    assert len(found) == len(start_grid(32, 40, 8))


def test_starts_are_kept_within_the_tolerance_there_and_back() -> None:
    desc_1, desc_2 = descriptors(24, 32, 4), descriptors(24, 32, 4, 1)
    starts = torch.tensor([[3, 4], [20, 9], [20, 9], [31, 23], [0, 0], [15, 15]])
    flat = starts[:, 0] + 32 * starts[:, 1]
    there = brute(desc_1.flatten(0, 1)[flat], desc_2)
    home = brute(desc_2.flatten(0, 1)[there], desc_1)
    offset = torch.stack((home % 32 - flat % 32, home // 32 - flat // 32), -1).double().norm(dim=-1)
    for tolerance in (0.0, 2.0, 100.0):
        found = matches_of_starts(desc_1, desc_2, starts, tolerance)
        kept = flat[offset < tolerance] if tolerance else flat[offset == 0]
        assert (found.pixels_1[:, 0] + 32 * found.pixels_1[:, 1]).tolist() == sorted(set(kept.tolist()))


def test_matches_of_both_passes_take_the_confidence_of_the_pass_that_found_them() -> None:
    passes = [(descriptors(24, 32, 4, n), descriptors(24, 32, 4, n + 1)) for n in (0, 2)]
    confs = [(torch.full((24, 32), a), torch.full((24, 32), b)) for a, b in ((2.0, 8.0), (9.0, 16.0))]
    one, conf = pair_matches(passes[:1], confs[:1])
    assert set(conf.tolist()) == {2.0}
    both, conf = pair_matches(passes, confs)
    assert set(conf.tolist()) == {4.0, 12.0}
    assert len(both) > len(one)
    rows = torch.cat((both.pixels_1, both.pixels_2), -1)
    assert len(rows.unique(dim=0)) == len(rows)


def test_matches_near_any_border_are_outside() -> None:
    pixels = torch.tensor([[3, 3], [2, 9], [28, 20], [29, 9], [9, 21]])
    middle = torch.full_like(pixels, 9)
    expected = [True, False, True, False, False]
    assert inside_border(Matches(pixels, middle), (24, 32), (24, 32)).tolist() == expected
    assert inside_border(Matches(middle, pixels), (24, 32), (24, 32)).tolist() == expected


def test_windows_are_whole_patches_that_overlap_by_half_and_reach_every_edge() -> None:
    assert window_size((720, 1280)) == (288, 512)
    boxes = window_grid((720, 1280), (288, 512))
    assert boxes[:, :2].min(0).tolist() == [0, 0]
    assert boxes[:, 2:].max(0).tolist() == [1280, 720]
    for axis, window in ((0, 512), (1, 288)):
        starts = np.unique(boxes[:, axis])
        assert np.diff(starts).max() <= window / 2 + 1


def test_chosen_windows_cover_most_matches_and_pair_what_belongs_together() -> None:
    generator = np.random.default_rng(0)
    own = generator.uniform((0, 0), (1280, 720), (300, 2))
    other = own * 0.75 + generator.normal(0, 2, own.shape)
    sizes = [(720, 1280), (540, 960)]
    boxes_1, boxes_2 = choose_windows(sizes, [torch.from_numpy(own), torch.from_numpy(other)])
    assert boxes_1[:, :2].min() >= 0
    assert (boxes_2[:, 2:] <= np.array([960, 540])).all()
    both = [
        ((own >= a[:2]) & (own < a[2:])).all(-1) & ((other >= b[:2]) & (other < b[2:])).all(-1)
        for a, b in zip(boxes_1, boxes_2, strict=True)
    ]
    assert np.any(both, axis=0).mean() > 0.85


def test_a_pair_of_windows_that_others_cover_is_not_chosen() -> None:
    weights = np.array([[1.0, 1.0, 0.0], [0.9, 0.9, 0.0], [0.0, 0.0, 0.5]])
    assert cover_greedily(weights) == [0, 2]
    assert cover_greedily(np.zeros((0, 3))) == []


def test_of_several_windows_the_most_confident_match_counts() -> None:
    pixel = torch.tensor([[5, 6], [7, 8]])
    found = [(pixel, pixel, torch.tensor([1.0, 4.0])), (pixel, pixel + 1, torch.tensor([2.0, 3.0]))]
    fine = distinct_matches(found, [(32, 32), (32, 32)])
    assert fine.matches.pixels_2.tolist() == [[6, 7], [7, 8]]
    assert fine.confidence.tolist() == [2.0, 4.0]
    assert len(distinct_matches([], [(32, 32), (32, 32)]).matches) == 0


def test_large_images_are_matched_at_their_own_resolution(
    tiny_config: NetworkConfig, make_network: Callable[..., Trunk]
) -> None:
    shape = dataclasses.replace(tiny_config, temporal_length=0, architecture="mast3r", desc_dim=6, desc_hidden_dim=8)
    network = make_network(shape)
    assert isinstance(network, Mast3r)
    image = torch.rand(3, 320, 560, generator=torch.Generator().manual_seed(0)) * 2 - 1
    grid = torch.stack(torch.meshgrid(torch.arange(0, 560, 20), torch.arange(0, 320, 20), indexing="xy"), -1)
    coarse = Matches(grid.reshape(-1, 2), grid.reshape(-1, 2))
    found = fine_matches(network, image, image, coarse, step_px=32)
    assert len(found.matches) == len(found.confidence) > 0
    assert (found.matches.pixels_1 < torch.tensor([560, 320])).all()
    starts = torch.tensor([[100, 100], [400, 250]])
    again = fine_matches(network, image, image, coarse, starts)
    assert {tuple(row) for row in again.matches.pixels_1.tolist()} <= {(100, 100), (400, 250)}
