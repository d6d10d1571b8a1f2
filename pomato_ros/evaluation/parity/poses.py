"""Pose fixtures: focal length, pose from points, registration, two-image scene, masks, on a scene with truth."""

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pomato_ros.evaluation.pair_viewer import PairDirection, view_pair
from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.masks import QUALITY_ENTRY, check_mask_quality, check_masks
from pomato_ros.evaluation.parity.measures import (
    FOCAL_TOLERANCE_PX,
    TRUTH_FACTOR,
    absolute_measure,
    pose_errors,
    pose_measures,
    relative_measure,
)
from pomato_ros.evaluation.parity.report import Measure
from pomato_ros.evaluation.published_masks import row_of_edge
from pomato_ros.geometry.alignment import align_similarity
from pomato_ros.geometry.camera import clip_focal, focal_by_irls, focal_by_median, half_size_principal_point
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.pnp import PnpFailure, solve_pose, solve_pose_and_focal
from pomato_ros.geometry.rigid import compose, invert

THRESHOLD_PX = 5.0
ITERATIONS = 10
SEED = 0
REGISTRATION_TOLERANCE = 1e-5
INPUTS = ("gt/focal", "conf_m")
SEARCH_NOTE = "ambiguous on small images: nothing to hold"


def check_poses(ledger: Ledger) -> None:
    """Everything of a pose fixture but global alignment."""
    edges = ledger.take("edges")
    for name in INPUTS:
        if name in ledger:
            ledger.take(name)
    _check_focals(ledger)
    _check_poses(ledger, edges)
    _check_focal_search(ledger, edges)
    _check_registration(ledger)
    _check_pair_viewer(ledger, torch.from_numpy(edges))
    maps = torch.from_numpy(edges), torch.from_numpy(ledger.take("pts3d_2")), torch.from_numpy(ledger.take("pts3d_m"))
    check_masks(ledger, *maps)
    if QUALITY_ENTRY in ledger.about.get("mask_quality", {}) and "gt/moving_pixels" in ledger:
        check_mask_quality(ledger, *maps)


def _check_focals(ledger: Ledger) -> None:
    """Three ways to read a focal length from the first view's pointmap of every edge."""
    pointmaps = ledger.take("pts3d_1")
    height, width = pointmaps.shape[1:3]
    principal_point = half_size_principal_point(height, width)
    by_irls = np.array([focal_by_irls(points, principal_point) for points in pointmaps])
    ours = {
        "focal/weiszfeld": by_irls,
        "focal/median": np.array([focal_by_median(points, principal_point) for points in pointmaps]),
    }
    limits = re.search(r"clipped to \[([\d.]+),\s*([\d.]+)\]", str(ledger.about.get("arrays", {}).get("focal/*")))
    if limits:
        low, high = float(limits[1]), float(limits[2])
        ours["focal/weiszfeld_clipped"] = np.array([clip_focal(f, height, width, low, high) for f in by_irls])
    for name, focals in ours.items():
        if name in ledger:
            _record_focals(ledger, name, focals)


def _record_focals(ledger: Ledger, name: str, focals_px: ArrayLike) -> None:
    """Focal lengths in px against the published ones."""
    ledger.record(name, absolute_measure(focals_px, ledger.reference(name), FOCAL_TOLERANCE_PX, "max |diff|, px"))


def _check_poses(ledger: Ledger, edges: NDArray[np.int64]) -> None:
    """Camera 2 in camera 1 for every edge, against the truth."""
    name = "pnp/cam2_in_cam1"
    if name not in ledger:
        return
    solved = [_solve_edge(ledger, edge) for edge in range(len(edges))]
    if any(pose is None for pose in solved):
        ledger.record(name, (Measure("edges without a pose", float(sum(p is None for p in solved)), 0.0),))
        return
    truth = np.stack([_true_pose(ledger, edges, edge) for edge in range(len(edges))])
    scales = ledger.take("gt/pair_scale")
    ours = _unscaled(np.stack([pose for pose in solved if pose is not None]), scales)
    published = _unscaled(ledger.reference(name), scales)
    ledger.record(name, pose_measures(ours, published, truth, _listed(ledger)))


def _solve_edge(ledger: Ledger, edge: int) -> NDArray[np.float64] | None:
    """The package's pose of camera 2 in camera 1, with the focal length of the same edge."""
    points_2 = ledger.take("pts3d_2")[edge]
    height, width = points_2.shape[:2]
    cx, cy = half_size_principal_point(height, width)
    focal_px = focal_by_irls(ledger.take("pts3d_1")[edge], (cx, cy))
    confident = ledger.take("conf_2")[edge] > _min_confidence(ledger)
    result = solve_pose(
        pixel_grid(height, width)[confident],
        points_2[confident],
        np.array([[focal_px, 0, cx], [0, focal_px, cy], [0, 0, 1.0]]),
        threshold_px=THRESHOLD_PX,
        iterations=ITERATIONS,
        seed=SEED,
    )
    return None if isinstance(result, PnpFailure) else result.reference_from_camera


