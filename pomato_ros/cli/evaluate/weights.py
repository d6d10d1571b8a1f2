"""`pomato evaluate weights` and `truth`: rendered sequences that training never saw, beside baselines."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pomato_ros.cli.evaluate.options import (
    AsJson,
    Save,
    Skip,
    Threads,
    Weights,
    network_config,
    open_console,
    progress,
    report_failure,
)
from pomato_ros.cli.evaluate.recorded import evaluate_real
from pomato_ros.cli.evaluation_page import Row, draw_page, picture_row
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation.clip_tracks import TRACK_FRAMES
from pomato_ros.evaluation.evaluate import SequenceResult, Subject, evaluate_sequences, subject_of
from pomato_ros.evaluation.grading import SequenceRun
from pomato_ros.evaluation.oracle import OraclePredictor, pointmap_engine
from pomato_ros.evaluation.report import FlatValue, sequence_table, split_table, summarise, summary_table
from pomato_ros.evaluation.score import EVERY_PIXEL
from pomato_ros.evaluation.sequences import FRAMES, SEQUENCES, SequencePlan, render_sequences
from pomato_ros.evaluation.splits import EVERY_SPLIT, SPLITS, plan_split, split_names
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import PATCH_PX
from pomato_ros.synthetic.clip import Clip
from pomato_ros.training.config import HELD_OUT_SEED, NANO_RECIPE

PAGE = "evaluation.png"
PAGE_ROWS = 16
TRUTH_SIZE_PX = max(NANO_RECIPE.shapes[0].size_wh)

Sequences = Annotated[int, typer.Option(min=1, help="Held-out sequences of each split.")]
Frames = Annotated[int, typer.Option(min=TRACK_FRAMES, help="Frames of each sequence.")]
Split = Annotated[str, typer.Option(help=f"Which held-out worlds: {', '.join(SPLITS)}, or {EVERY_SPLIT} in turn.")]
Baselines = Annotated[
    bool, typer.Option("--baselines", help="Run optical flow + essential matrix (OpenCV) over the same frames too.")
]
Out = Annotated[Path | None, typer.Option("--out", "--page", help="Folder for a page of pictures.")]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, and the images it takes."""

    subject_for: Callable[[Clip], Subject]
    image_size_px: int
    patch_px: int
    weights_sha256: str | None
    engine: Engine | None  # where one engine serves all videos


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sequences, and what is made of them."""

    sequences: int
    skip: int
    frames: int
    split: str
    baselines: bool
    out: Path | None


def evaluate_weights(
    weights: Weights = None,
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    split: Split = "same",
    baselines: Baselines = False,
    data: Annotated[
        Path | None, typer.Option("--data", "--recorded", help="Folder of real recordings that are scored as well.")
    ] = None,
    out: Out = None,
    save: Save = None,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> int:
    """Depth, poses, masks and tracks of weights on held-out rendered sequences, beside their baselines."""
    console = open_console()
    config = network_config(weights, threads)

    def measure() -> None:
        trial = network_trial(config)
        summary = evaluate_splits(trial, Selection(sequences, skip, frames, split, baselines, out), console)
        if data is not None and trial.engine is not None:
            summary |= evaluate_real(trial.engine, data, console)
        console.print(f"weights SHA-256 {trial.weights_sha256}", highlight=False)
        conclude("splits" if split == EVERY_SPLIT else "evaluate", summary, save, as_json, console)

    return report_failure(console, measure)


def evaluate_truth(
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    split: Split = "same",
    baselines: Baselines = False,
    out: Out = None,
    save: Save = None,
    as_json: AsJson = False,
) -> int:
    """The same with exact pointmaps in place of a network's: what is left is the estimator's own error."""
    console = open_console()

    def measure() -> None:
        trial = truth_trial(PomatoConfig().with_values(EVERY_PIXEL))
        summary = evaluate_splits(trial, Selection(sequences, skip, frames, split, baselines, out), console)
        console.print("no weights: true pointmaps", highlight=False)
        conclude("truth", summary, save, as_json, console)

    return report_failure(console, measure)


def network_trial(config: PomatoConfig) -> Trial:
    """The weights that ``config`` names, in one engine for all sequences."""
    predictor = Predictor.from_options(config.model)
    engine, checkpoint = pointmap_engine(config, predictor), predictor.checkpoint
    size_px, patch_px = checkpoint.image_size_px, checkpoint.network.config.patch_size
    subject = subject_of(engine, predictor, size_px, patch_px)
    return Trial(lambda clip: subject, size_px, patch_px, checkpoint.sha256, engine)


def truth_trial(config: PomatoConfig) -> Trial:
    """The truth of each sequence in a fresh engine, at the size of the bundled network."""

    def subject_for(clip: Clip) -> Subject:
        predictor = OraclePredictor(clip)
        return subject_of(pointmap_engine(config, predictor), predictor, TRUTH_SIZE_PX, PATCH_PX)

    return Trial(subject_for, TRUTH_SIZE_PX, PATCH_PX, None, None)


def evaluate_splits(trial: Trial, chosen: Selection, console: Console) -> dict[str, FlatValue]:
    """Every split in turn; the first one's summary, the others' under their name. Pictures are of the first.

    Raises:
        ConfigError: there is no such split.
    """
    first_seed = HELD_OUT_SEED + chosen.skip
    plans = [
        plan_split(name, first_seed, trial.image_size_px, trial.patch_px, chosen.sequences, chosen.frames)
        for name in split_names(chosen.split)
    ]
    summaries = {
        plan.split: evaluate_rendered(trial, plan, chosen.out if plan is plans[0] else None, console, chosen.baselines)
        for plan in plans
    }
    first = plans[0].split
    summary = {"weights_sha256": trial.weights_sha256, **summaries[first]}
    if len(plans) == 1:
        return summary
    console.print(split_table(summaries))
    others = {
        f"{name}_{key}": value
        for name, found in summaries.items()
        if name != first
        for key, value in found.items()
        if key != "split"
    }
    return summary | {"split": EVERY_SPLIT} | others


def evaluate_rendered(
    trial: Trial, plan: SequencePlan, out: Path | None, console: Console, with_opencv: bool
) -> dict[str, FlatValue]:
    """Run, score and show the rendered sequences; the summary."""
    started_s = time.perf_counter()
    rows: list[Row] = []
    with progress(console) as bars:
        bar = bars.add_task(f"rendered sequences, {plan.split}", total=plan.sequences)

        def watch(result: SequenceResult, clip: Clip, run: SequenceRun) -> None:
            bars.advance(bar)
            if out is not None and len(rows) < PAGE_ROWS:
                rows.append(picture_row(result, clip, run))

        results = evaluate_sequences(trial.subject_for, render_sequences(plan), watch, with_opencv=with_opencv)
    summary = {
        **summarise(results, plan.split),
        "first_seed": plan.first_seed,
        "image_width_px": plan.size_wh[0],
        "image_height_px": plan.size_wh[1],
        "seconds": round(time.perf_counter() - started_s, 2),
    }
    console.print(sequence_table(results))
    console.print(summary_table(results, summary))
    if out is not None:
        draw_page(rows, summary, out / PAGE)
        console.print(f"pictures in {out / PAGE}", highlight=False)
    return summary
