"""`pomato world`: pictures of rendered scenes, the sample clip made again, and how fast scenes are rendered."""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from pomato_ros.synthetic.preview import contact_sheet
from pomato_ros.synthetic.sample import make_sample
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.training.config import NANO_RECIPE

SEEDS = (0, 16)
THROUGHPUT_CLIPS, THROUGHPUT_FRAMES, THROUGHPUT_SIZE_WH = 6, 12, NANO_RECIPE.shapes[0].size_wh


def world(
    preview: Annotated[Path | None, typer.Option(help="Write a contact sheet of scenes to this PNG.")] = None,
    seeds: Annotated[tuple[int, int], typer.Option(help="First seed and how many, for the contact sheet.")] = SEEDS,
    sample: Annotated[Path | None, typer.Option(help="Make the bundled sample clip again in this folder.")] = None,
    throughput: Annotated[bool, typer.Option("--throughput", help="Measure rendering on this machine.")] = False,
) -> int:
    """Render scenes with exact truth; every scene is made again from its seed alone."""
    console = Console()
    if preview is None and sample is None and not throughput:
        raise typer.BadParameter("nothing to do: give --preview FILE, --sample DIR or --throughput")
    try:
        if preview is not None:
            preview.parent.mkdir(parents=True, exist_ok=True)
            with console.status(f"rendering {seeds[1]} scenes"):
                contact_sheet(range(seeds[0], seeds[0] + seeds[1]), TRAIN_WORLD, preview)
            console.print(f"contact sheet in {preview}", highlight=False)
        if sample is not None:
            with console.status("rendering the sample"):
                make_sample(sample)
            console.print(f"sample in {sample}", highlight=False)
    except (OSError, ValueError) as error:
        console.print(f"[bold red]failed:[/] {error}", highlight=False)
        return 1
    if throughput:
        with console.status("rendering"):
            console.print(throughput_line(), highlight=False)
    return 0


def throughput_line() -> str:
    """Frames a second at the size that weights are trained at."""
    started = time.perf_counter()
    for seed in range(THROUGHPUT_CLIPS):
        render_clip(seed, TRAIN_WORLD, THROUGHPUT_FRAMES, THROUGHPUT_SIZE_WH)
    seconds = time.perf_counter() - started
    frames = THROUGHPUT_CLIPS * THROUGHPUT_FRAMES
    width, height = THROUGHPUT_SIZE_WH
    return (
        f"{frames} frames of {width}x{height} px with truth in {seconds:.2f} s: {frames / seconds:.0f} frames/s, "
        f"{torch.get_num_threads()} threads"
    )
