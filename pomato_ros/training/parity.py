"""Parity of training losses with the published ones, values and gradients: more checks for ``check_fixture``."""

import dataclasses
import math
import re

import numpy as np
import torch
from torch import Tensor

from pomato_ros.evaluation.parity.engine import Check
from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.measures import absolute_measure, relative_measure
from pomato_ros.geometry.rigid import rotation_angle
from pomato_ros.sources.dust3r.recurrent_flow import (
    all_pairs,
    laplace_loss,
    look_up,
    pyramid,
    upsample_bilinearly,
    upsample_convexly,
)
from pomato_ros.sources.dust3r.scene_flow import anchor_factors, focal_of, image_flow, split_flow, weighted_rigid
from pomato_ros.training.flow4r_losses import FlowOutputs, FlowTruth, FlowWeights, flow_losses
from pomato_ros.training.matching_loss import (
    Candidates,
    MatchingOptions,
    candidates_at,
    confident_matching_loss,
    matching_losses,
)

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-6, 1e-5
PIECE_TOLERANCE = 1e-5
STORED_FP32 = 1e-4  # of the largest value: maps that the reference used in float64 are stored in fp32
MAPS = ("desc1", "desc2", "desc_conf1", "desc_conf2", "corres1_xy", "corres2_xy", "valid")
MIXTURE = ("flow_pred", "flow_gt", "info")
RECIPE = MatchingOptions()


def check_matching_loss(ledger: Ledger) -> None:
    """InfoNCE in every mode, confidence-weighted in every way, and its gradients."""
    if not all(name in ledger for name in MAPS):
        return
    tensors = {name: torch.from_numpy(ledger.take(name)) for name in MAPS}
    desc = tensors["desc1"].requires_grad_(True), tensors["desc2"]
    conf = tensors["desc_conf1"].requires_grad_(True), tensors["desc_conf2"]
    pixels = tensors["corres1_xy"], tensors["corres2_xy"]
    candidates = candidates_at(desc, conf, pixels, tensors["valid"])
    for name in ledger.names("infonce/"):
        if parts := re.fullmatch(r"infonce/(\w+)_([\d.]+)_per_match", name):
            losses = _info_nce(candidates, parts[1], float(parts[2]))
            _record(ledger, name, losses)
            _record(ledger, f"scalar/infonce_{parts[1]}_{parts[2]}_mean", losses.mean()[None])
    _record(ledger, "scalar/matching_loss_mean", matching_losses(candidates, RECIPE)[0].mean()[None])
    for name in ledger.names("scalar/conf_matching_"):
        if parts := re.fullmatch(r"scalar/conf_matching_(mean|prod)_negq(False|[\d.]+)", name):
            quantile = 0.0 if parts[2] == "False" else float(parts[2])
            options = dataclasses.replace(RECIPE, conf_mode=parts[1], negative_quantile=quantile)
            _record(ledger, name, confident_matching_loss(candidates, options)[None])
    if ledger.names("grad/"):
        gradients = torch.autograd.grad(confident_matching_loss(candidates, RECIPE), (desc[0], conf[0]))
        for name, ours in zip(("grad/desc1", "grad/desc_conf1"), gradients, strict=True):
            _record(ledger, name, ours, GRADIENT_TOLERANCE)


