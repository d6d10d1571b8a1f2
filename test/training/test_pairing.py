"""Pairs of training windows are those that the network's own wirings use."""

from collections.abc import Callable

import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.wiring import Wiring, predict_window, predict_wiring
from pomato_ros.training.config import Stage, Task
from pomato_ros.training.pairing import Pairing, pair_for_task, pair_with_key
from pomato_ros.training.train import predict_heads

FRAMES = 4
TEMPORAL = Stage("temporal", 1, 1e-3, 2, (FRAMES,), FRAMES, 1, 1, pairwise=False, matching=True)
FIELDS = (("points_1", "conf_1"), ("points_2", "conf_2"), ("points_match", "conf_match"))


@pytest.fixture(scope="module")
def network(make_network: Callable[..., Pomato], tiny_config: NetworkConfig) -> Pomato:
    return make_network(tiny_config)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, FRAMES, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("wiring", Wiring)
@torch.inference_mode()
def test_a_task_trains_what_its_wiring_predicts(network: Pomato, images: torch.Tensor, wiring: Wiring) -> None:
    heads, _ = predict_heads(network, images, pair_for_task(Task(wiring.value), FRAMES, 0), TEMPORAL)
    expected = predict_wiring(network, images, wiring)
    for head, (points, conf) in zip(heads, FIELDS, strict=True):
        torch.testing.assert_close(head.points, getattr(expected, points), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(head.conf, getattr(expected, conf), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("key", [0, FRAMES - 1])
@torch.inference_mode()
def test_the_engines_task_trains_both_orders_of_its_window(network: Pomato, images: torch.Tensor, key: int) -> None:
    heads, _ = predict_heads(network, images, pair_for_task(Task.ENGINE, FRAMES, key), TEMPORAL)
    for window in range(2):
        expected = predict_window(network, images[window], key)
        for order, prediction in enumerate((expected.from_key, expected.to_key)):
            for head, (points, _) in zip(heads, FIELDS, strict=True):
                rows = head.points.unflatten(0, (2, 2, FRAMES))[order, window]
                torch.testing.assert_close(rows, getattr(prediction, points), atol=1e-5, rtol=1e-5)


def test_the_reversed_order_exchanges_the_views() -> None:
    pairs = pair_with_key((0, 2), 1)
    assert pairs.orders == (pairs, Pairing((1, 1), (0, 2)))
    one_way = pair_for_task(Task.FAST_RECONSTRUCTION, 3, 0)
    assert one_way.orders == (one_way,)
    assert one_way == Pairing((2, 2, 2), (0, 1, 2))
