"""Recipes: how steps fall into stages, and what every preset must keep to."""

import dataclasses

import pytest
import torch

from pomato_ros.config import FULL_TEMPORAL, NetworkConfig
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.training.config import HELD_OUT_SEED, PRESETS, Frozen, Task, TrainConfig, scaled_to

EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())


def test_every_step_belongs_to_one_stage_in_order(recipe: TrainConfig) -> None:
    places = [recipe.locate(step) for step in range(recipe.total_steps)]
    assert places == [(number, local) for number, stage in enumerate(recipe.stages) for local in range(stage.steps)]
    assert all(recipe.stage_at(step) is recipe.stages[number] for step, (number, _) in enumerate(places))


def test_a_step_beyond_the_end_is_an_error(recipe: TrainConfig) -> None:
    with pytest.raises(IndexError, match="the run has 9 steps"):
        recipe.locate(recipe.total_steps)


@pytest.mark.parametrize(("share", "steps"), [(0.7, 2), (2.0, 6), (0.01, 1)])
def test_a_scaled_recipe_keeps_its_stages(recipe: TrainConfig, share: float, steps: int) -> None:
    scaled = scaled_to(recipe, share)
    assert [stage.steps for stage in scaled.stages] == [steps] * len(recipe.stages)
    assert [stage.name for stage in scaled.stages] == [stage.name for stage in recipe.stages]


@EVERY_PRESET
def test_a_preset_fits_its_network_and_its_clips(preset: TrainConfig) -> None:
    patch = preset.network.patch_size
    assert all(side % patch == 0 for shape in preset.shapes for side in shape.size_wh)
    for stage in preset.stages:
        assert 2 <= min(stage.window_frames) <= max(stage.window_frames) <= stage.clip_frames
        assert stage.pairwise or max(stage.window_frames) <= preset.network.temporal_length


@EVERY_PRESET
def test_training_never_draws_a_held_out_scene(preset: TrainConfig) -> None:
    # the places that the seed of a clip is made of, and that none spills into the next
    most_new = max(stage.new_clips for stage in preset.stages)
    assert most_new * preset.total_steps + max(stage.clips + stage.windows for stage in preset.stages) < 1 << 20
    assert len(preset.shapes) <= 1 << 4
    assert max(stage.clip_frames for stage in preset.stages) < 1 << 6
    assert (preset.seed + 1) << 30 <= HELD_OUT_SEED


@pytest.mark.parametrize("seed", [-1, 3])
def test_a_seed_whose_scenes_are_held_out_is_refused(recipe: TrainConfig, seed: int) -> None:
    with pytest.raises(ValueError, match=f"expected a seed of 0, 1 or 2, got {seed}"):
        dataclasses.replace(recipe, seed=seed)


@EVERY_PRESET
def test_the_matching_head_learns_from_some_stage_to_the_end(preset: TrainConfig) -> None:
    flags = [stage.matching for stage in preset.stages]
    assert flags == sorted(flags)
    assert flags[-1]


def test_no_step_has_fewer_windows_than_the_fewest(recipe: TrainConfig) -> None:
    assert recipe.fewest_windows == 1
    large = dataclasses.replace(recipe.stages[2], windows=4)  # of 2 and 4 frames
    assert {frames: large.windows_of(frames) for frames in large.window_frames} == {2: 6, 4: 3}
    assert dataclasses.replace(recipe, stages=(large,)).fewest_windows == 3


@EVERY_PRESET
def test_two_processes_take_a_preset_as_it_is(preset: TrainConfig) -> None:
    assert preset.fewest_windows >= 2


# --- what the presets promise


def parameters_of(config: NetworkConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Pomato(config).parameters())


def test_tiny_is_of_the_size_it_promises_and_its_files_are_small() -> None:
    tiny = PRESETS["tiny"]
    assert 12e6 <= parameters_of(tiny.network) <= 16e6
    assert 0 < tiny.shard_mib <= 16


def test_tiny_sees_the_papers_tasks_and_the_engines_with_windows_of_two_to_twelve() -> None:
    last = PRESETS["tiny"].stages[-1]
    assert set(last.tasks) == set(Task)
    assert (min(last.window_frames), max(last.window_frames)) == (2, 12)


def test_the_paper_preset_trains_the_published_network_in_the_papers_two_stages() -> None:
    paper = PRESETS["paper"]
    assert paper.network == FULL_TEMPORAL
    assert not paper.from_scratch
    pairwise, temporal = paper.stages
    assert (pairwise.frozen, temporal.frozen) == (Frozen.ENCODER, Frozen.TRUNK)
    assert (pairwise.windows_of(2), temporal.windows_of(12)) == (16, 4)
    assert pairwise.learning_rate == temporal.learning_rate == 1e-4
    assert pairwise.matching
    assert temporal.window_frames == (12,)
    assert set(temporal.tasks) == {Task.TRACKING, Task.VIDEO_DEPTH, Task.FAST_RECONSTRUCTION}
    # nothing but the paper's own losses
    assert paper.confidence_weighs_error
    assert not paper.ego_weight + paper.motion_weight + paper.attention_weight


@pytest.mark.parametrize("frozen", Frozen)
def test_frozen_parts_are_whole(frozen: Frozen, tiny_config: NetworkConfig) -> None:
    parts = {
        "patch_embed": {Frozen.ENCODER, Frozen.TRUNK},
        "enc_blocks": {Frozen.ENCODER, Frozen.TRUNK},
        "enc_norm": {Frozen.ENCODER, Frozen.TRUNK},
        "mask_token": {Frozen.ENCODER, Frozen.TRUNK},
        "decoder_embed": {Frozen.TRUNK},
        "dec_blocks": {Frozen.TRUNK},
        "dec_blocks2": {Frozen.TRUNK},
        "dec_norm": {Frozen.TRUNK},
        "downstream_head1": set(),
        "downstream_head2": set(),
        "downstream_head3": set(),
    }
    with torch.device("meta"):
        names = [name for name, _ in Pomato(tiny_config).named_parameters()]
    assert {name.split(".")[0] for name in names} == set(parts)
    for name in names:
        assert frozen.holds(name) == (frozen in parts[name.split(".")[0]])
