"""Starts the processes of a data-parallel run, or joins one that torchrun started."""

import dataclasses
import logging
import os
import uuid
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pomato_ros.sources.dust3r.checkpoint import load_checkpoint
from pomato_ros.training.config import RunOptions, TrainConfig
from pomato_ros.training.samples import recorded_sources
from pomato_ros.training.state import NO_START, STATE_FILE
from pomato_ros.training.train import train


def launch(config: TrainConfig, options: RunOptions, start: Path | None, processes: int) -> None:
    """Train ``config`` with ``processes`` processes of this machine; under torchrun with those it started.

    Args:
        config: the recipe. While every step has windows for all processes (:attr:`TrainConfig.fewest_windows`) its
            result depends on their number only by the order of sums and, where they do not share evenly, by weights.
        options: as of :func:`train`.
        start: weights to begin with instead of a fresh draw.
        processes: how many; 1 stays in this process. With more than the fewest windows, small steps grow to one each.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        run_process(config, options, start)
    elif processes == 1:
        if "OMP_NUM_THREADS" not in os.environ:  # else torch has read what the caller wants
            torch.set_num_threads(max(1, os.cpu_count() or 1))
        run(config, options, start)
    else:
        # gloo looks up this machine's name otherwise, which need not resolve
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
        )
        elastic_launch(settings, run_process)(config, options, start)


def check_run(config: TrainConfig, options: RunOptions, start: Path | None) -> None:
    """What can be told of a run before processes are started for it.

    Raises:
        ValueError: it lacks the weights to begin with, or folders of its datasets.
    """
    if not config.from_scratch and start is None and not (options.folder / STATE_FILE).exists():
        raise ValueError(NO_START)
    recorded_sources(config)


def count_workers(config: TrainConfig, device: torch.device, processes: int) -> int:
    """Processes that draw batches for each of ``processes``: one beside a CPU's, as many as there are cores for a GPU.

    They share no scene with one another where their number divides the recipe's lanes.
    """
    if device.type == "cpu":
        return 1
    cores = max(1, (os.cpu_count() or 1) // processes)
    return max(count for count in range(1, min(cores, config.lanes) + 1) if config.lanes % count == 0)


def run_process(config: TrainConfig, options: RunOptions, start: Path | None) -> None:
    """One process of several: one GPU or one share of the CPU's cores each."""
    logging.basicConfig(level=logging.INFO if os.environ["RANK"] == "0" else logging.WARNING, format="%(message)s")
    local, local_count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    device = options.device
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_count))
    # gloo for what lives on the CPU: the word that time is up
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        run(config, dataclasses.replace(options, device=device), start)
    finally:
        dist.destroy_process_group()


def run(config: TrainConfig, options: RunOptions, start: Path | None) -> None:
    """Load what the run begins with, and train."""
    train(config, options, load_checkpoint(start, architecture=config.network.architecture).network if start else None)
