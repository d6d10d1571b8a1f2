"""The trainer: its schedule, its stages, and that stopping and resuming leaves no trace."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.model.checkpoint import load_checkpoint
from pomato_ros.model.pomato import Pomato
from pomato_ros.training import train as trainer
from pomato_ros.training.config import Stage, TrainConfig
from pomato_ros.training.launch import launch
from pomato_ros.training.samples import WindowDataset
from pomato_ros.training.train import (
    LOG_FILE,
    STATE_FILE,
    RunOptions,
    TrainState,
    fresh_state,
    learning_rate,
    load_state,
    make_optimiser,
    save_state,
    train,
    train_step,
    update_average,
)

CPU = torch.device("cpu")


def run_options(folder: Path, **changes: object) -> RunOptions:
    options = RunOptions(folder, CPU, seconds=0.0, workers=0, checkpoint_every=1000, validate_every=0, log_every=2)
    return dataclasses.replace(options, **changes)


def weights_of(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


def advance(config: TrainConfig, state: TrainState, steps: int) -> None:
    dataset = WindowDataset(config)
    for _ in range(steps):
        train_step(config, state, dataset[state.step], CPU)
        state.step += 1


@pytest.fixture(scope="module")
def straight(recipe: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole recipe in one call."""
    folder = tmp_path_factory.mktemp("straight")
    train(recipe, run_options(folder))
    return folder


def final_state(recipe: TrainConfig, folder: Path) -> TrainState:
    state = load_state(recipe, run_options(folder))
    assert state is not None
    return state


# --- the schedule


