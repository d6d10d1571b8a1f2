"""The trainer: its schedule, its stages, and that stopping and resuming leaves no trace."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.checkpoint import load_checkpoint
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.wiring import predict_window
from pomato_ros.training import train as trainer
from pomato_ros.training.config import Frozen, RunOptions, Stage, Task, TrainConfig
from pomato_ros.training.journal import LOG_FILE
from pomato_ros.training.launch import count_workers, launch
from pomato_ros.training.samples import WindowDataset
from pomato_ros.training.state import (
    STATE_FILE,
    TrainState,
    fresh_state,
    load_state,
    make_optimiser,
    save_state,
    update_average,
)
from pomato_ros.training.train import Deadline, learning_rate, train, train_step

CPU = torch.device("cpu")
MakeNetwork = Callable[..., Pomato]


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
    frozen = dataclasses.replace(recipe.stages[stage], steps=3, frozen=Frozen.TRUNK)
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


def test_a_frozen_encoder_stays_while_decoders_and_heads_learn(recipe: TrainConfig) -> None:
    stage = dataclasses.replace(recipe.stages[2], steps=2, frozen=Frozen.ENCODER, tasks=(Task.TRACKING,))
    config = dataclasses.replace(recipe, stages=(stage,))
    state = fresh_state(config, CPU, None)
    before = weights_of(state.network)
    advance(config, state, 2)
    changed = differing(before, weights_of(state.network))
    parts = {name.split(".")[0] for name in changed}
    assert parts >= {"decoder_embed", "dec_blocks", "dec_blocks2", "dec_norm", "downstream_head1", "downstream_head3"}
    assert not parts & {"patch_embed", "enc_blocks", "enc_norm", "mask_token"}


@pytest.mark.parametrize("task", Task)
def test_every_task_teaches_all_heads_and_the_motion_modules(recipe: TrainConfig, task: Task) -> None:
    stage = dataclasses.replace(recipe.stages[2], steps=2, window_frames=(3,), tasks=(task,))
    config = dataclasses.replace(recipe, stages=(stage,))
    state = fresh_state(config, CPU, None)
    before = weights_of(state.network)
    advance(config, state, 2)
    changed = differing(before, weights_of(state.network))
    for head in ("downstream_head1", "downstream_head2", "downstream_head3"):
        assert any(name.startswith(head) and ".motion_modules." in name for name in changed)


def test_steps_on_one_batch_lower_its_loss(recipe: TrainConfig) -> None:
    stage = Stage("matching", 20, 6e-3, 16, (2,), 3, 1, 0, pairwise=True, matching=True)  # patches enough for flow
    config = dataclasses.replace(recipe, stages=(stage,), shapes=recipe.shapes[:1], seed=0)
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
    # without the loss on flow, which is no mean over pairs: each process reads it from its own
    config = dataclasses.replace(recipe, stages=stages, shapes=recipe.shapes[:1], flow_weight=0.0)
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


@pytest.mark.parametrize(("step_s", "saving_s", "steps"), [(1.0, 0.0, 9), (1.0, 3.5, 6), (2.0, 0.0, 4), (20.0, 0.0, 1)])
def test_a_call_is_done_in_time_with_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float, saving_s: float, steps: int
) -> None:
    now = 100.5  # half a second after the call began
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now)
    deadline = Deadline(run_options(tmp_path, seconds=10.0, started_s=100.0))
    deadline.saving_s = saving_s
    done = 0
    while True:
        now += step_s
        done += 1
        if deadline.is_near():
            break
    assert done == steps
    assert now + saving_s <= 110.0 or steps == 1


def test_one_slow_step_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now)
    deadline = Deadline(run_options(tmp_path, seconds=1000.0, started_s=0.0))
    now = 300.0  # compiles, fills its stock of scenes
    assert not deadline.is_near()
    while not deadline.is_near():
        now += 1.0
    assert now > 990


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_finishes_its_step_and_can_go_on(
    recipe: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def told(config: TrainConfig, state: TrainState, *rest: object) -> object:
        if state.step == 1:
            os.kill(os.getpid(), number)
        return step_taken(config, state, *rest)

    step_taken = trainer.train_step
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", told)
        train(recipe, run_options(tmp_path))
    assert signal.getsignal(number) is before
    assert final_state(recipe, tmp_path).step == 2
    train(recipe, run_options(tmp_path, seconds=1e-9))
    assert final_state(recipe, tmp_path).step == 3


def test_the_first_step_of_a_call_is_kept_at_once(
    recipe: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(config: TrainConfig, state: TrainState, *rest: object) -> object:
        if state.step == 1:
            raise KeyboardInterrupt
        return step_taken(config, state, *rest)

    step_taken = trainer.train_step
    monkeypatch.setattr(trainer, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, run_options(tmp_path))
    assert final_state(recipe, tmp_path).step == 1


def test_an_interrupted_run_logs_every_step_once(
    recipe: TrainConfig, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(config: TrainConfig, state: TrainState, *rest: object) -> object:
        if state.step == 5:
            raise KeyboardInterrupt
        return step_taken(config, state, *rest)

    step_taken = trainer.train_step
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, run_options(tmp_path))
    train(recipe, run_options(tmp_path))
    here, there = (
        [{**json.loads(line), "time": 0} for line in (folder / LOG_FILE).read_text().splitlines()]
        for folder in (tmp_path, straight)
    )
    assert here == there


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


def test_a_temporal_run_can_begin_with_pairwise_weights(recipe: TrainConfig, make_network: MakeNetwork) -> None:
    # as converted from an official checkpoint: what motion modules would look like is not known
    pairwise = make_network(dataclasses.replace(recipe.network, temporal_length=0, group_norm_groups=32))
    state = fresh_state(recipe, CPU, pairwise)
    for network in (state.network, state.average):
        weights = weights_of(network)
        assert not any(not torch.equal(weights[name], value) for name, value in weights_of(pairwise).items())
    images = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = (predict_window(network.eval(), images, 0) for network in (state.network, pairwise))
    assert torch.equal(one.to_key.points_match, other.to_key.points_match)


def test_a_run_that_adds_a_code_of_places_and_relative_values_can_begin_with_weights_that_had_none(
    recipe: TrainConfig, make_network: MakeNetwork
) -> None:
    shape = dataclasses.replace(recipe.network, position_code=0.5, relative_values=True)
    coded = dataclasses.replace(recipe, network=shape)
    start = make_network(recipe.network)
    state = fresh_state(coded, CPU, start)
    assert state.network.config == shape
    given = weights_of(start)
    assert all(torch.equal(given[name], value) for name, value in weights_of(state.network).items())


def test_weights_of_another_size_are_no_start(recipe: TrainConfig, make_network: MakeNetwork) -> None:
    for changes in ({"enc_depth": 3}, {"temporal_length": 5}, {"temporal_length": 0, "dpt_last_dim": 4}):
        other = make_network(dataclasses.replace(recipe.network, **changes))
        with pytest.raises(ValueError, match="the weights to start from are of another network"):
            fresh_state(recipe, CPU, other)


def test_a_recipe_that_goes_on_from_weights_asks_for_them_but_not_to_resume(
    recipe: TrainConfig, straight: Path
) -> None:
    config = dataclasses.replace(recipe, from_scratch=False)
    with pytest.raises(ValueError, match="goes on from trained weights: give .* with --start"):
        fresh_state(config, CPU, None)
    assert final_state(config, straight).step == recipe.total_steps


def test_a_folder_of_another_network_is_refused(recipe: TrainConfig, straight: Path) -> None:
    other = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, enc_depth=3))
    with pytest.raises(ValueError, match=f"{STATE_FILE} belongs to another network; choose another --out folder"):
        train(other, run_options(straight))


def test_the_log_has_a_line_for_every_second_step(recipe: TrainConfig, straight: Path) -> None:
    entries = [json.loads(line) for line in (straight / LOG_FILE).read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(2, recipe.total_steps + 1, 2))
    assert all(entry["total"] == entry["total"] for entry in entries)
    assert [entry["stage"] for entry in entries] == [recipe.stage_at(entry["step"] - 1).name for entry in entries]


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(16, 1, 16), (24, 1, 16), (12, 1, 8), (2, 1, 2), (16, 4, 4)]
)
def test_a_gpu_gets_workers_that_share_no_scene(
    recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert count_workers(recipe, torch.device("cuda"), processes) == workers
    assert recipe.lanes % workers == 0
    assert count_workers(recipe, CPU, processes) == 1
