"""`pomato train`: trains a preset on rendered or recorded scenes, or goes on where an earlier call stopped."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pomato_ros.training.config import TrainConfig


def train(
    preset: Annotated[str, typer.Option(help="recipe: one of pomato_ros.training.config.PRESETS")] = "nano",
    out: Annotated[Path, typer.Option(help="folder of the run; an earlier run in it is resumed")] = Path("out/train"),
    seconds: Annotated[
        float, typer.Option(help="be done within this wall time, last checkpoint included (0: when the recipe is done)")
    ] = 0.0,
    share: Annotated[float, typer.Option(help="scale the steps of every stage, for rehearsals")] = 1.0,
    start: Annotated[Path | None, typer.Option(help="weights to begin with instead of none")] = None,
    seed: Annotated[int, typer.Option(help="0, 1 or 2: other scenes and another first draw", min=0, max=2)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    processes: Annotated[
        int, typer.Option(help="data-parallel processes; 0: a core or GPU each, as far as every step has windows")
    ] = 0,
    workers: Annotated[
        int,
        typer.Option(help="processes that draw batches, beside each of these; -1: 1, for a GPU all cores"),
    ] = -1,
    data: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of a recorded dataset the recipe draws from; repeatable")
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WEIGHT of a source, instead of the recipe's mixture; 'world' is rendered; repeatable"),
    ] = None,
    validate_every: Annotated[int, typer.Option(help="steps between looks at held-out scenes; 0: never")] = 200,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 100,
    tensorboard: Annotated[bool, typer.Option(help="write TensorBoard events too, where it is installed")] = True,
    show: Annotated[bool, typer.Option("--list", help="print the recipes and stop")] = False,
    score: Annotated[
        int, typer.Option(help="held-out sequences scored before and after, beside --seconds; 0: none", min=0)
    ] = 0,
) -> int:
    """Train a network on rendered or recorded scenes; resumes by itself.

    Where torchrun started this process, it takes its part of that run; else it starts the others itself. Two processes
    of one thread each learn almost twice as fast as two threads: the network's layers are too small to share.
    """
    started_s = time.monotonic()  # importing torch takes some of the time
    import dataclasses
    import os

    import torch

    from pomato_ros.training.config import PRESETS, RunOptions, scaled_to
    from pomato_ros.training.launch import check_run, count_workers, launch

    if show:
        Console().print(preset_table(PRESETS))
        return 0
    if preset not in PRESETS:
        raise typer.BadParameter(f"unknown preset '{preset}'; known: {', '.join(PRESETS)}")
    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with usage_errors():
        config = dataclasses.replace(
            scaled_to(PRESETS[preset], share),
            seed=seed,
            mixture=parse_mixture(mix) if mix else PRESETS[preset].mixture,
            data=parse_folders(data or []),
        )
    torch_device = torch.device(name)
    places = torch.cuda.device_count() if torch_device.type == "cuda" else os.cpu_count() or 1
    processes = processes or min(places, config.fewest_windows)
    options = RunOptions(
        folder=out,
        device=torch_device,
        seconds=seconds,
        workers=workers if workers >= 0 else count_workers(config, torch_device, processes),
        checkpoint_every=checkpoint_every,
        validate_every=validate_every,
        log_every=10,
        tensorboard=tensorboard,
        started_s=started_s,
    )
    with usage_errors():
        check_run(config, options, start)
    before = None
    if score:
        from pomato_ros.cli.training_scores import print_progress, score_start, scores_here

        before = score_start(config, out, start, score) if scores_here(score) else None
        options = dataclasses.replace(options, started_s=time.monotonic())
    launch(config, options, start, processes)
    if before is not None:
        print_progress(before, out, score)
    typer.echo(f"weights: {out / 'weights.safetensors'}")
    return 0


def preset_table(presets: "Mapping[str, TrainConfig]") -> Table:
    """One row for each stage of each recipe."""
    table = Table(title="recipes of pomato train")
    for heading in ("preset", "network", "stage", "steps", "windows a step", "rate", "frozen", "images", "from"):
        table.add_column(heading, overflow="fold")
    for name, config in presets.items():
        start = "nothing" if config.from_scratch else "--start"
        sizes = " ".join("x".join(map(str, shape.size_wh)) for shape in config.shapes)
        for stage in config.stages:
            cells = (f"{stage.steps:,}", str(stage.windows), f"{stage.learning_rate:g}", stage.frozen.value)
            table.add_row(name, config.network.architecture, stage.name, *cells, sizes, start)
    return table


@contextmanager
def usage_errors() -> Iterator[None]:
    """A value that a recipe cannot use is the caller's mistake, told without a traceback."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_folders(texts: list[str]) -> dict[str, Path]:
    """Folders by dataset of ``NAME=FOLDER`` texts.

    Raises:
        typer.BadParameter: a text is something else.
    """
    return {name: Path(folder).expanduser() for name, folder in (split_setting(text, "FOLDER") for text in texts)}


def parse_mixture(texts: list[str]) -> dict[str, float]:
    """Weights by source of ``NAME=WEIGHT`` texts.

    Raises:
        typer.BadParameter: a text is something else.
    """
    weights = {}
    for text in texts:
        name, weight = split_setting(text, "WEIGHT")
        try:
            weights[name] = float(weight)
        except ValueError as error:
            raise typer.BadParameter(f"expected a number as the weight of {name}, got '{weight}'") from error
    return weights


def split_setting(text: str, what: str) -> tuple[str, str]:
    """Name and value of a ``NAME=VALUE`` text.

    Raises:
        typer.BadParameter: it is something else.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"expected NAME={what}, got '{text}'")
    return name, value
