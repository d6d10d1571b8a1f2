"""Command-line options, folders of test material, and an isolated, field-checked ROS graph."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r import family
from pomato_ros.sources.dust3r.dpt_head import DptHead
from pomato_ros.sources.dust3r.trunk import Trunk, initialise

ROOT = Path(__file__).resolve().parent.parent

# Set before any message module is imported: Jazzy checks the type of a message's fields only when it is told to then.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
# No other graph on this network, and no other test run on this machine, may be heard.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)


def missing_for_ros() -> str:
    """What keeps the ROS tests from running, or nothing."""
    for module in ("rclpy", "pomato_ros.msg", "tf2_msgs"):
        if importlib.util.find_spec(module) is None:
            return f"{module} cannot be imported; run: make test"
    if os.environ["ROS_PYTHON_CHECK_FIELDS"] != "1":
        return "ROS_PYTHON_CHECK_FIELDS must be 1, so that wrong field types do not pass; unset it or run: make test"
    return ""


MISSING_FOR_ROS = missing_for_ros()
collect_ignore_glob = ["ros/*"] if MISSING_FOR_ROS else []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the material lies that is not part of the repository, and whether ROS must be there."""
    group = parser.getgroup("pomato_ros")
    group.addoption("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real recordings")
    group.addoption(
        "--fixture-files", type=Path, default=ROOT.parent / "shared" / "fixtures", help="folder of reference arrays"
    )
    group.addoption(
        "--reference",
        type=Path,
        default=ROOT.parent / "shared" / "reference",
        help="folder of the published parameter names (*.keys.json)",
    )
    group.addoption("--require-ros", action="store_true", help="fail instead of leaving out the ROS tests")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a run that was to include the ROS tests and cannot."""
    if MISSING_FOR_ROS and config.getoption("--require-ros"):
        raise pytest.UsageError(MISSING_FOR_ROS)


def pytest_report_header() -> str:
    """One line about the ROS tests."""
    if MISSING_FOR_ROS:
        return f"ROS tests left out: {MISSING_FOR_ROS}"
    return f"ROS tests run in domain {os.environ['ROS_DOMAIN_ID']}, this machine only"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in test/ros."""
    for item in items:
        if ROOT / "test" / "ros" in item.path.parents:
            item.add_marker("ros")


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The folder given by --data; a test that asks for it is skipped where it is absent."""
    return existing_folder(request, "--data")


@pytest.fixture(scope="session")
def fixtures_dir(request: pytest.FixtureRequest) -> Path:
    """The folder given by --fixture-files; a test that asks for it is skipped where it is absent."""
    return existing_folder(request, "--fixture-files")


@pytest.fixture(scope="session")
def reference_dir(request: pytest.FixtureRequest) -> Path:
    """The folder given by --reference; a test that asks for it is skipped where it is absent."""
    return existing_folder(request, "--reference")


@pytest.fixture(scope="session")
def tiny_config() -> NetworkConfig:
    """Sizes of a temporal network that runs in milliseconds."""
    return NetworkConfig(
        enc_embed_dim=24,
        enc_depth=2,
        enc_num_heads=2,
        dec_embed_dim=16,
        dec_depth=4,
        dec_num_heads=2,
        dpt_layer_dims=(4, 6, 8, 10),
        dpt_feature_dim=8,
        dpt_last_dim=6,
        temporal_length=6,
        temporal_num_heads=4,
        group_norm_groups=4,
    )


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Trunk]:
    """``make_network(config, seed)``: a network none of whose parameters is zero, one or equal to another."""
    return random_network


def random_network(config: NetworkConfig, seed: int = 0) -> Trunk:
    """The usual start, then noise on every parameter, so that no layer is the identity by accident."""
    generator = torch.Generator().manual_seed(seed)
    network = family.make_network(config).eval()
    initialise(network, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 100
            parameter.add_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        images = torch.randn(2, 3, 48, 64, generator=generator)
        tokens, grid = network.encode(images), network.grid_of(images)
        lists = network.decode(tokens, tokens.flip(0), grid)
        for spec in network.HEADS:  # points are exponentials: keep them near
            head = network.head(spec)
            if isinstance(head, DptHead):
                head.dpt.head[4].weight.div_(4 * head.dpt(lists[spec.view], grid, 0).std())
    return network.requires_grad_(False)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are fastest on one thread, and a thread count that a test sets does not reach the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def existing_folder(request: pytest.FixtureRequest, option: str) -> Path:
    """The folder that an option names, or a skip with one clear line."""
    folder: Path = request.config.getoption(option)
    if not folder.is_dir():
        pytest.skip(f"{option} {folder} is not there")
    return folder.resolve()
