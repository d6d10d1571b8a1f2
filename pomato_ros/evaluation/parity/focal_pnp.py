"""Fixtures of one synthetic pair: focal length of its pointmaps, poses on them, the two-image scene, registration."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.pair_viewer import PairDirection, view_pair
from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.measures import Measures, exact_measure, relative_measure
from pomato_ros.evaluation.parity.report import Measure
from pomato_ros.geometry.alignment import align_similarity
from pomato_ros.geometry.camera import clip_focal, focal_by_irls, focal_by_median, half_size_principal_point
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.pnp import PnpFailure, PnpSolution, focal_candidates, solve_pose, solve_pose_and_focal
from pomato_ros.geometry.rigid import rotation_angle

TOLERANCE = 1e-4  # the fixture's own, relative
SPREAD = 1.5  # its poses may err by the largest of the published ones and half of it
PRINCIPAL_POINT_SHIFT_PX = (2.5, -1.5)  # of the case off centre; found from its value, as the file does not state it
THRESHOLD_PX = 5.0
SEED = 0
ITERATIONS = {"fast_pnp_iter10": 10, "fast_pnp_iter100": 100, "run_pnp_10000": 10_000}


def check_focal_pnp(ledger: Ledger) -> None:
    """Every array of a fixture of focal length and pose."""
    _check_focals(ledger)
    _check_poses(ledger)
    _check_focal_search(ledger)
    _check_pair_viewer(ledger)
    _check_registration(ledger)


def _points(ledger: Ledger, name: str) -> NDArray[np.float64]:
    return np.asarray(ledger.take(f"in/pts3d_{name}"), dtype=np.float64)


def _check_focals(ledger: Ledger) -> None:
    """Weiszfeld's and the median, of both images, clipped, off centre, and of a map with invalid pixels."""
    points = {name: _points(ledger, name) for name in ("11", "22", "11_bad")}
    height, width = points["11"].shape[:2]
    centre = half_size_principal_point(height, width)
    ours = {
        "focal/weiszfeld_bad": focal_by_irls(points["11_bad"], centre),
        "focal/median_bad": focal_by_median(points["11_bad"], centre),
    }
    for name in ("11", "22"):
        ours[f"focal/weiszfeld_{name}"] = focal_by_irls(points[name], centre)
        ours[f"focal/median_{name}"] = focal_by_median(points[name], centre)
    for name in ledger.names("focal/weiszfeld_11_"):
        limits = re.search(r"clipped_([\d.]+)_([\d.]+)$", name)
        if limits:
            ours[name] = clip_focal(ours["focal/weiszfeld_11"], height, width, float(limits[1]), float(limits[2]))
        elif name.endswith("pp_off"):
            shifted = (centre[0] + PRINCIPAL_POINT_SHIFT_PX[0], centre[1] + PRINCIPAL_POINT_SHIFT_PX[1])
            ours[name] = focal_by_irls(points["11"], shifted)
    for name, focal_px in ours.items():
        if name in ledger:
            ledger.record(name, relative_measure([focal_px], ledger.reference(name), TOLERANCE))


