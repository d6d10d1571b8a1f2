"""`pomato world`: pictures of rendered scenes, the sample clip made again, and how fast scenes are rendered."""

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from pomato_ros.synthetic.preview import contact_sheet
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.sample import make_sample
from pomato_ros.synthetic.world import WORLDS, draw_scene
from pomato_ros.training.config import NANO_RECIPE

SEEDS = (0, 16)
WORLD = "train"
BENCH_CLIPS, BENCH_FRAMES, BENCH_SIZE_WH = 6, 12, NANO_RECIPE.shapes[0].size_wh


def world(
    preview: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of scenes to this PNG, by default out/world.png.")
    ] = None,
    seeds: Annotated[tuple[int, int], typer.Option(help="First seed and how many, for the contact sheet.")] = SEEDS,
    name: Annotated[str, typer.Option("--world", help=f"Which world: {', '.join(WORLDS)}.")] = WORLD,
    sample: Annotated[Path | None, typer.Option(help="Make the bundled sample clip again in this folder.")] = None,
    throughput: Annotated[
        bool, typer.Option("--throughput", help="Measure rendering; the last line is JSON for scripts.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where to render when measuring: cpu, cuda.")] = "cpu",
) -> int:
    """Render scenes with exact truth; every scene is made again from its seed alone."""
    console = Console()
    if name not in WORLDS:
        raise typer.BadParameter(f"no world {name!r}; there are {', '.join(WORLDS)}", param_hint="--world")
    if preview is None and sample is None and not throughput:
        raise typer.BadParameter("nothing to do: give --preview FILE, --sample DIR or --throughput")
    try:
        if preview is not None:
            preview.parent.mkdir(parents=True, exist_ok=True)
            with console.status(f"rendering {seeds[1]} scenes"):
                contact_sheet(range(seeds[0], seeds[0] + seeds[1]), WORLDS[name], preview)
            console.print(f"contact sheet in {preview}", highlight=False)
        if sample is not None:
            with console.status("rendering the sample"):
                make_sample(sample)
            console.print(f"sample in {sample}", highlight=False)
        if throughput:
            with console.status("rendering"):
                measured = bench(name, torch.device(device))
            console.print(bench_line(measured), highlight=False, soft_wrap=True)
            typer.echo(json.dumps(measured))
    except (OSError, ValueError, RuntimeError) as error:
        console.print(f"[bold red]failed:[/] {error}", highlight=False)
        return 1
    return 0


def bench(name: str, device: torch.device, clips: int = BENCH_CLIPS) -> dict[str, str | int | float]:
    """Clips and frames a second of the world ``name``, drawn on the CPU and rendered with truth on ``device``.

    Raises:
        RuntimeError: the device is not there.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("no GPU that torch can use; measure with --device cpu")
    width, height = BENCH_SIZE_WH
    render(draw_scene(0, WORLDS[name], 1, (width, height)).to(device))  # the first use of a device is slow
    drawing_s = rendering_s = 0.0
    for seed in range(clips):
        started = time.perf_counter()
        scene = draw_scene(seed, WORLDS[name], BENCH_FRAMES, (width, height)).to(device)
        drawn = time.perf_counter()
        render(scene, chunk=4 if device.type == "cpu" else BENCH_FRAMES)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        drawing_s += drawn - started
        rendering_s += time.perf_counter() - drawn
    seconds = drawing_s + rendering_s
    return {
        "world": name,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "width_px": width,
        "height_px": height,
        "clips": clips,
        "frames": clips * BENCH_FRAMES,
        "drawing_s": round(drawing_s, 3),
        "rendering_s": round(rendering_s, 3),
        "clips_per_s": round(clips / seconds, 3),
        "frames_per_s": round(clips * BENCH_FRAMES / seconds, 2),
    }


def bench_line(measured: dict[str, str | int | float]) -> str:
    """The same for people."""
    return (
        "{frames} frames of {width_px}x{height_px} px with truth, world {world}, on {device} ({threads} threads): "
        "{clips_per_s} clips/s, {frames_per_s} frames/s; drawing {drawing_s} s, rendering {rendering_s} s"
    ).format(**measured)
