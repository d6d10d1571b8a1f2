"""The suite of the backend ``stereo``: rendered pairs, and a KITTI drive as it is and with its disparity corrected."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pomato_ros.datasets.sensors.kitti_stereo import read_kitti_stereo
from pomato_ros.evaluation.oracle_report import Demand
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.evaluation.report import FlatValue, plain
from pomato_ros.evaluation.suites import summary as figures
from pomato_ros.evaluation.suites.rendered import RenderedSequence, RenderPlan, rendered_sequences
from pomato_ros.evaluation.suites.sensor_run import SensorResult, run_recording, run_rendered

KINDS = ("ordinary",)
KITTI = "kitti_stereo"
KITTI_DISPARITY_OFFSET_PX = 1.6  # true minus measured, by which the copy's right images are off their calibration
DEMANDS = (
    Demand("ate_over_path", "ATE after SE(3) / path, mean", (0.0, 0.0156), (0.0, 0.0055)),
    Demand("depth_absrel_confident", "depth: mean relative error", (0.0, 0.05), (0.0, 0.03)),
    Demand("depth_coverage", "depth: share of pixels that have one", (0.80, 1.0), (0.90, 1.0)),
    Demand("kitti_rot_deg_per_frame", "KITTI: rotation a frame, degrees", (0.0, 0.05), (0.0, 0.03)),
    Demand("kitti_ate_over_path_sim3", "KITTI: ATE after Sim(3) / path", (0.0, 0.003), (0.0, 0.0015)),
    Demand("kitti_ate_over_path_se3", "KITTI, corrected: ATE after SE(3) / path", (0.0, 0.015), (0.0, 0.008)),
)


def run_suite(
    engine: Perceiver,
    plan: RenderPlan,
    frames_later: int,
    watch: Callable[[SensorResult], None] = lambda result: None,
    kinds: tuple[str, ...] = KINDS,
) -> list[SensorResult]:
    """Every rendered pair of some kinds through the engine; arguments as :func:`run_rendered` has them."""
    sequences = rendered_sequences(plan, kinds, right=True)
    return run_rendered(engine, sequences, RenderedSequence.stereo_frame, frames_later, watch)


def summarise_suite(results: Sequence[SensorResult]) -> dict[str, FlatValue]:
    """The flat figures of rendered pairs; None where no sequence could give one."""
    ordinary = figures.of_kind(results, "ordinary")
    return {
        "sequences": len(results),
        "frames": sum(item.result.frames for item in results),
        **figures.pose_figures(ordinary),
        **figures.depth_figures(ordinary),
        "mask_iou": figures.mask_iou(ordinary),
        **figures.track_figures(ordinary),
        **figures.nees_figures(ordinary),
        "lost_frames": sum(item.result.lost_frames for item in results),
    }


def score_recordings(engine: Perceiver, data: Path) -> dict[str, FlatValue]:
    """The drive under ``data``: rotation and shape as it is, metres with the disparity corrected."""
    folder = data / KITTI
    if not folder.is_dir():
        return {}
    plain_run = run_recording(engine, read_kitti_stereo(folder))
    corrected = run_recording(engine, read_kitti_stereo(folder, KITTI_DISPARITY_OFFSET_PX))
    return {
        "kitti_rot_deg_per_frame": plain(plain_run.rot_deg_per_frame),
        "kitti_rot_deg_per_frame_rms": plain(plain_run.poses.rpe_rot_deg),
        "kitti_ate_over_path_sim3": plain(plain_run.poses.ate_over_path),
        "kitti_ate_over_path_se3": plain(corrected.poses.ate_se3_over_path),
        "kitti_corrected_rot_deg_per_frame": plain(corrected.rot_deg_per_frame),
        "kitti_corrected_ate_over_path_sim3": plain(corrected.poses.ate_over_path),
        "kitti_disparity_offset_px": KITTI_DISPARITY_OFFSET_PX,
    }
