"""What would have the host of a GPU wait: found wherever it is, and nowhere in a step of the stream."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.evaluation.bench.host_syncs import HostSyncWatch
from pomato_ros.evaluation.bench.twins import meta_images, random_frames, wanted_by_scene
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.streaming import WindowStream
from pomato_ros.window import RollingWindow

META = torch.device("meta")


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("a list of places", lambda x: x[[0, 2]]),
        ("a mask of the host", lambda x: x[torch.ones(4, dtype=torch.bool)]),
        ("a table from the host", lambda x: torch.ones(4).to(x.device) + x),
        ("a copy into the device", lambda x: x.copy_(torch.ones(4))),
    ],
)
def test_each_kind_of_wait_is_found(name: str, operation: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.empty(4, device=META)
    with HostSyncWatch() as watch:
        operation(x)
    assert watch.seen, name


def test_reading_a_value_is_found_and_numbers_are_free() -> None:
    x = torch.arange(4.0)
    with HostSyncWatch() as watch:
        (2.0 * x + x[1:].sum()).narrow(0, 1, 2).clone()
        100.0**-x
    assert not watch.seen
    with HostSyncWatch() as watch:
        float(x[1])
        x.nonzero()
    assert sum(watch.seen.values()) >= 2


@pytest.fixture(params=["temporal", "pairwise"])
def config(request: pytest.FixtureRequest, tiny_config: NetworkConfig) -> NetworkConfig:
    coded = dataclasses.replace(tiny_config, position_code=0.5)
    return coded if request.param == "temporal" else dataclasses.replace(coded, temporal_length=0)


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_between_upload_and_download_no_step_waits(config: NetworkConfig, mode: str) -> None:
    """The meta device stands for a GPU: its tensors are made there, and whatever crosses would be seen."""
    with META:
        network = Pomato(config).eval()
    frames = random_frames((48, 32))
    window = RollingWindow(4, 1, mode)
    stream = WindowStream(network, META, meta_images)
    for number in range(9):
        now = window.push(next(frames))
        newest = len(now.frames) - 1
        wanted = wanted_by_scene(now) if number % 3 else Wanted(tuple(sorted({0, newest // 2, newest})))
        with HostSyncWatch() as watch:
            stream.predict(now, wanted)
        assert not watch.seen, f"step {number}: {dict(watch.seen)}"
