"""Fixtures of whole alignments: where they start, what the objective is there, and how near the truth they end."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.measures import Measures, pose_measures, relative_measure
from pomato_ros.evaluation.parity.report import Measure
from pomato_ros.evaluation.published_masks import mirrored_masks, row_of_edge
from pomato_ros.geometry.rigid import compose, invert
from pomato_ros.mapping.objective import EdgePointmaps, MeasuredFlow, matched_flow, sequence_flow_cost
from pomato_ros.mapping.optimiser import FlowOf, solve, start_variables, total_cost
from pomato_ros.mapping.options import AlignmentOptions
from pomato_ros.mapping.spanning_tree import GraphMaps, start_from_tree
from pomato_ros.mapping.variables import AlignmentVariables

START_TOLERANCE = 1e-4
COST_TOLERANCE = 0.05  # share by which a run may end above the published one
DEPTH_TOLERANCE = 0.02
MASK_FACTOR = 0.3  # of the published rule, where the JSON does not say
PLAIN = dataclasses.replace(AlignmentOptions(), smoothness_weight=0.0, flow_weight=0.0)
RUNS: Mapping[str, AlignmentOptions] = {"ga_noflow": PLAIN, "ga_flow": AlignmentOptions()}


def check_alignment_runs(ledger: Ledger) -> None:
    """Every run of a pose fixture, in float32 as published."""
    if not any(ledger.names(name + "/") for name in RUNS):
        return
    graph = GraphMaps(*(ledger.take(name) for name in ("edges", "pts3d_1", "pts3d_2", "conf_1", "conf_2")))
    start = start_variables(start_from_tree(graph, AlignmentOptions().min_confidence), graph, shared_focal=True)
    edges, *maps = (
        torch.from_numpy(each) for each in (graph.edges, graph.points_i, graph.points_j, graph.conf_i, graph.conf_j)
    )
    pairs = EdgePointmaps(edges, maps[0], maps[1], maps[2].log(), maps[3].log())
    flow = _flow_of(ledger, edges)
    for name, options in RUNS.items():
        if ledger.names(name + "/"):
            uses_flow = flow if options.flow_weight else None
            _check_start(ledger, name, start, pairs, options, uses_flow)
            _check_end(ledger, name, solve(start, pairs, options, uses_flow).variables, pairs, options, uses_flow)


def _flow_of(ledger: Ledger, edges: Tensor) -> FlowOf:
    """POMATO's flow: the mirrored edge's matching pointmap, without the pixels that the published mask has moving."""
    matched, points = torch.from_numpy(ledger.take("pts3d_m")), torch.from_numpy(ledger.take("pts3d_2"))
    mirror = [row_of_edge(edges, int(j), int(i)) for i, j in edges]
    moving = mirrored_masks(edges, points, matched, float(ledger.about.get("thr_global", MASK_FACTOR)))

    def measured(variables: AlignmentVariables) -> MeasuredFlow:
        focal_px = variables.focals_px()[0].detach()
        grid = variables.pixels()
        there, back = matched_flow(matched[mirror], focal_px, grid), matched_flow(matched, focal_px, grid)
        return MeasuredFlow(edges, there, back, ~moving, ~moving[mirror])

    return measured


def _check_start(
    ledger: Ledger,
    run: str,
    start: AlignmentVariables,
    pairs: EdgePointmaps,
    options: AlignmentOptions,
    flow: FlowOf | None,
) -> None:
    """Poses, focal lengths and objective before the first step."""
    cost = float(total_cost(start, pairs, options))
    flow_term = float(sequence_flow_cost(start, flow(start))) if flow else 0.0
    computed: dict[str, Any] = {
        "init_cam2world": start.world_from_camera(),
        "init_focals": start.focals_px()[:, None],
        "init_loss": cost,
        "init_loss_with_flow_epoch9999": cost + options.flow_weight * flow_term,
    }
    for name, ours in computed.items():
        if f"{run}/{name}" in ledger:
            ledger.record(f"{run}/{name}", relative_measure(ours, ledger.reference(f"{run}/{name}"), START_TOLERANCE))


def _check_end(
    ledger: Ledger,
    run: str,
    end: AlignmentVariables,
    pairs: EdgePointmaps,
    options: AlignmentOptions,
    flow: FlowOf | None,
) -> None:
    """Objective not above the published one; poses as near the truth, depth near the published one."""
    cost = float(total_cost(end, pairs, options, flow(end) if flow else None))
    if f"{run}/loss" in ledger:
        published = float(ledger.reference(f"{run}/loss"))
        ledger.record(f"{run}/loss", (Measure("above the published", cost / published - 1, COST_TOLERANCE),))
    ours, poses = end.world_from_camera().double().numpy(), f"{run}/cam2world"
    if poses in ledger:
        ledger.record(poses, _pose_measures(ledger, run, ours, np.asarray(ledger.reference(poses), np.float64)))
    if f"{run}/focals" in ledger:
        reference = ledger.reference(f"{run}/focals")
        ledger.record(f"{run}/focals", relative_measure(end.focals_px()[:, None], reference, DEPTH_TOLERANCE))
    if f"{run}/depth" in ledger:
        depth, published_depth = end.depth().numpy(), ledger.reference(f"{run}/depth")
        unit = np.median(published_depth / depth)
        difference = float(np.median(np.abs(unit * depth / published_depth - 1)))
        ledger.record(f"{run}/depth", (Measure("median relative difference", difference, DEPTH_TOLERANCE),))


def _pose_measures(ledger: Ledger, run: str, ours: NDArray[np.float64], published: NDArray[np.float64]) -> Measures:
    """Cameras seen from the first one, in the truth's unit, against the truth."""
    truth = _from_first(ledger.take("gt/cam2world"))
    listed = ledger.about.get("errors_vs_truth", {}).get(run, {})
    turns = float(np.max(listed.get("rel_rot_err_deg", [0.0])))
    own, other = (_in_unit_of(_from_first(poses), truth) for poses in (ours, published))
    return pose_measures(own, other, truth, (turns, 0.0))


def _from_first(world_from_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n - 1, 4, 4) cameras from the second on, in the first."""
    return compose(invert(world_from_camera[0]), world_from_camera[1:])


def _in_unit_of(poses: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses with positions scaled to the truth's by least squares."""
    scaled = poses.copy()
    scaled[:, :3, 3] *= (poses[:, :3, 3] * truth[:, :3, 3]).sum() / (poses[:, :3, 3] ** 2).sum()
    return scaled
