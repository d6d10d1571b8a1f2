"""Fixtures of the global alignment objective: values, gradients, scales, and the terms for video."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.measures import exact_measure, relative_measure
from pomato_ros.mapping.objective import (
    EdgePointmaps,
    MeasuredFlow,
    alignment_cost,
    consistent_flow,
    edge_camera_flow,
    sequence_flow_cost,
    smoothness_steps,
)
from pomato_ros.mapping.variables import AlignmentVariables

TOLERANCE = 1e-4  # the fixture's own: published values are of float32
TEMPORAL_WEIGHT, TRANSLATION_WEIGHT, FLOW_WEIGHT = 0.01, 1.0, 0.01
LEAVES = ("im_depthmaps", "im_poses", "im_focals", "pw_poses")  # in the order of the variables


@dataclass(frozen=True)
class Problem:
    """What a fixture poses: pairs, and variables with a focal length for each image or one for all."""

    pairs: EdgePointmaps
    variables: AlignmentVariables

    def with_shared_focal(self) -> AlignmentVariables:
        """The variables with the first image's focal length for all."""
        own = self.variables
        return AlignmentVariables(own.log_depth, own.poses, own.focals[:1], own.edges).require_gradients()


def check_alignment(ledger: Ledger) -> None:
    """Every array of a fixture of the objective, computed in float64."""
    problem = _problem(ledger)
    _check_objective(ledger, problem)
    if ledger.names("monst3r/"):
        _check_video_terms(ledger, problem)
        _check_flow_consistency(ledger)


def _problem(ledger: Ledger) -> Problem:
    """Inputs of the objective."""
    points_i, points_j = _read(ledger, "pred_i"), _read(ledger, "pred_j")
    pairs = EdgePointmaps(
        torch.from_numpy(ledger.take("edges")),
        points_i,
        points_j,
        _read(ledger, "conf_i").log(),
        _read(ledger, "conf_j").log(),
    )
    depth, *others = (_read(ledger, f"param/{name}") for name in LEAVES)
    variables = AlignmentVariables(depth.view(len(depth), *points_i.shape[1:3]), *others)
    return Problem(pairs, variables.require_gradients())


def _check_objective(ledger: Ledger, problem: Problem) -> None:
    """DUSt3R's own term with a focal length for each image, and what its variables stand for."""
    variables = problem.variables
    cost = alignment_cost(variables, problem.pairs)
    torch.autograd.backward([cost])
    scaled = variables.world_from_edge()
    _record_all(
        ledger,
        {
            "scalar/dust3r/loss": cost.detach()[None],
            "dust3r/im_cam2world": variables.world_from_camera(),
            "dust3r/pw_poses_scaled": scaled,
            "dust3r/pw_scale": variables.edge_scales(),
            "dust3r/focals": variables.focals_px(),
            "dust3r/pts3d": variables.points_world(),
        },
    )
    _record_gradients(ledger, "dust3r", variables)


def _check_video_terms(ledger: Ledger, problem: Problem) -> None:
    """One focal length, smoothness and flow, as MonST3R adds them up before and after flow sets in."""
    variables, edges = problem.with_shared_focal(), problem.pairs.edges
    steps = smoothness_steps(variables.world_from_camera(), TRANSLATION_WEIGHT)
    smooth = alignment_cost(variables, problem.pairs) + TEMPORAL_WEIGHT * steps.sum()
    measured = [_read(ledger, f"monst3r/flow_{side}").permute(0, 2, 3, 1) for side in ("ij", "ji")]
    static = ~torch.from_numpy(ledger.take("monst3r/dynamic_masks"))
    first, second = edges.unbind(-1)
    flow = sequence_flow_cost(variables, MeasuredFlow(edges, measured[0], measured[1], static[first], static[second]))
    total = smooth + FLOW_WEIGHT * flow
    torch.autograd.backward([total])
    _record_all(
        ledger,
        {
            "monst3r/smooth_per_step": steps,
            "monst3r/ego_flow_ij": edge_camera_flow(variables, first, second).permute(0, 3, 1, 2),
            "monst3r/ego_flow_ji": edge_camera_flow(variables, second, first).permute(0, 3, 1, 2),
            "scalar/monst3r/smooth_sum": steps.sum()[None],
            "scalar/monst3r/align_plus_smooth": smooth[None],
            "scalar/monst3r/loss_before_flow_start": smooth[None],
            "scalar/monst3r/flow_loss": flow[None],
            "scalar/monst3r/total": total[None],
            "scalar/monst3r/total_when_flow_loss_over_thre": smooth[None],
        },
    )
    _record_gradients(ledger, "monst3r", variables)


def _check_flow_consistency(ledger: Ledger) -> None:
    """The forward and backward check."""
    if "monst3r/occ_valid" in ledger:
        flow, back = (_read(ledger, f"monst3r/occ_{name}").permute(0, 2, 3, 1) for name in ("flow", "back"))
        reference = ledger.reference("monst3r/occ_valid")
        ledger.record("monst3r/occ_valid", exact_measure(consistent_flow(flow, back)[:, None], reference))


def _record_gradients(ledger: Ledger, group: str, variables: AlignmentVariables) -> None:
    """Gradients of all leaves."""
    for name, leaf in zip(LEAVES, variables.leaves(), strict=True):
        array = f"{group}/grad_{name}"
        if array in ledger and leaf.grad is not None:
            _record_all(ledger, {array: leaf.grad.reshape(ledger.reference(array).shape)})


def _record_all(ledger: Ledger, computed: Mapping[str, Tensor | ArrayLike]) -> None:
    """Relative differences of whatever the fixture has."""
    for name, ours in computed.items():
        if name in ledger:
            value = ours.detach().numpy() if isinstance(ours, Tensor) else ours
            ledger.record(name, relative_measure(value, ledger.reference(name), TOLERANCE))


def _read(ledger: Ledger, name: str) -> Tensor:
    """An input in float64."""
    return torch.from_numpy(np.asarray(ledger.take(name), dtype=np.float64))
