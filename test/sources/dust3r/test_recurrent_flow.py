"""RAFT's pieces by their definitions, at pixels where they can be counted by hand."""

import math

import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.flow_head import FlowHead, patch_places
from pomato_ros.sources.dust3r.recurrent_flow import (
    all_pairs,
    flow_sigma,
    laplace_loss,
    look_up,
    pyramid,
    upsample_bilinearly,
    upsample_convexly,
)


def test_a_look_up_reads_the_window_about_each_place_with_x_slow_and_zero_outside() -> None:
    volume = torch.arange(48.0).reshape(1, 1, 1, 6, 8)
    places = torch.tensor([3.0, 2.0]).reshape(1, 2, 1, 1)
    read = look_up(pyramid(volume, 1), places, 1)[0, :, 0, 0]
    expected = [volume[0, 0, 0, y, x].item() for x in (2, 3, 4) for y in (1, 2, 3)]
    assert read.tolist() == pytest.approx(expected)
    corner = look_up(pyramid(volume, 1), torch.zeros(1, 2, 1, 1), 1)[0, :, 0, 0]
    assert corner.tolist() == pytest.approx([0, 0, 0, 0, 0, 8, 0, 1, 9], abs=1e-5)


def test_levels_stop_before_they_are_less_than_a_cell_and_none_is_nan() -> None:
    volume = all_pairs(torch.randn(1, 4, 3, 5), torch.randn(1, 4, 3, 5))
    levels = pyramid(volume, 4)
    assert [tuple(level.shape[-2:]) for level in levels] == [(3, 5), (1, 2)]
    assert look_up(levels, patch_places((3, 5), volume), 2).isfinite().all()


def test_convex_shares_that_name_one_neighbour_shift_the_flow() -> None:
    flow = torch.randn(1, 2, 4, 5)
    logits = torch.full((1, 9, 2, 2, 4, 5), -1e9)
    logits[:, 5] = 0  # the neighbour to the right
    fine = upsample_convexly(flow, logits.reshape(1, -1, 4, 5), 2)
    for row in (0, 1):
        torch.testing.assert_close(fine[:, :, row::2, 0:-2:2], 2 * flow[..., 1:])
    constant = torch.full((1, 2, 4, 5), 3.0)
    torch.testing.assert_close(upsample_bilinearly(constant, 2), torch.full((1, 2, 8, 10), 6.0))


def test_one_laplace_alone_is_its_density_and_its_spread() -> None:
    info = torch.tensor([50.0, -50.0, 1.0, 0.0]).reshape(1, 4, 1, 1)
    flow, truth = torch.zeros(1, 2, 1, 1), torch.tensor([0.5, -2.0]).reshape(1, 2, 1, 1)
    spread = math.e
    expected = [math.log(2 * spread) + abs(d) / spread for d in (0.5, 2.0)]
    assert laplace_loss(flow, truth, info).flatten().tolist() == pytest.approx(expected)
    assert flow_sigma(info).item() == pytest.approx(math.sqrt(2) * spread)


def test_the_mixtures_density_sums_to_one() -> None:
    info = torch.tensor([0.3, -0.4, 0.7, -3.0], dtype=torch.float64).reshape(1, 4, 1, 1)
    steps = torch.linspace(-60, 60, 60001, dtype=torch.float64)
    truth = steps.repeat(2, 1)[None, :, None]
    zeros = torch.zeros_like(truth)
    density = (-laplace_loss(zeros, truth, info.expand(1, 4, 1, 60001), small=(-5.0, 0.0))).exp()
    torch.testing.assert_close(
        torch.trapezoid(density[0, 0, 0], steps), torch.ones((), dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_the_head_learns_the_flow_of_one_pair(tiny_config: NetworkConfig) -> None:
    torch.manual_seed(0)
    head = FlowHead(tiny_config)
    tokens = {tiny_config.dec_depth: torch.randn(1, 12, 16), tiny_config.dec_depth + 1: torch.randn(1, 12, 12)}
    truth = torch.tensor([6.0, -3.0]).reshape(1, 2, 1, 1).expand(1, 2, 48, 64)
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        raw = head.raw(tokens, (3, 4), 1)
        loss = laplace_loss(raw[:, :2], truth, raw[:, 2:]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
