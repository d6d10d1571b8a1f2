"""Fixtures of evaluation helpers: sampling, stitching, alignments, and the figures of every metric."""

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np
import torch

from pomato_ros.evaluation.metrics import depth, tracks
from pomato_ros.evaluation.metrics.trajectory import (
    absolute_errors,
    align_trajectory,
    poses_from_xyz_qwxyz,
    relative_errors,
    root_mean_square,
)
from pomato_ros.evaluation.parity.fixture import Fixture, Ledger
from pomato_ros.evaluation.parity.measures import Measures, absolute_measure, exact_measure, relative_measure
from pomato_ros.evaluation.parity.report import Measure
from pomato_ros.geometry.grid import sample_bilinear
from pomato_ros.sources.dust3r.stitching import blend, stitch_windows, window_schedule

FLOAT32_TOLERANCE = 5e-6
FLOAT64_TOLERANCE = 1e-9
DEPTH_TOLERANCE = 1e-4
MINIMISER_TOLERANCE = 1e-2  # two runs of a general minimiser on a cost with corners
DEFAULT_MAX_DEPTH = 80.0
RESULTS = ("apd_results", "depth_results", "traj_results")
ALIGNMENTS: Mapping[str, tuple[depth.Alignment, float]] = {
    "median_scale": (depth.median_scale, DEPTH_TOLERANCE),
    "scale_irls": (depth.irls_scale, DEPTH_TOLERANCE),
    "scale_shift_lstsq": (depth.least_squares, DEPTH_TOLERANCE),
    "scale_shift_lad": (depth.least_absolute, MINIMISER_TOLERANCE),
    "scale_shift_lad2": (depth.least_absolute_adam, DEPTH_TOLERANCE),
}
DEPTH_NAMES = {
    "Abs Rel": "abs_rel",
    "Sq Rel": "sq_rel",
    "RMSE": "rmse",
    "Log RMSE": "log_rmse",
    "δ < 1.25": "delta_1",
    "δ < 1.25^2": "delta_2",
    "δ < 1.25^3": "delta_3",
    "valid_pixels": "valid_pixels",
}


def published_results(fixture: Fixture) -> list[str]:
    """Names of the figures in the JSON that have to be checked beside the arrays."""
    return [f"{group}/{name}" for group in RESULTS for name in fixture.about.get(group, {})]


def check_metrics(ledger: Ledger) -> None:
    """Everything of a fixture of evaluation helpers, as far as it is there."""
    parts: Mapping[str, Callable[[Ledger], None]] = {
        "interp/out": _check_sampling,
        "blend/out": _check_blend,
        "scaleshift/scale": _check_scale_and_shift,
        "apd/gt": _check_tracks,
        "depth/gt": _check_depth,
        "traj/gt_xyz_qwxyz": _check_trajectory,
    }
    for needed, check in parts.items():
        if needed in ledger:
            check(ledger)
    for name in ledger.names("stitch/"):
        if name.endswith("/tracks"):
            _check_stitching(ledger, name.removesuffix("tracks"))


def _check_sampling(ledger: Ledger) -> None:
    pixels = torch.from_numpy(np.stack((ledger.take("interp/x"), ledger.take("interp/y")), axis=-1))
    sampled = sample_bilinear(torch.from_numpy(ledger.take("interp/pts")), pixels)
    reference = ledger.reference("interp/out")
    ledger.record("interp/out", relative_measure(sampled.transpose(1, 2), reference, FLOAT32_TOLERANCE))


def _check_blend(ledger: Ledger) -> None:
    ours = blend(ledger.take("blend/a"), ledger.take("blend/b"))
    ledger.record("blend/out", relative_measure(ours, ledger.reference("blend/out"), FLOAT64_TOLERANCE))


def _check_scale_and_shift(ledger: Ledger) -> None:
    inputs = (ledger.take(f"scaleshift/{name}") for name in ("pred", "gt", "vis"))
    for name, ours in zip(("scale", "shift"), tracks.scale_and_shift_per_axis(*inputs), strict=True):
        reference = ledger.reference(f"scaleshift/{name}")
        ledger.record(f"scaleshift/{name}", relative_measure(ours, reference, FLOAT64_TOLERANCE))


