"""The scores that `pomato train --score` prints: held-out sequences before training and after, side by side."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console

from pomato_ros.cli.evaluate.options import TABLE_WIDTH
from pomato_ros.evaluation.report import FlatValue, before_and_after_table
from pomato_ros.evaluation.score import score_weights
from pomato_ros.sources.dust3r.checkpoint import Checkpoint, load_checkpoint
from pomato_ros.training.config import HELD_OUT_SEED, TrainConfig
from pomato_ros.training.state import WEIGHTS_FILE, fresh_state

UNTRAINED = Path("untrained")


def scores_here(sequences: int) -> bool:
    """Whether this process scores: of those that torchrun started only the first one does."""
    return sequences > 0 and os.environ.get("RANK", "0") == "0"


def first_weights(config: TrainConfig, folder: Path, start: Path | None) -> Checkpoint:
    """What a run goes on from: the weights in its folder, else what it begins with."""
    if (folder / WEIGHTS_FILE).is_file():
        return load_checkpoint(folder / WEIGHTS_FILE)
    given = load_checkpoint(start, architecture=config.network.architecture).network if start else None
    network = fresh_state(config, torch.device("cpu"), given).average
    return Checkpoint(network, max(config.shapes[0].size_wh), UNTRAINED, "", {})


def score_start(config: TrainConfig, folder: Path, start: Path | None, sequences: int) -> dict[str, FlatValue]:
    """Scores of what a run goes on from."""
    return score_weights(first_weights(config, folder, start), HELD_OUT_SEED, sequences)


def print_progress(before: Mapping[str, FlatValue], folder: Path, sequences: int) -> None:
    """The table of ``before`` and of the weights that are in the folder now."""
    after = score_weights(load_checkpoint(folder / WEIGHTS_FILE), HELD_OUT_SEED, sequences)
    console = Console()
    console = console if console.is_terminal else Console(width=TABLE_WIDTH)
    console.print(before_and_after_table(before, after))
