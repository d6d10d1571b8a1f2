"""`pomato reconstruct`: the best consistent answer for a whole sequence, after the run."""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from pomato_ros.cli.results import flat_line
from pomato_ros.config import ModelOptions, PomatoConfig
from pomato_ros.errors import PomatoError
from pomato_ros.mapping.options import GRAPHS, AlignmentOptions, PairOptions, ReconstructionOptions
from pomato_ros.mapping.pair_prediction import NetworkPairs
from pomato_ros.mapping.reconstruct import Reconstruction
from pomato_ros.mapping.reconstruct import reconstruct as reconstruct_frames
from pomato_ros.mapping.solvers import AlignmentSolver, BundleSolver, ChunkSolver
from pomato_ros.mapping.sources import backend_for, open_frames
from pomato_ros.mapping.static_map import PointCloud
from pomato_ros.sinks.reconstruction_files import MovingPoints, write_reconstruction

METHODS = ("bundle", "alignment")
RUN = ReconstructionOptions()
PAIRS = PairOptions()
ALIGNMENT = AlignmentOptions()


def reconstruct(
    source: Annotated[Path, typer.Argument(help="video, folder of images, or a recorded camera's folder")],
    out: Annotated[Path, typer.Option(help="folder for the results; a run that was interrupted goes on there")],
    method: Annotated[
        str,
        typer.Option(help=f"{' or '.join(METHODS)}: the online answer adjusted on features, or DUSt3R's alignment"),
    ] = "bundle",
    checkpoint: Annotated[str, typer.Option(help="weights; empty: the bundled ones")] = "",
    graph: Annotated[str, typer.Option(help=f"pairs of the alignment: {', '.join(GRAPHS)}")] = PAIRS.graph,
    neighbours: Annotated[int, typer.Option(help="neighbours of an image in the pair graph")] = PAIRS.neighbours,
    iterations: Annotated[int, typer.Option(help="steps of the alignment")] = ALIGNMENT.iterations,
    chunk: Annotated[int, typer.Option(help="frames solved together")] = RUN.chunk,
    overlap: Annotated[int, typer.Option(help="frames that neighbouring chunks share")] = RUN.overlap,
    stride: Annotated[int, typer.Option(help="use every so many frames")] = RUN.stride,
    max_frames: Annotated[int, typer.Option(help="frames that are used at most; 0: all")] = RUN.max_frames,
    rerun: Annotated[bool, typer.Option(help="also write scene.rrd for the Rerun viewer")] = False,
    json: Annotated[bool, typer.Option("--json", help="print the summary as one line of JSON last")] = False,
) -> int:
    """Trajectory, static map, moving things and a web page of a whole sequence."""
    options = dataclasses.replace(RUN, chunk=chunk, overlap=overlap, stride=stride, max_frames=max_frames)
    pairs = dataclasses.replace(PAIRS, graph=graph, neighbours=neighbours)
    started = time.perf_counter()
    try:
        frames = open_frames(source)
        first = next(iter(frames))
        backend = backend_for(first, ModelOptions().backend) if method == "bundle" else ModelOptions().backend
        model = ModelOptions(checkpoint=checkpoint, backend=backend)
        solver = make_solver(method, model, pairs, dataclasses.replace(ALIGNMENT, iterations=iterations))
        with Progress() as progress:
            task = progress.add_task("frames", total=len(frames) // stride or None)
            result = reconstruct_frames(
                frames, solver, options, out / "chunks", lambda count: progress.advance(task, count)
            )
        facts = {
            "source": source.name,
            "method": method,
            "backend": backend,
            "seconds": round(time.perf_counter() - started, 1),
        }
        viewer = partial(write_scene, out / "scene.rrd", source.name) if rerun else None
        summary = write_reconstruction(result, out, source.name, facts, viewer)
    except PomatoError as error:
        typer.echo(f"pomato reconstruct: {error}", err=True)
        return 1
    typer.echo(f"{summary['frames']} frames, {summary['static_points']} points of the static map -> {out}/index.html")
    if json:
        typer.echo(flat_line(summary))
    return 0


def write_scene(
    path: Path, name: str, reconstruction: Reconstruction, static: PointCloud, moving: MovingPoints
) -> None:
    """The recording for the Rerun viewer."""
    from pomato_ros.sinks.rerun_file import write_rerun

    write_rerun(path, reconstruction, static, moving, name)


def make_solver(method: str, model: ModelOptions, pairs: PairOptions, alignment: AlignmentOptions) -> ChunkSolver:
    """The solver with a name.

    Raises:
        typer.BadParameter: there is none.
    """
    if method == "bundle":
        return BundleSolver(dataclasses.replace(PomatoConfig(), model=model))
    if method == "alignment":
        return AlignmentSolver(NetworkPairs.from_options(model, RUN.batch), pairs, alignment)
    raise typer.BadParameter(f"expected one of {', '.join(METHODS)}, got '{method}'", param_hint="--method")
