"""Attention that is watched: what it is, that nothing else changes, and what its loss asks for."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.attention import CrossAttention, merge_heads, split_heads
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.position import RotaryTables, token_positions
from pomato_ros.training.attention import LEAST_SHARE, attention_loss, attention_shares, watched_attention

PAIRS, TOKENS = 3, 6
SIZE = (32, 48)


@pytest.fixture(scope="module")
def network(make_network: Callable[..., Pomato], tiny_config: NetworkConfig) -> Pomato:
    return make_network(tiny_config)


@pytest.fixture(scope="module")
def views() -> tuple[Tensor, Tensor]:
    noise = torch.rand(2, PAIRS, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return noise[0], noise[1]


def hooks_of(network: Pomato) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_watching_changes_nothing_and_leaves_nothing_behind(network: Pomato, views: tuple[Tensor, Tensor]) -> None:
    with torch.inference_mode():
        before = network(*views)
        with watched_attention(network) as seen:
            assert hooks_of(network) > 0
            watched = network(*views)
        assert hooks_of(network) == 0
        count = len(seen[0])
        network(*views)
    assert len(seen[0]) == count
    for name in ("points_1", "points_2", "points_match", "conf_1", "conf_2", "conf_match"):
        assert torch.equal(getattr(watched, name), getattr(before, name))


def test_hooks_are_removed_also_after_an_error(network: Pomato) -> None:
    with pytest.raises(RuntimeError, match="interrupted"), watched_attention(network):
        raise RuntimeError("interrupted")
    assert hooks_of(network) == 0


def test_the_second_half_of_both_decoders_is_seen_and_tokens_share_out_all_of_their_attention(
    network: Pomato, views: tuple[Tensor, Tensor]
) -> None:
    with torch.inference_mode(), watched_attention(network) as seen:
        network(*views)
    for attention, blocks in zip(seen, (network.dec_blocks, network.dec_blocks2), strict=True):
        assert len(attention) == len(blocks) - len(blocks) // 2
        for shares in attention:
            assert shares.shape == (PAIRS, TOKENS, TOKENS)
            assert (shares >= 0).all()
            torch.testing.assert_close(shares.sum(-1), torch.ones(PAIRS, TOKENS))


@pytest.mark.parametrize("views_swapped", [False, True])
def test_the_first_list_is_view_1_on_view_2(network: Pomato, views: tuple[Tensor, Tensor], views_swapped: bool) -> None:
    """With tokens of view 2 exchanged, what view 1 asks of them is exchanged; rotary positions are switched off."""
    order = torch.tensor([3, 1, 2, 0, 5, 4])
    module = network.dec_blocks[-1].get_submodule("cross_attn")
    assert isinstance(module, CrossAttention)
    nowhere = RotaryTables(torch.zeros(TOKENS, 2, dtype=torch.long), module.projq.out_features // module.heads, 100.0)
    generator = torch.Generator().manual_seed(1)
    x, memory = torch.randn(2, PAIRS, TOKENS, module.projq.in_features, generator=generator)
    shares = attention_shares(module, x, memory, nowhere)
    if views_swapped:
        torch.testing.assert_close(attention_shares(module, x[:, order], memory, nowhere), shares[:, order])
    else:
        torch.testing.assert_close(attention_shares(module, x, memory[:, order], nowhere), shares[:, :, order])


def test_with_one_head_the_shares_are_those_that_mix_the_values() -> None:
    torch.manual_seed(0)
    module = CrossAttention(8, 1)
    rotary = RotaryTables(token_positions(2, 3), 8, 100.0)
    x, memory = torch.randn(2, PAIRS, TOKENS, 8)
    mixed = attention_shares(module, x, memory, rotary) @ module.projv(memory)
    torch.testing.assert_close(module(x, memory, rotary), module.proj(mixed))
    assert torch.equal(merge_heads(split_heads(x, 1)), x)


# --- the loss


def random_shares(seed: int) -> Tensor:
    return torch.randn(PAIRS, TOKENS, TOKENS, generator=torch.Generator().manual_seed(seed)).softmax(-1)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_loss_is_least_where_attention_is_the_matches(seed: int) -> None:
    matches = random_shares(0)
    least = attention_loss([matches], matches)
    torch.testing.assert_close(least, -(matches * matches.log()).sum() / (PAIRS * TOKENS))  # their entropy
    for amount in (0.02, 0.5, 1.0):
        other = (1 - amount) * matches + amount * random_shares(seed)
        assert attention_loss([other], matches) > least


def test_the_gradient_leads_attention_to_the_matches() -> None:
    matches = random_shares(0)
    logits = torch.zeros(PAIRS, TOKENS, TOKENS, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        attention_loss([logits.softmax(-1)], matches).backward()
        optimiser.step()
    torch.testing.assert_close(logits.softmax(-1), matches, atol=5e-3, rtol=0)


def test_what_is_hidden_asks_for_nothing() -> None:
    matches = random_shares(0)
    matches[:, 2] = 0
    matches[1] = 0
    attention = random_shares(1).requires_grad_()
    loss = attention_loss([attention], matches)
    loss.backward()
    assert not attention.grad[:, 2].any()
    assert not attention.grad[1].any()
    rest = [-(matches[p, n] * attention[p, n].log()).sum() for p in (0, 2) for n in range(TOKENS) if n != 2]
    torch.testing.assert_close(loss, torch.stack(rest).mean())


def test_blocks_count_alike_and_nothing_seen_costs_nothing() -> None:
    matches = random_shares(0)
    one, two = (attention_loss([random_shares(seed)], matches) for seed in (1, 2))
    torch.testing.assert_close(attention_loss([random_shares(1), random_shares(2)], matches), 0.5 * (one + two))
    assert attention_loss([random_shares(1)], torch.zeros_like(matches)) == 0


def test_attention_that_is_nowhere_near_costs_a_finite_amount() -> None:
    matches = torch.eye(TOKENS).expand(PAIRS, -1, -1)
    loss = attention_loss([matches.roll(1, -1)], matches)
    assert loss == pytest.approx(-math.log(LEAST_SHARE))
