"""Moving masks of a fixture: the paper's rule and the published code's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.measures import Measures, exact_measure, mask_measure, network_measures
from pomato_ros.evaluation.parity.report import Measure
from pomato_ros.evaluation.published_masks import adjacent_masks, mirrored_masks, row_of_edge
from pomato_ros.pointmap_scene.motion_mask import lower_median, motion_distance, motion_mask

PAPER_ALPHA = 3.0
QUALITY_ENTRY = "paper_mask(pixels of view2)"


def check_masks(ledger: Ledger, pairs: Tensor, points_2: Tensor, points_match: Tensor) -> None:
    """``dyn/*`` from pointmaps (p, h, w, 3) of the rows of ``pairs`` (p, 2)."""
    distance = motion_distance(points_2, points_match)
    compared: dict[str, tuple[Any, Any]] = {
        "dyn/paper_mask": (motion_mask(points_2, points_match, PAPER_ALPHA, floor=0.0), mask_measure),
        "dyn/mean_dist": (distance.mean(dim=(-2, -1)), network_measures),
        "dyn/median_dist_lower": (lower_median(distance, torch.isfinite(distance)), network_measures),
    }
    for name, (ours, measure) in compared.items():
        if name in ledger:
            ledger.record(name, measure(ours, ledger.reference(name)))
    _check_edge_masks(ledger, pairs, points_2, points_match)


def check_mask_quality(ledger: Ledger, pairs: Tensor, points_2: Tensor, points_match: Tensor) -> None:
    """Precision and recall of the paper's rule against the moving pixels of the true scene."""
    listed = ledger.about["mask_quality"][QUALITY_ENTRY]
    truth = ledger.take("gt/moving_pixels")[np.asarray(pairs[:, 1])]
    ours = np.asarray(motion_mask(points_2, points_match, PAPER_ALPHA, floor=0.0))
    hits = (ours & truth).sum()
    measures: Measures = (
        Measure("precision", float(abs(hits / ours.sum() - listed["precision"])), 1e-3),
        Measure("recall", float(abs(hits / truth.sum() - listed["recall"])), 1e-3),
    )
    ledger.record("mask_quality/paper_mask", measures)


def _check_edge_masks(ledger: Ledger, pairs: Tensor, points_2: Tensor, points_match: Tensor) -> None:
    """The published rules, per edge in the optimiser's order and per frame."""
    edges = torch.from_numpy(ledger.reference("dyn/edges")) if "dyn/edges" in ledger else pairs
    try:
        rows = torch.tensor([row_of_edge(pairs, int(i), int(j)) for i, j in edges])
    except KeyError as error:
        return _not_covered(ledger, ("dyn/edges", "dyn/mask_ij", "dyn/mask_ji", "dyn/adjacent_masks"), error)
    if "dyn/edges" in ledger:
        ledger.record("dyn/edges", exact_measure(pairs[rows], edges))
    maps = edges, points_2[rows], points_match[rows]
    try:
        mask_ij = mirrored_masks(*maps, factor=_factor(ledger, "global"))
        swapped = torch.cat((mask_ij[len(edges) // 2 :], mask_ij[: len(edges) // 2]))
        for name, ours in (("dyn/mask_ij", mask_ij), ("dyn/mask_ji", swapped)):
            if name in ledger:
                ledger.record(name, mask_measure(ours, ledger.reference(name)))
    except KeyError as error:
        _not_covered(ledger, ("dyn/mask_ij", "dyn/mask_ji"), error)
    try:
        if "dyn/adjacent_masks" in ledger:
            ours = adjacent_masks(*maps, factor=_factor(ledger, "adjacent"))
            ledger.record("dyn/adjacent_masks", mask_measure(ours, ledger.reference("dyn/adjacent_masks")))
    except KeyError as error:
        _not_covered(ledger, ("dyn/adjacent_masks",), error)
    return None


def _factor(ledger: Ledger, kind: str) -> float:
    """The fixture's threshold in means; its JSON calls it by one of two names."""
    for name in (f"moving_distance_thres_{kind}", f"thr_{kind}"):
        if name in ledger.about:
            return float(ledger.about[name])
    raise KeyError(f"no threshold thr_{kind} in the JSON")


def _not_covered(ledger: Ledger, names: tuple[str, ...], error: KeyError) -> None:
    """Say why arrays cannot be checked."""
    for name in names:
        if name in ledger:
            ledger.mark_not_covered(name, str(error.args[0]))
