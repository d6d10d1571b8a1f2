"""Motion modules: over time, one location at a time, statistics frame by frame."""

import math

import pytest
import torch
from torch import Tensor

from pomato_ros.sources.dust3r.attention import attend_briefly
from pomato_ros.sources.dust3r.temporal import (
    GatedFeedForward,
    TemporalTransformer,
    TimeAttention,
    sinusoid_table,
    stack_prepared,
    take,
)

DIM, HEADS, GROUPS = 16, 4, 4
LENGTH, FRAMES = 6, 4


def features(rows: int = FRAMES, seed: int = 0) -> Tensor:
    return torch.randn(rows, DIM, 3, 5, generator=torch.Generator().manual_seed(seed))


def transformer(length: int = LENGTH) -> TemporalTransformer:
    module = TemporalTransformer(DIM, HEADS, length, GROUPS)
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.requires_grad_(False)


def test_slot_encodings_are_sines_and_cosines_in_turn() -> None:
    table = sinusoid_table(LENGTH, DIM)
    for slot in range(LENGTH):
        for k in range(DIM // 2):
            angle = slot * 10000 ** (-2 * k / DIM)
            assert table[slot, 2 * k] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[slot, 2 * k + 1] == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("at", [(2,), (-1,), (0, 1, 2), (3, 4), (4, 1), (0, 2, 5), (-2, -1)])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_places_are_taken_as_an_index_would(at: tuple[int, ...], dim: int) -> None:
    x = torch.arange(6.0 * 6 * 6).view(6, 6, 6)
    assert torch.equal(take(x, dim, at), x.index_select(dim, torch.tensor([place % 6 for place in at])))


def test_a_module_starts_as_the_identity() -> None:
    x = features()
    assert torch.equal(TemporalTransformer(DIM, HEADS, LENGTH, GROUPS)(x, FRAMES), x)


def test_locations_know_nothing_of_each_other_but_their_frames_statistics() -> None:
    module, x = transformer(), features()
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2))
    shuffled = x.flatten(2)[..., order].unflatten(-1, (3, 5))
    expected = module(x, FRAMES).flatten(2)[..., order].unflatten(-1, (3, 5))
    torch.testing.assert_close(module(shuffled, FRAMES), expected, atol=1e-5, rtol=1e-5)


def test_statistics_are_of_each_frame() -> None:
    module, x = transformer(), features()
    for attention in module.transformer_blocks[0].attention_blocks:  # without attention frames are strangers
        attention.to_out[0].weight.zero_()
    x[1] = 50 * x[1] + 7
    alone = torch.cat([module(frame[None], 1) for frame in x])
    torch.testing.assert_close(module(x, FRAMES), alone, atol=1e-4, rtol=1e-5)


def test_every_frame_hears_of_every_other() -> None:
    module, x = transformer(), features()
    for changed in range(FRAMES):
        other = x.clone()
        other[changed] = features(seed=9)[changed]
        difference = (module(other, FRAMES) - module(x, FRAMES)).abs().amax((1, 2, 3))
        assert (difference > 1e-4).all()


def test_windows_of_a_batch_know_nothing_of_each_other() -> None:
    module = transformer()
    windows = [features(seed=0), features(seed=1), features(seed=2)]
    alone = torch.cat([module(window, FRAMES) for window in windows])
    torch.testing.assert_close(module(torch.cat(windows), FRAMES), alone, atol=1e-5, rtol=1e-5)


def test_a_short_window_takes_the_first_slots() -> None:
    short, long = transformer(FRAMES), transformer(2 * FRAMES)
    torch.testing.assert_close(long(features(), FRAMES), short(features(), FRAMES))


def test_a_block_adds_to_its_input_part_by_part() -> None:
    block, x = transformer().transformer_blocks[0], features().flatten(2).permute(2, 0, 1)
    expected = x
    for attention, norm in zip(block.attention_blocks, block.norms, strict=True):
        expected = expected + attention(attention.project(norm(expected), range(x.shape[1])))
    found = block(x, block.project(x, range(x.shape[1])))
    torch.testing.assert_close(found, expected + block.ff(block.ff_norm(expected)))


def test_a_module_learns_from_input_that_does_not() -> None:
    module = transformer().requires_grad_(True)
    tokens = torch.randn(FRAMES, 15, DIM, generator=torch.Generator().manual_seed(0))
    module(tokens.transpose(1, 2).unflatten(-1, (3, 5)), FRAMES).sum().backward()  # laid out as the heads do
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())


def test_order_in_time_matters_through_the_slots_alone() -> None:
    module, x = transformer(), features()
    assert (module(x.flip(0), FRAMES) - module(x, FRAMES).flip(0)).abs().max() > 1e-3
    for attention in module.transformer_blocks[0].attention_blocks:
        attention.pos_encoder.pe.zero_()
    torch.testing.assert_close(module(x.flip(0), FRAMES), module(x, FRAMES).flip(0), atol=1e-5, rtol=1e-5)


def test_the_slot_reaches_values_too() -> None:
    attention = TimeAttention(DIM, HEADS, LENGTH).requires_grad_(False)
    nothing = torch.zeros(1, 1, DIM)  # one frame attends to itself alone: what comes out is its value
    expected = attention.to_out[0](attention.to_v(attention.pos_encoder.pe[:, :1]))
    torch.testing.assert_close(attention(attention.project(nothing, [0])), expected)


def test_frames_may_be_prepared_one_by_one() -> None:
    module, x = transformer(), features()
    rows = [row for slot in range(FRAMES) for row in module.prepare(x[slot : slot + 1], [slot]).rows()]
    for slots in (None, (FRAMES - 1,)):
        torch.testing.assert_close(module(x, FRAMES, slots, stack_prepared(rows)), module(x, FRAMES, slots))


@pytest.mark.parametrize("asking", [1, 5])
def test_attention_of_short_sequences_is_attention(asking: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (3 * torch.randn(7, HEADS, frames, 6, generator=generator) for frames in (asking, 5, 5))
    shares = torch.softmax(torch.einsum("nhtd,nhsd->nhts", q, k) / math.sqrt(6), dim=-1)
    torch.testing.assert_close(attend_briefly(q, k, v), torch.einsum("nhts,nhsd->nhtd", shares, v))
    torch.testing.assert_close(attend_briefly(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v))


def test_the_second_half_gates_the_first() -> None:
    layer = GatedFeedForward(DIM).requires_grad_(False)
    x = features().flatten(2).mT
    value, gate = layer.net[0].proj(x).split(4 * DIM, dim=-1)
    expected = layer.net[2](value * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2))))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("rows", "frames"), [(LENGTH + 1, LENGTH + 1), (5, 2)])
def test_a_window_too_long_and_broken_windows_are_refused(rows: int, frames: int) -> None:
    with pytest.raises(ValueError, match="use a shorter window or weights with a longer temporal_length"):
        transformer()(features(rows), frames)
