"""A protocol's results in the papers' table form, with their published rows beside ours, marked as published."""

import math
from collections.abc import Sequence

from rich.table import Table

from pomato_ros.evaluation.protocols.protocol import Protocol
from pomato_ros.evaluation.protocols.runner import FIGURES, SequenceScores, mean_scores
from pomato_ros.evaluation.report import FlatValue

TITLES = {
    "ate_m": "ATE, m",
    "rpe_translation_m": "RPE, m",
    "rpe_rotation_deg": "RPE, deg",
    "depth_absrel": "AbsRel",
    "depth_delta1": "δ < 1.25",
    "davis_j": "J",
    "apd": "APD",
}


def protocol_table(protocol: Protocol, scores: Sequence[SequenceScores]) -> Table:
    """A row for each sequence, their mean, and the published rows."""
    names = [name for name in FIGURES if any(_has(each, name) for each in (*scores, *protocol.published))]
    table = Table(title=f"{protocol.title} ({protocol.source})")
    table.add_column("")
    for name in names:
        table.add_column(TITLES[name], justify="right")
    for each in scores:
        table.add_row(each.name, *(_shown(getattr(each, name)) for name in names))
    table.add_section()
    means = mean_scores(scores)
    table.add_row("mean, measured here", *(_shown(means.get(name)) for name in names), style="bold")
    for row in protocol.published:
        table.add_row(f"{row.method} (published)", *(_shown(getattr(row, name)) for name in names), style="dim")
    return table


def summarise_layout(protocol: Protocol, scores: Sequence[SequenceScores]) -> dict[str, FlatValue]:
    """The flat result: counts and means."""
    return {
        "layout": protocol.layout,
        "sequences": len(scores),
        "frames": sum(each.frames for each in scores),
        "lost_frames": sum(each.lost_frames for each in scores),
        **mean_scores(scores),
    }


def _has(row: object, name: str) -> bool:
    value = getattr(row, name)
    return value is not None and math.isfinite(value)


def _shown(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"
