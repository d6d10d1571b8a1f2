"""Fixtures of MASt3R's matching: reciprocal nearest neighbours, coarse to fine; integers, to be met exactly."""

import re

import numpy as np
import torch
from torch import Tensor

from pomato_ros.evaluation.parity.fixture import Array, Ledger
from pomato_ros.evaluation.parity.measures import absolute_measure, exact_measure
from pomato_ros.sources.dust3r.coarse_to_fine import choose_windows
from pomato_ros.sources.dust3r.matching import (
    Matches,
    matches_of_starts,
    pair_matches,
    reciprocal_matches,
    searches,
    start_grid,
    walk,
)
from pomato_ros.sources.dust3r.neighbours import NeighbourIndex

DESCRIPTOR_UNIT = 2048  # stored as integers, so that products are exact
BASIN_STEP_PX = POINT_STEP_PX = PAIR_STEP_PX = 8
CONFIDENCE_TOLERANCE = 1e-5


def check_matching(ledger: Ledger) -> None:
    """Every kind of call that the fixture has."""
    desc_1, desc_2 = (_descriptors(ledger, name) for name in ("desc1_i16", "desc2_i16"))
    for name in ledger.names("S"):
        if step := re.fullmatch(r"S(\d+)/xy1", name):
            _record(ledger, f"S{step[1]}/", ("xy1", "xy2"), reciprocal_matches(desc_1, desc_2, int(step[1])))
            turned = reciprocal_matches(desc_2, desc_1, int(step[1]))
            _record(ledger, f"S{step[1]}/", ("rev_xy_in_2", "rev_xy_in_1"), turned)
    for name, queries, values in (("brute/nn_1to2", desc_1, desc_2), ("brute/nn_2to1", desc_2, desc_1)):
        if name in ledger:
            ours = NeighbourIndex(values).nearest(queries.flatten(0, 1))
            ledger.record(name, exact_measure(ours, ledger.reference(name)))
    if "basin/basin" in ledger:
        _check_basin(ledger, desc_1, desc_2)
    if "init/x" in ledger:
        _check_starts(ledger, desc_1, desc_2)
    if ledger.names("corres/"):
        _check_passes(ledger, desc_1, desc_2)
    if "pts3d/pts1" in ledger:
        points_1, points_2 = (torch.from_numpy(ledger.take(f"pts3d/pts{view}")) for view in (1, 2))
        _record(ledger, "pts3d/", ("xy1", "xy2"), reciprocal_matches(points_1, points_2, POINT_STEP_PX, euclidean=True))
    if "c2f/pos_q" in ledger:
        _check_windows(ledger)


def _check_basin(ledger: Ledger, desc_1: Tensor, desc_2: Tensor) -> None:
    """Convergence basins: walks that end in image 1 only; the reference has one more entry, which nothing reaches."""
    height, width = desc_1.shape[:2]
    starts = start_grid(height, width, BASIN_STEP_PX)
    walked = walk(starts, *searches(desc_1, desc_2), height * width, whole_rounds=True)
    index_1, index_2 = walked.pairs().unbind(-1)
    basin = np.append(walked.moved_to.numpy(), -1)
    for name, ours in (("basin/idx1", index_1), ("basin/idx2", index_2), ("basin/basin", basin)):
        ledger.record(name, exact_measure(ours, ledger.reference(name)))


def _check_starts(ledger: Ledger, desc_1: Tensor, desc_2: Tensor) -> None:
    """Explicit start pixels with every tolerance that the fixture has."""
    starts = torch.from_numpy(np.stack((ledger.take("init/x"), ledger.take("init/y")), axis=-1))
    for name in ledger.names("init/tol"):
        if tolerance := re.fullmatch(r"init/tol(\d+)_xy1", name):
            matches = matches_of_starts(desc_1, desc_2, starts, float(tolerance[1]))
            _record(ledger, f"init/tol{tolerance[1]}_", ("xy1", "xy2"), matches)


def _check_passes(ledger: Ledger, desc_1: Tensor, desc_2: Tensor) -> None:
    """Matches of one pass and of both, with their confidence."""
    conf_1, conf_2 = (torch.from_numpy(ledger.take(f"corres/conf{view}")) for view in (1, 2))
    passes, confs = [(desc_1, desc_2)], [(conf_1, conf_2)]
    for kind in ("nonsym", "sym"):
        if kind == "sym" and "corres/desc12_i16" in ledger:
            passes.append((_descriptors(ledger, "corres/desc12_i16"), _descriptors(ledger, "corres/desc22_i16")))
            confs.append(
                (torch.from_numpy(ledger.take("corres/conf12")), torch.from_numpy(ledger.take("corres/conf22")))
            )
        if f"corres/{kind}_xy1" in ledger:
            matches, conf = pair_matches(passes, confs, PAIR_STEP_PX)
            _record(ledger, f"corres/{kind}_", ("xy1", "xy2"), matches)
            reference = ledger.reference(f"corres/{kind}_conf")
            ledger.record(f"corres/{kind}_conf", absolute_measure(conf, reference, CONFIDENCE_TOLERANCE))


def _check_windows(ledger: Ledger) -> None:
    """Pairs of windows of the coarse-to-fine scheme, in the order of their choice."""
    sizes = [tuple(ledger.take(f"c2f/size_{image}_hw").tolist()) for image in ("q", "b")]
    positions = [torch.from_numpy(ledger.take(f"c2f/pos_{image}")) for image in ("q", "b")]
    forced = ledger.take("c2f/forced_resolution_hw")
    chosen = choose_windows(sizes, positions, [tuple(size) for size in forced.tolist()])
    for name, ours in zip(("c2f/cells_q", "c2f/cells_b"), chosen, strict=True):
        ledger.record(name, exact_measure(ours, ledger.reference(name)))


def _descriptors(ledger: Ledger, name: str) -> Tensor:
    """(h, w, d) fp32."""
    stored: Array = ledger.take(name)
    return torch.from_numpy(stored.astype(np.float32) / DESCRIPTOR_UNIT)


def _record(ledger: Ledger, prefix: str, names: tuple[str, str], matches: Matches) -> None:
    """Both ends of matches."""
    for name, ours in zip(names, (matches.pixels_1, matches.pixels_2), strict=True):
        if prefix + name in ledger:
            ledger.record(prefix + name, exact_measure(ours, ledger.reference(prefix + name)))
