"""`pomato train`: trains a preset on rendered scenes, or goes on where an earlier call stopped."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    preset: Annotated[str, typer.Option(help="recipe: one of pomato_ros.training.config.PRESETS")] = "nano",
    out: Annotated[Path, typer.Option(help="folder of the run; an earlier run in it is resumed")] = Path("out/train"),
    seconds: Annotated[float, typer.Option(help="stop after this wall time (0: when the recipe is done)")] = 0.0,
    share: Annotated[float, typer.Option(help="scale the steps of every stage, for rehearsals")] = 1.0,
    start: Annotated[Path | None, typer.Option(help="weights to begin with instead of none")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of the network; 0: one for every logical core")] = 0,
    workers: Annotated[int, typer.Option(help="processes that render")] = 1,
    validate_every: Annotated[int, typer.Option(help="steps between looks at held-out scenes; 0: never")] = 200,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 100,
) -> int:
    """Train a network on rendered scenes; resumes by itself."""
    import os

    import torch

    from pomato_ros.model.checkpoint import load_checkpoint
    from pomato_ros.training.config import PRESETS, scaled_to
    from pomato_ros.training.train import RunOptions
    from pomato_ros.training.train import train as run

    if preset not in PRESETS:
        raise typer.BadParameter(f"unknown preset '{preset}'; known: {', '.join(PRESETS)}")
    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads or os.cpu_count() or 1)
    options = RunOptions(
        folder=out,
        device=torch.device(name),
        seconds=seconds,
        workers=workers,
        checkpoint_every=checkpoint_every,
        validate_every=validate_every,
        log_every=10,
    )
    network = load_checkpoint(start).network if start else None
    weights = run(scaled_to(PRESETS[preset], share), options, network)
    typer.echo(f"weights: {weights}")
    return 0
