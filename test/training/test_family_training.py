"""Recipes of the family: each network learns one batch with its own losses, and a whole short run gives its weights."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pomato_ros.cli.main import main
from pomato_ros.cli.train import preset_table
from pomato_ros.sources.dust3r.checkpoint import load_checkpoint
from pomato_ros.sources.dust3r.scene_flow import apply_rigid
from pomato_ros.training.config import PRESETS, Frozen, ImageShape, RunOptions, Stage, Task, TrainConfig
from pomato_ros.training.family_losses import family_losses, family_maps, flow_truth, true_matches
from pomato_ros.training.samples import WindowDataset
from pomato_ros.training.state import fresh_state
from pomato_ros.training.train import train, train_step

CPU = torch.device("cpu")
NETWORKS = {
    "mast3r": {"architecture": "mast3r", "desc_dim": 6, "desc_hidden_dim": 16},
    "d2ust3r": {"architecture": "d2ust3r", "mask_heads": True, "flow_head": True},
    "flow4r": {"architecture": "flow4r"},
    "flow4r, linear": {"architecture": "flow4r", "head_type": "linear"},
}


def make_recipe(recipe: TrainConfig, name: str, steps: int = 3) -> TrainConfig:
    return dataclasses.replace(
        recipe,
        network=dataclasses.replace(recipe.network, temporal_length=0, **NETWORKS[name]),
        stages=(Stage("pairs", steps, 2e-3, 2, (2,), 3, 3, 2, pairwise=True, matching=True, kept_frames=2),),
        shapes=(ImageShape((48, 32), 1.0),),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_one_batch_is_learned(recipe: TrainConfig, name: str) -> None:
    config = make_recipe(recipe, name, steps=1000)
    batch = WindowDataset(config)[0]
    state = fresh_state(config, CPU, None)
    losses = []
    for _ in range(30):
        losses.append(train_step(config, state, batch, CPU))
        state.step += 1
    assert losses[-1].total < losses[0].total
    assert losses[-1].error_1 < 0.95 * losses[0].error_1
    assert losses[-1].error_2 < 0.9 * losses[0].error_2


@pytest.mark.parametrize("name", ["mast3r", "d2ust3r", "flow4r"])
def test_a_short_run_gives_weights_that_the_engine_loads(recipe: TrainConfig, tmp_path: Path, name: str) -> None:
    config = make_recipe(recipe, name)
    options = RunOptions(tmp_path, CPU, seconds=0.0, workers=0, checkpoint_every=1000, validate_every=0, log_every=2)
    loaded = load_checkpoint(train(config, options), architecture=config.network.architecture)
    assert loaded.network.config == config.network


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_is_taught(recipe: TrainConfig, name: str) -> None:
    config = make_recipe(recipe, name)
    batch = WindowDataset(config)[0]
    network = fresh_state(config, CPU, None).network
    family_losses(network, family_maps(network, batch.images, batch.pairs), batch.targets, config).total.backward()
    untaught = {key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()}
    # official names that the network does not use, and what begins behind a zero convolution
    idle = ("mask_token", "refinenet4.resConfUnit1", "resConfUnit", "mask_head1")
    assert {key for key in untaught if not any(part in key for part in idle)} == set()


def test_true_matches_are_the_same_point(recipe: TrainConfig) -> None:
    targets = WindowDataset(make_recipe(recipe, "mast3r"))[0].targets
    (pixels_1, pixels_2), valid = true_matches(targets)
    rows = torch.arange(len(valid))[:, None]
    one = targets.points_1[rows, pixels_1[..., 1], pixels_1[..., 0]]
    other = targets.points_match[rows, pixels_2[..., 1], pixels_2[..., 0]]
    assert valid.any()
    assert ((one - other).norm(dim=-1) / one.norm(dim=-1))[valid].max() < 0.02


def test_flow_truth_is_one_scene_seen_from_two_cameras(recipe: TrainConfig) -> None:
    targets = WindowDataset(make_recipe(recipe, "flow4r"))[0].targets
    first, second = torch.arange(len(targets.points_1)).chunk(2)
    truth = flow_truth(targets, first, second)
    seen = apply_rigid(truth.other_from_own, truth.points)
    torch.testing.assert_close(seen, targets.points_2[first], atol=2e-3, rtol=1e-3)
    still = ~targets.moving[first]
    assert ((truth.moved - seen).norm(dim=-1) / seen.norm(dim=-1))[still].max() < 0.05


def test_recipes_that_the_losses_do_not_suit_are_refused(recipe: TrainConfig) -> None:
    good = make_recipe(recipe, "flow4r")
    for changes in ({"stride": 2}, {"pairwise": False}, {"tasks": (Task.TRACKING,)}):
        with pytest.raises(ValueError, match="whole pairs in both orders only"):
            dataclasses.replace(good, stages=(dataclasses.replace(good.stages[0], **changes),))


def test_frozen_trunks_leave_every_head_to_learn() -> None:
    for name in ("downstream_head1.proj.weight", "mask_head2.dpt.head.4.bias", "flow_head.context.weight"):
        assert not Frozen.TRUNK.holds(name)
    assert Frozen.TRUNK.holds("dec_blocks.0.norm1.weight")


def test_the_list_has_every_stage_of_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    assert "recipes of pomato train" in capsys.readouterr().out
    named = [(name, stage.name) for name, config in PRESETS.items() for stage in config.stages]
    columns = preset_table(PRESETS).columns
    assert list(zip(columns[0].cells, columns[2].cells, strict=True)) == named
