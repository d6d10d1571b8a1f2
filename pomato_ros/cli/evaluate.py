"""`pomato evaluate`: weights against the truth of rendered sequences they never saw, and against baselines."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pomato_ros.cli.evaluation_page import Row, draw_page, picture_row
from pomato_ros.cli.oracle_page import OraclePage
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation import mask_ablation, oracle_sets
from pomato_ros.evaluation.clip_tracks import TRACK_FRAMES
from pomato_ros.evaluation.evaluate import SequenceResult, Subject, evaluate_sequences, subject_of
from pomato_ros.evaluation.grading import SequenceRun
from pomato_ros.evaluation.oracle import OraclePredictor, pointmap_engine
from pomato_ros.evaluation.oracle_noise import NoisyOracle
from pomato_ros.evaluation.oracle_report import oracle_sequence_table, oracle_summary_table, summarise_oracle
from pomato_ros.evaluation.oracle_sets import OracleSequence
from pomato_ros.evaluation.oracle_trial import (
    SCALE_PRIORS,
    OracleResult,
    OracleRun,
    network_engine,
    oracle_engine,
    run_trial,
)
from pomato_ros.evaluation.recorded import evaluate_recorded, find_recordings
from pomato_ros.evaluation.recorded_report import davis_table, kitti_table, summarise_recorded
from pomato_ros.evaluation.report import FlatValue, sequence_table, split_table, summarise, summary_table
from pomato_ros.evaluation.score import EVERY_PIXEL
from pomato_ros.evaluation.sequences import FRAMES, SEQUENCES, SequencePlan, plan_sequences, render_sequences
from pomato_ros.evaluation.splits import EVERY_SPLIT, SPLITS, plan_split, split_names
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import PATCH_PX
from pomato_ros.synthetic.clip import Clip
from pomato_ros.training.config import HELD_OUT_SEED, NANO_RECIPE

TABLE_WIDTH = 150  # where the terminal does not say
PAGE = "evaluation.png"
PAGE_ROWS = 16
ORACLE_SIZE_PX = max(NANO_RECIPE.shapes[0].size_wh)


def evaluate(
    weights: Annotated[Path | None, typer.Option(help="Weights file; without it the bundled ones.")] = None,
    sequences: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Held-out sequences: {SEQUENCES}, with --oracle {oracle_sets.SEQUENCES}; 0: --recorded only.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=TRACK_FRAMES, help=f"Frames of each sequence: {FRAMES}, with --oracle {oracle_sets.FRAMES}."),
    ] = None,
    split: Annotated[
        str, typer.Option(help=f"Which held-out worlds: {', '.join(SPLITS)}, or {EVERY_SPLIT} in turn.")
    ] = "same",
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Run optical flow + essential matrix (OpenCV) over the same frames too.")
    ] = False,
    recorded: Annotated[
        Path | None,
        typer.Option(
            "--recorded",
            "--data",
            help="Folder with davis/NAME/{images,masks} or kitti_stereo: real video is scored too, beside OpenCV.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--page", help="Folder for a page of pictures; with --oracle an HTML page.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for the result under this machine's name.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the network; 0: as num_threads.")] = 0,
    oracle: Annotated[
        bool,
        typer.Option(
            "--oracle",
            help="True pointmaps that err as a network's do: only the engine's own error is left, in metres.",
        ),
    ] = False,
    noise_free: Annotated[
        bool, typer.Option("--noise-free", help="With --oracle: exact pointmaps, and the scores of a network.")
    ] = False,
    prior: Annotated[
        str, typer.Option(help=f"With --oracle: where metres come from: {', '.join(SCALE_PRIORS)}, or both in turn.")
    ] = "depth",
    network: Annotated[
        bool, typer.Option("--network", help="With --oracle: the same table with the weights in the oracle's place.")
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="With --oracle: what each part of the moving mask is worth, one left out.")
    ] = False,
    skip: Annotated[
        int, typer.Option(min=0, help="Begin so many seeds later: other sequences than the usual ones.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one flat JSON object as the last line.")] = False,
) -> int:
    """Measure depth, poses, masks and tracks on held-out rendered sequences, beside their baselines."""
    console = Console()
    console = console if console.is_terminal else Console(width=TABLE_WIDTH)
    config = PomatoConfig().with_values({"checkpoint": str(weights or ""), "num_threads": threads, **EVERY_PIXEL})
    if network and (not oracle or noise_free or ablate):
        console.print(
            "[bold red]--network goes with --oracle alone: it puts the weights in the noisy oracle's place[/]"
        )
        return 2
    if oracle and not noise_free:
        if prior not in (*SCALE_PRIORS, "both"):
            console.print(f"[bold red]--prior must be one of {', '.join(SCALE_PRIORS)}, both; got {prior}[/]")
            return 2
        if ablate:
            return evaluate_ablation(config, plan_oracle_trial(sequences, frames, skip), console, save, as_json=as_json)
        priors = tuple(SCALE_PRIORS) if prior == "both" else (prior,)
        plan = plan_oracle_trial(sequences, frames, skip)
        if not network:
            return evaluate_oracle(config, plan, priors, console, save, out, as_json=as_json)
        if priors != ("depth",):
            console.print(f"[bold red]--network takes its metres from a depth sensor: --prior depth; got {prior}[/]")
            return 2
        try:
            predictor = Predictor.from_options(config.model)
        except (ValueError, OSError) as error:
            console.print(f"[bold red]evaluation failed:[/] {error}", highlight=False)
            return 1
        return evaluate_oracle(config, plan, priors, console, save, out, as_json=as_json, predictor=predictor)
    try:
        trial = truth_trial(config) if oracle else network_trial(config)
        plans = [
            plan_split(
                name,
                HELD_OUT_SEED + skip,
                trial.image_size_px,
                trial.patch_px,
                sequences or SEQUENCES,
                frames or FRAMES,
            )
            for name in split_names(split)
        ]
        summary: dict[str, FlatValue] = {"weights_sha256": trial.weights_sha256}
        if sequences != 0:
            summary |= evaluate_splits(trial, plans, out, console, with_opencv=baselines)
        if recorded is not None and trial.engine is not None:
            summary |= evaluate_real(trial.engine, recorded, console)
    except (ValueError, OSError) as error:
        console.print(f"[bold red]evaluation failed:[/] {error}", highlight=False)
        return 1
    console.print(
        f"weights SHA-256 {trial.weights_sha256}" if not oracle else "no weights: true pointmaps", highlight=False
    )
    measured = "splits" if split == EVERY_SPLIT else "evaluate"
    conclude("truth" if oracle else measured, summary, save, as_json, console)
    return 0


def plan_oracle_trial(sequences: int | None, frames: int | None, skip: int) -> oracle_sets.OraclePlan:
    """Scenes at the size of the bundled network."""
    size_wh = plan_sequences(HELD_OUT_SEED, ORACLE_SIZE_PX, PATCH_PX).size_wh
    return oracle_sets.plan_oracle(
        HELD_OUT_SEED + skip, size_wh, sequences or oracle_sets.SEQUENCES, frames or oracle_sets.FRAMES
    )


def evaluate_oracle(
    config: PomatoConfig,
    plan: oracle_sets.OraclePlan,
    priors: tuple[str, ...],
    console: Console,
    save: Path | None,
    out: Path | None = None,
    *,
    as_json: bool,
    predictor: Predictor | None = None,
) -> int:
    """The engine over an oracle that errs as networks do, beside what is asked of it; the first prior's is the result.

    Scores with a further prior follow under its name. Pictures in ``out`` are of the first. With a ``predictor`` that
    takes the oracle's place.
    """
    started_s = time.perf_counter()
    summary: dict[str, FlatValue] = {}
    page = OraclePage()
    with progress(console) as bars:
        bar = bars.add_task("rendered sequences", total=len(priors) * sum(oracle_sets.planned(plan).values()))
        for prior in priors:

            def watch(
                result: OracleResult, sequence: OracleSequence, run: OracleRun, *, first: bool = prior == priors[0]
            ) -> None:
                bars.advance(bar)
                if out is not None and first:
                    page.watch(result, sequence, run)

            results = run_trial(
                oracle_engine(config, prior=prior) if predictor is None else network_engine(config, predictor),
                oracle_sets.oracle_sequences(plan),
                config.window.window_size - config.window.overlap,
                watch,
                prior,
            )
            found = print_oracle(results, prior, console)
            summary |= found if prior == priors[0] else {f"{prior}_{key}": value for key, value in found.items()}
    summary |= {
        "split": "held_out",
        "first_seed": plan.first_seed,
        "image_width_px": plan.size_wh[0],
        "image_height_px": plan.size_wh[1],
        "seconds": round(time.perf_counter() - started_s, 2),
    }
    if out is not None:
        command = "pomato evaluate --oracle" if predictor is None else "pomato evaluate --oracle --network"
        written = page.write(out, summary, command)
        console.print(f"page in {written}", highlight=False)
    if predictor is not None:
        summary["weights_sha256"] = predictor.checkpoint.sha256
    conclude("oracle" if predictor is None else "network", summary, save, as_json, console)
    return 0


def evaluate_ablation(
    config: PomatoConfig, plan: oracle_sets.OraclePlan, console: Console, save: Path | None, *, as_json: bool
) -> int:
    """The moving mask with one part left out at a time, on the oracle's sequences that score masks."""
    started_s = time.perf_counter()

    def engine_for(sequence: OracleSequence) -> Engine:
        oracle = NoisyOracle(sequence.clip, seed=sequence.seed)
        return pointmap_engine(config.with_values({"scale_source": "depth"}), oracle)

    with progress(console) as bars:
        kinds = mask_ablation.KINDS
        bar = bars.add_task("rendered sequences", total=sum(oracle_sets.planned(plan)[kind] for kind in kinds))
        scores = mask_ablation.ablate_mask(
            engine_for, oracle_sets.oracle_sequences(plan, kinds), lambda: bars.advance(bar)
        )
    console.print(mask_ablation.ablation_table(scores))
    summary = mask_ablation.summarise_ablation(scores) | {
        "sequences": plan.sequences,
        "frames_each": plan.frames,
        "first_seed": plan.first_seed,
        "image_width_px": plan.size_wh[0],
        "image_height_px": plan.size_wh[1],
        "seconds": round(time.perf_counter() - started_s, 2),
    }
    conclude("ablation", summary, save, as_json, console)
    return 0