def check_recurrent_flow(ledger: Ledger) -> None:
    """RAFT's correlation, look-up and up-sampling, and the mixture of Laplaces."""
    if "corr_level0" not in ledger or "fmap1" not in ledger:
        return
    maps = {name: torch.from_numpy(ledger.take(name)) for name in ("fmap1", "fmap2", "coords", "flow8", "mask576")}
    volume = all_pairs(maps["fmap1"], maps["fmap2"])
    levels = pyramid(volume, int(ledger.about["levels"]))
    factor = math.isqrt(maps["mask576"].shape[1] // 9)
    found = {
        "corr_level0": volume[0],
        "lookup": look_up(levels, maps["coords"], int(ledger.about["radius"])),
        "convex_up": upsample_convexly(maps["flow8"], maps["mask576"], factor),
        "bilinear_up": upsample_bilinearly(maps["flow8"], factor),
    }
    for name, ours in found.items():
        if name in ledger:
            ledger.record(name, absolute_measure(ours, ledger.reference(name), PIECE_TOLERANCE))
    for name in ledger.names("mol/var"):
        if bounds := re.fullmatch(r"mol/var_?(m?)(\d+)_(\d+)", name):
            small, most = (float(f"-{bounds[2]}" if bounds[1] else bounds[2]), 0.0), bounds[3]
            flow, truth, info = (torch.from_numpy(ledger.take(f"mol/{part}")) for part in MIXTURE)
            _record(ledger, name, laplace_loss(flow, truth, info, (0.0, float(most)), small))


def check_scene_flow(ledger: Ledger) -> None:
    """Flow4R's equations and losses, in float64."""
    if "P_vt" not in ledger:
        return
    points, moved, weights = (_double(ledger, name) for name in ("P", "P_vt", "W"))
    parts = split_flow(points, moved, weights)
    focal_px = focal_of(points)
    found = {
        "T": parts.other_from_own,
        "P_v": parts.seen_from_other,
        "F": parts.flow,
        "F_v": parts.camera_flow,
        "F_t": parts.object_flow,
        "P_t": parts.tracked,
        "focal": focal_px[None],
        "optical_flow": image_flow(points, moved, focal_px),
        "principal_point": torch.tensor([points.shape[1] / 2, points.shape[0] / 2]),
    }
    if "det/src" in ledger:
        source, target = _double(ledger, "det/src"), _double(ledger, "det/dst")
        fitted = weighted_rigid(source, target, torch.ones(len(source), dtype=source.dtype))
        found |= {"det/R": fitted[:3, :3], "det/t": fitted[:3, 3]}
    if "seq/anchor_P" in ledger:
        anchors = _double(ledger, "seq/anchor_P")
        found |= {"seq/s_n": anchors.norm(dim=-1).mean((-2, -1)), "seq/factor": anchor_factors(anchors)}
    for name, ours in found.items():
        _record_equation(ledger, name, ours)
    if "loss/gt_P" in ledger:
        _check_flow_losses(ledger, (points, moved, weights), parts.other_from_own)


def _check_flow_losses(ledger: Ledger, maps: tuple[Tensor, Tensor, Tensor], fitted: Tensor) -> None:
    """Losses (10) to (17) on dynamic and static data, gradients of the dynamic total, the fit's errors."""
    leaves = [value[None].requires_grad_(True) for value in (*maps, _double(ledger, "loss/C"))]
    options = FlowWeights(*(float(ledger.about["lambdas"][name]) for name in ("P", "F", "f", "W", "Fv", "alpha")))
    totals: dict[str, Tensor] = {}
    for kind in ("dyn", "static"):
        losses = flow_losses(FlowOutputs(*leaves), _flow_truth(ledger, kind == "dyn"), options)
        totals[kind] = losses.total
        names = ("L_P", "L_F", "L_f", "L_W", "L_Fv", "total")
        values = (losses.points, losses.flow, losses.image_flow, losses.weights, losses.camera_flow, losses.total)
        for name, value in zip(names, values, strict=True):
            _record(ledger, f"scalar/{kind}_{name}", value[None])
    gradients = torch.autograd.grad(totals["dyn"], leaves)
    for name, ours in zip(("P", "Pvt", "W", "C"), gradients, strict=True):
        reference = f"loss/grad_{name}"
        if reference in ledger:
            absolute = absolute_measure(ours[0], ledger.reference(reference), GRADIENT_TOLERANCE)
            ledger.record(reference, (*absolute, *relative_measure(ours[0], ledger.reference(reference), STORED_FP32)))
    true = ledger.take("loss/gt_T")
    rotation_deg = np.degrees(rotation_angle(fitted[:3, :3].T.numpy() @ true[:3, :3]))
    translation = np.linalg.norm(fitted[:3, 3].numpy() - true[:3, 3])
    fit = {"rot_err_deg": rotation_deg, "t_err": translation, "focal_true": ledger.take("loss/focal")[0]}
    for name, number in fit.items():
        _record_equation(ledger, f"scalar/{name}", torch.tensor([float(number)], dtype=torch.float64))
    if "dynamic" in ledger:
        ledger.take("dynamic")


def _flow_truth(ledger: Ledger, dynamic: bool) -> FlowTruth:
    """The fixture's truth, a batch of one."""
    has = [torch.from_numpy(ledger.take(f"loss/M_{name}"))[None] for name in ("P", "F", "f")]
    points, moved, motion = (_double(ledger, f"loss/gt_{name}")[None] for name in ("P", "P_vt", "T"))
    return FlowTruth(points, moved, motion, _double(ledger, "loss/focal"), has[0], has[1], has[2], dynamic)


def _double(ledger: Ledger, name: str) -> Tensor:
    """An input in float64."""
    return torch.from_numpy(np.asarray(ledger.take(name), np.float64))


def _record_equation(ledger: Ledger, name: str, ours: Tensor) -> None:
    """Compare what was computed in float64 and stored in fp32: to 1e-5 absolutely, as the fixture says."""
    if name in ledger:
        reference = ledger.reference(name)
        absolute = absolute_measure(ours, reference, PIECE_TOLERANCE)
        ledger.record(name, (*absolute, *relative_measure(ours, reference, STORED_FP32)))


def _info_nce(candidates: Candidates, mode: str, temperature: float) -> Tensor:
    """(m,) of the true matches."""
    return matching_losses(candidates, dataclasses.replace(RECIPE, mode=mode, temperature=temperature))[0]


def _record(ledger: Ledger, name: str, ours: Tensor, tolerance: float = LOSS_TOLERANCE) -> None:
    """Compare with the largest value of the reference, if the fixture has it."""
    if name in ledger:
        ledger.record(name, relative_measure(ours.detach(), ledger.reference(name), tolerance))


LOSS_CHECKS: tuple[Check, ...] = (check_matching_loss, check_recurrent_flow, check_scene_flow)
