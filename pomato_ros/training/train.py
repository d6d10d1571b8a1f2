"""A training loop one can read: one pass over the steps of a recipe, resumable at any of them."""

import dataclasses
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Subset

from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.training.attention import Watched, watched_attention
from pomato_ros.training.config import RunOptions, Stage, TrainConfig
from pomato_ros.training.family_losses import family_losses, family_maps
from pomato_ros.training.journal import Advance, Journal, progress_bar
from pomato_ros.training.losses import HeadOutput, Losses, pointmap_losses
from pomato_ros.training.pairing import Pairing
from pomato_ros.training.precision import training_precision
from pomato_ros.training.samples import WindowBatch, WindowDataset
from pomato_ros.training.state import (
    WEIGHTS_FILE,
    TrainState,
    enter_stage,
    export,
    fresh_state,
    load_state,
    save_state,
    update_average,
)
from pomato_ros.training.validation import validate

LOGGER = logging.getLogger(__name__)
STEP_MEMORY = 0.95  # what is left of the longest step after each that was shorter
BATCHES_AHEAD = 6  # drawn before they are needed, and one a worker at least; they lie in shared memory
UNWATCHED: Watched = ([], [])


class Deadline:
    """Tells when a call must stop to be done in time: with another step and a last checkpoint still to come."""

    def __init__(self, options: RunOptions) -> None:
        """No end where ``options.seconds`` is 0."""
        self._end_s = options.started_s + options.seconds if options.seconds else math.inf
        self._step_began_s = time.monotonic()
        self._longest_step_s = 0.0
        self.saving_s = 0.0  # what the last checkpoint took

    def is_near(self) -> bool:
        """Called after every step. The longest step so far counts, those of long ago less."""
        now = time.monotonic()
        self._longest_step_s = max(now - self._step_began_s, STEP_MEMORY * self._longest_step_s)
        self._step_began_s = now
        return now + self._longest_step_s + self.saving_s > self._end_s


class StopSignal:
    """Whether the run was asked to stop (SIGTERM, or Ctrl-C once); it then ends as when its time is up."""

    def __init__(self) -> None:
        """Not asked yet."""
        self.came = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Listen; a second signal does what it always does. Only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(_number: int, _frame: object) -> None:
            self.came = True
            restore()

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            restore()


def train(config: TrainConfig, options: RunOptions, start: Trunk | None = None) -> Path:
    """Run or resume ``config`` in ``options.folder``; returns the averaged weights' file.

    Args:
        config: the recipe.
        options: where and for how long.
        start: weights to begin with instead of a fresh draw; ignored when the folder holds a run already.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    deadline, stop, leads = Deadline(options), StopSignal(), process_number() == 0
    state = load_state(config, options) or fresh_state(config, options.device, start)
    steps = iter(batches(config, options, state.step))
    journal = Journal(options.folder, state.step, options.tensorboard) if leads else None
    with stop.awaited(), progress_bar(config.total_steps, state.step, shown=leads) as advance:
        first_step = state.step + 1
        for batch in steps:
            losses = train_step(config, state, batch, options.device)
            state.step += 1
            if journal is not None:
                report(config, options, state, losses, journal, advance)
                if state.step == first_step or state.step % options.checkpoint_every == 0:
                    deadline.saving_s = save(config, options, state)
            if agreed(stop.came or deadline.is_near()):
                break
    if journal is not None:
        save(config, options, state)
        journal.close()
    return options.folder / WEIGHTS_FILE


def save(config: TrainConfig, options: RunOptions, state: TrainState) -> float:
    """Write checkpoint and weights; returns the seconds it took."""
    began_s = time.monotonic()
    save_state(config, options, state)
    export(config, options, state)
    return time.monotonic() - began_s


def process_number() -> int:
    """Which of the processes of a data-parallel run this is; 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def process_count() -> int:
    """Processes of a data-parallel run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agreed(value: bool) -> bool:
    """What process 0 says."""
    if process_count() == 1:
        return value
    said = torch.tensor(float(value))
    dist.broadcast(said, src=0)
    return bool(said)


def average_gradients(network: Trunk) -> None:
    """Every process's gradients become the mean of all."""
    if process_count() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    means = (flat / process_count()).split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def train_step(config: TrainConfig, state: TrainState, batch: WindowBatch, device: torch.device) -> Losses:
    """One optimiser step; the state's own step counter says which."""
    number, local = config.locate(state.step)
    stage = config.stages[number]
    if local == 0:
        enter_stage(config, state, number)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(config, stage, local) * group["learning_rate_share"]
    state.network.train()
    targets = batch.targets.to(device)
    frames = 1 if stage.pairwise else batch.images.shape[1]
    images = batch.images.to(device)
    if config.network.architecture == "pomato":
        watched = watched_attention(state.network) if config.attention_weight else nullcontext(UNWATCHED)
        with training_precision(device), attention_kernel(device), watched as attention:
            heads, tokens = predict_heads(state.network, images, batch.pairs, stage)
        losses = pointmap_losses(heads, tokens, attention, targets, frames, batch.pairs.both_orders, config)
    else:
        with training_precision(device), attention_kernel(device):
            maps = family_maps(state.network, images, batch.pairs)
        losses = family_losses(state.network, maps, targets, config)
    if not torch.isfinite(losses.total):
        raise FloatingPointError(f"the loss became {losses.total.item()} at step {state.step}; lower the learning rate")
    state.optimiser.zero_grad(set_to_none=True)
    losses.total.backward()
    average_gradients(state.network)
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.gradient_clip)
    state.optimiser.step()
    update_average(state, min(config.ema_decay, (1 + state.step) / (10 + state.step)))
    return losses


