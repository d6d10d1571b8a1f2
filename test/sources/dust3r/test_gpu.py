"""What only a GPU can show: captured graphs, copies beside the computation, and a host that never waits.

Left out where there is none; everything else about these parts is tested without one.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.evaluation.bench.host_syncs import count_cuda_syncs
from pomato_ros.evaluation.bench.twins import largest_error, random_frames, wanted_by_scene
from pomato_ros.sources.dust3r.checkpoint import Checkpoint
from pomato_ros.sources.dust3r.cuda_graphs import GraphRecorder
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.transfer import CudaLane, StagedTransfer
from pomato_ros.window import RollingWindow

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SIZE_WH = (48, 32)
STEPS = 30
Predictors = tuple[Predictor, Predictor, Predictor]


@pytest.fixture(autouse=True)
def whole_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def predictors(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Predictors:
    """On the GPU in fp32: replayed, one operation after the other, and the slow twin."""
    device = torch.device("cuda", torch.cuda.current_device())

    def on_gpu(reuse: bool, recorder: GraphRecorder | None) -> Predictor:
        checkpoint = Checkpoint(make_network(tiny_config), 48, Path("tiny"), "", {})
        return Predictor(checkpoint, device, "fp32", reuse, recorder)

    return on_gpu(True, GraphRecorder(device)), on_gpu(True, None), on_gpu(False, None)


@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_graphs_say_what_plain_calls_and_the_slow_twin_say(predictors: Predictors, mode: str) -> None:
    replayed, plain, twin = predictors
    window, frames = RollingWindow(6, 2, mode), random_frames(SIZE_WH)
    for _ in range(STEPS):
        now = window.push(next(frames))
        wanted = wanted_by_scene(now)
        truth = twin.predict(now)
        for predictor in (replayed, plain):
            assert largest_error(predictor.predict(now, wanted), truth, wanted.slots[0]) <= 1e-5
    assert replayed.replays is not None
    assert replayed.replays.count > 3


def test_the_host_waits_once_a_step_and_only_at_its_end(predictors: Predictors) -> None:
    replayed, plain, _ = predictors
    window, frames = RollingWindow(6, 2, "anchored"), random_frames(SIZE_WH)
    for number in range(STEPS):
        now = window.push(next(frames))
        for predictor in (replayed, plain):
            waits = count_cuda_syncs(partial(predictor.predict, now, wanted_by_scene(now)))
            assert number < STEPS // 2 or waits == 0


def test_images_arrive_whole_however_fast_they_follow_each_other() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    staged = StagedTransfer(CudaLane(device))
    images = [torch.full((3, 512, 512), float(number)) for number in range(50)]
    sums = []
    for image in images:
        on_device = staged.up([image])
        torch.mm(on_device[0, 0], on_device[0, 1])  # keeps the device busy while the next one is staged
        sums.append(on_device.mean())
    assert torch.stack(sums).tolist() == [float(number) for number in range(50)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_single_precision_maps_near_the_exact_ones(
    tiny_config: NetworkConfig, make_network: Callable[..., Pomato], precision: str
) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    found = []
    for each in ("fp32", precision):
        checkpoint = Checkpoint(make_network(tiny_config), 48, Path("tiny"), "", {})
        predictor = Predictor(checkpoint, device, each, recorder=GraphRecorder(device))
        window, frames = RollingWindow(4, 1, "anchored"), random_frames(SIZE_WH)
        for _ in range(12):
            now = window.push(next(frames))
            last = predictor.predict(now, wanted_by_scene(now))
        found.append(last.from_key.points_1)
    exact, rough = found
    assert rough.dtype is torch.float32
    assert (rough - exact).norm() < 0.1 * exact.norm()
