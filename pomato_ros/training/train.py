"""A training loop one can read: one pass over the steps of a recipe, resumable at any of them."""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Subset

from pomato_ros.config import NetworkConfig
from pomato_ros.model.checkpoint import save_weights
from pomato_ros.model.pomato import Pomato, initialise
from pomato_ros.training.attention import watched_attention
from pomato_ros.training.config import Stage, TrainConfig
from pomato_ros.training.losses import HeadOutput, Losses, pointmap_losses
from pomato_ros.training.samples import WindowBatch, WindowDataset
from pomato_ros.training.validation import validate

LOGGER = logging.getLogger(__name__)
STATE_FILE = "state.pt"
LOG_FILE = "log.jsonl"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out; nothing here changes what it learns but ``seconds``, which ends it early."""

    folder: Path
    device: torch.device
    seconds: float  # wall time of this call; 0 means until the recipe is done
    workers: int
    checkpoint_every: int  # steps
    validate_every: int  # steps; 0 means never
    log_every: int  # steps


@dataclass(slots=True)
class TrainState:
    """Everything that resuming needs."""

    network: Pomato
    average: Pomato  # exponential moving average of the network's weights
    optimiser: torch.optim.AdamW
    step: int


def train(config: TrainConfig, options: RunOptions, start: Pomato | None = None) -> Path:
    """Run or resume ``config`` in ``options.folder``; returns the averaged weights' file.

    Args:
        config: the recipe.
        options: where and for how long.
        start: weights to begin with instead of a fresh draw; ignored when the folder holds a run already.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    state = load_state(config, options) or fresh_state(config, options.device, start)
    deadline = time.monotonic() + options.seconds if options.seconds else math.inf
    with progress_bar(config.total_steps, state.step, shown=process_number() == 0) as advance:
        for batch in batches(config, options, state.step):
            losses = train_step(config, state, batch, options.device)
            state.step += 1
            if process_number() == 0:
                report(config, options, state, losses, advance)
            if agreed(time.monotonic() > deadline):
                break
    if process_number() == 0:
        save_state(config, options, state)
        export(config, options, state)
    return options.folder / WEIGHTS_FILE


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


def average_gradients(network: Pomato) -> None:
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
    with torch.autocast(device.type, torch.bfloat16), attention_kernel(device), watched_attention(state.network) as seen:
        heads = predict_heads(state.network, batch.images.to(device), batch.key, batch.paired, stage)
    scale_group = 1 if stage.pairwise else batch.images.shape[1]
    losses = pointmap_losses(heads, seen, targets, scale_group, config)
    if not torch.isfinite(losses.total):
        raise FloatingPointError(f"the loss became {losses.total.item()} at step {state.step}; lower the learning rate")
    state.optimiser.zero_grad(set_to_none=True)
    losses.total.backward()
    average_gradients(state.network)
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.gradient_clip)
    state.optimiser.step()
    update_average(state, min(config.ema_decay, (1 + state.step) / (10 + state.step)))
    return losses


def predict_heads(network: Pomato, images: Tensor, key: int, paired: tuple[int, ...], stage: Stage) -> list[HeadOutput]:
    """Heads' outputs with the rows of :class:`WindowBatch`: from the key for all windows, then to the key."""
    grid = network.grid_of(images)
    windows = network.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    others = windows[:, list(paired)].flatten(0, 1)
    keys = windows[:, key : key + 1].expand(-1, len(paired), -1, -1).flatten(0, 1)
    list_1, list_2 = network.decode(torch.cat((others, keys)), torch.cat((keys, others)), grid)
    heads = [(network.downstream_head1, list_1), (network.downstream_head2, list_2)]
    if stage.matching:
        heads.append((network.downstream_head3, list_2))
    frames = 0 if stage.pairwise else images.shape[1]
    return [HeadOutput(*head(tokens, grid, frames, stage.stride)) for head, tokens in heads]


def enter_stage(config: TrainConfig, state: TrainState, number: int) -> None:
    """What changes at a stage's first step: the matching head begins as a copy, the trunk may be frozen."""
    stage = config.stages[number]
    LOGGER.info("stage %d of %d: %s, %d steps", number + 1, len(config.stages), stage.name, stage.steps)
    if stage.matching and number > 0 and not config.stages[number - 1].matching:
        for network in (state.network, state.average):
            network.downstream_head3.load_state_dict(network.downstream_head2.state_dict())
    apply_freeze(state.network, stage)


