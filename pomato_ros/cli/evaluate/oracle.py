"""`pomato evaluate oracle`, `network` and `ablation`: sequences whose pointmaps err in a known manner, in metres."""

import time
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
from pomato_ros.cli.oracle_page import OraclePage
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.evaluation import mask_ablation
from pomato_ros.evaluation.clip_tracks import TRACK_FRAMES
from pomato_ros.evaluation.oracle import pointmap_engine
from pomato_ros.evaluation.oracle_noise import NoisyOracle
from pomato_ros.evaluation.oracle_report import oracle_sequence_table, oracle_summary_table, summarise_oracle
from pomato_ros.evaluation.oracle_sets import (
    FRAMES,
    SEQUENCES,
    OraclePlan,
    OracleSequence,
    oracle_sequences,
    plan_oracle,
    planned,
)
from pomato_ros.evaluation.oracle_trial import (
    SCALE_PRIORS,
    EngineFor,
    OracleResult,
    OracleRun,
    network_engine,
    oracle_engine,
    run_trial,
)
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.evaluation.score import EVERY_PIXEL
from pomato_ros.evaluation.sequences import plan_sequences
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import PATCH_PX
from pomato_ros.training.config import HELD_OUT_SEED, NANO_RECIPE

BOTH_PRIORS = "both"

Sequences = Annotated[int, typer.Option(min=1, help="Ordinary sequences; others come in proportion.")]
Frames = Annotated[int, typer.Option(min=TRACK_FRAMES, help="Frames of each sequence.")]
Page = Annotated[Path | None, typer.Option("--out", "--page", help="Folder for an HTML page with pictures.")]


def evaluate_oracle(
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    prior: Annotated[
        str, typer.Option(help=f"Where metres come from: {', '.join(SCALE_PRIORS)}, or {BOTH_PRIORS} in turn.")
    ] = "depth",
    out: Page = None,
    save: Save = None,
    as_json: AsJson = False,
) -> int:
    """The estimator over pointmaps that err as a network's do, with what is asked of it."""
    console = open_console()
    if prior not in (*SCALE_PRIORS, BOTH_PRIORS):
        console.print(f"[bold red]--prior must be one of {', '.join(SCALE_PRIORS)}, {BOTH_PRIORS}; got {prior}[/]")
        return 2
    priors = tuple(SCALE_PRIORS) if prior == BOTH_PRIORS else (prior,)
    plan, config = plan_trial(sequences, frames, skip), PomatoConfig().with_values(EVERY_PIXEL)

    def measure() -> None:
        started_s, page = time.perf_counter(), OraclePage()
        summary: dict[str, FlatValue] = {}
        for each in priors:
            engine_for = oracle_engine(config, prior=each)
            found = run_shown(engine_for, plan, each, config, console, page if each == priors[0] else None)
            summary |= found if each == priors[0] else {f"{each}_{key}": value for key, value in found.items()}
        summary |= plan_facts(plan, started_s)
        write_page(page, out, summary, "pomato evaluate oracle", console)
        conclude("oracle", summary, save, as_json, console)

    return report_failure(console, measure)


def evaluate_network(
    weights: Weights = None,
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    out: Page = None,
    save: Save = None,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> int:
    """The oracle's table with weights in its place; metres come from a depth sensor."""
    console = open_console()
    config = network_config(weights, threads)

    def measure() -> None:
        started_s, page = time.perf_counter(), OraclePage()
        predictor, plan = Predictor.from_options(config.model), plan_trial(sequences, frames, skip)
        summary = run_shown(network_engine(config, predictor), plan, "depth", config, console, page)
        summary |= plan_facts(plan, started_s)
        write_page(page, out, summary, "pomato evaluate network", console)
        conclude("network", summary | {"weights_sha256": predictor.checkpoint.sha256}, save, as_json, console)

    return report_failure(console, measure)


def evaluate_ablation(
    sequences: Sequences = SEQUENCES,
    skip: Skip = 0,
    frames: Frames = FRAMES,
    save: Save = None,
    as_json: AsJson = False,
) -> int:
    """What each part of the moving mask is worth on the oracle's sequences, one left out at a time."""
    console = open_console()
    config = PomatoConfig().with_values({"scale_source": "depth", **EVERY_PIXEL})
    plan = plan_trial(sequences, frames, skip)

    def engine_for(sequence: OracleSequence) -> Engine:
        return pointmap_engine(config, NoisyOracle(sequence.clip, seed=sequence.seed))

    def measure() -> None:
        started_s, kinds = time.perf_counter(), mask_ablation.KINDS
        with progress(console) as bars:
            bar = bars.add_task("rendered sequences", total=sum(planned(plan)[kind] for kind in kinds))
            scores = mask_ablation.ablate_mask(engine_for, oracle_sequences(plan, kinds), lambda: bars.advance(bar))
        console.print(mask_ablation.ablation_table(scores))
        counts: dict[str, FlatValue] = {"sequences": plan.sequences, "frames_each": plan.frames}
        facts = {key: value for key, value in plan_facts(plan, started_s).items() if key != "split"}
        conclude("ablation", mask_ablation.summarise_ablation(scores) | counts | facts, save, as_json, console)

    return report_failure(console, measure)


def plan_trial(sequences: int, frames: int, skip: int) -> OraclePlan:
    """Scenes at the size of the bundled network."""
    size_px = max(NANO_RECIPE.shapes[0].size_wh)
    size_wh = plan_sequences(HELD_OUT_SEED, size_px, PATCH_PX).size_wh
    return plan_oracle(HELD_OUT_SEED + skip, size_wh, sequences, frames)


def plan_facts(plan: OraclePlan, started_s: float) -> dict[str, FlatValue]:
    """What was run, and how long it took since ``started_s`` on the performance counter."""
    return {
        "split": "held_out",
        "first_seed": plan.first_seed,
        "image_width_px": plan.size_wh[0],
        "image_height_px": plan.size_wh[1],
        "seconds": round(time.perf_counter() - started_s, 2),
    }


def run_shown(
    engine_for: EngineFor, plan: OraclePlan, prior: str, config: PomatoConfig, console: Console, page: OraclePage | None
) -> dict[str, FlatValue]:
    """One trial with its progress and tables, watched by ``page``; its summary."""
    with progress(console) as bars:
        bar = bars.add_task(f"rendered sequences, metres by {prior}", total=sum(planned(plan).values()))

        def watch(result: OracleResult, sequence: OracleSequence, run: OracleRun) -> None:
            bars.advance(bar)
            if page is not None:
                page.watch(result, sequence, run)

        new_frames = config.window.window_size - config.window.overlap
        results = run_trial(engine_for, oracle_sequences(plan), new_frames, watch, prior)
    summary = summarise_oracle(results, prior)
    console.print(oracle_sequence_table(results))
    console.print(oracle_summary_table(summary))
    return summary


def write_page(
    page: OraclePage, out: Path | None, summary: dict[str, FlatValue], command: str, console: Console
) -> None:
    """The page in ``out``, if that is given."""
    if out is not None:
        console.print(f"page in {page.write(out, summary, command)}", highlight=False)
