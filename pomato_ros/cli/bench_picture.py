"""The picture of a benchmark: every timed step as a stacked bar, a colour for each stage."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pomato_ros.cli.demo_picture import BACKGROUND, MUTED, PANEL, TEXT
from pomato_ros.evaluation.bench.steps import STAGES, SteadyRun, percentiles

COLOURS = {
    "preprocess": "#8ecae6",
    "model": "#4f9d8f",
    "scene": "#e9c46a",
    "the rest": "#b0a8b9",
    "messages": "#e07a5f",
}
SIZE_INCHES = (11.0, 4.4)


def stacked_stages(steady: SteadyRun) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Milliseconds of each stage (steps,), in the order they are drawn; together they are a step and its messages."""
    timings = steady.timings
    parts = {stage: np.array([timing.stages.get(stage, 0.0) for timing in timings]) for stage in STAGES}
    parts["the rest"] = np.array([timing.total for timing in timings]) - np.sum(list(parts.values()), axis=0)
    parts["messages"] = np.array([timing.messages or 0.0 for timing in timings])
    return {name: 1e3 * seconds for name, seconds in parts.items()}


def draw_steps(steady: SteadyRun, title: str, path: Path) -> None:
    """Write the PNG; its folder is made if need be."""
    figure = Figure(figsize=SIZE_INCHES, facecolor=BACKGROUND)
    axes = figure.add_axes((0.07, 0.13, 0.74, 0.74), facecolor=PANEL)
    below = np.zeros(len(steady.timings))
    for name, milliseconds in stacked_stages(steady).items():
        label = f"{name} {np.median(milliseconds):.1f}"
        axes.bar(np.arange(len(below)), milliseconds, 0.9, below, color=COLOURS[name], label=label)
        below = below + milliseconds
    p50, p95 = percentiles([timing.total for timing in steady.timings])
    axes.set_title(f"{title}: a step {p50:.0f} ms p50, {p95:.0f} ms p95", color=TEXT, loc="left")
    axes.set_xlabel("step", color=MUTED)
    axes.set_ylabel("ms", color=MUTED)
    axes.set_xlim(-0.6, len(below) - 0.4)
    axes.tick_params(colors=MUTED)
    for spine in axes.spines.values():
        spine.set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, labelcolor=TEXT
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
