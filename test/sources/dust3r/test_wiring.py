"""The wirings of a window against the pairs they stand for."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import PairPrediction
from pomato_ros.sources.dust3r.wiring import Wiring, predict_window, predict_wiring

BATCH, FRAMES = 2, 3
# views 1 and 2 of frame t, as frame numbers
PAIRS: dict[Wiring, Callable[[int], tuple[int, int]]] = {
    Wiring.TRACKING: lambda t: (t, 0),
    Wiring.VIDEO_DEPTH: lambda t: (t, t),
    Wiring.FAST_RECONSTRUCTION: lambda t: (FRAMES - 1, t),
}


@pytest.fixture(scope="module")
def network(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(tiny_config)


@pytest.fixture(scope="module")
def pairwise(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(dataclasses.replace(tiny_config, temporal_length=0))


@pytest.fixture(scope="module")
def windows() -> Tensor:
    return torch.rand(BATCH, FRAMES, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def assert_equal_predictions(one: PairPrediction, other: PairPrediction, rows: slice = slice(None)) -> None:
    for item in dataclasses.fields(PairPrediction):
        torch.testing.assert_close(getattr(one, item.name), getattr(other, item.name)[rows], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("wiring", Wiring)
def test_a_pairwise_network_sees_the_pairs_of_the_wiring_one_by_one(
    pairwise: Pomato, windows: Tensor, wiring: Wiring
) -> None:
    prediction = predict_wiring(pairwise, windows, wiring)
    for row in range(BATCH * FRAMES):
        window, (one, two) = windows[row // FRAMES], PAIRS[wiring](row % FRAMES)
        pair = pairwise(window[one : one + 1], window[two : two + 1])
        assert_equal_predictions(pair, prediction, slice(row, row + 1))


@pytest.mark.parametrize("wiring", Wiring)
def test_windows_of_a_batch_know_nothing_of_each_other(network: Pomato, windows: Tensor, wiring: Wiring) -> None:
    together = predict_wiring(network, windows, wiring)
    for number in range(BATCH):
        rows = slice(number * FRAMES, (number + 1) * FRAMES)
        assert_equal_predictions(predict_wiring(network, windows[number : number + 1], wiring), together, rows)


@pytest.mark.parametrize("key", range(FRAMES))
def test_a_window_against_its_key_is_both_orders_of_its_pairs(pairwise: Pomato, windows: Tensor, key: int) -> None:
    window = windows[0]
    prediction = predict_window(pairwise, window, key)
    keys = window[key : key + 1].expand_as(window)
    assert prediction.key == key
    assert_equal_predictions(prediction.from_key, pairwise(window, keys))
    assert_equal_predictions(prediction.to_key, pairwise(keys, window))


def test_a_temporal_window_against_its_ends_is_tracking_and_reconstruction(network: Pomato, windows: Tensor) -> None:
    first, last = predict_window(network, windows[0], 0), predict_window(network, windows[0], FRAMES - 1)
    assert_equal_predictions(first.from_key, predict_wiring(network, windows[:1], Wiring.TRACKING))
    assert_equal_predictions(last.to_key, predict_wiring(network, windows[:1], Wiring.FAST_RECONSTRUCTION))


def test_a_temporal_network_sees_the_rest_of_the_window_in_every_frame(network: Pomato, windows: Tensor) -> None:
    changed = windows[0].clone()
    changed[1] = changed[1].flip(-1)
    one, other = predict_window(network, windows[0], 0), predict_window(network, changed, 0)
    assert (one.from_key.points_1[2] - other.from_key.points_1[2]).abs().max() > 1e-3
