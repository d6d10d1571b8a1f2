"""Parity of the family's networks, matching and losses: everything covered, and what is changed is found."""

import json
from pathlib import Path

import numpy as np
import pytest

from pomato_ros.cli.parity import format_report
from pomato_ros.evaluation.parity.engine import check_fixture
from pomato_ros.evaluation.parity.report import Status
from pomato_ros.training.parity import LOSS_CHECKS

# the full-size MASt3R needs 4 GB and half a minute of two cores: `pomato parity` alone runs it
FAMILY = ("mast3r_tiny", "d2ust3r_tiny", "fast_reciprocal_nn", "matching_loss", "raft_pieces", "flow4r_math")
CHANGES = {  # an array of each and by how much of its largest value it is changed, 0: one integer by one
    "mast3r_tiny": [("mixed/desc2_sub", 2e-4), ("land/dpt_raw2", 2e-4), ("port/desc_conf1", 2e-4)],
    "d2ust3r_tiny": [("mixed/mask_logit2", 2e-4), ("land/xattn_prob_mean1", 2e-4), ("land/swapped_conf2", 2e-4)],
    "fast_reciprocal_nn": [("S8/rev_xy_in_1", 0), ("basin/basin", 0), ("c2f/cells_b", 0), ("init/tol3_xy2", 0)],
    "matching_loss": [("infonce/dual_0.05_per_match", 1e-5), ("grad/desc1", 1e-4)],
    "raft_pieces": [("lookup", 1e-4), ("mol/var_m5_10", 1e-5)],
    "flow4r_math": [("P_t", 1e-3), ("scalar/static_total", 1e-5), ("loss/grad_W", 1e-3)],
}


def fixture_file(folder: Path, name: str) -> Path:
    file = folder / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"no {name} in {folder}")
    return file


@pytest.mark.parametrize("name", FAMILY)
def test_the_familys_published_numbers(fixtures_dir: Path, name: str) -> None:
    report = check_fixture(fixture_file(fixtures_dir, name), LOSS_CHECKS)
    assert (report.over, report.not_covered) == (0, 0), format_report(report)
    assert report.checked > 5


@pytest.mark.parametrize("name", CHANGES)
def test_changed_arrays_are_over(fixtures_dir: Path, tmp_path: Path, name: str) -> None:
    file = fixture_file(fixtures_dir, name)
    arrays = dict(np.load(file))
    for changed, share in CHANGES[name]:
        array = arrays[changed].copy()
        array.reshape(-1)[len(array) // 2] += share * np.abs(array).max() if share else 1
        arrays[changed] = array
    np.savez(tmp_path / file.name, **arrays)
    (tmp_path / f"{name}.json").write_text(json.dumps(json.loads(file.with_suffix(".json").read_text())))
    report = check_fixture(tmp_path / file.name, LOSS_CHECKS)
    assert {row.name for row in report.rows if row.status is Status.OVER} == {changed for changed, _ in CHANGES[name]}
