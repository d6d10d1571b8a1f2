import pytest

from pomato_ros.evaluation.sequences import SEED_OFFSET, plan_sequences, render_sequences


def test_sequences_have_whole_patches_and_seeds_of_their_own() -> None:
    plan = plan_sequences(3 << 30, 160, 16)
    assert plan.size_wh == (160, 112)
    assert plan.sequences >= 16
    assert plan.first_seed == (3 << 30) + SEED_OFFSET


def test_rendered_sequences_follow_the_plan() -> None:
    plan = plan_sequences(100, 48, 16, sequences=2, frames=3)
    rendered = list(render_sequences(plan))
    assert [seed for seed, _ in rendered] == [100 + SEED_OFFSET, 101 + SEED_OFFSET]
    assert all(clip.images.shape == (3, 32, 48, 3) for _, clip in rendered)
    assert not (rendered[0][1].images == rendered[1][1].images).all()


def test_a_size_without_whole_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two patches"):
        plan_sequences(0, 8, 16)
