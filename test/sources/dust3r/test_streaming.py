"""The stream against its slow twin: the same pointmaps, whatever window came before."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.dpt_head import activate
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import PairPrediction, Wanted, WindowPrediction
from pomato_ros.sources.dust3r.preprocess import network_inputs
from pomato_ros.sources.dust3r.streaming import WindowStream
from pomato_ros.sources.dust3r.wiring import predict_window
from pomato_ros.structures import PreparedFrame, Window
from pomato_ros.window import RollingWindow

CPU = torch.device("cpu")
SIZE, OVERLAP = 6, 2
OUTPUTS = [item.name for item in dataclasses.fields(PairPrediction)]  # two for each head
# of either order; what is read changes as it likes
HEADS_READ = [
    ((1, 2, 3), (1, 2, 3)),
    ((1, 3), (1, 2, 3)),
    ((1, 3), (2, 3)),
    ((), (2,)),
    ((1, 3), (1, 2, 3)),
    ((1,), (2, 3)),
]


def make_frame(number: int, size_hw: tuple[int, int] = (32, 48)) -> PreparedFrame:
    pixels = np.random.default_rng(number).integers(0, 256, (*size_hw, 3), np.uint8)
    return PreparedFrame(1000 + number, pixels, None, np.eye(3), (size_hw[1], size_hw[0]))


def windows_of(mode: str, count: int = 17) -> list[Window]:
    window = RollingWindow(SIZE, OVERLAP, mode)
    return [window.push(make_frame(number)) for number in range(count)]


@pytest.fixture(scope="module", params=["temporal", "pairwise"])
def network(request: pytest.FixtureRequest, tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    changes = {} if request.param == "temporal" else {"temporal_length": 0}
    return make_network(dataclasses.replace(tiny_config, **changes))


def assert_twins(network: Pomato, window: Window, found: WindowPrediction, wanted: Wanted) -> None:
    images = torch.stack(network_inputs(window.frames))
    twin = predict_window(network, images, window.key)
    assert found.key == window.key
    for order, heads in (("from_key", wanted.from_key_heads), ("to_key", wanted.to_key_heads)):
        for number, name in enumerate(OUTPUTS):
            whole = getattr(getattr(twin, order), name)
            rows = getattr(getattr(found, order), name)
            assert rows.shape[1:] == whole.shape[1:]
            assert len(rows) == (len(wanted.slots) if number // 2 + 1 in heads else 0)
            for slot in wanted.slots if len(rows) else ():
                error = (rows[found.row_of(slot)] - whole[slot]).abs().max()
                assert error <= 1e-5 * whole.abs().max(), f"{order} {name} of frame {slot}"


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_every_step_of_a_stream_is_what_the_slow_twin_says(network: Pomato, mode: str) -> None:
    stream = WindowStream(network, CPU)
    for number, window in enumerate(windows_of(mode)):
        newest = len(window.frames) - 1
        slots = (newest,) if number % 3 else tuple({newest, newest // 2, 0})
        wanted = Wanted(slots, *HEADS_READ[number % len(HEADS_READ)])
        assert_twins(network, window, stream.predict(window, wanted), wanted)


@torch.inference_mode()
@pytest.mark.parametrize("hop", [2, 3, 4])
def test_several_new_frames_at_once_are_what_the_slow_twin_says_of_each(network: Pomato, hop: int) -> None:
    stream = WindowStream(network, CPU)
    waiting: list[Window] = []
    for window in windows_of("anchored", 19):
        waiting.append(window)
        if len(waiting) == hop:
            together = [one for one in waiting if one.frames[0] is window.frames[0]]
            wanted = Wanted(tuple(len(one.frames) - 1 for one in together), (1, 3), (2, 3))
            assert_twins(network, window, stream.predict(window, wanted), wanted)
            waiting = []


@torch.inference_mode()
def test_coarse_maps_are_the_heads_own_enlarged(network: Pomato) -> None:
    stream = WindowStream(network, CPU)
    for window in windows_of("anchored", 9):
        newest = len(window.frames) - 1
        found = stream.predict(window, Wanted((newest,), (1, 3), (2, 3), stride=2))
        images = torch.stack(network_inputs(window.frames))
        tokens, grid = network.encode(images), network.grid_of(images)
        lists, _ = network.decode(tokens, tokens[:1].expand_as(tokens), grid)
        raw = network.downstream_head1.dpt(lists, grid, len(tokens), 2)[newest : newest + 1]
        points, conf = activate(F.interpolate(raw, scale_factor=2, mode="bilinear", align_corners=True))
        assert conf.shape[1:] == window.frames[0].size_hw
        torch.testing.assert_close(found.from_key.points_1, points, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.from_key.conf_1, conf, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_windows_out_of_order_are_right_too(network: Pomato) -> None:
    stream = WindowStream(network, CPU)
    windows = windows_of("anchored") + windows_of("rolling")
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0)).tolist()
    for number in order[:12]:
        window = windows[number]
        wanted = Wanted((len(window.frames) - 1,))
        assert_twins(network, window, stream.predict(window, wanted), wanted)


@torch.inference_mode()
def test_another_frame_with_the_same_stamp_is_another_frame(network: Pomato) -> None:
    stream = WindowStream(network, CPU)
    first, second = make_frame(1), dataclasses.replace(make_frame(2), stamp_ns=1001)
    for frame in (first, second, make_frame(3, (48, 32))):  # the last one of another size as well
        window = Window((frame,), 0)
        assert_twins(network, window, stream.predict(window, Wanted((0,))), Wanted((0,)))


@torch.inference_mode()
def test_a_step_sees_its_newest_frame_only(network: Pomato, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, decoded = [], []
    encode, decode = network.encode, network.decode
    monkeypatch.setattr(network, "encode", lambda images: encoded.append(len(images)) or encode(images))
    monkeypatch.setattr(network, "decode", lambda *rest: decoded.append(len(rest[0])) or decode(*rest))
    stream = WindowStream(network, CPU)
    for window in windows_of("anchored", 40):
        stream.predict(window, Wanted((len(window.frames) - 1,)))
    assert encoded == [1] * 40
    # both orders of one pair; of two while the next window's first frames come, whose key is one with itself
    fresh = SIZE - OVERLAP
    assert decoded[:SIZE] == [1] + [2] * (fresh - 1) + [3] + [4] * (OVERLAP - 1)
    assert decoded[SIZE : SIZE + fresh] == [2] * (fresh - OVERLAP) + [3] + [4] * (OVERLAP - 1)
    assert decoded[SIZE:] == (decoded[SIZE : SIZE + fresh] * 40)[: 40 - SIZE]


def test_a_row_that_was_not_asked_for_is_an_error() -> None:
    empty = PairPrediction(*[torch.zeros(1, 2, 2)] * 6)
    with pytest.raises(ValueError, match="got 2; ask for it"):
        WindowPrediction(0, empty, empty, (3,)).row_of(2)
