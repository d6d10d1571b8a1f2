"""MASt3R's matching loss: each mode by its definition, blocks, confidence, gradients, and a batch that is learned."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pomato_ros.training.matching_loss import (
    Candidates,
    MatchingOptions,
    candidates_at,
    confident_matching_loss,
    in_blocks,
    info_nce,
    matching_losses,
)

OPTIONS = MatchingOptions()


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def make_candidates(pairs: int = 2, count: int = 12, false: int = 4) -> Candidates:
    generator = torch.Generator().manual_seed(5)
    valid = torch.ones(pairs, count, dtype=torch.bool)
    valid[:, count - false :] = False
    conf = torch.rand(2, pairs, count, generator=generator, dtype=torch.float64) + 0.5
    return Candidates(unit(pairs, count, 6), unit(pairs, count, 6, seed=1), conf[0], conf[1], valid)


@pytest.mark.parametrize("mode", ["proper", "all", "dual"])
def test_each_mode_is_its_definition(mode: str) -> None:
    desc_1, desc_2 = unit(1, 5, 6), unit(1, 5, 6, seed=1)
    losses = info_nce(desc_1, desc_2, 0.7, mode)[0]
    similar = (desc_1[0] @ desc_2[0].T / 0.7).exp()
    for i in range(5):
        column, row = similar[:, i].sum(), similar[i].sum()
        share = {
            "proper": similar[i, i] / column * (similar[i, i] / row),
            "all": similar[i, i] / similar.sum(),
            "dual": similar[i, i] ** 2 / (row * column),
        }[mode]
        torch.testing.assert_close(losses[i], -share.log())


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="proper, all, dual; got 'other'"):
        info_nce(unit(1, 2, 3), unit(1, 2, 3), 0.1, "other")


def test_false_matches_are_negatives_but_no_rows() -> None:
    candidates = make_candidates()
    losses, _ = matching_losses(candidates, OPTIONS)
    assert len(losses) == int(candidates.valid.sum())
    alone = dataclasses.replace(
        candidates,
        **{name: getattr(candidates, name)[:, :8] for name in ("desc_1", "desc_2", "conf_1", "conf_2", "valid")},
    )
    assert (losses >= matching_losses(alone, OPTIONS)[0] - 1e-12).all()


def test_blocks_hold_every_candidate_once_and_compare_within_themselves_only() -> None:
    candidates = make_candidates(count=12)
    blocks = in_blocks(candidates, 4, torch.Generator().manual_seed(0))
    assert blocks.desc_1.shape == (6, 4, 6)
    torch.testing.assert_close(blocks.conf_1.sum(), candidates.conf_1.sum())
    losses, cut = matching_losses(candidates, dataclasses.replace(OPTIONS, block_size=4), torch.Generator())
    torch.testing.assert_close(losses, info_nce(cut.desc_1, cut.desc_2, 0.05, "proper")[cut.valid])
    with pytest.raises(ValueError, match="a multiple of 5 candidates a pair, got 12"):
        in_blocks(candidates, 5, None)


@pytest.mark.parametrize("mode", ["proper", "all", "dual"])
@pytest.mark.parametrize("quantile", [0.0, 0.5])
def test_gradients_are_those_of_differences(mode: str, quantile: float) -> None:
    given = make_candidates()
    # the quantile is a number, not a function: differences would see through it
    options = dataclasses.replace(OPTIONS, mode=mode, temperature=0.5, negative_quantile=quantile)
    tensors = [x.requires_grad_(True) for x in (given.conf_1, given.conf_2)]
    descs = [] if quantile else [x.requires_grad_(True) for x in (given.desc_1, given.desc_2)]

    def loss(*values: Tensor) -> Tensor:
        desc_1, desc_2 = values[2:] or (given.desc_1, given.desc_2)
        return confident_matching_loss(Candidates(desc_1, desc_2, values[0], values[1], given.valid), options)

    assert torch.autograd.gradcheck(loss, (*tensors, *descs))


def test_without_a_true_match_there_is_nothing_to_learn() -> None:
    candidates = make_candidates(false=12)
    loss = confident_matching_loss(candidates, OPTIONS)
    assert loss == 0


def test_maps_are_read_at_x_and_y() -> None:
    desc, conf = torch.arange(24.0).reshape(1, 4, 3, 2), torch.arange(12.0).reshape(1, 4, 3)
    pixels = torch.tensor([[[2, 1], [0, 3]]])
    found = candidates_at((desc, desc), (conf, conf), (pixels, pixels), torch.ones(1, 2, dtype=torch.bool))
    assert found.conf_1.tolist() == [[5.0, 9.0]]
    assert found.desc_2.tolist() == [[[10.0, 11.0], [18.0, 19.0]]]


def test_one_batch_is_learned_until_every_match_is_the_nearest() -> None:
    raw = [torch.randn(1, 16, 6, generator=torch.Generator().manual_seed(n)).requires_grad_(True) for n in (0, 1)]
    optimiser = torch.optim.Adam(raw, lr=0.1)
    one, valid = torch.ones(1, 16), torch.ones(1, 16, dtype=torch.bool)
    for _ in range(80):
        optimiser.zero_grad()
        desc = [F.normalize(x, dim=-1) for x in raw]
        confident_matching_loss(Candidates(desc[0], desc[1], one, one, valid), OPTIONS).backward()
        optimiser.step()
    nearest = (F.normalize(raw[0], dim=-1) @ F.normalize(raw[1], dim=-1).mT)[0].argmax(-1)
    assert nearest.tolist() == list(range(16))