def _check_focal_search(ledger: Ledger, edges: NDArray[np.int64]) -> None:
    """Pose of edge 0 with unknown focal length."""
    if "pnp/search_focal" not in ledger:
        return
    points_2 = ledger.take("pts3d_2")[0]
    height, width = points_2.shape[:2]
    confident = ledger.take("conf_2")[0] > _min_confidence(ledger)
    result = solve_pose_and_focal(
        pixel_grid(height, width)[confident],
        points_2[confident],
        half_size_principal_point(height, width),
        (width, height),
        threshold_px=THRESHOLD_PX,
        iterations=ITERATIONS,
        seed=SEED,
    )
    if isinstance(result, PnpFailure):
        ledger.record("pnp/search_focal", (Measure("without a pose", 1.0, 0.0),), result.reason)
        return
    difference_px = abs(result.focal_px - float(ledger.reference("pnp/search_focal")))
    ledger.record("pnp/search_focal", (Measure("|diff|, px", difference_px, None),), SEARCH_NOTE)
    if "pnp/search_pose" in ledger:
        pose = _unscaled(result.reference_from_camera[None], ledger.take("gt/pair_scale")[:1])[0]
        errors = pose_errors(pose, _true_pose(ledger, edges, 0))
        labels = ("rotation to truth, deg", "translation to truth")
        measures = tuple(Measure(label, error, None) for label, error in zip(labels, errors, strict=True))
        ledger.record("pnp/search_pose", measures, SEARCH_NOTE)


def _check_registration(ledger: Ledger) -> None:
    """Weighted similarity between the pointmaps of two edges."""
    if "reg/scale" not in ledger:
        return
    source, target = int(ledger.take("reg/src_edge")), int(ledger.take("reg/dst_edge_head1"))
    points_target = ledger.take("pts3d_1")[target].reshape(-1, 3)
    ours = align_similarity(
        ledger.take("pts3d_2")[source].reshape(-1, 3), points_target, ledger.take("conf_2")[source].ravel()
    )
    size = float(np.abs(points_target).max())
    compared: dict[str, tuple[Any, float]] = {
        "reg/scale": (ours.scale, ours.scale),
        "reg/R": (ours.rotation, 1.0),
        "reg/T": (ours.translation, size),
    }
    for name, (value, unit) in compared.items():
        if name in ledger:
            reference = np.asarray(ledger.reference(name), dtype=np.float64) / unit
            ledger.record(name, absolute_measure(np.asarray(value) / unit, reference, REGISTRATION_TOLERANCE, "max"))


def _check_pair_viewer(ledger: Ledger, edges: torch.Tensor) -> None:
    """The two-image scene of frames 0 and 1."""
    if not ledger.names("pairviewer/"):
        return
    try:
        rows = row_of_edge(edges, 0, 1), row_of_edge(edges, 1, 0)
    except KeyError as error:
        for name in ledger.names("pairviewer/"):
            ledger.mark_not_covered(name, str(error.args[0]))
        return
    fields = ("pts3d_1", "conf_1", "pts3d_2", "conf_2")
    first, second = (PairDirection(*(ledger.take(name)[row] for name in fields)) for row in rows)
    scene = view_pair((first, second), _min_confidence(ledger), SEED)
    if "pairviewer/focals" in ledger:
        _record_focals(ledger, "pairviewer/focals", scene.focal_px)
    scale = ledger.take("gt/pair_scale")[[rows[0] if first.score > second.score else rows[1]]]
    if "pairviewer/cam2world" in ledger:
        world_from_camera = ledger.take("gt/cam2world")
        truth = compose(invert(world_from_camera[0]), world_from_camera[1])[None]
        ours, published = (
            _unscaled(compose(invert(poses[0]), poses[1])[None], scale)
            for poses in (scene.world_from_camera, ledger.reference("pairviewer/cam2world"))
        )
        ledger.record("pairviewer/cam2world", pose_measures(ours, published, truth, _listed(ledger)))
    if "pairviewer/depth" in ledger:
        allowed = TRUTH_FACTOR * _listed(ledger)[1]
        ledger.record("pairviewer/depth", relative_measure(scene.depth, ledger.reference("pairviewer/depth"), allowed))


def _true_pose(ledger: Ledger, edges: NDArray[np.int64], edge: int) -> NDArray[np.float64]:
    """Camera 2 in camera 1, true scale."""
    world_from_camera = ledger.take("gt/cam2world")
    return compose(invert(world_from_camera[edges[edge, 0]]), world_from_camera[edges[edge, 1]])


def _unscaled(poses: NDArray[Any], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses (n, 4, 4) in each edge's own unit -> in the true one."""
    poses = np.array(poses, dtype=np.float64)
    poses[:, :3, 3] /= scales[:, None]
    return poses


def _listed(ledger: Ledger) -> tuple[float, float]:
    """The published errors that the JSON states: rotation in degrees, relative translation; 0 where it is silent."""
    stated = ledger.about.get("pnp_errors_vs_truth", {})
    return float(stated.get("max_rotation_deg", 0.0)), float(stated.get("max_relative_translation", 0.0))


def _min_confidence(ledger: Ledger) -> float:
    """The confidence above which points count, as the JSON's text states it."""
    stated = re.search(r"conf_2\s*>\s*([\d.]+)", str(ledger.about.get("arrays", {}).get("pnp/cam2_in_cam1")))
    return float(stated[1]) if stated else 3.0