def predict_heads(
    network: Trunk, images: Tensor, pairs: Pairing, stage: Stage
) -> tuple[list[HeadOutput], tuple[Tensor, Tensor]]:
    """Heads' outputs on windows of images (b, t, 3, h, w), with the rows of :class:`WindowBatch`.

    Also the two decoders' last tokens (p, n, c), of the same rows.
    """
    grid = network.grid_of(images)
    windows = network.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    tokens_1, tokens_2 = (
        torch.cat([windows[:, list(getattr(order, view))].flatten(0, 1) for order in pairs.orders])
        for view in ("view_1", "view_2")
    )
    list_1, list_2 = network.decode(tokens_1, tokens_2, grid)
    lists = list_1, list_2
    heads = network.HEADS if stage.matching else network.HEADS[:2]
    frames = 0 if stage.pairwise else images.shape[1]
    outputs = [HeadOutput(*network.head(spec)(lists[spec.view], grid, frames, stage.stride)) for spec in heads]
    return outputs, (list_1[-1], list_2[-1])


def learning_rate(config: TrainConfig, stage: Stage, local_step: int) -> float:
    """Linear warm-up, then a half cosine down to a share of the peak, anew in every stage."""
    warmup = min(config.warmup_steps, stage.steps // 4)
    if local_step < warmup:
        return stage.learning_rate * (local_step + 1) / warmup
    progress = (local_step - warmup) / max(1, stage.steps - warmup)
    low = config.final_learning_rate_share
    return stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


@contextmanager
def attention_kernel(device: torch.device) -> Iterator[None]:
    """On a CPU the plain attention trains several times faster than the fused one at our few tokens."""
    if device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def batches(config: TrainConfig, options: RunOptions, first_step: int) -> DataLoader[WindowBatch]:
    """Batches from ``first_step`` to the end of the run."""
    dataset = WindowDataset(config, process_number(), process_count())
    remaining = Subset(dataset, range(first_step, config.total_steps))
    return DataLoader(
        remaining,
        batch_size=None,
        num_workers=options.workers,
        prefetch_factor=max(1, BATCHES_AHEAD // options.workers) if options.workers else None,
        worker_init_fn=yield_to_network,
    )


def yield_to_network(_worker: int) -> None:
    """A worker renders on one core, after the network but before what else the machine may be at.

    It ends with the run, not with the signals that ask the run to stop.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    os.nice(5)


def report(
    config: TrainConfig, options: RunOptions, state: TrainState, losses: Losses, journal: Journal, advance: Advance
) -> None:
    """Bar, log lines and validation, each when it is due."""
    step = state.step
    stage = config.stage_at(step - 1)
    advance(step)
    if step % options.log_every == 0:
        values = {item.name: round(getattr(losses, item.name).item(), 5) for item in dataclasses.fields(losses)}
        journal.write(step, stage.name, values)
        advance(
            step, f"{stage.name}  error {values['error_1']:.3f} {values['error_2']:.3f} {values['error_match']:.3f}"
        )
    if options.validate_every and step % options.validate_every == 0:
        with attention_kernel(options.device):
            scores = validate(state.average, config, stage, options.device)
        journal.write(step, stage.name, scores, "validation")
        LOGGER.info("step %d: %s", step, "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
