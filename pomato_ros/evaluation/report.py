"""Scores of many sequences as one flat JSON object for scripts and as tables for people."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from rich.table import Table
from rich.text import Text

from pomato_ros.evaluation.davis import DavisResult
from pomato_ros.evaluation.evaluate import SequenceResult

FlatValue = float | int | str | None
SIGNIFICANT_DIGITS = 6
MASK_COUNTS = ("both", "either", "moving", "total")


@dataclass(frozen=True, slots=True)
class ScoreName:
    """One score: its key, what it is, and whether more is better."""

    key: str
    meaning: str
    baseline: str
    more_is_better: bool


SCORE_NAMES = (
    ScoreName("depth_absrel", "depth: mean relative error", "best constant", more_is_better=False),
    ScoreName("depth_delta1", "depth: share within a factor 1.25", "best constant", more_is_better=True),
    ScoreName("ate_over_path", "position: RMS error / path", "standing still", more_is_better=False),
    ScoreName("rpe_rot_ratio", "rotation a frame: RMS error / standing still", "standing still", more_is_better=False),
    ScoreName("mask_iou", "moving pixels: IoU", "all static, all moving", more_is_better=True),
    ScoreName("apd12", "3-D tracks, 12 frames: APD, %", "points that never move", more_is_better=True),
)


def summarise(results: Sequence[SequenceResult], split: str) -> dict[str, FlatValue]:
    """The flat object: each score, its baseline, and counts.

    Depth, ATE and APD are means over sequences. ``rpe_rot_ratio`` is the mean error over the mean that standing still
    has, since the ratio of a single camera at rest means nothing. Masks are pooled over all pixels. None: not defined.
    """
    both, either, moving, total = (sum(getattr(result.mask, name) for result in results) for name in MASK_COUNTS)
    rotation, still_rotation = (mean_of(results, f"{side}.rpe_rot_deg") for side in ("scores", "baseline"))
    all_static, all_moving = float(not moving), ratio(moving, total)  # two empty masks agree
    summary: dict[str, FlatValue] = {"sequences": len(results), "split": split}
    for key in ("depth_absrel", "depth_delta1", "ate_over_path", "apd12"):
        summary[key] = mean_of(results, f"scores.{key}")
        summary[f"baseline_{key}"] = mean_of(results, f"baseline.{key}")
    summary |= {
        "apd12_gain": mean_of(results, "scores.apd12") - mean_of(results, "baseline.apd12"),
        "baseline_apd12_true_start": mean_of(results, "apd12_true_start"),
        "rpe_rot_ratio": ratio(rotation, still_rotation),
        "baseline_rpe_rot_ratio": 1.0,
        "rpe_rot_deg": rotation,
        "baseline_rpe_rot_deg": still_rotation,
        "mask_iou": 1.0 if not either else both / either,
        "baseline_mask_iou": max(all_static, all_moving),
        "baseline_mask_iou_all_static": all_static,
        "baseline_mask_iou_all_moving": all_moving,
        "depth_coverage": mean_of(results, "depth_coverage"),
        "frames": sum(result.frames for result in results),
        "frames_without_scene": sum(result.frames_without_scene for result in results),
        "lost_frames": sum(result.lost_frames for result in results),
        "engine_seconds": sum(result.seconds for result in results),
    }
    return {name: plain(value) for name, value in summary.items()}


def mean_of(results: Sequence[SequenceResult], path: str) -> float:
    """Mean of an attribute over the sequences that have it; NaN if none has."""
    values = values_of(results, path)
    return float(values.mean()) if values.size else math.nan


def values_of(results: Sequence[SequenceResult], path: str) -> np.ndarray:
    """(n,) of an attribute, without NaN."""
    values = np.array([attrgetter(path)(result) for result in results], dtype=np.float64)
    return values[np.isfinite(values)]


def ratio(part: float, whole: float) -> float:
    """A ratio, NaN of nothing."""
    return part / whole if whole else math.nan


def plain(value: FlatValue) -> FlatValue:
    """A value as JSON can say it: rounded, and None for what is not a number."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None


