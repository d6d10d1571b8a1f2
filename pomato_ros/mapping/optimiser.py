"""Solves for all unknowns of global alignment: the start in the objective's encoding, then Adam."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.geometry.rigid import quaternion_xyzw_from_matrix
from pomato_ros.mapping.objective import (
    EdgePointmaps,
    MeasuredFlow,
    alignment_cost,
    sequence_flow_cost,
    smoothness_steps,
)
from pomato_ros.mapping.options import AlignmentOptions
from pomato_ros.mapping.spanning_tree import GraphMaps, TreeStart, edge_similarity
from pomato_ros.mapping.variables import FOCAL_FACTOR, MEAN_EDGE_SCALE, AlignmentVariables, encode_poses

LEAST_DEPTH = 1e-6
BETAS = (0.9, 0.9)
FlowOf = Callable[[AlignmentVariables], MeasuredFlow]


@dataclass(frozen=True)
class AlignmentResult:
    """Unknowns after the last step, and the objective before the first and after the last."""

    variables: AlignmentVariables
    first_cost: float
    last_cost: float


def start_variables(
    start: TreeStart, maps: GraphMaps, shared_focal: bool, dtype: torch.dtype = torch.float32
) -> AlignmentVariables:
    """The tree's answer as unknowns: edges fitted to it, the world scaled so that edges' scales have their mean."""
    fits = [edge_similarity(maps, e, start.points_world[i]) for e, (i, _) in enumerate(maps.edges)]
    log_scales = np.log([fit.scale for fit in fits])
    unit = math.exp(math.log(MEAN_EDGE_SCALE) - float(log_scales.mean()))
    edge_poses = _encoded(np.stack([fit.rotation for fit in fits]), np.stack([fit.translation for fit in fits]))
    edge_poses[:, 4:7] = _signed_log(
        np.stack([fit.translation for fit in fits]) / np.exp(log_scales)[:, None]
    )  # translation and rotation are both multiplied by the scale
    poses = start.world_from_camera
    depth = _depth_in(start.points_world, poses) * unit
    focals_px = start.focals_px.mean(keepdims=True) if shared_focal else start.focals_px
    return AlignmentVariables(
        log_depth=torch.from_numpy(np.log(np.maximum(depth, LEAST_DEPTH))).to(dtype),
        poses=torch.from_numpy(_encoded(poses[:, :3, :3], poses[:, :3, 3] * unit)).to(dtype),
        focals=torch.from_numpy(FOCAL_FACTOR * np.log(focals_px))[:, None].to(dtype),
        edges=torch.from_numpy(np.concatenate((edge_poses, log_scales[:, None]), axis=1)).to(dtype),
    )


def solve(
    start: AlignmentVariables,
    pairs: EdgePointmaps,
    options: AlignmentOptions,
    flow: FlowOf | None = None,
    fixed_focal: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> AlignmentResult:
    """Minimise the objective from ``start``; ``advance`` is called after each step.

    ``flow``: what flow measures, given the unknowns (those of matching pointmaps change with the focal length).
    """
    variables = start.require_gradients()
    leaves = [leaf for leaf in variables.leaves() if not (fixed_focal and leaf is variables.focals)]
    optimiser = torch.optim.Adam(leaves, lr=options.learning_rate, betas=BETAS)
    costs = [math.nan]
    for step in range(options.iterations):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(options, step / max(options.iterations, 1))
        optimiser.zero_grad()
        measured = flow(variables) if flow and step >= options.flow_start * options.iterations else None
        cost = total_cost(variables, pairs, options, measured)
        torch.autograd.backward([cost])
        optimiser.step()
        costs.append(float(cost.detach()))
        advance()
    with torch.no_grad():
        last = float(total_cost(variables, pairs, options, flow(variables) if flow else None))
        depth, poses, focals, edges = (leaf.detach() for leaf in variables.leaves())
    final = AlignmentVariables(depth, poses, focals, edges, variables.grid)
    return AlignmentResult(final, costs[1] if len(costs) > 1 else last, last)


def total_cost(
    variables: AlignmentVariables, pairs: EdgePointmaps, options: AlignmentOptions, flow: MeasuredFlow | None = None
) -> Tensor:
    """Alignment, smoothness and, unless it exceeds its limit, flow, weighed as ``options`` have it."""
    cost = alignment_cost(variables, pairs)
    if options.smoothness_weight:
        steps = smoothness_steps(variables.world_from_camera(), options.translation_weight)
        cost = cost + options.smoothness_weight * steps.sum()
    if flow is not None and options.flow_weight:
        term = sequence_flow_cost(variables, flow)
        if float(term.detach()) <= options.flow_limit:
            cost = cost + options.flow_weight * term
    return cost


def learning_rate(options: AlignmentOptions, share: float) -> float:
    """The rate after a ``share`` (0 to 1) of all steps."""
    left = 1 - share if options.schedule == "linear" else (1 + math.cos(math.pi * share)) / 2
    return options.last_learning_rate + left * (options.learning_rate - options.last_learning_rate)


def _encoded(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (n, 7) as the unknowns have them."""
    quaternions = torch.from_numpy(quaternion_xyzw_from_matrix(rotations))
    return encode_poses(quaternions, torch.from_numpy(translations)).numpy()


def _signed_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``sign(t) log(1 + |t|)``."""
    return np.sign(values) * np.log1p(np.abs(values))


def _depth_in(points_world: NDArray[np.float64], world_from_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, h, w) depth of points (n, h, w, 3) in their own cameras."""
    axis = world_from_camera[:, :3, 2]
    return np.einsum("nhwc,nc->nhw", points_world - world_from_camera[:, None, None, :3, 3], axis)
