"""What the losses do not see, and what they must."""

import dataclasses

import pytest
import torch
from torch import Tensor

from pomato_ros.training.attention import Watched, attention_loss
from pomato_ros.training.config import NANO_RECIPE, TrainConfig
from pomato_ros.training.flow import flow_loss, patch_flow
from pomato_ros.training.losses import (
    HeadOutput,
    Losses,
    balanced_motion_loss,
    confidence_loss,
    masked_mean,
    mean_distance,
    pointmap_losses,
    swap_order,
)
from pomato_ros.training.targets import Targets

FRAMES, WINDOWS = 3, 2
ROWS = 2 * FRAMES * WINDOWS  # from the key and to the key
SIZE = (4, 5)
NAMES = ("points_1", "points_2", "points_match")
VALIDS = ("valid_1", "valid_2", "valid_match")
EVERYWHERE = torch.ones(ROWS, *SIZE, dtype=torch.bool)
UNWATCHED: Watched = ([], [])
MUTE = (torch.zeros(ROWS, 6, 100), torch.zeros(ROWS, 6, 100))  # tokens, of too few patches to read anything from


def random_points(seed: int) -> Tensor:
    noise = torch.randn(ROWS, *SIZE, 3, generator=torch.Generator().manual_seed(seed))
    return noise + torch.tensor([0.0, 0.0, 4.0])


@pytest.fixture
def targets() -> Targets:
    """Rows whose own-camera maps agree between the two orders, as in a real batch of still cameras."""
    moving = torch.zeros(ROWS, *SIZE, dtype=torch.bool)
    moving[:, :2, :2] = True
    points_1 = random_points(0)
    points_2 = points_1.roll(ROWS // 2, 0)
    points_match = torch.where(moving[..., None], points_2 + 0.3, points_2)
    matches = torch.rand(ROWS, 2, 3, 2, 3, generator=torch.Generator().manual_seed(3))
    return Targets(points_1, points_2, points_match, moving, EVERYWHERE, EVERYWHERE, EVERYWHERE, matches)


@pytest.fixture
def heads() -> list[HeadOutput]:
    conf = torch.rand(3, ROWS, *SIZE, generator=torch.Generator().manual_seed(9)) * 3 + 1.1
    return [HeadOutput(random_points(seed), conf[number]) for number, seed in enumerate((4, 5, 6))]


def losses_of(
    heads: list[HeadOutput], targets: Targets, frames: int = FRAMES, config: TrainConfig = NANO_RECIPE
) -> Losses:
    return pointmap_losses(heads, MUTE, UNWATCHED, targets, frames, True, config)


def scaled(heads: list[HeadOutput], factors: Tensor) -> list[HeadOutput]:
    return [HeadOutput(head.points * factors[:, None, None, None], head.conf) for head in heads]


def assert_equal_losses(one: Losses, other: Losses) -> None:
    for item in dataclasses.fields(Losses):
        torch.testing.assert_close(getattr(one, item.name), getattr(other, item.name), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 0.02, 70.0])
def test_the_truth_in_any_scale_has_no_error(targets: Targets, heads: list[HeadOutput], factor: float) -> None:
    perfect = [HeadOutput(getattr(targets, name) * factor, head.conf) for name, head in zip(NAMES, heads, strict=True)]
    losses = losses_of(perfect, targets)
    for item in dataclasses.fields(Losses):
        if item.name != "total":
            assert getattr(losses, item.name) == pytest.approx(0.0, abs=1e-5)
    reward = sum(0.2 * head.conf.log().mean() for head in heads)
    torch.testing.assert_close(losses.total, -reward)