def _confident(ledger: Ledger) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels (n, 2) of image 2 and their points (n, 3) in camera 1, where the network is confident."""
    chosen = ledger.take("in/conf_21") > float(ledger.take("pnp/min_conf_thr")[0])
    return pixel_grid(*chosen.shape)[chosen], _points(ledger, "21")[chosen]


def _check_poses(ledger: Ledger) -> None:
    """Camera 2 in camera 1 with the focal length of its own pointmap, for the published numbers of draws."""
    pixels, points = _confident(ledger)
    if "pnp/n_points" in ledger:
        ledger.record("pnp/n_points", exact_measure([len(pixels)], ledger.reference("pnp/n_points")))
    height, width = ledger.take("in/conf_21").shape
    centre = half_size_principal_point(height, width)
    focal_px = focal_by_irls(_points(ledger, "11"), centre)
    matrix = np.array([[focal_px, 0, centre[0]], [0, focal_px, centre[1]], [0, 0, 1.0]])
    for name, iterations in ITERATIONS.items():
        solved = solve_pose(pixels, points, matrix, threshold_px=THRESHOLD_PX, iterations=iterations, seed=SEED)
        _record_pose(ledger, name, solved)
        if name == "fast_pnp_iter100" and isinstance(solved, PnpSolution) and "pnp/inliers_iter100" in ledger:
            reference = ledger.reference("pnp/inliers_iter100")
            ledger.record("pnp/inliers_iter100", relative_measure([solved.inliers.sum()], reference, 1e-2))


def _record_pose(ledger: Ledger, name: str, solved: PnpSolution | PnpFailure) -> None:
    """A pose against the truth, and the focal length that it was solved with."""
    if f"pnp/{name}_cam2world" in ledger:
        pose = None if isinstance(solved, PnpFailure) else solved.reference_from_camera
        ledger.record(f"pnp/{name}_cam2world", _pose_measures(ledger, pose, _allowed(ledger, name)))
    if f"pnp/{name}_focal" in ledger and isinstance(solved, PnpSolution):
        reference = ledger.reference(f"pnp/{name}_focal")
        ledger.record(f"pnp/{name}_focal", relative_measure([solved.focal_px], reference, TOLERANCE))


def _check_focal_search(ledger: Ledger) -> None:
    """Pose with unknown focal length: one of the published candidates has to be found."""
    pixels, points = _confident(ledger)
    height, width = ledger.take("in/conf_21").shape
    solved = solve_pose_and_focal(
        pixels,
        points,
        half_size_principal_point(height, width),
        (width, height),
        threshold_px=THRESHOLD_PX,
        iterations=ITERATIONS["fast_pnp_iter100"],
        seed=SEED,
    )
    name = "fast_pnp_focal_search"
    if f"pnp/{name}_focal" in ledger:
        found_px = solved.focal_px if isinstance(solved, PnpSolution) else np.inf
        nearest_px = float(np.abs(focal_candidates(max(height, width)) - found_px).min())
        ledger.record(f"pnp/{name}_focal", (Measure("from a candidate, px", nearest_px, 1e-6),))
    if f"pnp/{name}_cam2world" in ledger:
        pose = None if isinstance(solved, PnpFailure) else solved.reference_from_camera
        measures = _pose_measures(ledger, pose, (None, None))
        ledger.record(f"pnp/{name}_cam2world", measures, "any of the candidates may win: nothing to hold")


def _check_pair_viewer(ledger: Ledger) -> None:
    """The two-image scene."""
    directions = [
        PairDirection(*(ledger.take(f"in/{kind}_{view}") for view in views for kind in ("pts3d", "conf")))
        for views in (("11", "21"), ("22", "12"))
    ]
    minimum = float(ledger.take("pairviewer/min_conf_thr")[0])
    scene = view_pair((directions[0], directions[1]), minimum, SEED)
    height, width = directions[0].conf_1.shape
    matrices = np.zeros((2, 3, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scene.focal_px
    matrices[:, 0, 2], matrices[:, 1, 2], matrices[:, 2, 2] = width / 2, height / 2, 1
    computed: dict[str, tuple[Any, float]] = {
        "pairviewer/focals": (scene.focal_px, TOLERANCE),
        "pairviewer/K": (matrices, TOLERANCE),
        "pairviewer/edge_scores": ([each.score for each in directions], TOLERANCE),
        "pairviewer/depth0": (scene.depth[0], _allowed(ledger, "pairviewer")[1]),
        "pairviewer/depth1": (scene.depth[1], _allowed(ledger, "pairviewer")[1]),
    }
    for name, (ours, tolerance) in computed.items():
        if name in ledger:
            ledger.record(name, relative_measure(ours, ledger.reference(name), tolerance))
    if "pairviewer/cam2world" in ledger:
        relative = np.linalg.inv(scene.world_from_camera[0]) @ scene.world_from_camera[1]
        ledger.record("pairviewer/cam2world", _pose_measures(ledger, relative, _allowed(ledger, "pairviewer")))


def _check_registration(ledger: Ledger) -> None:
    """Similarity from image 2's own map to its map in camera 1, weighed by the confidence of the first."""
    if "sim3/scale" not in ledger:
        return
    source, target = _points(ledger, "22").reshape(-1, 3), _points(ledger, "21").reshape(-1, 3)
    ours = align_similarity(source, target, np.asarray(ledger.take("in/conf_22"), dtype=np.float64).ravel())
    for name, value in (("scale", [ours.scale]), ("R", ours.rotation), ("T", ours.translation)):
        reference = ledger.reference(f"sim3/{name}")
        ledger.record(f"sim3/{name}", relative_measure(value, reference, TOLERANCE))


def _pose_measures(
    ledger: Ledger, pose: NDArray[np.float64] | None, allowed: tuple[float | None, float | None]
) -> Measures:
    """Rotation (deg) and translation of camera 2 in camera 1 against the truth."""
    if pose is None:
        return (Measure("without a pose", 1.0, 0.0),)
    truth = np.asarray(ledger.about["truth"]["cam2world_2"])
    turn_deg = float(np.degrees(rotation_angle(pose[:3, :3].T @ truth[:3, :3])))
    distance = float(np.linalg.norm(pose[:3, 3] - truth[:3, 3]))
    return (
        Measure("rotation to truth, deg", turn_deg, allowed[0]),
        Measure("translation to truth", distance, allowed[1]),
    )


def _allowed(ledger: Ledger, name: str) -> tuple[float, float]:
    """Largest errors that a pose may have: half as large again as the published one's."""
    stated = ledger.about["errors_to_truth"]
    errors = stated.get(name) or stated["run_pnp"]
    return SPREAD * float(errors["rot_deg"]), SPREAD * float(errors["trans"])
