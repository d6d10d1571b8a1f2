"""Scores of the oracle's trial as one flat JSON object and as a table beside what is asked for."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.table import Table
from rich.text import Text

from pomato_ros.evaluation.oracle_trial import SCALE_PRIORS, OracleResult, pooled_counts
from pomato_ros.evaluation.report import FlatValue, plain, ratio, shown

FloatValues = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Demand:
    """One score and what is asked of it: a value between ``low`` and ``high``."""

    key: str
    meaning: str
    floor: tuple[float, float]
    goal: tuple[float, float]


DEMANDS = (
    Demand("ate_over_path", "ATE after SE(3) / path", (0.0, 0.01), (0.0, 0.003)),
    Demand("scale_error", "scale error, median", (0.0, 0.02), (0.0, 0.005)),
    Demand("nees", "NEES of the pose, mean", (3.0, 12.0), (5.0, 7.0)),
    Demand("mask_iou", "moving pixels: IoU", (0.80, 1.0), (0.92, 1.0)),
    Demand("mask_false_positive", "pixels called moving where nothing moves", (0.0, 0.005), (0.0, 0.0005)),
    Demand("mask_iou_majority", "IoU where most of the image moves", (0.6, 1.0), (0.9, 1.0)),
    Demand("track_id", "tracks: right id after 5 windows", (0.85, 1.0), (0.97, 1.0)),
    Demand("track_occlusion", "tracks: occlusion accuracy", (0.80, 1.0), (0.92, 1.0)),
    Demand("apd", "tracks: APD, %", (75.0, 100.0), (90.0, 100.0)),
    Demand("still_drift_m", "standing still 60 s: drift at 3 m depth, m", (0.0, 0.01), (0.0, 0.001)),
    Demand("lost_poses", "poses given to frames of noise", (0.0, 0.0), (0.0, 0.0)),
    Demand("lost_frames_to_recover", "frames till found again, worst", (0.0, 12.0), (0.0, 4.0)),
    Demand("lost_jump_sigma", "jump over the gap, standard deviations, worst", (0.0, 3.0), (0.0, 3.0)),
)


def summarise_oracle(results: Sequence[OracleResult], prior: str = "depth") -> dict[str, FlatValue]:
    """The flat object. Means over sequences or frames, pools over pixels and positions; None: nothing to score.

    ``prior``: which of :data:`SCALE_PRIORS` the metres are from. ``not_scored`` names the scores that nothing in
    ``results`` could give.
    """
    by_kind = {
        kind: [result for result in results if result.kind == kind] for kind in {result.kind for result in results}
    }
    ordinary, nothing, majority, still, blind = (
        by_kind.get(kind, []) for kind in ("ordinary", "nothing", "majority", "still", "blind")
    )
    ate = finite([result.ate_over_path for result in ordinary])
    nees = finite(joined(result.nees for result in ordinary))
    mask, free, most = (
        pooled_counts(items)
        for items in (
            (result.mask for result in ordinary),
            (result.mask for result in nothing),
            (result.mask_majority for result in majority),
        )
    )
    tracks = [result.tracks for result in ordinary]
    gaps = [result.blind for result in blind if result.blind is not None]
    summary: dict[str, FlatValue] = {
        "sequences": len(results),
        **{f"sequences_{kind}": len(items) for kind, items in sorted(by_kind.items())},
        "frames": sum(result.frames for result in results),
        "ate_over_path": mean(ate),
        "ate_over_path_median": middle(ate),
        "ate_m_median": middle(finite([result.ate_m for result in ordinary])),
        "scale_error": middle(joined(result.scale_errors for result in ordinary)),
        "nees": mean(nees),
        "nees_median": middle(nees),
        "mask_iou": ratio(mask.both, mask.either),
        "mask_false_positive": ratio(free.either - free.both, free.total),
        "mask_iou_majority": ratio(most.both, most.either),
        "track_id": pooled(tracks, "right_id", "asked_id"),
        "track_occlusion": pooled(tracks, "right_occlusion", "asked_occlusion"),
        "apd": mean(finite([item.apd for item in tracks])),
        "apd_metric": mean(finite([item.apd_metric for item in tracks])),
        "tracks_scored": sum(item.asked_id for item in tracks),
        "still_drift_m": worst([result.drift_m for result in still]),
        "still_worst_m": worst([result.worst_drift_m for result in still]),
        "lost_poses": sum(item.poses_while_blind for item in gaps) if gaps else None,
        "lost_frames_to_recover": max(item.frames_to_recover for item in gaps) if gaps else None,
        "lost_never_recovered": sum(not item.recovered for item in gaps) if gaps else None,
        "lost_jump_sigma": worst([item.jump_sigma for item in gaps]),
        "lost_frames": sum(result.lost_frames for result in results if result.kind != "blind"),
        "scale_prior": SCALE_PRIORS[prior],
    }
    summary = {name: plain(value) for name, value in summary.items()}
    return summary | {"not_scored": " ".join(item.key for item in DEMANDS if summary[item.key] is None)}


def oracle_summary_table(summary: dict[str, FlatValue]) -> Table:
    """One line for each demand: the score, the floor and the goal."""
    table = Table(
        title=f"{summary['sequences']} sequences, {summary['frames']} frames; metres: {summary['scale_prior']}"
    )
    for heading in ("score", "value", "floor", "goal", ""):
        table.add_column(heading, justify="left" if heading in ("score", "") else "right")
    for item in DEMANDS:
        value = summary[item.key]
        table.add_row(item.meaning, shown(value), span(item.floor), span(item.goal), verdict(item, value))
    return table


def oracle_sequence_table(results: Sequence[OracleResult]) -> Table:
    """One line for each sequence."""
    table = Table(title="each sequence")
    headings = "kind seed ate/path scale nees iou false+ majority id occl apd drift lost back jump"
    for heading in headings.split():
        table.add_column(heading, justify="right")
    for result in results:
        tracks, gap = result.tracks, result.blind
        values: list[FlatValue] = [
            result.ate_over_path,
            middle(result.scale_errors),
            mean(finite(result.nees)),
            ratio(result.mask.both, result.mask.either),
            ratio(result.mask.either - result.mask.moving, result.mask.total),
            ratio(result.mask_majority.both, result.mask_majority.either),
            ratio(tracks.right_id, tracks.asked_id),
            ratio(tracks.right_occlusion, tracks.asked_occlusion),
            tracks.apd,
            result.drift_m if result.kind == "still" else None,
            result.lost_frames,
            gap.frames_to_recover if gap else None,
            gap.jump_sigma if gap else None,
        ]
        table.add_row(result.kind, str(result.seed), *(shown(plain(value)) for value in values))
    return table


def span(limits: tuple[float, float]) -> str:
    """What is asked for, for people."""
    low, high = limits
    return f"{low:g} .. {high:g}"


def verdict(demand: Demand, value: FlatValue) -> Text:
    """Whether floor and goal are met."""
    if not isinstance(value, int | float):
        return Text("not scored", style="dim")
    if demand.goal[0] <= value <= demand.goal[1]:
        return Text("goal", style="bold green")
    if demand.floor[0] <= value <= demand.floor[1]:
        return Text("floor", style="green")
    return Text("BELOW THE FLOOR", style="bold red")


def joined(arrays: Iterable[FloatValues]) -> FloatValues:
    """Arrays of several sequences in one."""
    items = list(arrays)
    return np.concatenate(items) if items else np.zeros(0)


def finite(values: ArrayLike) -> FloatValues:
    """Those that are numbers."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def mean(values: FloatValues) -> float:
    """Mean; NaN of nothing."""
    return float(values.mean()) if values.size else math.nan


def middle(values: FloatValues) -> float:
    """Median; NaN of nothing."""
    return float(np.median(values)) if values.size else math.nan


def worst(values: ArrayLike) -> float:
    """Largest; NaN of nothing."""
    array = finite(values)
    return float(array.max()) if array.size else math.nan


def pooled(items: Sequence[object], part: str, whole: str) -> float:
    """Sum of one count over the sum of another."""
    return ratio(sum(map(attrgetter(part), items)), sum(map(attrgetter(whole), items)))
