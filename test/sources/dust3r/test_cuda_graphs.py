"""Recorded pieces against plain calls: the same bits, and no tensor that a later step writes to.

What only a GPU can do, the capture itself, is left out here; buffers, names and shapes are the same.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.cuda_graphs import MOST_PIECES, Again, Replays, Tensors, record_eagerly
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import PairPrediction, Wanted, WindowPrediction
from pomato_ros.sources.dust3r.streaming import WindowStream
from pomato_ros.sources.dust3r.transfer import HostLane, StagedTransfer
from pomato_ros.structures import PreparedFrame, Window
from pomato_ros.window import RollingWindow

CPU = torch.device("cpu")
SIZE, OVERLAP = 6, 2
HEADS_READ = [((1, 2, 3), (1, 2, 3)), ((1, 3), (2, 3)), ((1, 3), (2, 3))]


@pytest.fixture(scope="module", params=["temporal", "pairwise"])
def network(request: pytest.FixtureRequest, tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    changes = {} if request.param == "temporal" else {"temporal_length": 0}
    return make_network(dataclasses.replace(tiny_config, **changes))


def make_frame(number: int, size_hw: tuple[int, int] = (32, 48)) -> PreparedFrame:
    pixels = np.random.default_rng(number).integers(0, 256, (*size_hw, 3), np.uint8)
    return PreparedFrame(1000 + number, pixels, None, np.eye(3), (size_hw[1], size_hw[0]))


def windows_of(mode: str, count: int, size_hw: tuple[int, int] = (32, 48), size: int = SIZE) -> list[Window]:
    window = RollingWindow(size, OVERLAP, mode)
    return [window.push(make_frame(number, size_hw)) for number in range(count)]


def wanted_at(number: int, window: Window) -> Wanted:
    newest = len(window.frames) - 1
    return Wanted((newest,) if number % 4 else tuple(sorted({newest, 0})), *HEADS_READ[number % len(HEADS_READ)])


def maps(found: WindowPrediction) -> list[torch.Tensor]:
    orders = (found.from_key, found.to_key)
    return [getattr(order, item.name) for order in orders for item in dataclasses.fields(PairPrediction)]


def recorded_stream(network: Pomato) -> tuple[WindowStream, Replays]:
    replays = Replays(record_eagerly)
    return WindowStream(network, CPU, StagedTransfer(HostLane()).up, replays), replays


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_a_replayed_stream_is_the_plain_one_bit_for_bit_and_stays_so(network: Pomato, mode: str) -> None:
    plain, (recorded, replays) = WindowStream(network, CPU), recorded_stream(network)
    kept: list[tuple[WindowPrediction, WindowPrediction]] = []
    for number, window in enumerate(windows_of(mode, 26)):
        wanted = wanted_at(number, window)
        kept.append((recorded.predict(window, wanted), plain.predict(window, wanted)))
    assert replays.count > 3
    for found, expected in kept:  # after all steps: nothing of an early one was written over
        for own, other in zip(maps(found), maps(expected), strict=True):
            torch.testing.assert_close(own, other, atol=0, rtol=0)


@torch.inference_mode()
def test_a_steady_stream_records_nothing_new(network: Pomato) -> None:
    recorded, replays = recorded_stream(network)
    counts = []
    for window in windows_of("anchored", 30):
        recorded.predict(window, Wanted((len(window.frames) - 1,)))
        counts.append(replays.count)
    settled = SIZE + 3 * (SIZE - OVERLAP)  # the first window, then every piece of one period twice
    assert counts[settled] == counts[-1] > 0


@torch.inference_mode()
def test_a_reset_or_another_window_length_keeps_recordings_and_another_size_drops_them(network: Pomato) -> None:
    recorded, replays = recorded_stream(network)

    def run(size_hw: tuple[int, int] = (32, 48), size: int = SIZE) -> int:
        plain = WindowStream(network, CPU)
        for number, window in enumerate(windows_of("anchored", 2 * SIZE, size_hw, size)):
            wanted = wanted_at(number, window)
            found, expected = recorded.predict(window, wanted), plain.predict(window, wanted)
            for own, other in zip(maps(found), maps(expected), strict=True):
                torch.testing.assert_close(own, other, atol=0, rtol=0)
        return replays.count

    run()
    full = run()
    recorded.forget()
    assert replays.count == full == run()
    assert run(size=SIZE - 1) >= full
    assert 0 < run((48, 32)) < full  # the first round at that size: not everything came twice
    assert len(recorded._encoded) <= SIZE


def test_a_piece_is_recorded_the_second_time_and_copied_both_ways() -> None:
    calls: list[int] = []

    def double(x: torch.Tensor) -> Tensors:
        calls.append(x.data_ptr())
        return (2 * x,)

    replays = Replays(record_eagerly)
    given = [torch.full((3,), float(number)) for number in range(4)]
    found = [replays("double", double, x)[0] for x in given]
    assert [x.tolist() for x in found] == [[2.0 * number] * 3 for number in range(4)]
    assert calls[0] == given[0].data_ptr()
    assert len(set(calls[1:])) == 1  # always on the same static input
    assert calls[1] not in {x.data_ptr() for x in given}
    assert replays.count == 1
    replays("double", double, torch.zeros(4))
    replays("double", double, torch.zeros(4))
    assert replays.count == 2  # another shape is another recording


def test_recordings_share_the_memory_of_their_inputs_and_nothing_of_what_they_say() -> None:
    seen: set[int] = set()

    def triple(x: torch.Tensor) -> Tensors:
        seen.add(x.data_ptr())
        return 3 * x, x  # the second is the static input itself

    replays = Replays(record_eagerly)
    found = []
    for _ in range(4):
        for length in (8, 3, 5):
            x = torch.arange(float(length)) + len(found)
            found.append((x, *replays(("triple", length), triple, x)))
            seen.discard(x.data_ptr())
    assert replays.count == 3
    assert len(seen) == 1  # the longest came first
    for x, tripled, same in found:
        torch.testing.assert_close(tripled, 3 * x, atol=0, rtol=0)
        torch.testing.assert_close(same, x, atol=0, rtol=0)


def test_where_recording_fails_pieces_run_as_they_are() -> None:
    def refuse(run: Callable[[], Tensors]) -> tuple[Again, Tensors]:
        raise RuntimeError("operation not permitted when stream is capturing")

    replays = Replays(refuse)
    for number in range(4):
        assert replays("next", lambda x: (x + 1,), torch.tensor(number))[0] == number + 1
    assert replays.count == 0


def test_the_number_of_recordings_is_bounded() -> None:
    replays = Replays(record_eagerly)
    for _ in range(2):
        for number in range(MOST_PIECES + 10):
            assert replays(number, lambda x: (x + 1,), torch.zeros(1))[0] == 1
    assert replays.count == MOST_PIECES
