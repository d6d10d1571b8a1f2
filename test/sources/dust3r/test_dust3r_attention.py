"""Attention against its definition, and the wiring of the two kinds of blocks."""

import math

import pytest
import torch
from torch import Tensor

from pomato_ros.sources.dust3r.attention import (
    CrossAttention,
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    SelfAttention,
    merge_heads,
    split_heads,
)
from pomato_ros.sources.dust3r.position import RotaryTables, token_positions

DIM, HEADS = 16, 2
ROWS, COLUMNS = 3, 4


@pytest.fixture
def rotary() -> RotaryTables:
    return RotaryTables(token_positions(ROWS, COLUMNS), DIM // HEADS, 100.0)


def tokens(seed: int, count: int = ROWS * COLUMNS) -> Tensor:
    return torch.randn(2, count, DIM, generator=torch.Generator().manual_seed(seed))


def seeded(layer: torch.nn.Module, seed: int = 5) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return layer.requires_grad_(False)


def attend(q: Tensor, k: Tensor, v: Tensor, rotary: RotaryTables) -> Tensor:
    """The definition, head by head: contiguous blocks of channels are the heads."""
    size = DIM // HEADS
    outputs = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = rotary.rotate(q[..., part]) @ rotary.rotate(k[..., part]).mT / math.sqrt(size)
        outputs.append(scores.softmax(dim=-1) @ v[..., part])
    return torch.cat(outputs, dim=-1)


def test_splitting_and_merging_heads_are_inverse() -> None:
    x = tokens(0)
    assert split_heads(x, HEADS).shape == (2, HEADS, ROWS * COLUMNS, DIM // HEADS)
    assert torch.equal(merge_heads(split_heads(x, HEADS)), x)


def test_self_attention_is_its_definition_with_queries_keys_and_values_in_this_order(rotary: RotaryTables) -> None:
    layer, x = seeded(SelfAttention(DIM, HEADS)), tokens(0)
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).split(DIM, dim=-1)
    torch.testing.assert_close(layer(x, rotary), layer.proj(attend(q, k, v, rotary)))


def test_cross_attention_is_its_definition_with_positions_on_both_sides(rotary: RotaryTables) -> None:
    layer, x, memory = seeded(CrossAttention(DIM, HEADS)), tokens(0), tokens(1)
    expected = layer.proj(attend(layer.projq(x), layer.projk(memory), layer.projv(memory), rotary))
    torch.testing.assert_close(layer(x, memory, rotary), expected)


def test_relative_values_depend_on_how_far_away_they_were_found_and_not_on_where() -> None:
    layer, x, memory = seeded(CrossAttention(DIM, HEADS, relative_values=True)), tokens(0), tokens(1)
    here = token_positions(ROWS, COLUMNS)
    tables = [RotaryTables(places, DIM // HEADS, 100.0) for places in (here, here + torch.tensor([3, 5]))]
    torch.testing.assert_close(layer(x, memory, tables[0]), layer(x, memory, tables[1]), atol=1e-4, rtol=1e-4)
    plain = seeded(CrossAttention(DIM, HEADS))
    assert (layer(x, memory, tables[0]) - plain(x, memory, tables[0])).abs().max() > 1e-3


def test_a_relative_value_is_turned_by_the_way_from_the_query_to_where_it_was_found(rotary: RotaryTables) -> None:
    layer, x, memory = seeded(CrossAttention(DIM, HEADS, relative_values=True)), tokens(0), tokens(1)
    places = token_positions(ROWS, COLUMNS)
    q, k, v = (split_heads(part, HEADS) for part in (layer.projq(x), layer.projk(memory), layer.projv(memory)))
    shares = (rotary.rotate(q) @ rotary.rotate(k).mT / math.sqrt(DIM // HEADS)).softmax(dim=-1)
    gathered = torch.zeros_like(q)
    for query, place in enumerate(places):
        turned = RotaryTables(places - place, DIM // HEADS, 100.0).rotate(v)
        gathered[:, :, query] = (shares[:, :, query, :, None] * turned).sum(dim=-2)
    expected = layer.proj(merge_heads(gathered))
    torch.testing.assert_close(layer(x, memory, rotary), expected, atol=1e-5, rtol=1e-5)


def test_tokens_that_change_places_with_their_positions_change_nothing_else(rotary: RotaryTables) -> None:
    layer, x = seeded(SelfAttention(DIM, HEADS)), tokens(0)
    order = torch.randperm(ROWS * COLUMNS, generator=torch.Generator().manual_seed(3))
    moved = RotaryTables(token_positions(ROWS, COLUMNS)[order], DIM // HEADS, 100.0)
    torch.testing.assert_close(layer(x[:, order], moved), layer(x, rotary)[:, order])
    assert (layer(x[:, order], rotary) - layer(x, rotary)[:, order]).abs().max() > 1e-3


def test_the_feed_forward_uses_the_exact_gelu() -> None:
    layer, x = seeded(FeedForward(DIM, 4)), tokens(0)
    hidden = layer.fc1(x)
    assert hidden.shape[-1] == 4 * DIM
    exact = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    torch.testing.assert_close(layer(x), layer.fc2(exact))


def test_a_block_whose_branches_give_nothing_is_the_identity(rotary: RotaryTables) -> None:
    encoder, decoder = seeded(EncoderBlock(DIM, HEADS, 4)), seeded(DecoderBlock(DIM, HEADS, 4))
    for last in (encoder.attn.proj, encoder.mlp.fc2, decoder.attn.proj, decoder.cross_attn.proj, decoder.mlp.fc2):
        last.weight.zero_()
        last.bias.zero_()
    assert torch.equal(encoder(tokens(0), rotary), tokens(0))
    assert torch.equal(decoder(tokens(0), tokens(1), rotary), tokens(0))


def test_a_decoder_block_reads_the_other_view_through_a_norm_of_its_own(rotary: RotaryTables) -> None:
    block, x, other = seeded(DecoderBlock(DIM, HEADS, 4)), tokens(0), tokens(1)
    after = block(x, other, rotary)
    torch.testing.assert_close(block(x, 3 * other + 2, rotary), after, atol=1e-4, rtol=1e-4)  # a norm hides both
    assert (block(x, other.flip(0), rotary) - after).abs().max() > 1e-2
    block.norm_y.weight.zero_()
    torch.testing.assert_close(block(x, other.flip(0), rotary), block(x, other, rotary))
