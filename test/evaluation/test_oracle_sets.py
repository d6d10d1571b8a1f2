"""Each set of scenes is what its name says."""

import numpy as np
import pytest
import torch

from pomato_ros.evaluation import oracle_sets
from pomato_ros.evaluation.oracle_sets import MAJORITY, MAJORITY_FRAMES, draw_sequence, oracle_sequences, plan_oracle
from pomato_ros.evaluation.sequences import SEED_OFFSET

PLAN = plan_oracle(3 << 30, (32, 32), sequences=2, frames=24)


def test_where_nothing_moves_nothing_does() -> None:
    (sequence,) = oracle_sequences(PLAN, ("nothing",))
    assert float(oracle_sets.moving_shares(sequence.clip).max()) == 0.0
    assert float((sequence.clip.world_from_camera[0] - sequence.clip.world_from_camera[-1]).norm()) > 0.01


def test_where_most_moves_it_does_for_long_enough() -> None:
    (sequence,) = oracle_sequences(PLAN, ("majority",))
    shares = oracle_sets.moving_shares(sequence.clip)
    assert float((shares > MAJORITY).float().mean()) > 0.5 * MAJORITY_FRAMES


def test_a_camera_that_stands_still_does_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle_sets, "STILL_SECONDS", 2)
    (sequence,) = oracle_sequences(PLAN, ("still",))
    clip = sequence.clip
    assert len(clip) == 20
    assert clip.stamps_ns[10] - clip.stamps_ns[0] == pytest.approx(1e9, rel=1e-6)
    assert float((clip.world_from_camera - clip.world_from_camera[0]).abs().max()) < 1e-6


def test_blind_frames_are_noise_and_the_others_are_not() -> None:
    sequence = draw_sequence("blind", 7, PLAN)
    seen = draw_sequence("ordinary", 7, PLAN).clip
    assert len(sequence.blind) == oracle_sets.BLIND_FRAMES
    assert 0 < sequence.blind.start < sequence.blind.stop < PLAN.frames
    for t in range(PLAN.frames):
        same = torch.equal(sequence.clip.images[t], seen.images[t])
        assert same is (t not in sequence.blind)
    torch.testing.assert_close(sequence.clip.depth_m, seen.depth_m)


def test_sets_share_no_seed_and_all_are_held_out() -> None:
    firsts = [next(iter(oracle_sequences(PLAN, (kind,)))).seed for kind in ("ordinary", "nothing", "blind")]
    assert len(set(firsts)) == 3
    assert min(firsts) >= (3 << 30) + SEED_OFFSET
    assert np.diff(sorted(firsts)).min() > 10_000


def test_every_set_has_a_sequence_however_few_are_asked_for() -> None:
    assert set(oracle_sets.planned(plan_oracle(0, (32, 32), 1)).values()) == {1}
    assert oracle_sets.planned(plan_oracle(0, (32, 32))) == {
        "ordinary": 64,
        "nothing": 16,
        "majority": 16,
        "still": 4,
        "blind": 16,
    }


def test_worlds_without_a_majority_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle_sets, "MAJORITY_MOVES", oracle_sets.NOTHING_MOVES)
    monkeypatch.setattr(oracle_sets, "MOST_TRIES", 2)
    with pytest.raises(ValueError, match="moving majority"):
        next(iter(oracle_sequences(PLAN, ("majority",))))
