"""Everything that resuming a run needs: how it begins, how it is kept, and what it gives away."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.checkpoint import save_weights
from pomato_ros.sources.dust3r.family import make_network
from pomato_ros.sources.dust3r.trunk import Trunk, initialise
from pomato_ros.training.config import HEAD_NAMES, RunOptions, Stage, TrainConfig

LOGGER = logging.getLogger(__name__)
STATE_FILE = "state.pt"
WEIGHTS_FILE = "weights.safetensors"
# of a network's config: may be there in training though the weights to start from have been without
ADDED = ("position_code", "relative_values", "mask_heads", "flow_head", "head_type")
NO_START = "this recipe goes on from trained weights: give a MonST3R or DUSt3R checkpoint with --start"


@dataclass(slots=True)
class TrainState:
    """A run at one step."""

    network: Trunk
    average: Trunk  # exponential moving average of the network's weights
    optimiser: torch.optim.AdamW
    step: int


def fresh_state(config: TrainConfig, device: torch.device, start: Trunk | None) -> TrainState:
    """Step 0.

    Raises:
        ValueError: the recipe goes on from given weights and there are none, or they do not fit.
    """
    if start is None and not config.from_scratch:
        raise ValueError(NO_START)
    networks = []
    for _ in range(2):
        network = make_network(config.network)
        initialise(network, torch.Generator().manual_seed(config.seed))
        if start is not None:
            take_weights(network, start)
        networks.append(network.to(device))
    network, average = networks
    average.requires_grad_(False).eval()
    return TrainState(network, average, make_optimiser(config, network), step=0)


def take_weights(network: Trunk, start: Trunk) -> None:
    """Copy the weights of ``start``, which may be pairwise: motion modules then stay the identity that they begin as.

    It may also have been without what :data:`ADDED` names.

    Raises:
        ValueError: the networks differ in more than that.
    """
    expected = network.config
    given = dataclasses.replace(start.config, **{name: getattr(expected, name) for name in ADDED})
    if given.temporal_length == 0:  # sizes of motion modules that are not there say nothing
        expected = dataclasses.replace(
            expected,
            temporal_length=0,
            temporal_num_heads=given.temporal_num_heads,
            group_norm_groups=given.group_norm_groups,
        )
    if given != expected:
        raise ValueError(
            f"the weights to start from are of another network; expected {expected.to_json()}, "
            f"got {start.config.to_json()}"
        )
    weights = start.state_dict()
    if start.config.head_type != network.config.head_type:  # Flow4R's second stage has another head
        weights = {name: value for name, value in weights.items() if not name.startswith(HEAD_NAMES)}
    network.load_state_dict({**network.state_dict(), **weights})


def make_optimiser(config: TrainConfig, network: Trunk) -> torch.optim.AdamW:
    """AdamW as in the paper's code; vectors are not decayed, heads learn at a rate of their own."""
    groups = []
    for in_head, share in ((False, 1.0), (True, config.head_learning_rate_share)):
        for is_matrix in (True, False):
            parameters = [
                parameter
                for name, parameter in network.named_parameters()
                if name.startswith(HEAD_NAMES) == in_head and (parameter.ndim > 1) == is_matrix
            ]
            decay = config.weight_decay if is_matrix else 0.0
            groups.append({"params": parameters, "weight_decay": decay, "learning_rate_share": share})
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))


def enter_stage(config: TrainConfig, state: TrainState, number: int) -> None:
    """What changes at a stage's first step: the matching head begins as a copy, parts of the trunk may be frozen."""
    stage = config.stages[number]
    LOGGER.info("stage %d of %d: %s, %d steps", number + 1, len(config.stages), stage.name, stage.steps)
    begins_matching = stage.matching and number > 0 and not config.stages[number - 1].matching
    if begins_matching and config.network.architecture == "pomato":
        for network in (state.network, state.average):
            third, second = (network.get_submodule(f"downstream_head{number}") for number in (3, 2))
            third.load_state_dict(second.state_dict())
    apply_freeze(state.network, stage)


def apply_freeze(network: Trunk, stage: Stage) -> None:
    """What the stage freezes does not learn; the rest does."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not stage.frozen.holds(name))


@torch.no_grad()
def update_average(state: TrainState, decay: float) -> None:
    """Move the average towards the network."""
    averages: list[Tensor] = list(state.average.parameters())
    values: list[Tensor] = list(state.network.parameters())
    torch._foreach_lerp_(averages, values, 1 - decay)


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
    # on the CPU first: AdamW keeps its step counts there, and would wait for the device to read each of them
    content = torch.load(path, map_location="cpu", weights_only=True)
    if NetworkConfig.from_json(content["config"]) != config.network:
        raise ValueError(f"{path} belongs to another network; choose another --out folder")
    state = fresh_state(dataclasses.replace(config, from_scratch=True), options.device, None)
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
    metadata = {"steps": str(state.step), "seed": str(config.seed)}
    save_weights(path, state.average, long_side_px, metadata, shard_bytes=config.shard_mib << 20)
    return path