def apply_freeze(network: Pomato, stage: Stage) -> None:
    """Only heads learn in a stage with a frozen trunk."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("downstream_head") or not stage.frozen_trunk)


def learning_rate(config: TrainConfig, stage: Stage, local_step: int) -> float:
    """Linear warm-up, then a half cosine down to a share of the peak, anew in every stage."""
    warmup = min(config.warmup_steps, stage.steps // 4)
    if local_step < warmup:
        return stage.learning_rate * (local_step + 1) / warmup
    progress = (local_step - warmup) / max(1, stage.steps - warmup)
    low = config.final_learning_rate_share
    return stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def update_average(state: TrainState, decay: float) -> None:
    """Move the average towards the network."""
    averages: list[Tensor] = list(state.average.parameters())
    values: list[Tensor] = list(state.network.parameters())
    torch._foreach_lerp_(averages, values, 1 - decay)


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
        prefetch_factor=6 if options.workers else None,
        worker_init_fn=yield_to_network,
    )


def yield_to_network(_worker: int) -> None:
    """A worker renders on one core, after the network but before what else the machine may be at."""
    torch.set_num_threads(1)
    os.nice(5)


def fresh_state(config: TrainConfig, device: torch.device, start: Pomato | None) -> TrainState:
    """Step 0."""
    networks = []
    for _ in range(2):
        network = Pomato(config.network)
        if start is None:
            initialise(network, torch.Generator().manual_seed(config.seed))
        else:
            network.load_state_dict(start.state_dict())
        networks.append(network.to(device))
    network, average = networks
    average.requires_grad_(False).eval()
    return TrainState(network, average, make_optimiser(config, network), step=0)


def make_optimiser(config: TrainConfig, network: Pomato) -> torch.optim.AdamW:
    """AdamW as in the paper's code; vectors are not decayed, heads learn at a rate of their own."""
    groups = []
    for in_head, share in ((False, 1.0), (True, config.head_learning_rate_share)):
        for is_matrix in (True, False):
            parameters = [
                parameter
                for name, parameter in network.named_parameters()
                if name.startswith("downstream_head") == in_head and (parameter.ndim > 1) == is_matrix
            ]
            decay = config.weight_decay if is_matrix else 0.0
            groups.append({"params": parameters, "weight_decay": decay, "learning_rate_share": share})
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))


def save_state(config: TrainConfig, options: RunOptions, state: TrainState) -> None:
    """Write the state so that an interrupted write never loses the previous one."""
    target = options.folder / STATE_FILE
    partial = target.with_suffix(".partial")
    content = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "config": config.network.to_json(),
    }
    torch.save(content, partial)
    partial.replace(target)


def load_state(config: TrainConfig, options: RunOptions) -> TrainState | None:
    """The state of a run begun earlier in this folder, if any."""
    path = options.folder / STATE_FILE
    if not path.exists():
        return None
    content = torch.load(path, map_location=options.device, weights_only=True)
    if NetworkConfig.from_json(content["config"]) != config.network:
        raise ValueError(f"{path} belongs to another network; choose another --out folder")
    state = fresh_state(config, options.device, None)
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.step = int(content["step"])
    if state.step < config.total_steps:
        apply_freeze(state.network, config.stage_at(state.step))
    LOGGER.info("resuming %s at step %d of %d", path, state.step, config.total_steps)
    return state


def export(config: TrainConfig, options: RunOptions, state: TrainState) -> Path:
    """Averaged weights in the format that the engine loads."""
    path = options.folder / WEIGHTS_FILE
    long_side_px = max(config.shapes[0].size_wh)
    save_weights(path, state.average, long_side_px, {"steps": str(state.step), "seed": str(config.seed)})
    return path


def report(config: TrainConfig, options: RunOptions, state: TrainState, losses: Losses, advance: "Advance") -> None:
    """Bar, log lines, checkpoints and validation, each when it is due."""
    step = state.step
    stage = config.stage_at(min(step, config.total_steps - 1))
    if step % options.log_every == 0:
        values = {item.name: round(getattr(losses, item.name).item(), 5) for item in dataclasses.fields(losses)}
        append_log(options, {"step": step, "stage": stage.name, "time": round(time.time()), **values})
        advance(
            step, f"{stage.name}  error {values['error_1']:.3f} {values['error_2']:.3f} {values['error_match']:.3f}"
        )
    if step % options.checkpoint_every == 0:
        save_state(config, options, state)
        export(config, options, state)
    if options.validate_every and step % options.validate_every == 0:
        with attention_kernel(options.device):
            scores = validate(state.average, config, stage, options.device)
        append_log(options, {"step": step, "stage": stage.name, "time": round(time.time()), "validation": scores})
        LOGGER.info("step %d: %s", step, "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))


def append_log(options: RunOptions, entry: dict[str, object]) -> None:
    """One JSON object a line."""
    with (options.folder / LOG_FILE).open("a") as stream:
        stream.write(json.dumps(entry) + "\n")


class Advance:
    """Moves the progress bar."""

    def __init__(self, progress: Progress, total: int, step: int) -> None:
        """A bar of ``total`` steps that stands at ``step``."""
        self._progress = progress
        self._task = progress.add_task("training", total=total, completed=step, status="")

    def __call__(self, step: int, status: str) -> None:
        """Show ``step`` and a few words."""
        self._progress.update(self._task, completed=step, status=status)


@contextmanager
def progress_bar(total: int, step: int, shown: bool = True) -> Iterator[Advance]:
    """A bar with elapsed and remaining time."""
    columns = (
        TextColumn("{task.description} {task.completed}/{task.total}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, disable=not shown) as progress:
        yield Advance(progress, total, step)
