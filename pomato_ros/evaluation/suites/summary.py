"""Scores of rendered sequences as flat figures, and a table of them beside what is asked for."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from pomato_ros.evaluation.oracle_report import Demand, finite, joined, mean, middle, pooled, span, verdict, worst
from pomato_ros.evaluation.oracle_trial import pooled_counts
from pomato_ros.evaluation.report import FlatValue, plain, ratio, shown
from pomato_ros.evaluation.suites.sensor_run import DepthSums, SensorResult

COLUMNS = (
    *("kind", "seed", "ate/path", "ate_m", "nees", "iou", "false+", "apd_m"),
    *("id", "occl", "drift", "lost", "absrel", "cover"),
)


def of_kind(results: Sequence[SensorResult], kind: str) -> list[SensorResult]:
    """Those of one kind."""
    return [item for item in results if item.result.kind == kind]


def pose_figures(results: Sequence[SensorResult], prefix: str = "") -> dict[str, FlatValue]:
    """ATE after SE(3) over the path's length, mean and median over sequences."""
    ate = finite([item.result.ate_over_path for item in results])
    return {f"{prefix}ate_over_path": plain(mean(ate)), f"{prefix}ate_over_path_median": plain(middle(ate))}


def false_positive_share(results: Sequence[SensorResult]) -> FlatValue:
    """Share of all pixels that are called moving and are not."""
    counts = pooled_counts(item.result.mask for item in results)
    return plain(ratio(counts.either - counts.moving, counts.total))


def mask_iou(results: Sequence[SensorResult], *, majority: bool = False) -> FlatValue:
    """IoU over the pixels of all sequences together; ``majority``: over frames more than half of which moves."""
    counts = pooled_counts(item.result.mask_majority if majority else item.result.mask for item in results)
    return plain(ratio(counts.both, counts.either))


def track_figures(results: Sequence[SensorResult]) -> dict[str, FlatValue]:
    """APD in metres, percent; right id after five windows; occlusion accuracy."""
    tracks = [item.result.tracks for item in results]
    return {
        "apd_m": plain(mean(finite([item.apd_metric for item in tracks]))),
        "track_id": plain(pooled(tracks, "right_id", "asked_id")),
        "track_occlusion": plain(pooled(tracks, "right_occlusion", "asked_occlusion")),
        "tracks_scored": sum(item.asked_id for item in tracks),
    }


def depth_figures(results: Sequence[SensorResult]) -> dict[str, FlatValue]:
    """Mean relative error in metres of confident depth (5 sigma and more), and the share of pixels that have one."""
    sums = DepthSums()
    for item in results:
        sums.add(item.depth)
    return {"depth_absrel_confident": plain(sums.absrel), "depth_coverage": plain(sums.coverage)}


def nees_figures(results: Sequence[SensorResult]) -> dict[str, FlatValue]:
    """Mean and median NEES of the pose, 6 if the covariance is honest."""
    values = finite(joined(item.result.nees for item in results))
    return {"nees": plain(mean(values)), "nees_median": plain(middle(values))}


def still_figures(results: Sequence[SensorResult]) -> dict[str, FlatValue]:
    """Worst drift of the last second, and of any frame, metres at 3 m depth."""
    return {
        "still_drift_m": plain(worst([item.result.drift_m for item in results])),
        "still_worst_m": plain(worst([item.result.worst_drift_m for item in results])),
    }


def demand_table(title: str, summary: Mapping[str, FlatValue], demands: Sequence[Demand]) -> Table:
    """One line for each demand that was scored: value, floor, goal."""
    table = Table(title=title)
    for heading in ("score", "value", "floor", "goal", ""):
        table.add_column(heading, justify="left" if heading in ("score", "") else "right")
    for item in demands:
        if item.key in summary:
            value = summary[item.key]
            table.add_row(item.meaning, shown(value), span(item.floor), span(item.goal), verdict(item, value))
    return table


def sequence_table(results: Sequence[SensorResult]) -> Table:
    """One line for each sequence."""
    table = Table(title="each sequence")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for item in results:
        result, tracks = item.result, item.result.tracks
        values: list[FlatValue] = [
            result.ate_over_path,
            result.ate_m,
            mean(finite(result.nees)),
            ratio(result.mask.both, result.mask.either),
            ratio(result.mask.either - result.mask.moving, result.mask.total),
            tracks.apd_metric,
            ratio(tracks.right_id, tracks.asked_id),
            ratio(tracks.right_occlusion, tracks.asked_occlusion),
            result.drift_m if result.kind == "still" else None,
            result.lost_frames,
            item.depth.absrel,
            item.depth.coverage,
        ]
        table.add_row(result.kind, str(result.seed), *(shown(plain(value)) for value in values))
    return table
