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
    seed: Annotated[int, typer.Option(help="0, 1 or 2: other scenes and another first draw", min=0, max=2)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    processes: Annotated[
        int, typer.Option(help="data-parallel processes; 0: a core or GPU each, as far as every step has windows")
    ] = 0,
    workers: Annotated[int, typer.Option(help="processes that render, beside each of these")] = 1,
    validate_every: Annotated[int, typer.Option(help="steps between looks at held-out scenes; 0: never")] = 200,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 100,
) -> int:
    """Train a network on rendered scenes; resumes by itself.

    Where torchrun started this process, it takes its part of that run; else it starts the others itself. Two processes
    of one thread each learn almost twice as fast as two threads: the network's layers are too small to share.
    """
    import dataclasses
    import os

    import torch

    from pomato_ros.training.config import PRESETS, scaled_to
    from pomato_ros.training.launch import launch
    from pomato_ros.training.train import RunOptions

    if preset not in PRESETS:
        raise typer.BadParameter(f"unknown preset '{preset}'; known: {', '.join(PRESETS)}")
    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    options = RunOptions(
        folder=out,
        device=torch.device(name),
        seconds=seconds,
        workers=workers,
        checkpoint_every=checkpoint_every,
        validate_every=validate_every,
        log_every=10,
    )
    config = dataclasses.replace(scaled_to(PRESETS[preset], share), seed=seed)
    places = torch.cuda.device_count() if options.device.type == "cuda" else os.cpu_count() or 1
    launch(config, options, start, processes or min(places, config.fewest_windows))
    typer.echo(f"weights: {out / 'weights.safetensors'}")
    return 0
