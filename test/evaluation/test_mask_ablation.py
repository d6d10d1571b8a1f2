"""The ablation: replays are the engine's own masks, every part does something, and counts are those of the trial."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation.mask_ablation import (
    ALL,
    KINDS,
    MEANINGS,
    PAPER,
    SCORES,
    MaskTape,
    ablate_mask,
    ablation_table,
    record_mask,
    replay,
    replay_paper,
    summarise_ablation,
    variants,
)
from pomato_ros.evaluation.oracle import pointmap_engine
from pomato_ros.evaluation.oracle_noise import NoisyOracle
from pomato_ros.evaluation.oracle_sets import NOTHING_MOVES, OracleSequence
from pomato_ros.evaluation.oracle_trial import frame_with_depth, record_run
from pomato_ros.pointmap_scene.moving import MaskParts
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES, SIZE_WH = 12, (128, 96)
CONFIG = PomatoConfig().with_values({"window_size": 6, "overlap": 2, "scale_source": "depth"})


def engine_for(sequence: OracleSequence) -> Engine:
    return pointmap_engine(CONFIG, NoisyOracle(sequence.clip, seed=sequence.seed, blind=sequence.blind))


@pytest.fixture(scope="module")
def moving() -> OracleSequence:
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0)
    return OracleSequence("ordinary", 5, render_clip(5, world, FRAMES, SIZE_WH))


@pytest.fixture(scope="module")
def tape(moving: OracleSequence) -> MaskTape:
    return record_mask(engine_for(moving), moving)


def test_a_replay_with_all_parts_is_what_the_engine_said(moving: OracleSequence, tape: MaskTape) -> None:
    run = record_run(engine_for(moving), moving, frame_with_depth)
    assert run.moving.any()
    np.testing.assert_array_equal(replay(tape, MaskParts()), run.moving)


def test_a_replay_says_nothing_while_the_engine_is_lost(moving: OracleSequence) -> None:
    blind = dataclasses.replace(moving, kind="blind", blind=range(5, 8))
    run = record_run(engine_for(blind), blind, frame_with_depth)
    lost = record_mask(engine_for(blind), blind)
    assert any(lost.forgotten)
    np.testing.assert_array_equal(replay(lost, MaskParts()), run.moving)


def test_each_part_can_be_left_out_and_does_something(tape: MaskTape) -> None:
    whole = replay(tape, MaskParts())
    assert set(variants()) | {PAPER} == set(MEANINGS)
    for name, parts in variants().items():
        assert sum(not getattr(parts, item.name) for item in dataclasses.fields(parts)) == (name != ALL)
    differs = [name for name, parts in variants().items() if (replay(tape, parts) != whole).any()]
    # the others need larger movers or emptier scenes than this one's
    assert {"confidence", "medians", "own_motion", "memory", "hysteresis"} <= set(differs)
    assert ALL not in differs


def test_the_papers_rule_flags_a_tail_where_nothing_moves() -> None:
    still = OracleSequence("nothing", 3, render_clip(3, NOTHING_MOVES, 8, SIZE_WH))
    given = record_mask(engine_for(still), still)
    assert replay_paper(given).mean() > 0.01
    assert replay(given, MaskParts()).mean() < 0.002


def test_the_table_and_the_object_have_every_variant(moving: OracleSequence) -> None:
    sequences = [dataclasses.replace(moving, kind=kind) for kind in KINDS]
    told = []
    scores = ablate_mask(engine_for, sequences, lambda: told.append(1))
    assert len(told) == len(KINDS)
    summary = summarise_ablation(scores)
    assert len(summary) == len(MEANINGS) * len(SCORES)
    assert {"mask_iou", "without_memory_mask_iou_majority", "paper_mask_false_positive"} <= set(summary)
    assert all(0.0 <= value <= 1.0 for value in summary.values() if value is not None)
    assert ablation_table(scores).row_count == len(MEANINGS)
