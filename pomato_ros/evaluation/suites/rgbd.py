"""The suite of the backend ``rgbd``: rendered sequences with a simulated depth camera, and recordings with truth."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pomato_ros.datasets.sensors.seven_scenes import read_seven_scenes
from pomato_ros.datasets.sensors.tum_rgbd import read_tum_rgbd
from pomato_ros.evaluation.oracle_report import Demand
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.report import FlatValue, plain
from pomato_ros.evaluation.suites import summary as figures
from pomato_ros.evaluation.suites.rendered import RenderedSequence, RenderPlan, rendered_sequences
from pomato_ros.evaluation.suites.sensor_run import SensorResult, run_recording, run_rendered

KINDS = ("ordinary", "nothing", "majority", "still", "driving")
RECORDINGS = {"tum_fr1_rpy": (read_tum_rgbd, 180), "seven_scenes": (read_seven_scenes, 90)}  # reader, frames
DEMANDS = (
    Demand("ate_over_path", "ATE after SE(3) / path, mean", (0.0, 0.01), (0.0, 0.004)),
    Demand("ate_over_path_median", "ATE after SE(3) / path, median", (0.0, 0.005), (0.0, 0.002)),
    Demand("nees", "NEES of the pose, mean", (3.0, 12.0), (5.0, 7.0)),
    Demand("mask_iou", "moving pixels: IoU", (0.60, 1.0), (0.80, 1.0)),
    Demand("mask_false_positive", "pixels called moving where nothing moves", (0.0, 0.005), (0.0, 0.0005)),
    Demand("mask_false_positive_driving", "the same, driving beyond the range", (0.0, 0.02), (0.0, 0.005)),
    Demand("apd_m", "tracks: APD in metres, %", (80.0, 100.0), (90.0, 100.0)),
    Demand("track_id", "tracks: right id after 5 windows", (0.92, 1.0), (0.97, 1.0)),
    Demand("track_occlusion", "tracks: occlusion accuracy", (0.95, 1.0), (0.98, 1.0)),
    Demand("majority_ate_over_path", "ATE / path where most of the image moves", (0.0, 0.03), (0.0, 0.01)),
    Demand("majority_mask_iou", "IoU where most of the image moves", (0.6, 1.0), (0.9, 1.0)),
    Demand("still_drift_m", "standing still 60 s, somebody walks by: drift, m", (0.0, 0.005), (0.0, 0.001)),
    Demand("tum_fr1_rpy_ate_m", "TUM fr1_rpy, 180 frames: ATE after SE(3), m", (0.0, 0.030), (0.0, 0.020)),
    Demand("seven_scenes_ate_m", "7-Scenes, 90 frames: ATE after SE(3), m", (0.0, 0.015), (0.0, 0.008)),
)


def run_suite(
    engine: Perceiver,
    plan: RenderPlan,
    frames_later: int,
    watch: Callable[[SensorResult], None] = lambda result: None,
    kinds: tuple[str, ...] = KINDS,
) -> list[SensorResult]:
    """Every rendered sequence of some kinds through the engine; arguments as :func:`run_rendered` has them."""
    return run_rendered(engine, rendered_sequences(plan, kinds), RenderedSequence.rgbd_frame, frames_later, watch)


def summarise_suite(results: Sequence[SensorResult]) -> dict[str, FlatValue]:
    """The flat figures of rendered sequences; None where no sequence could give one."""
    ordinary, nothing, majority, still, driving = (figures.of_kind(results, kind) for kind in KINDS)
    return {
        "sequences": len(results),
        "frames": sum(item.result.frames for item in results),
        **figures.pose_figures(ordinary),
        "mask_iou": figures.mask_iou(ordinary),
        "mask_false_positive": figures.false_positive_share(nothing),
        "mask_false_positive_driving": figures.false_positive_share(driving),
        **figures.track_figures(ordinary),
        **figures.nees_figures(ordinary),
        **figures.still_figures(still),
        **figures.pose_figures(majority, "majority_"),
        "majority_mask_iou": figures.mask_iou(majority, majority=True),
        **figures.pose_figures(driving, "driving_"),
        "driving_mask_iou": figures.mask_iou(driving),
        **figures.depth_figures(ordinary),
        "lost_frames": sum(item.result.lost_frames for item in results),
    }


def score_recordings(engine: Perceiver, data: Path) -> dict[str, FlatValue]:
    """ATE in metres of the recordings that lie under ``data``; both rooms are at rest, so that any mask is wrong."""
    scores: dict[str, FlatValue] = {}
    for name, (read, frames) in RECORDINGS.items():
        if not (data / name).is_dir():
            continue
        result = run_recording(engine, read(data / name).first(frames))
        scores[f"{name}_ate_m"] = plain(result.ate_m)
        scores[f"{name}_rot_deg_per_frame"] = plain(result.rot_deg_per_frame)
        scores[f"{name}_mask_false_positive"] = plain(result.moving_share)
        scores[f"{name}_refused"] = result.refused
    return scores
