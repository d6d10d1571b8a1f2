"""`pomato evaluate recorded`: real recordings with truth."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pomato_ros.cli.evaluate.options import (
    AsJson,
    Save,
    Threads,
    Weights,
    network_config,
    open_console,
    progress,
    report_failure,
)
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation.protocols.following import follower
from pomato_ros.evaluation.protocols.registry import PROTOCOLS, protocol_of
from pomato_ros.evaluation.protocols.runner import score_sequence
from pomato_ros.evaluation.protocols.table import protocol_table, summarise_layout
from pomato_ros.evaluation.recorded import evaluate_recorded, find_recordings
from pomato_ros.evaluation.recorded_report import davis_table, kitti_table, summarise_recorded
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import prepare_frame


def evaluate_recordings(
    folder: Annotated[Path, typer.Argument(help="With davis/NAME/{images,masks} or kitti_stereo, or of a --layout.")],
    layout: Annotated[str, typer.Option(help=f"Data set as distributed: {', '.join(PROTOCOLS)}.")] = "",
    weights: Weights = None,
    save: Save = None,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> int:
    """Masks and poses on real recordings, beside an OpenCV pipeline."""
    console = open_console()
    config = network_config(weights, threads)

    def measure() -> None:
        if layout:
            conclude(f"recorded-{layout}", evaluate_data_set(config, layout, folder, console), save, as_json, console)
            return
        conclude("recorded", evaluate_real(Engine(config), folder, console), save, as_json, console)

    return report_failure(console, measure)


def evaluate_data_set(config: PomatoConfig, layout: str, folder: Path, console: Console) -> dict[str, FlatValue]:
    """Run and show a data set by the papers' protocol; its summary.

    Raises:
        ConfigError: there is no such layout.
        OSError: the data set is not there, or a file is missing.
    """
    protocol = protocol_of(layout)
    sequences = protocol.chosen(protocol.find(folder))
    network = Predictor.from_options(config.model)
    size_px = config.window.image_size or int(network.describe()["image_size_px"])
    follow = follower(
        network.predict, lambda frame: prepare_frame(frame, size_px), int(network.describe()["temporal_length"])
    )
    engine = Engine(config)
    scores = []
    with progress(console) as bars:
        bar = bars.add_task(protocol.title, total=len(sequences))
        for sequence in sequences:
            scores.append(score_sequence(engine, follow, protocol, sequence))
            bars.advance(bar)
    console.print(protocol_table(protocol, scores))
    return summarise_layout(protocol, scores)


def evaluate_real(engine: Engine, folder: Path, console: Console) -> dict[str, FlatValue]:
    """Run, score and show the real sequences under ``folder``; their summary.

    Raises:
        OSError: there are none, or a file cannot be read.
    """
    recordings = find_recordings(folder)
    with progress(console) as bars:
        bar = bars.add_task("real sequences", total=recordings.count)
        results = evaluate_recorded(engine, recordings, lambda: bars.advance(bar))
    if results.davis:
        console.print(davis_table(results.davis))
    if results.kitti is not None:
        console.print(kitti_table(results.kitti))
    return summarise_recorded(results)