def sequence_value(result: SequenceResult, side: str, key: str) -> float:
    """One score of one sequence; ``side`` is ``scores`` or ``baseline``."""
    if key == "mask_iou":
        return sequence_mask_iou(result, side)
    if key == "rpe_rot_ratio":
        own, still = (attrgetter(f"{name}.rpe_rot_deg")(result) for name in (side, "baseline"))
        return ratio(own, still)
    return attrgetter(f"{side}.{key}")(result)


def sequence_mask_iou(result: SequenceResult, side: str) -> float:
    """IoU of one sequence; NaN where nothing moves, since the pooled score is what counts such pixels."""
    mask = result.mask
    if not mask.moving:
        return math.nan
    return mask.both / mask.either if side == "scores" else mask.moving / mask.total


def summary_table(results: Sequence[SequenceResult], summary: dict[str, FlatValue]) -> Table:
    """One line for each score: value, baseline, and the spread over sequences."""
    table = Table(title=f"{summary['sequences']} sequences, {summary['frames']} frames, split {summary['split']}")
    for heading in ("score", "value", "baseline", "", "best .. median .. worst sequence"):
        table.add_column(heading, justify="left" if heading in ("score", "") else "right")
    for name in SCORE_NAMES:
        value, baseline = summary[name.key], summary[f"baseline_{name.key}"]
        table.add_row(
            name.meaning, shown(value), shown(baseline), verdict(name, value, baseline), spread(results, name)
        )
    return table


def shown(value: FlatValue) -> str:
    """A figure for people."""
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def verdict(name: ScoreName, value: FlatValue, baseline: FlatValue) -> Text:
    """Whether the baseline is beaten, and its name."""
    if not isinstance(value, float) or not isinstance(baseline, float):
        return Text(f"nothing to score ({name.baseline})", style="dim")
    beaten = value > baseline if name.more_is_better else value < baseline
    return Text(f"{'beats' if beaten else 'DOES NOT BEAT'} {name.baseline}", style="green" if beaten else "bold red")


def spread(results: Sequence[SequenceResult], name: ScoreName) -> str:
    """Best, median and worst sequence."""
    values = np.array([sequence_value(result, "scores", name.key) for result in results])
    values = np.sort(values[np.isfinite(values)])
    if not values.size:
        return "-"
    best, worst = (values[-1], values[0]) if name.more_is_better else (values[0], values[-1])
    return f"{best:.3g} .. {np.median(values):.3g} .. {worst:.3g}"


def sequence_table(results: Sequence[SequenceResult]) -> Table:
    """One line for each sequence: each score and, behind a stroke, its baseline."""
    table = Table(title="each sequence: score | baseline")
    for heading in ("seed", *(name.key for name in SCORE_NAMES), "moving", "no scene", "lost"):
        table.add_column(heading, justify="right")
    for result in results:
        scores = (
            " | ".join(shown(plain(sequence_value(result, side, name.key))) for side in ("scores", "baseline"))
            for name in SCORE_NAMES
        )
        share = f"{100 * ratio(result.mask.moving, result.mask.total):.1f} %"
        table.add_row(str(result.seed), *scores, share, str(result.frames_without_scene), str(result.lost_frames))
    return table


def summarise_davis(results: Sequence[DavisResult]) -> dict[str, FlatValue]:
    """The flat figures of real sequences: J mean and recall over sequences, and J of each."""
    summary: dict[str, FlatValue] = {
        "davis_sequences": len(results),
        "davis_jm": float(np.mean([result.moving.mean for result in results])),
        "davis_jr": float(np.mean([result.moving.recall for result in results])),
        "baseline_davis_jm": float(np.mean([result.all_moving.mean for result in results])),
        "baseline_davis_jr": float(np.mean([result.all_moving.recall for result in results])),
    }
    summary |= {f"davis_jm_{result.name}": result.moving.mean for result in results}
    return {name: plain(value) for name, value in summary.items()}


def davis_table(results: Sequence[DavisResult]) -> Table:
    """One line for each real sequence."""
    table = Table(title="DAVIS, moving masks: region similarity J")
    for heading in ("sequence", "frames", "J mean", "J recall", "all moving"):
        table.add_column(heading, justify="left" if heading == "sequence" else "right")
    for result in results:
        moving, baseline = result.moving, result.all_moving
        table.add_row(result.name, str(result.frames), shown(moving.mean), shown(moving.recall), shown(baseline.mean))
    return table
