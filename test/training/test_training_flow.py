"""The loss that reads motion from tokens, against motions that are known."""

import pytest
import torch
from torch import Tensor

from pomato_ros.training.flow import flow_loss, patch_flow
from pomato_ros.training.targets import share_patches

PATCH, ROWS, COLUMNS = 16, 4, 6
PAIRS, TOKENS, CHANNELS = 40, 20, 8


def shifted_matches(x: float, y: float) -> Tensor:
    """Shares of a view that moved as a whole."""
    rows, columns = torch.meshgrid(torch.arange(ROWS * PATCH), torch.arange(COLUMNS * PATCH), indexing="ij")
    pixels = torch.stack((columns + x, rows + y), dim=-1).float()
    sizes = torch.tensor([COLUMNS * PATCH - 1, ROWS * PATCH - 1])
    seen = ((pixels >= 0) & (pixels <= sizes)).all(dim=-1)
    return share_patches(pixels, seen, PATCH)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -5.0), (-20.0, 9.0), (33.0, 2.0)])
def test_the_flow_of_an_image_that_moved_as_a_whole_is_that_motion(shift: tuple[float, float]) -> None:
    flow, known = patch_flow(shifted_matches(*shift)[None])
    assert flow.shape == (1, ROWS * COLUMNS, 2)
    assert known.any()
    whole = shifted_matches(*shift).flatten(2).sum(-1).flatten() > 0.999  # patches that the other view sees all of
    torch.testing.assert_close(flow[0][whole], torch.tensor(shift).expand(int(whole.sum()), 2) / PATCH)


def test_patches_that_the_other_view_hardly_sees_are_not_asked() -> None:
    _, known = patch_flow(shifted_matches(0.75 * PATCH, 0.0)[None])
    assert not known.view(ROWS, COLUMNS)[:, -1].any()
    assert known.view(ROWS, COLUMNS)[:, :-1].all()


def random_flow(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    flow = torch.randn(PAIRS, TOKENS, 2, generator=generator)
    known = torch.rand(PAIRS, TOKENS, generator=generator) < 0.8
    return flow, known, torch.randn(PAIRS, TOKENS, CHANNELS, generator=generator)


def test_tokens_that_hold_the_flow_linearly_have_almost_no_error_and_others_no_sense() -> None:
    flow, known, noise = random_flow()
    mixing = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(7))
    assert flow_loss(10 * flow @ mixing + 3.0, flow, known) < 0.05
    assert 0.95 < flow_loss(noise, flow, known) < 1.2


def test_what_one_half_of_the_pairs_cannot_say_for_the_other_does_not_count() -> None:
    """Tokens that hold the flow by another rule in every second pair."""
    flow, known, _ = random_flow()
    rules = torch.randn(2, 2, CHANNELS, generator=torch.Generator().manual_seed(7))
    tokens = torch.stack([flow[pair] @ rules[pair % 2] for pair in range(PAIRS)])
    assert flow_loss(tokens, flow, known) > 0.5


def test_unknown_patches_change_nothing() -> None:
    flow, known, noise = random_flow()
    before = flow_loss(noise, flow, known)
    flow[~known], noise[~known] = 1e6, -1e6
    torch.testing.assert_close(flow_loss(noise, flow, known), before)


def test_following_the_gradient_lessens_the_error() -> None:
    flow, known, noise = random_flow()
    mixing = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(7))
    tokens = (noise + 0.5 * flow @ mixing).requires_grad_()
    before = flow_loss(tokens, flow, known)
    (gradient,) = torch.autograd.grad(before, tokens)
    assert flow_loss(tokens - 0.1 * gradient / gradient.norm(), flow, known) < before


def test_too_few_patches_to_tell_ask_for_nothing() -> None:
    flow, known, noise = random_flow()
    assert (
        flow_loss(noise[:, :1].requires_grad_(), flow[:, :1], known[:, :1] & (torch.arange(PAIRS) < 10)[:, None]) == 0
    )


def test_views_between_which_nothing_moved_do_not_outweigh_all_others() -> None:
    flow, known, noise = random_flow()
    flow[1::2] = 0.0
    assert flow_loss(noise, flow, known) < 50.0
