"""Parity of training losses with the published ones, values and gradients: more checks for ``check_fixture``."""

import dataclasses
import re

import torch
from torch import Tensor

from pomato_ros.evaluation.parity.engine import Check
from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.measures import relative_measure
from pomato_ros.training.matching_loss import (
    Candidates,
    MatchingOptions,
    candidates_at,
    confident_matching_loss,
    matching_losses,
)

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-6, 1e-5
MAPS = ("desc1", "desc2", "desc_conf1", "desc_conf2", "corres1_xy", "corres2_xy", "valid")
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


def _info_nce(candidates: Candidates, mode: str, temperature: float) -> Tensor:
    """(m,) of the true matches."""
    return matching_losses(candidates, dataclasses.replace(RECIPE, mode=mode, temperature=temperature))[0]


def _record(ledger: Ledger, name: str, ours: Tensor, tolerance: float = LOSS_TOLERANCE) -> None:
    """Compare with the largest value of the reference, if the fixture has it."""
    if name in ledger:
        ledger.record(name, relative_measure(ours.detach(), ledger.reference(name), tolerance))


LOSS_CHECKS: tuple[Check, ...] = (check_matching_loss,)
