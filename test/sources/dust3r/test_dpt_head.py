"""The dense head: which tokens it reads, the sizes it gives, and how raw values become points."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.dpt_head import PointmapHead, ResidualUnit, activate, upsample_twice
from pomato_ros.sources.dust3r.pomato import Pomato

GRIDS = [(4, 6), (3, 5), (5, 2), (1, 1), (7, 4)]
FRAMES = 3


@pytest.fixture(scope="module")
def head(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> PointmapHead:
    return make_network(tiny_config).downstream_head1


def token_list(config: NetworkConfig, grid: tuple[int, int], rows: int = FRAMES, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    widths = [config.enc_embed_dim] + [config.dec_embed_dim] * config.dec_depth
    return [torch.randn(rows, grid[0] * grid[1], width, generator=generator) for width in widths]


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_gives_an_image_of_whole_patches(
    head: PointmapHead, tiny_config: NetworkConfig, grid: tuple[int, int]
) -> None:
    points, conf = head(token_list(tiny_config, grid), grid, FRAMES)
    assert points.shape == (FRAMES, 16 * grid[0], 16 * grid[1], 3)
    assert conf.shape == points.shape[:-1]
    assert torch.isfinite(points).all()


@pytest.mark.parametrize("grid", GRIDS[:3])
@pytest.mark.parametrize("slots", [(2, 0), (1,)])
@pytest.mark.parametrize("temporal", [True, False])
def test_some_frames_are_those_rows_of_the_whole(
    make_network: Callable[..., Pomato],
    tiny_config: NetworkConfig,
    grid: tuple[int, int],
    slots: tuple[int, ...],
    temporal: bool,
) -> None:
    config = tiny_config if temporal else dataclasses.replace(tiny_config, temporal_length=0)
    head = make_network(config).downstream_head1
    tokens = token_list(tiny_config, grid, 2 * FRAMES)
    whole = head.dpt(tokens, grid, FRAMES).unflatten(0, (2, FRAMES))[:, list(slots)].flatten(0, 1)
    some = head.dpt(tokens, grid, FRAMES, slots=slots)
    torch.testing.assert_close(some, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_coarse_pointmap_has_a_row_for_every_stride_th_pixel(
    make_network: Callable[..., Pomato], tiny_config: NetworkConfig, stride: int
) -> None:
    head = make_network(tiny_config).downstream_head1.requires_grad_(True)
    tokens = token_list(tiny_config, (3, 5))
    points, conf = head(tokens, (3, 5), FRAMES, stride)
    assert points.shape == (FRAMES, 48 // stride, 80 // stride, 3)
    assert conf.shape == points.shape[:-1]
    points.sum().backward()  # and every layer takes part
    silent = [name for name, value in head.named_parameters() if value.grad is None or not value.grad.any()]
    assert all(name.startswith("dpt.scratch.refinenet4.resConfUnit1.") for name in silent)  # never used by anyone


def test_only_the_hooked_depths_are_read(head: PointmapHead, tiny_config: NetworkConfig) -> None:
    depth = tiny_config.dec_depth
    hooks = {0, depth // 2, 3 * depth // 4, depth}
    tokens, other = token_list(tiny_config, (3, 4)), token_list(tiny_config, (3, 4), seed=1)
    whole = head.dpt(tokens, (3, 4), FRAMES)
    for number in range(depth + 1):
        changed = [*tokens[:number], other[number], *tokens[number + 1 :]]
        differs = not torch.equal(head.dpt(changed, (3, 4), FRAMES), whole)
        assert differs == (number in hooks)


def test_without_motion_modules_frames_know_nothing_of_each_other(
    head: PointmapHead, tiny_config: NetworkConfig, make_network: Callable[..., Pomato]
) -> None:
    tokens = token_list(tiny_config, (2, 3))
    alone = torch.cat([head.dpt([part[t : t + 1] for part in tokens], (2, 3), 0) for t in range(FRAMES)])
    torch.testing.assert_close(head.dpt(tokens, (2, 3), 0), alone)
    assert (head.dpt(tokens, (2, 3), FRAMES) - alone).abs().max() > 1e-3
    pairwise = make_network(dataclasses.replace(tiny_config, temporal_length=0)).downstream_head1
    assert not pairwise.dpt.is_temporal
    torch.testing.assert_close(pairwise.dpt(tokens, (2, 3), FRAMES), pairwise.dpt(tokens, (2, 3), 0))


def test_the_deepest_fusion_has_no_second_input(head: PointmapHead, tiny_config: NetworkConfig) -> None:
    tokens = token_list(tiny_config, (2, 3))
    before = head.dpt(tokens, (2, 3), FRAMES)
    unused = head.dpt.scratch.refinenet4.resConfUnit1
    kept = [parameter.clone() for parameter in unused.parameters()]
    for parameter in unused.parameters():
        parameter.fill_(torch.nan)
    after = head.dpt(tokens, (2, 3), FRAMES)
    for parameter, value in zip(unused.parameters(), kept, strict=True):
        parameter.copy_(value)
    assert torch.equal(after, before)


def test_the_four_projections_are_one_set_under_two_names(head: PointmapHead) -> None:
    scratch = head.dpt.scratch
    for number in range(4):
        assert scratch.layer_rn[number].weight is scratch.get_submodule(f"layer{number + 1}_rn").weight


def test_a_residual_unit_keeps_its_input_and_adds_two_activated_convolutions() -> None:
    unit = ResidualUnit(3).requires_grad_(False)
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = x + unit.conv2(unit.conv1(x.clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(unit(x), expected)


def test_upsampling_keeps_corners_and_straight_lines() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 3), torch.linspace(0, 1, 5), indexing="ij")
    plane = (2 * x - 3 * y + 1)[None, None]
    y, x = torch.meshgrid(torch.linspace(0, 1, 6), torch.linspace(0, 1, 10), indexing="ij")
    torch.testing.assert_close(upsample_twice(plane), (2 * x - 3 * y + 1)[None, None])


def raw_output(vectors: Tensor, logit: float = 0.0) -> Tensor:
    """(n, 3) vectors as a raw output (1, 4, 1, n)."""
    return torch.cat((vectors, torch.full_like(vectors[:, :1], logit)), dim=1).T[None, :, None]


def test_points_keep_their_direction_and_have_the_length_of_an_exponential() -> None:
    vectors = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 0.5, 50)[:, None]
    points = activate(raw_output(vectors))[0][0, 0]
    torch.testing.assert_close(points.norm(dim=-1), torch.expm1(vectors.norm(dim=-1)))
    torch.testing.assert_close(points / points.norm(dim=-1, keepdim=True), vectors / vectors.norm(dim=-1, keepdim=True))


def test_a_zero_vector_is_the_origin_and_has_a_gradient() -> None:
    raw = raw_output(torch.zeros(1, 3)).requires_grad_()
    points, conf = activate(raw)
    assert torch.equal(points, torch.zeros(1, 1, 1, 3))
    (points.sum() + conf.sum()).backward()
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize("logit", [-10.0, 0.0, 3.0])
def test_confidence_is_above_one_by_the_exponential_of_its_value(logit: float) -> None:
    conf = activate(raw_output(torch.ones(1, 3), logit))[1]
    assert conf.item() == pytest.approx(1 + torch.tensor(logit).exp().item())
    assert conf.item() > 1


def test_values_are_computed_in_single_precision_whatever_comes() -> None:
    points, conf = activate(raw_output(torch.full((1, 3), 9.0)).bfloat16())
    assert points.dtype is conf.dtype is torch.float32
    assert torch.isfinite(points).all()
