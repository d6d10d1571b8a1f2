"""Scores of many sequences as one flat JSON object for scripts and as tables for people."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from rich.table import Table
from rich.text import Text

from pomato_ros.evaluation.evaluate import SequenceResult
from pomato_ros.evaluation.grading import Scores
from pomato_ros.evaluation.metrics.calibration import calibration, pooled
from pomato_ros.evaluation.metrics.masks import MaskCounts

FlatValue = float | int | str | None
SIGNIFICANT_DIGITS = 6
MASK_COUNTS = ("both", "either", "moving", "total")


@dataclass(frozen=True, slots=True)
class ScoreName:
    """One score: its key, what it is, whether more is better, and whether it stands in the table of sequences."""

    key: str
    meaning: str
    baseline: str
    more_is_better: bool
    each_sequence: bool = False


SCORE_NAMES = (
    ScoreName("depth_absrel", "depth: mean relative error", "best constant", False, each_sequence=True),
    ScoreName("depth_delta1", "depth: share within a factor 1.25", "best constant", True, each_sequence=True),
    ScoreName(
        "depth_absrel_shift", "depth: mean relative error, scale and shift", "best constant", more_is_better=False
    ),
    ScoreName("depth_delta1_shift", "depth: share within 1.25, scale and shift", "best constant", more_is_better=True),
    ScoreName("ate_over_path", "position: RMS error / path", "standing still", False, each_sequence=True),
    ScoreName("ate_se3_over_path", "position: the same in metres, SE(3)", "standing still", more_is_better=False),
    ScoreName("rpe_trans_ratio", "step: RMS error / standing still", "standing still", more_is_better=False),
    ScoreName("rpe_trans_se3_ratio", "step: the same in metres, SE(3)", "standing still", more_is_better=False),
    ScoreName(
        "rpe_rot_ratio", "rotation a frame: RMS error / standing still", "standing still", False, each_sequence=True
    ),
    ScoreName("mask_iou", "moving pixels: IoU", "all static, all moving", True, each_sequence=True),
    ScoreName("mask_jm", "moving pixels: J mean over frames", "all static, all moving", more_is_better=True),
    ScoreName("mask_jr", "moving pixels: J recall", "all static, all moving", more_is_better=True),
    ScoreName("apd12", "3-D tracks, 12 frames: APD, %", "points that never move", True, each_sequence=True),
    ScoreName("apd24", "3-D tracks, 24 frames: APD, %", "points that never move", more_is_better=True),
    ScoreName("conf_ece", "confidence: expected calibration error", "one error for all", more_is_better=False),
    ScoreName("conf_rank", "confidence: rank correlation with error", "knowing nothing", more_is_better=True),
)
MEANS = (
    "depth_absrel",
    "depth_delta1",
    "depth_absrel_shift",
    "depth_delta1_shift",
    "ate_over_path",
    "ate_se3_over_path",
    "mask_jm",
    "mask_jr",
    "apd12",
    "apd24",
)
RATIOS = {"rpe_trans_ratio": "rpe_trans_m", "rpe_trans_se3_ratio": "rpe_trans_se3_m", "rpe_rot_ratio": "rpe_rot_deg"}


def summarise(results: Sequence[SequenceResult], split: str) -> dict[str, FlatValue]:
    """The flat object: each score, its baseline (``baseline_``), the OpenCV pipeline's (``opencv_``), and counts.

    Depth, ATE, J and APD are means over sequences. Errors from frame to frame (``*_ratio``) are the mean error over the
    mean that standing still has, since the ratio of a single camera at rest means nothing. ``mask_iou`` and the
    confidence's scores are pooled over all pixels. None: not defined.
    """
    summary: dict[str, FlatValue] = {"sequences": len(results), "split": split}
    summary |= summarise_side(results, "system", "")
    summary |= summarise_baselines(results)
    if results and all(result.opencv for result in results):
        summary |= summarise_side(results, "opencv", "opencv_")
    for frames in (12, 24):
        followed, kept = (mean_of(results, f"{side}.apd{frames}") for side in ("system.scores", "baseline"))
        summary[f"apd{frames}_gain"] = followed - kept
    confidence = calibration(pooled([result.calibration for result in results]))
    summary |= {
        "conf_ece": confidence.ece,
        "baseline_conf_ece": confidence.ece_one_for_all,
        "conf_rank": confidence.rank,
        "baseline_conf_rank": 0.0,
        "frames": sum(result.frames for result in results),
        "frames_without_scene": sum(result.frames_without_scene for result in results),
        "lost_frames": sum(result.lost_frames for result in results),
        "engine_seconds": sum(result.seconds for result in results),
    }
    return {name: plain(value) for name, value in summary.items()}


def summarise_side(results: Sequence[SequenceResult], side: str, prefix: str) -> dict[str, FlatValue]:
    """Scores of what answers for every pixel: ``side`` is ``system`` or ``opencv``."""
    summary: dict[str, FlatValue] = {f"{prefix}{key}": mean_of(results, f"{side}.scores.{key}") for key in MEANS}
    for key, error in RATIOS.items():
        own, still = mean_of(results, f"{side}.scores.{error}"), mean_of(results, f"baseline.{error}")
        summary |= {f"{prefix}{key}": ratio(own, still), f"{prefix}{error}": own}
    mask = pooled_mask(results, side)
    summary[f"{prefix}mask_iou"] = 1.0 if not mask.either else mask.both / mask.either  # two empty masks agree
    summary[f"{prefix}depth_coverage"] = mean_of(results, f"{side}.depth_coverage")
    return summary


def summarise_baselines(results: Sequence[SequenceResult]) -> dict[str, FlatValue]:
    """Scores without any image. Of all static and all moving, the better one for the split stands for both."""
    summary: dict[str, FlatValue] = {f"baseline_{key}": mean_of(results, f"baseline.{key}") for key in MEANS}
    for key, error in RATIOS.items():
        summary |= {f"baseline_{key}": 1.0, f"baseline_{error}": mean_of(results, f"baseline.{error}")}
    mask = pooled_mask(results, "system")
    all_static, all_moving = float(not mask.moving), ratio(mask.moving, mask.total)
    for key, part in (("mask_jm", "mean"), ("mask_jr", "recall")):
        summary[f"baseline_{key}"] = max(mean_of(results, f"{name}.{part}") for name in ("all_static", "all_moving"))
    return summary | {
        "baseline_mask_iou": max(all_static, all_moving),
        "baseline_mask_iou_all_static": all_static,
        "baseline_mask_iou_all_moving": all_moving,
        "baseline_apd12_true_start": mean_of(results, "apd12_true_start"),
    }


def pooled_mask(results: Sequence[SequenceResult], side: str) -> MaskCounts:
    """Counts over all sequences; ``side`` is ``system`` or ``opencv``."""
    counts = [attrgetter(f"{side}.mask")(result) for result in results]
    return MaskCounts(*(sum(getattr(count, name) for count in counts) for name in MASK_COUNTS))


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
    """One score of one sequence; ``side`` is ``system``, ``opencv`` or ``baseline``. NaN where it has none."""
    if key == "mask_iou":
        return sequence_mask_iou(result, side)
    scores: Scores = result.baseline if side == "baseline" else attrgetter(f"{side}.scores")(result)
    if key in RATIOS:
        return ratio(getattr(scores, RATIOS[key]), getattr(result.baseline, RATIOS[key]))
    return float(getattr(scores, key, math.nan))


def sequence_mask_iou(result: SequenceResult, side: str) -> float:
    """IoU of one sequence; NaN where nothing moves, since the pooled score is what counts such pixels."""
    mask: MaskCounts = result.system.mask if side == "baseline" else attrgetter(f"{side}.mask")(result)
    if not mask.moving:
        return math.nan
    return mask.moving / mask.total if side == "baseline" else mask.both / mask.either


def summary_table(results: Sequence[SequenceResult], summary: dict[str, FlatValue]) -> Table:
    """One line for each score: value, baseline, the OpenCV pipeline if it ran, and the spread over sequences."""
    with_opencv = "opencv_depth_absrel" in summary
    table = Table(title=f"{summary['sequences']} sequences, {summary['frames']} frames, split {summary['split']}")
    headings = ("score", "value", "baseline", *(("OpenCV",) if with_opencv else ()), "", "best .. median .. worst")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("score", "") else "right")
    for name in SCORE_NAMES:
        value, baseline = summary[name.key], summary[f"baseline_{name.key}"]
        classical = (shown(summary.get(f"opencv_{name.key}")),) if with_opencv else ()
        against = verdict(name, value, baseline)
        table.add_row(name.meaning, shown(value), shown(baseline), *classical, against, spread(results, name))
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
    values = np.array([sequence_value(result, "system", name.key) for result in results])
    values = np.sort(values[np.isfinite(values)])
    if not values.size:
        return "-"
    best, worst = (values[-1], values[0]) if name.more_is_better else (values[0], values[-1])
    return f"{best:.3g} .. {np.median(values):.3g} .. {worst:.3g}"


def sequence_table(results: Sequence[SequenceResult]) -> Table:
    """One line for each sequence: the main scores and, behind a stroke, the baseline of each."""
    names = [name for name in SCORE_NAMES if name.each_sequence]
    table = Table(title="each sequence: score | baseline")
    for heading in ("seed", *(name.key for name in names), "moving", "no scene", "lost"):
        table.add_column(heading, justify="right")
    for result in results:
        scores = (
            " | ".join(shown(plain(sequence_value(result, side, name.key))) for side in ("system", "baseline"))
            for name in names
        )
        share = f"{100 * ratio(result.system.mask.moving, result.system.mask.total):.1f} %"
        table.add_row(str(result.seed), *scores, share, str(result.frames_without_scene), str(result.lost_frames))
    return table


def split_table(summaries: Mapping[str, Mapping[str, FlatValue]]) -> Table:
    """One line for each score, one column for each split: score | baseline."""
    table = Table(title="every split: score | baseline")
    for heading in ("score", *summaries):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name in SCORE_NAMES:
        cells = (
            f"{shown(summary[name.key])} | {shown(summary[f'baseline_{name.key}'])}" for summary in summaries.values()
        )
        table.add_row(name.meaning, *cells)
    return table


def before_and_after_table(before: Mapping[str, FlatValue], after: Mapping[str, FlatValue]) -> Table:
    """One line for each score of two evaluations of the same sequences."""
    table = Table(title=f"{after['sequences']} held-out sequences, split {after['split']}")
    for heading in ("score", "before", "after", "baseline", ""):
        table.add_column(heading, justify="left" if heading in ("score", "") else "right")
    for name in SCORE_NAMES:
        values = [before[name.key], after[name.key], after[f"baseline_{name.key}"]]
        table.add_row(name.meaning, *map(shown, values), change(name, values[0], values[1]))
    return table


def change(name: ScoreName, before: FlatValue, after: FlatValue) -> Text:
    """Whether a score got better."""
    if not isinstance(before, float) or not isinstance(after, float):
        return Text("-" if after is None else "scored now", style="dim")
    if before == after:
        return Text("unchanged", style="yellow")
    better = (after > before) == name.more_is_better
    return Text("better" if better else "WORSE", style="green" if better else "bold red")
