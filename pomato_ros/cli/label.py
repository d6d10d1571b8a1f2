"""`pomato label`: masks, depth, tracks and poses of recordings as data sets."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from pomato_ros.batch.inputs import expand_inputs, folder_of, open_input
from pomato_ros.config import ModelOptions, PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import PomatoError
from pomato_ros.mapping.sources import frames_between
from pomato_ros.sinks.labels import FORMS, LabelWriter


def label(
    inputs: Annotated[list[str], typer.Argument(help="recordings: folders, bags, videos, globs, URIs, or a .txt list")],
    out: Annotated[Path, typer.Option(help="folder of the data set")],
    form: Annotated[str, typer.Option(help=f"some of {','.join(FORMS)}, by commas")] = ",".join(FORMS),
    max_frames: Annotated[int, typer.Option(help="frames of a recording at most; 0: all")] = 0,
    checkpoint: Annotated[str, typer.Option(help="weights; empty: the bundled ones")] = "",
) -> int:
    """Label recordings by the engine's own answers; a recording that cannot be read is named and left out."""
    failed = 0
    try:
        engine = Engine(dataclasses.replace(PomatoConfig(), model=ModelOptions(checkpoint=checkpoint)))
        recordings = expand_inputs(inputs)
        with Progress() as progress:
            bar = progress.add_task("recordings", total=len(recordings))
            for uri in recordings:
                try:
                    count = label_recording(engine, uri, LabelWriter(out, folder_of(uri), form.split(",")), max_frames)
                    typer.echo(f"{uri}: {count} frames")
                except (OSError, ValueError) as error:
                    failed += 1
                    typer.echo(f"left out {uri}: {error}", err=True)
                progress.advance(bar)
    except PomatoError as error:
        typer.echo(f"pomato label: {error}", err=True)
        return 1
    return 1 if failed == len(recordings) else 0


def label_recording(engine: Engine, uri: str, writer: LabelWriter, max_frames: int) -> int:
    """Label one recording from a reset on; the number of frames.

    Raises:
        UnusableFrame: it cannot be read.
        OSError: a file cannot be read or written.
    """
    engine.reset()
    count = 0
    with open_input(uri) as frames:
        for frame in frames_between(frames, 0, max_frames or len(frames)):
            for scene in engine.advance(frame):
                writer.add(scene)
                count += 1
    writer.finish()
    return count