@pytest.mark.parametrize(("steps", "warmup"), [(1, 150), (3, 150), (100, 20), (700, 150)])
def test_the_learning_rate_rises_to_its_peak_and_falls_without_a_jump(
    recipe: TrainConfig, steps: int, warmup: int
) -> None:
    config = dataclasses.replace(recipe, warmup_steps=warmup)
    stage = dataclasses.replace(recipe.stages[0], steps=steps)
    rates = [learning_rate(config, stage, step) for step in range(steps)]
    peak = stage.learning_rate
    assert all(0 < rate <= peak for rate in rates)
    assert max(rates) == pytest.approx(peak)
    rise = min(warmup, steps // 4)
    assert rates[:rise] == sorted(rates[:rise])
    assert rates[rise:] == sorted(rates[rise:], reverse=True)
    largest_jump = max((abs(a - b) for a, b in zip(rates, rates[1:], strict=False)), default=0.0)
    assert largest_jump < 1.001 * peak * max(1 / max(rise, 1), 2 / max(steps - rise, 1))
    assert learning_rate(config, stage, steps) == pytest.approx(peak * config.final_learning_rate_share)


# --- stages


def test_a_stage_changes_what_it_is_meant_to(recipe: TrainConfig) -> None:
    state = fresh_state(recipe, CPU, None)
    start = weights_of(state.network)
    assert not differing(start, weights_of(state.average))
    advance(recipe, state, 3)  # geometry: two heads, in pairs
    after_geometry = weights_of(state.network)
    untouched = start.keys() - differing(start, after_geometry)
    assert {name for name in start if name.startswith("downstream_head3.")} <= untouched
    assert {name for name in start if ".motion_modules." in name} <= untouched
    assert "downstream_head2.dpt.head.4.weight" not in untouched
    advance(recipe, state, 3)  # matching
    assert any(name.startswith("downstream_head3.") for name in differing(after_geometry, weights_of(state.network)))
    before_temporal = weights_of(state.network)
    advance(recipe, state, 3)
    changed = differing(before_temporal, weights_of(state.network))
    assert any(".motion_modules." in name for name in changed)
    assert not any(name.endswith(".pe") for name in changed)


def test_the_matching_head_begins_as_the_second(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    state = fresh_state(recipe, CPU, None)
    advance(recipe, state, 3)
    begins = []

    def watched(network: Pomato, *rest: object) -> object:
        heads = [weights_of(head) for head in (network.downstream_head2, network.downstream_head3)]
        begins.append(not differing(*heads))
        return predict_heads(network, *rest)

    predict_heads = trainer.predict_heads
    monkeypatch.setattr(trainer, "predict_heads", watched)
    averages = [weights_of(state.average.downstream_head2)]
    advance(recipe, state, 2)
    assert begins == [True, False]
    assert differing(averages[0], weights_of(state.average.downstream_head3)) != set()
    advance(recipe, state, 3)  # the next stage has a matching head of its own already
    assert begins[4] is False


@pytest.mark.parametrize("stage", [1, 2])
def test_a_frozen_trunk_stays_as_it_is_also_after_resuming(recipe: TrainConfig, tmp_path: Path, stage: int) -> None:
    free = dataclasses.replace(recipe.stages[0], steps=1)
    frozen = dataclasses.replace(recipe.stages[stage], steps=3, frozen_trunk=True)
    config = dataclasses.replace(recipe, stages=(free, frozen))
    state = fresh_state(config, CPU, None)
    advance(config, state, 1)
    before = weights_of(state.network)
    advance(config, state, 1)
    save_state(config, run_options(tmp_path), state)
    resumed = final_state(config, tmp_path)
    advance(config, resumed, 2)
    changed = differing(before, weights_of(resumed.network))
    assert changed
    assert all(name.startswith("downstream_head") for name in changed)


def test_steps_on_one_batch_lower_its_loss(recipe: TrainConfig) -> None:
    stage = Stage("matching", 20, 6e-3, 1, (2,), 3, 1, 0, pairwise=True, matching=True)
    config = dataclasses.replace(recipe, stages=(stage,), shapes=recipe.shapes[:1])
    state = fresh_state(config, CPU, None)
    batch = WindowDataset(config)[0]
    losses = []
    for _ in range(stage.steps):
        losses.append(train_step(config, state, batch, CPU))
        state.step += 1
    assert losses[-1].total < 0.5 * losses[0].total
    for item in dataclasses.fields(losses[0]):
        assert getattr(losses[-1], item.name) < getattr(losses[0], item.name)


def test_a_loss_that_is_no_number_stops_the_run_with_advice(recipe: TrainConfig) -> None:
    state = fresh_state(recipe, CPU, None)
    with torch.no_grad():
        state.network.enc_norm.weight.fill_(torch.nan)
    before = weights_of(state.average)
    with pytest.raises(FloatingPointError, match="at step 0; lower the learning rate"):
        advance(recipe, state, 1)
    assert not differing(before, weights_of(state.average))


def test_vectors_are_not_decayed_and_every_parameter_is_trained_once(
    tiny_config: NetworkConfig, recipe: TrainConfig
) -> None:
    network = Pomato(tiny_config)
    groups = make_optimiser(recipe, network).param_groups
    for group in groups:
        decays = {parameter.ndim > 1 for parameter in group["params"]}
        assert {recipe.weight_decay: {True}, 0.0: {False}}[group["weight_decay"]] == decays
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(trained) == sorted(id(parameter) for parameter in network.parameters())


def test_heads_learn_at_a_rate_of_their_own(recipe: TrainConfig) -> None:
    state = fresh_state(recipe, CPU, None)
    advance(recipe, state, 1)
    rates = {id(parameter): group["lr"] for group in state.optimiser.param_groups for parameter in group["params"]}
    peak = learning_rate(recipe, recipe.stages[0], 0)
    for name, parameter in state.network.named_parameters():
        share = recipe.head_learning_rate_share if name.startswith("downstream_head") else 1.0
        assert rates[id(parameter)] == pytest.approx(share * peak)


def test_the_average_goes_a_share_of_the_way(recipe: TrainConfig) -> None:
    state = fresh_state(recipe, CPU, None)
    before = weights_of(state.average)
    with torch.no_grad():
        for parameter in state.network.parameters():
            parameter.add_(1.0)
    update_average(state, 0.75)
    after = weights_of(state.average)
    for name, _ in state.network.named_parameters():
        torch.testing.assert_close(after[name], before[name] + 0.25)


# --- stopping and resuming


@pytest.mark.parametrize("stops", [(2, 6)])  # within a stage and between two
def test_a_run_in_parts_is_the_run_in_one(
    recipe: TrainConfig, straight: Path, tmp_path: Path, stops: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stop in stops:
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "batches", until(stop))
            train(recipe, run_options(tmp_path))
        assert final_state(recipe, tmp_path).step == stop
    train(recipe, run_options(tmp_path))
    here, there = final_state(recipe, tmp_path), final_state(recipe, straight)
    assert here.step == there.step == recipe.total_steps
    assert not differing(weights_of(here.network), weights_of(there.network))
    assert not differing(weights_of(here.average), weights_of(there.average))


def until(stop: int) -> object:
    """The trainer's own source of batches, cut off before step ``stop``."""
    whole = trainer.batches

    def part(config: TrainConfig, options: RunOptions, first_step: int) -> object:
        return (batch for _, batch in zip(range(first_step, stop), whole(config, options, first_step), strict=False))

    return part


def test_a_worker_process_changes_nothing(recipe: TrainConfig, straight: Path, tmp_path: Path) -> None:
    short = dataclasses.replace(recipe, stages=recipe.stages[:1])
    for workers in (0, 1):
        train(short, run_options(tmp_path / str(workers), workers=workers))
    one, other = (final_state(short, tmp_path / str(workers)) for workers in (0, 1))
    assert not differing(weights_of(one.network), weights_of(other.network))


def test_two_processes_learn_what_one_does(recipe: TrainConfig, tmp_path: Path) -> None:
    # four windows a step, so that both have as many; equal but for what bf16 rounds, which Adam's division enlarges
    stages = (dataclasses.replace(recipe.stages[0], windows=4),)
    config = dataclasses.replace(recipe, stages=stages, shapes=recipe.shapes[:1])
    train(config, run_options(tmp_path / "1"))
    launch(config, run_options(tmp_path / "2"), None, 2)
    one, two = (final_state(config, tmp_path / processes).network for processes in ("1", "2"))
    start, one, two = (
        torch.cat([value.flatten() for value in network.parameters()])
        for network in (fresh_state(config, CPU, None).network, one, two)
    )
    assert (two - one).norm() <= 0.2 * (one - start).norm()


def test_a_run_out_of_time_stops_and_can_go_on(recipe: TrainConfig, tmp_path: Path) -> None:
    weights = train(recipe, run_options(tmp_path, seconds=1e-9))
    stopped = final_state(recipe, tmp_path)
    assert stopped.step == 1
    assert load_checkpoint(weights).metadata["steps"] == "1"
    train(recipe, run_options(tmp_path, seconds=1e-9))
    assert final_state(recipe, tmp_path).step == 2


def test_a_finished_run_stays_finished(recipe: TrainConfig, straight: Path) -> None:
    before = (straight / "weights.safetensors").read_bytes()
    train(recipe, run_options(straight))
    assert (straight / "weights.safetensors").read_bytes() == before


def test_the_exported_weights_are_the_average(recipe: TrainConfig, straight: Path) -> None:
    checkpoint = load_checkpoint(straight / "weights.safetensors")
    assert checkpoint.network.config == recipe.network
    assert checkpoint.image_size_px == 48
    assert checkpoint.metadata["steps"] == str(recipe.total_steps)
    average = weights_of(final_state(recipe, straight).average)
    for name, value in checkpoint.network.named_parameters():
        assert torch.equal(value, average[name].half().float())


def test_a_run_can_begin_with_given_weights(recipe: TrainConfig, straight: Path, tmp_path: Path) -> None:
    start = load_checkpoint(straight / "weights.safetensors").network
    state = fresh_state(recipe, CPU, start)
    for network in (state.network, state.average):
        assert not differing(weights_of(network), weights_of(start))
    train(recipe, run_options(tmp_path, seconds=1e-9), start)
    one_step_on = weights_of(final_state(recipe, tmp_path).network)
    largest_step = 1.1 * recipe.stages[0].learning_rate
    assert all((value - one_step_on[name]).abs().max() < largest_step for name, value in weights_of(start).items())


def test_a_folder_of_another_network_is_refused(recipe: TrainConfig, straight: Path) -> None:
    other = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, enc_depth=3))
    with pytest.raises(ValueError, match=f"{STATE_FILE} belongs to another network; choose another --out folder"):
        train(other, run_options(straight))


def test_the_log_has_a_line_for_every_second_step(recipe: TrainConfig, straight: Path) -> None:
    entries = [json.loads(line) for line in (straight / LOG_FILE).read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(2, recipe.total_steps + 1, 2))
    assert all(entry["total"] == entry["total"] for entry in entries)
    assert [entry["stage"] for entry in entries] == [recipe.stage_at(entry["step"]).name for entry in entries]
