"""What the losses do not see, and what they must."""

import dataclasses

import pytest
import torch
from torch import Tensor

from pomato_ros.training.losses import (
    HeadOutput,
    Losses,
    balanced_motion_loss,
    confidence_loss,
    pointmap_losses,
)
from pomato_ros.training.samples import Targets

FRAMES, WINDOWS = 3, 2
ROWS = 2 * FRAMES * WINDOWS  # from the key and to the key
SIZE = (4, 5)
NAMES = ("points_1", "points_2", "points_match")


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
    return Targets(points_1, points_2, torch.where(moving[..., None], points_2 + 0.3, points_2), moving)


@pytest.fixture
def heads() -> list[HeadOutput]:
    conf = torch.rand(3, ROWS, *SIZE, generator=torch.Generator().manual_seed(9)) * 3 + 1.1
    return [HeadOutput(random_points(seed), conf[number]) for number, seed in enumerate((4, 5, 6))]


def losses_of(heads: list[HeadOutput], targets: Targets, frames: int = FRAMES, alpha: float = 0.2) -> Losses:
    return pointmap_losses(heads, targets, frames, alpha, 1.0, 1.0)


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
    larger = Targets(*(getattr(targets, name) * 7 for name in NAMES), targets.moving)
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
    confidence_loss(torch.full((2, *SIZE), error), conf, 0.2).backward()
    torch.testing.assert_close(conf.grad, torch.zeros_like(conf), atol=1e-7, rtol=0)


def test_few_moving_pixels_weigh_as_much_as_many_still_ones() -> None:
    error, moving = torch.full((10, 10), 0.1), torch.zeros(10, 10, dtype=torch.bool)
    error[0, :4], moving[0, :4] = 0.5, True
    loss = balanced_motion_loss(error, moving)
    assert loss == pytest.approx(0.6)
    twice = balanced_motion_loss(torch.cat((error, error[1:])), torch.cat((moving, moving[1:])))  # more still pixels
    assert twice == pytest.approx(float(loss))


@pytest.mark.parametrize("moves", [True, False])
def test_a_batch_of_one_kind_has_the_mean_of_that_kind(moves: bool) -> None:
    loss = balanced_motion_loss(torch.full((2, *SIZE), 0.3), torch.full((2, *SIZE), moves))
    assert loss == pytest.approx(0.3)
