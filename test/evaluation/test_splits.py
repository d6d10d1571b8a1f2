"""Splits are worlds of their own under seeds of their own; ``same`` is what it always was."""

import pytest
import torch

from pomato_ros.evaluation.oracle_sets import moving_shares
from pomato_ros.evaluation.sequences import plan_sequences, render_sequences
from pomato_ros.evaluation.splits import EVERY_SPLIT, SPLIT_STRIDE, SPLITS, plan_split, split_names
from pomato_ros.synthetic.world import RICH_WORLD, TRAIN_WORLD

HELD_OUT_SEED = 3 << 30


def test_same_is_the_plan_of_before() -> None:
    plan = plan_split("same", HELD_OUT_SEED, 128, 16, 5, 13)
    assert plan == plan_sequences(HELD_OUT_SEED, 128, 16, 5, 13)
    assert plan.world == TRAIN_WORLD
    assert (plan.first_seed, plan.size_wh) == (HELD_OUT_SEED + 1000, (128, 96))


def test_no_two_splits_share_a_seed_and_all_are_held_out() -> None:
    firsts = [plan_split(name, HELD_OUT_SEED, 128, 16).first_seed for name in SPLITS]
    assert all(later - earlier == SPLIT_STRIDE for earlier, later in zip(firsts, firsts[1:], strict=False))
    assert firsts[0] >= HELD_OUT_SEED
    assert firsts[-1] + SPLIT_STRIDE < 1 << 32  # the generator reads no more


@pytest.mark.parametrize("trained", [TRAIN_WORLD, RICH_WORLD])
def test_the_other_worlds_are_none_that_training_draws_from(trained: object) -> None:
    others = [world for name, world in SPLITS.items() if name != "same"]
    assert all(world != trained for world in others)
    assert len({repr(world) for world in others}) == len(others) == 3


def test_other_looks_share_no_shape_and_no_texture_with_training() -> None:
    looks = SPLITS["looks"]
    assert looks.models
    assert looks.textures
    assert not set(looks.models) & set(RICH_WORLD.models)
    assert not set(looks.textures) & set(RICH_WORLD.textures)


def test_most_of_the_image_moves_where_the_split_says_so() -> None:
    plan = plan_split("majority", HELD_OUT_SEED, 32, 16, sequences=1, frames=6)
    shares = torch.stack([moving_shares(clip).mean() for _, clip in render_sequences(plan)])
    assert float(shares.mean()) > 0.4  # the world itself looks at three frames of a smaller image


def test_names_stand_for_one_split_or_for_all() -> None:
    assert split_names("looks") == ("looks",)
    assert split_names(EVERY_SPLIT) == tuple(SPLITS) == ("same", "looks", "driving", "majority")
    with pytest.raises(ValueError, match="same, looks, driving, majority, all, got 'night'"):
        split_names("night")
