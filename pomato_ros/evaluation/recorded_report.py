"""Scores of real sequences as flat figures and as tables, as they are."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from pomato_ros.evaluation.davis import DavisResult
from pomato_ros.evaluation.grading import Scores
from pomato_ros.evaluation.kitti import KittiResult
from pomato_ros.evaluation.recorded import RecordedResults
from pomato_ros.evaluation.report import RATIOS, SCORE_NAMES, FlatValue, plain, ratio, shown

KITTI_SCORES = tuple(name for name in SCORE_NAMES if name.key.startswith(("depth_", "ate_", "rpe_")))


def summarise_recorded(results: RecordedResults) -> dict[str, FlatValue]:
    """The flat figures of whatever was run."""
    davis = summarise_davis(results.davis) if results.davis else {}
    return davis | (summarise_kitti(results.kitti) if results.kitti is not None else {})


def summarise_davis(results: Sequence[DavisResult]) -> dict[str, FlatValue]:
    """J mean and recall over sequences, and J of each; of the OpenCV pipeline and of all moving too."""
    summary: dict[str, FlatValue] = {"davis_sequences": len(results)}
    for prefix, side in (("", "moving"), ("baseline_", "all_moving"), ("opencv_", "opencv")):
        regions = [getattr(result, side) for result in results]
        summary[f"{prefix}davis_jm"] = float(np.mean([region.mean for region in regions]))
        summary[f"{prefix}davis_jr"] = float(np.mean([region.recall for region in regions]))
    summary |= {f"davis_jm_{result.name}": result.moving.mean for result in results}
    return {name: plain(value) for name, value in summary.items()}


def davis_table(results: Sequence[DavisResult]) -> Table:
    """One line for each real sequence."""
    table = Table(title="DAVIS, moving masks: region similarity J (all static: 0)")
    for heading in ("sequence", "frames", "J mean", "J recall", "all moving", "OpenCV J mean", "OpenCV J recall"):
        table.add_column(heading, justify="left" if heading == "sequence" else "right")
    for result in results:
        moving, classical = result.moving, result.opencv
        values = (moving.mean, moving.recall, result.all_moving.mean, classical.mean, classical.recall)
        table.add_row(result.name, str(result.frames), *map(shown, values))
    return table


def kitti_value(result: KittiResult, scores: Scores, key: str) -> float:
    """One score; errors from frame to frame are divided by those of standing still."""
    if key in RATIOS:
        return ratio(getattr(scores, RATIOS[key]), getattr(result.baseline, RATIOS[key]))
    return float(getattr(scores, key))


def summarise_kitti(result: KittiResult) -> dict[str, FlatValue]:
    """Every score of the drive, of the constants and of the OpenCV pipeline."""
    summary: dict[str, FlatValue] = {"kitti_frames": result.frames, "kitti_depth_known": result.depth_known}
    sides = (("", result.system.scores), ("baseline_", result.baseline), ("opencv_", result.opencv.scores))
    for prefix, scores in sides:
        summary |= {f"{prefix}kitti_{name.key}": kitti_value(result, scores, name.key) for name in KITTI_SCORES}
    return {name: plain(value) for name, value in summary.items()}


def kitti_table(result: KittiResult) -> Table:
    """One line for each score of the drive."""
    known = f"{100 * result.depth_known:.0f} % of pixels have a stereo depth"
    table = Table(title=f"KITTI, one drive of {result.frames} frames, {known}")
    for heading in ("score", "value", "baseline", "OpenCV", "baseline is"):
        table.add_column(heading, justify="left" if heading in ("score", "baseline is") else "right")
    for name in KITTI_SCORES:
        sides = (result.system.scores, result.baseline, result.opencv.scores)
        values = (shown(plain(kitti_value(result, scores, name.key))) for scores in sides)
        table.add_row(name.meaning, *values, name.baseline)
    return table