@pytest.mark.parametrize("frames", [1, FRAMES])
def test_one_factor_on_all_maps_of_a_window_changes_nothing(
    targets: Targets, heads: list[HeadOutput], frames: int
) -> None:
    factors = (torch.rand(ROWS // frames, generator=torch.Generator().manual_seed(1)) * 5 + 0.1).repeat_interleave(
        frames
    )
    assert_equal_losses(losses_of(scaled(heads, factors), targets, frames), losses_of(heads, targets, frames))


def test_factors_that_differ_within_a_window_or_between_heads_are_errors(
    targets: Targets, heads: list[HeadOutput]
) -> None:
    perfect = [HeadOutput(getattr(targets, name), head.conf) for name, head in zip(NAMES, heads, strict=True)]
    within = scaled(perfect, torch.tensor([1.0, 2.0, 3.0]).repeat(ROWS // FRAMES))
    assert losses_of(within, targets).error_1 > 0.05
    between = [*perfect[:2], *scaled(perfect[2:], torch.full((ROWS,), 2.0))]
    assert losses_of(between, targets).error_match > 0.5
    assert losses_of(between, targets).motion > 0.5


def test_the_scale_of_the_truth_does_not_matter_either(targets: Targets, heads: list[HeadOutput]) -> None:
    larger = dataclasses.replace(targets, **{name: getattr(targets, name) * 7 for name in NAMES})
    assert_equal_losses(losses_of(heads, larger), losses_of(heads, targets))


def test_two_heads_learn_without_the_third(targets: Targets, heads: list[HeadOutput]) -> None:
    two, three = losses_of(heads[:2], targets), losses_of(heads, targets)
    assert two.error_match == two.motion == 0
    torch.testing.assert_close(two.error_1, three.error_1)
    torch.testing.assert_close(two.error_2, three.error_2)
    assert three.total > two.total


def test_every_head_and_its_confidence_is_taught(targets: Targets, heads: list[HeadOutput]) -> None:
    for head in heads:
        head.points.requires_grad_()
        head.conf.requires_grad_()
    losses_of(heads, targets).total.backward()
    for head in heads:
        assert (head.points.grad.norm(dim=-1) > 0).all()
        assert (head.conf.grad != 0).all()


def test_reported_errors_are_in_units_of_the_mean_distance(targets: Targets, heads: list[HeadOutput]) -> None:
    # the third map alone, so that the common scale stays: 0.1 of the mean distance to the right
    away = 0.1 * 0.5 * sum(getattr(targets, name).norm(dim=-1).mean() for name in NAMES[:2])
    perfect = [HeadOutput(getattr(targets, name), head.conf) for name, head in zip(NAMES, heads, strict=True)]
    moved = HeadOutput(targets.points_match + torch.tensor([float(away), 0, 0]), heads[2].conf)
    losses = losses_of([*perfect[:2], moved], targets, ROWS)
    assert losses.error_match == pytest.approx(0.1, rel=1e-4)
    assert losses.motion == pytest.approx(0.2, rel=1e-4)  # once for still pixels and once for moving ones
    assert losses.error_1 == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("error", [0.05, 0.1, 0.15])
def test_the_best_confidence_of_an_error_is_its_share_of_alpha(error: float) -> None:
    conf = torch.full((2, *SIZE), 0.2 / error, requires_grad=True)
    confidence_loss(torch.full((2, *SIZE), error), conf, EVERYWHERE[:2], NANO_RECIPE).backward()
    torch.testing.assert_close(conf.grad, torch.zeros_like(conf), atol=1e-7, rtol=0)


def test_few_moving_pixels_weigh_as_much_as_many_still_ones() -> None:
    error, moving = torch.full((10, 10), 0.1), torch.zeros(10, 10, dtype=torch.bool)
    error[0, :4], moving[0, :4] = 0.5, True
    loss = balanced_motion_loss(error, moving, torch.ones_like(moving))
    assert loss == pytest.approx(0.6)
    error, moving = torch.cat((error, error[1:])), torch.cat((moving, moving[1:]))  # more still pixels
    assert balanced_motion_loss(error, moving, torch.ones_like(moving)) == pytest.approx(float(loss))


@pytest.mark.parametrize("moves", [True, False])
def test_a_batch_of_one_kind_has_the_mean_of_that_kind(moves: bool) -> None:
    loss = balanced_motion_loss(torch.full((2, *SIZE), 0.3), torch.full((2, *SIZE), moves), EVERYWHERE[:2])
    assert loss == pytest.approx(0.3)


# --- truth that is not known everywhere


@pytest.fixture
def sparse(targets: Targets) -> Targets:
    """Holes in depth, motion known at a few pixels only, one pair of which nothing is known; what is unknown is 0."""
    generator = torch.Generator().manual_seed(7)
    valid_2 = torch.rand(ROWS, *SIZE, generator=generator) < 0.7
    valid_2[[1, 1 + ROWS // 2]] = False
    valid_1 = swap_order(valid_2)
    valid_match = valid_2 & (torch.rand(ROWS, *SIZE, generator=generator) < 0.4)
    valids = dict(zip(VALIDS, (valid_1, valid_2, valid_match), strict=True))
    points = {
        name: getattr(targets, name) * valid[..., None] for name, valid in zip(NAMES, valids.values(), strict=True)
    }
    return dataclasses.replace(targets, **points, **valids, moving=targets.moving & valid_match)


def spoilt(heads: list[HeadOutput], targets: Targets) -> list[HeadOutput]:
    """Other predictions wherever there is no truth."""
    changed = []
    for seed, (head, name) in enumerate(zip(heads, VALIDS, strict=True)):
        valid = getattr(targets, name)
        points = torch.where(valid[..., None], head.points, 10 * random_points(20 + seed))
        changed.append(HeadOutput(points, torch.where(valid, head.conf, 50.0)))
    return changed


@pytest.mark.parametrize("config", [NANO_RECIPE, dataclasses.replace(NANO_RECIPE, confidence_weighs_error=True)])
def test_what_is_predicted_where_there_is_no_truth_does_not_matter(
    sparse: Targets, heads: list[HeadOutput], config: TrainConfig
) -> None:
    # the third map may be known less than the second, which the losses on both then read at fewer pixels
    assert_equal_losses(
        losses_of(spoilt(heads, sparse), sparse, config=config), losses_of(heads, sparse, config=config)
    )


def test_the_truth_has_no_error_where_only_some_is_known(sparse: Targets, heads: list[HeadOutput]) -> None:
    perfect = [HeadOutput(getattr(sparse, name) * 3, head.conf) for name, head in zip(NAMES, heads, strict=True)]
    losses = losses_of(perfect, sparse)
    for item in dataclasses.fields(Losses):
        if item.name != "total":
            assert getattr(losses, item.name) == pytest.approx(0.0, abs=1e-5)


def test_a_batch_of_which_nothing_is_known_teaches_nothing(sparse: Targets, heads: list[HeadOutput]) -> None:
    unknown = torch.zeros_like(EVERYWHERE)
    empty = dataclasses.replace(sparse, moving=unknown, **dict.fromkeys(VALIDS, unknown))
    for head in heads:
        head.points.requires_grad_()
        head.conf.requires_grad_()
    losses = losses_of(heads, empty)
    assert losses.total == 0
    losses.total.backward()
    for head in heads:
        assert not head.points.grad.any()
        assert not head.conf.grad.any()


def test_means_are_over_known_pixels_of_a_pair_and_then_over_pairs(sparse: Targets) -> None:
    values = torch.rand(ROWS, *SIZE, generator=torch.Generator().manual_seed(1))
    means = [row[valid].mean() for row, valid in zip(values, sparse.valid_2, strict=True) if valid.any()]
    assert len(means) == ROWS - 2
    torch.testing.assert_close(masked_mean(values, sparse.valid_2), torch.stack(means).mean())


@pytest.mark.parametrize("frames", [1, FRAMES])
def test_the_scale_of_a_window_is_the_mean_over_all_its_known_points(sparse: Targets, frames: int) -> None:
    found = mean_distance(sparse.points_1, sparse.points_2, sparse.valid_1, sparse.valid_2, frames)
    for first in range(0, ROWS, frames):
        rows = slice(first, first + frames)
        known = torch.cat((sparse.points_1[rows][sparse.valid_1[rows]], sparse.points_2[rows][sparse.valid_2[rows]]))
        expected = known.norm(dim=-1).mean() if len(known) else torch.tensor(1.0)
        torch.testing.assert_close(found[rows].flatten(), expected.expand(frames))


# --- the paper's terms


def test_a_window_is_compared_in_its_own_scale_and_in_that_of_each_pair(
    targets: Targets, heads: list[HeadOutput]
) -> None:
    def total(share: float, frames: int = FRAMES) -> Tensor:
        config = dataclasses.replace(NANO_RECIPE, pair_scale_share=share, ego_weight=0.0, motion_weight=0.0)
        return losses_of(heads, targets, frames, config).total

    assert (total(1.0) - total(0.0)).abs() > 1e-3
    torch.testing.assert_close(total(0.25), 0.25 * total(1.0) + 0.75 * total(0.0))
    torch.testing.assert_close(total(1.0), total(0.5, frames=1))  # pairs have one scale


def test_the_papers_confidence_weighs_the_gradient_of_the_error() -> None:
    config = dataclasses.replace(NANO_RECIPE, confidence_weighs_error=True)
    conf = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0)) + 1.5
    error = torch.full((2, *SIZE), 0.3, requires_grad=True)
    loss = confidence_loss(error, conf, EVERYWHERE[:2], config)
    loss.backward()
    torch.testing.assert_close(loss, (conf * error - 0.2 * conf.log()).mean())
    torch.testing.assert_close(error.grad, conf / conf.numel())


def test_pairs_in_one_order_have_no_camera_motion_to_compare(targets: Targets, heads: list[HeadOutput]) -> None:
    losses = pointmap_losses(heads, MUTE, UNWATCHED, targets, FRAMES, False, NANO_RECIPE)
    both = losses_of(heads, targets)
    assert losses.ego == 0 < both.ego
    rest = NANO_RECIPE.ego_weight * both.ego + NANO_RECIPE.flow_weight * (both.flow - losses.flow)
    torch.testing.assert_close(losses.total, both.total - rest)


@pytest.mark.parametrize("both_orders", [True, False])
def test_attention_of_both_views_is_led_where_both_orders_say_where_to(
    targets: Targets, heads: list[HeadOutput], both_orders: bool
) -> None:
    noise = torch.randn(2, ROWS, 6, 6, generator=torch.Generator().manual_seed(2)).softmax(-1)
    attention = ([noise[0]], [noise[1]])
    losses = pointmap_losses(heads, MUTE, attention, targets, FRAMES, both_orders, NANO_RECIPE)
    matches = targets.patch_matches.reshape(ROWS, 6, 6)
    expected = attention_loss(attention[1], matches)
    if both_orders:
        expected = 0.5 * (expected + attention_loss(attention[0], swap_order(matches)))
    torch.testing.assert_close(losses.attention, expected)
    without = pointmap_losses(heads, MUTE, UNWATCHED, targets, FRAMES, both_orders, NANO_RECIPE)
    torch.testing.assert_close(losses.total - without.total, NANO_RECIPE.attention_weight * expected)


@pytest.mark.parametrize("both_orders", [True, False])
def test_flow_is_asked_of_both_decoders_where_both_orders_say_which(
    targets: Targets, heads: list[HeadOutput], both_orders: bool
) -> None:
    tokens = torch.randn(2, ROWS, 6, 4, generator=torch.Generator().manual_seed(8))
    losses = pointmap_losses(heads, (tokens[0], tokens[1]), UNWATCHED, targets, FRAMES, both_orders, NANO_RECIPE)
    flow, known = patch_flow(targets.patch_matches)
    expected = flow_loss(tokens[1], flow, known)
    if both_orders:
        expected = 0.5 * (expected + flow_loss(tokens[0], swap_order(flow), swap_order(known)))
    torch.testing.assert_close(losses.flow, expected)
