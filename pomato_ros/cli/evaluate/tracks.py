"""`pomato evaluate tracks`: the tracker by itself, on true poses and masks with a simulated depth camera."""

import time
from typing import Annotated

import typer

from pomato_ros.cli.evaluate.options import AsJson, Save, Skip, open_console, progress, report_failure
from pomato_ros.cli.results import conclude
from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.oracle_trial import WINDOWS_LATER
from pomato_ros.evaluation.suites.rendered import FRAMES, RenderPlan, rendered_sequences
from pomato_ros.evaluation.suites.summary import demand_table
from pomato_ros.evaluation.suites.tracks import DEMANDS, run_tracks, summarise_tracks
from pomato_ros.training.config import HELD_OUT_SEED

Sequences = Annotated[int, typer.Option(min=1, help="Rendered sequences.")]
Frames = Annotated[int, typer.Option(min=2, help="Frames of each sequence.")]


def evaluate_tracks(
    sequences: Sequences = 16, skip: Skip = 0, frames: Frames = FRAMES, save: Save = None, as_json: AsJson = False
) -> int:
    """Tracks with true poses and masks and a simulated depth camera: positions, ids, occlusion, covariance, time."""
    console, plan = open_console(), RenderPlan(HELD_OUT_SEED + skip, sequences, frames)

    def measure() -> None:
        started_s, window = time.perf_counter(), PomatoConfig().window
        later = WINDOWS_LATER * (window.window_size - window.overlap)
        with progress(console) as bars:
            bar = bars.add_task("rendered sequences", total=plan.count("ordinary"))
            results = run_tracks(rendered_sequences(plan, ("ordinary",)), later, lambda _: bars.advance(bar))
        summary = summarise_tracks(results) | {"first_seed": plan.held_out_seed}
        summary |= {"seconds": round(time.perf_counter() - started_s, 2)}
        console.print(demand_table("tracks on true poses and masks", summary, DEMANDS))
        conclude("tracks", summary, save, as_json, console)

    return report_failure(console, measure)
