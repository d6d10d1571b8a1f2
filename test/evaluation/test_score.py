"""Weights in, the whole table out."""

import dataclasses
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from pomato_ros.config import NetworkConfig
from pomato_ros.evaluation.report import SCORE_NAMES, before_and_after_table
from pomato_ros.evaluation.score import score_weights
from pomato_ros.sources.dust3r.checkpoint import Checkpoint
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.trunk import initialise


@pytest.fixture
def checkpoint(tiny_config: NetworkConfig) -> Checkpoint:
    network = Pomato(dataclasses.replace(tiny_config, temporal_length=12))
    initialise(network, torch.Generator().manual_seed(0))
    return Checkpoint(network.eval(), 48, Path("untrained"), "", {})


def test_untrained_weights_get_every_score_and_compare_with_themselves(checkpoint: Checkpoint) -> None:
    summary = score_weights(checkpoint, 3 << 30, 1, frames=12, threads=1)
    assert {name.key for name in SCORE_NAMES} <= set(summary)
    assert (summary["sequences"], summary["frames"], summary["split"]) == (1, 12, "same")
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(before_and_after_table(summary, summary))
    compared = console.export_text()
    assert "unchanged" in compared
    assert "better" not in compared
    assert "WORSE" not in compared
