"""What a run goes on from is what is scored before it."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pomato_ros.cli.training_scores import first_weights, scores_here
from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.checkpoint import save_weights
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.trunk import initialise
from pomato_ros.training.config import NANO_RECIPE, TrainConfig


@pytest.fixture
def recipe(tiny_config: NetworkConfig) -> TrainConfig:
    return dataclasses.replace(NANO_RECIPE, network=tiny_config, seed=2)


def drawn(config: NetworkConfig, seed: int) -> Pomato:
    network = Pomato(config)
    initialise(network, torch.Generator().manual_seed(seed))
    return network


def same(one: Pomato, other: Pomato) -> bool:
    values = other.state_dict()
    return all(torch.allclose(value, values[name], atol=1e-3) for name, value in one.state_dict().items())


def test_a_run_from_nothing_begins_with_its_own_draw(recipe: TrainConfig, tmp_path: Path) -> None:
    checkpoint = first_weights(recipe, tmp_path, None)
    assert same(checkpoint.network, drawn(recipe.network, 2))
    assert not same(checkpoint.network, drawn(recipe.network, 1))
    assert checkpoint.image_size_px == 128
    assert not checkpoint.network.training


def test_a_run_that_goes_on_begins_with_what_its_folder_holds(recipe: TrainConfig, tmp_path: Path) -> None:
    given = drawn(recipe.network, 7)
    save_weights(tmp_path / "start.safetensors", given, 128, {})
    assert same(first_weights(recipe, tmp_path, tmp_path / "start.safetensors").network, given)
    earlier = drawn(recipe.network, 8)
    save_weights(tmp_path / "weights.safetensors", earlier, 128, {})
    assert same(first_weights(recipe, tmp_path, tmp_path / "start.safetensors").network, earlier)


def test_of_several_processes_the_first_one_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scores_here(2)
    assert not scores_here(0)
    monkeypatch.setenv("RANK", "1")
    assert not scores_here(2)
