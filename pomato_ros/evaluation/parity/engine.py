"""From a fixture file to its report: what it holds decides which checks it gets."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pomato_ros.evaluation.parity.alignment import check_alignment
from pomato_ros.evaluation.parity.alignment_runs import check_alignment_runs
from pomato_ros.evaluation.parity.family import check_family, is_family_network
from pomato_ros.evaluation.parity.fixture import Fixture, Ledger, load_fixture
from pomato_ros.evaluation.parity.focal_pnp import check_focal_pnp
from pomato_ros.evaluation.parity.loaders import check_loaders, loader_rows
from pomato_ros.evaluation.parity.matching import check_matching
from pomato_ros.evaluation.parity.metrics import check_metrics, published_results
from pomato_ros.evaluation.parity.networks import WEIGHTS, check_network
from pomato_ros.evaluation.parity.poses import check_poses
from pomato_ros.evaluation.parity.report import FixtureReport

Check = Callable[[Ledger], None]
METRIC_PREFIXES = ("interp/", "blend/", "stitch/", "scaleshift/", "apd/", "depth/", "traj/")
MATCHING_HEAD = WEIGHTS + "downstream_head3."  # only POMATO has one


def check_fixture(file: Path, more: Sequence[Check] = ()) -> FixtureReport:
    """Check one fixture; an array that no check knows is reported as not covered.

    Args:
        file: the fixture.
        more: checks of layers above this one; each looks for what it knows.

    Raises:
        ParityError: the fixture cannot be read, or is for a network that this package does not build.
    """
    fixture = load_fixture(file)
    ledger = Ledger(fixture, results=_results(fixture))
    if "rows" in fixture.about:
        check_loaders(ledger)
    if any(name.startswith(MATCHING_HEAD) for name in fixture.arrays):
        check_network(ledger)
    if "desc1_i16" in fixture.arrays:
        check_matching(ledger)
    if is_family_network(ledger):
        check_family(ledger)
    if "edges" in fixture.arrays and "pts3d_m" in fixture.arrays:
        check_poses(ledger)
        check_alignment_runs(ledger)
    if "edges" in fixture.arrays and "param/pw_poses" in fixture.arrays:
        check_alignment(ledger)
    if "in/pts3d_11" in fixture.arrays:
        check_focal_pnp(ledger)
    if any(name.startswith(METRIC_PREFIXES) for name in fixture.arrays):
        check_metrics(ledger)
    for check in more:
        check(ledger)
    return ledger.report()


def _results(fixture: Fixture) -> list[str]:
    """Figures to check that are in the JSON alone."""
    return [*published_results(fixture), *(loader_rows(fixture) if "rows" in fixture.about else [])]