def _check_stitching(ledger: Ledger, case: str) -> None:
    """One clip; its length and overlap are in the case's name."""
    numbers = re.search(r"frames(\d+)_overlap(\d+)", case)
    if numbers is None:
        return
    frames, overlap = int(numbers[1]), int(numbers[2])
    window_frames = ledger.reference(case + "window_frames")
    schedule = window_schedule(frames, window_frames.shape[1], overlap)
    ledger.record(case + "window_frames", exact_measure(schedule, window_frames))
    ours = stitch_windows(window_frames, ledger.take(case + "window_preds"), overlap)
    ledger.record(case + "tracks", relative_measure(ours, ledger.reference(case + "tracks"), FLOAT64_TOLERANCE))
    if case + "queries_xy" in ledger:
        ledger.take(case + "queries_xy")


def _check_tracks(ledger: Ledger) -> None:
    visible = ~ledger.take("apd/gt_occluded")
    fx, fy = (float(value) for value in ledger.take("apd/intrinsics")[:2])
    if "apd/queries_tyx" in ledger:
        ledger.take("apd/queries_tyx")
    metrics = tracks.evaluate_tracks(ledger.take("apd/pred"), ledger.take("apd/gt"), (fx, fy), visible, visible)
    figures = {
        "occlusion_accuracy": metrics.occlusion_accuracy,
        "average_jaccard": metrics.average_jaccard,
        "average_pts_within_thresh": metrics.average_pts_within_thresh,
        **{f"pts_within_{k}": value for k, value in metrics.pts_within.items()},
        **{f"jaccard_{k}": value for k, value in metrics.jaccard.items()},
    }
    _record_figures(ledger, "apd_results", figures, FLOAT64_TOLERANCE)


def _check_trajectory(ledger: Ledger) -> None:
    predicted, truth = (poses_from_xyz_qwxyz(ledger.take(f"traj/{name}_xyz_qwxyz")) for name in ("pred", "gt"))
    aligned = align_trajectory(predicted, truth)
    relative = relative_errors(aligned, truth)
    figures = {
        "ate_rmse": root_mean_square(absolute_errors(aligned, truth)),
        "rpe_trans_rmse": root_mean_square(relative.translation),
        "rpe_rot_deg_rmse": root_mean_square(relative.rotation_deg),
    }
    _record_figures(ledger, "traj_results", figures, 1e-6)


def _check_depth(ledger: Ledger) -> None:
    stated = re.search(r"max_depth\s*=?\s*([\d.]+)", str(ledger.about.get("arrays", {}).get("depth/*")))
    max_depth = float(stated[1]) if stated else DEFAULT_MAX_DEPTH
    predicted, truth = ledger.take("depth/pred"), ledger.take("depth/gt")
    for name, published in ledger.about.get("depth_results", {}).items():
        if name not in ALIGNMENTS:
            continue
        align, tolerance = ALIGNMENTS[name]
        ours = dataclasses.asdict(depth.evaluate_depth(predicted, truth, max_depth, align))
        unknown = sorted(set(published) - set(DEPTH_NAMES))
        if unknown:
            ledger.mark_not_covered(f"depth_results/{name}", f"unknown figures {', '.join(unknown)}")
            continue
        ledger.record(f"depth_results/{name}", _depth_measures(ours, published, tolerance))


def _depth_measures(ours: Mapping[str, float], published: Mapping[str, float], tolerance: float) -> Measures:
    """Relative difference of the errors; shares of pixels may differ by rounding at their threshold."""
    shares = [name for name in published if name.startswith("δ")]
    errors = [name for name in published if name not in shares and name != "valid_pixels"]
    relative = [abs(ours[DEPTH_NAMES[name]] / published[name] - 1) for name in errors]
    shifted = [abs(ours[DEPTH_NAMES[name]] - published[name]) for name in shares]
    pixels = float(ours["valid_pixels"])
    return (
        Measure("errors, relative", max(relative, default=0.0), tolerance),
        Measure("shares", max(shifted, default=0.0), max(2 / pixels, tolerance)),
        Measure("valid pixels", abs(published.get("valid_pixels", pixels) - pixels), 0.0),
    )


def _record_figures(ledger: Ledger, group: str, figures: Mapping[str, float], tolerance: float) -> None:
    """Every figure that the JSON lists and this package computes."""
    for name, value in ledger.about.get(group, {}).items():
        if name in figures:
            ledger.record(f"{group}/{name}", absolute_measure(figures[name], value, tolerance, "|diff|"))