def print_oracle(results: list[OracleResult], prior: str, console: Console) -> dict[str, FlatValue]:
    """Both tables of one trial; its summary."""
    summary = summarise_oracle(results, prior)
    console.print(oracle_sequence_table(results))
    console.print(oracle_summary_table(summary))
    return summary


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, and the images it takes."""

    subject_for: Callable[[Clip], Subject]
    image_size_px: int
    patch_px: int
    weights_sha256: str | None
    engine: Engine | None  # where one engine serves all videos


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
        return subject_of(pointmap_engine(config, predictor), predictor, ORACLE_SIZE_PX, PATCH_PX)

    return Trial(subject_for, ORACLE_SIZE_PX, PATCH_PX, None, None)


def evaluate_splits(
    trial: Trial, plans: list[SequencePlan], out: Path | None, console: Console, *, with_opencv: bool
) -> dict[str, FlatValue]:
    """Every plan in turn; the first one's summary, the others' under their split's name. Pictures are of the first."""
    summaries = {
        plan.split: evaluate_rendered(trial, plan, out if plan is plans[0] else None, console, with_opencv=with_opencv)
        for plan in plans
    }
    first = plans[0].split
    if len(plans) == 1:
        return summaries[first]
    console.print(split_table(summaries))
    others = {
        f"{name}_{key}": value
        for name, summary in summaries.items()
        if name != first
        for key, value in summary.items()
        if key != "split"
    }
    return summaries[first] | {"split": EVERY_SPLIT} | others


def evaluate_rendered(
    trial: Trial, plan: SequencePlan, out: Path | None, console: Console, *, with_opencv: bool = False
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


def evaluate_real(engine: Engine, folder: Path, console: Console) -> dict[str, FlatValue]:
    """Run, score and show the real sequences under ``folder``; their part of the summary."""
    recordings = find_recordings(folder)
    with progress(console) as bars:
        bar = bars.add_task("real sequences", total=recordings.count)
        results = evaluate_recorded(engine, recordings, lambda: bars.advance(bar))
    if results.davis:
        console.print(davis_table(results.davis))
    if results.kitti is not None:
        console.print(kitti_table(results.kitti))
    return summarise_recorded(results)


def progress(console: Console) -> Progress:
    """A bar with counts and time; silent where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
