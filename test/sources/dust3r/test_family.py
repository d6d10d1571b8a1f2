"""The family on one trunk: official names, each network's own laws, and the stream against its slow twin."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pomato_ros.config import FULL_D2UST3R, FULL_FLOW4R, FULL_MAST3R, NetworkConfig
from pomato_ros.errors import ConfigError
from pomato_ros.sources.dust3r.cuda_graphs import Replays, record_eagerly
from pomato_ros.sources.dust3r.family import make_network as untrained
from pomato_ros.sources.dust3r.heads import Maps
from pomato_ros.sources.dust3r.onnx_export import ExportPlan, plan_graphs, random_images, relative_error
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.preprocess import network_inputs
from pomato_ros.sources.dust3r.streaming import WindowStream
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.sources.dust3r.wiring import window_maps
from pomato_ros.structures import PreparedFrame
from pomato_ros.window import RollingWindow

SHAPES = {
    "mast3r": {"architecture": "mast3r", "desc_dim": 6, "desc_hidden_dim": 8},
    "mast3r, one confidence": {"architecture": "mast3r", "desc_dim": 6, "desc_hidden_dim": 8, "two_confs": False},
    "d2ust3r": {"architecture": "d2ust3r"},
    "d2ust3r with masks": {"architecture": "d2ust3r", "mask_heads": True},
    "d2ust3r with masks and flow": {"architecture": "d2ust3r", "mask_heads": True, "flow_head": True},
    "flow4r": {"architecture": "flow4r"},
    "flow4r, linear": {"architecture": "flow4r", "head_type": "linear"},
}
WINDOW, OVERLAP = 5, 2


def images(count: int, size_hw: tuple[int, int] = (48, 64), seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *size_hw, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make_frame(number: int) -> PreparedFrame:
    pixels = np.random.default_rng(number).integers(0, 256, (32, 48, 3), np.uint8)
    return PreparedFrame(1000 + number, pixels, None, np.eye(3), (48, 32))


@pytest.fixture(scope="module", params=SHAPES)
def network(request: pytest.FixtureRequest, tiny_config: NetworkConfig, make_network: Callable[..., Trunk]) -> Trunk:
    return make_network(dataclasses.replace(tiny_config, temporal_length=0, **SHAPES[request.param]))


@pytest.mark.parametrize(
    ("config", "file"),
    [(FULL_MAST3R, "mast3r_catmlpdpt"), (FULL_D2UST3R, "d2ust3r"), (FULL_D2UST3R, "dust3r_dpt_512")],
)
def test_names_and_shapes_at_full_size_are_the_published_ones(
    reference_dir: Path, config: NetworkConfig, file: str
) -> None:
    published = json.loads((reference_dir / f"{file}.keys.json").read_text())
    with torch.device("meta"):
        network = untrained(config)
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == published["keys"]
    assert sum(parameter.numel() for parameter in network.parameters()) == published["_meta"]["n_parameters_unique"]


def test_a_symmetric_network_has_one_decoder_and_one_head() -> None:
    with torch.device("meta"):
        both, one = untrained(FULL_D2UST3R), untrained(FULL_FLOW4R)
    names = {name for name in both.state_dict() if not name.startswith(("dec_blocks2.", "downstream_head2."))}
    assert set(one.state_dict()) == names


@torch.inference_mode()
@pytest.mark.parametrize("sizes_hw", [((48, 64), (48, 64)), ((64, 48), (64, 48)), ((48, 80), (64, 48))])
def test_every_map_covers_its_view(network: Trunk, sizes_hw: tuple[tuple[int, int], tuple[int, int]]) -> None:
    if network.config.flow_head and sizes_hw[0] != sizes_hw[1]:
        with pytest.raises(ValueError, match="two images of one size"):
            network.pair_maps(images(2, sizes_hw[0]), images(2, sizes_hw[1]))
        return
    found = network.pair_maps(images(2, sizes_hw[0]), images(2, sizes_hw[1], seed=1))
    for spec in network.HEADS:
        for name in spec.maps:
            assert found[name].shape[:3] == (2, *sizes_hw[spec.view]), name
            assert torch.isfinite(found[name]).all(), name


@torch.inference_mode()
def test_a_pair_of_two_sizes_is_its_tokens_decoded_with_their_own_places(network: Trunk) -> None:
    if network.config.flow_head:
        return  # it needs both images in one size
    small, large = images(1, (48, 64)), images(1, (64, 80))
    mixed = network.pair_maps(small, large)
    alike = network.pair_maps(small, large[..., :48, :64])
    name = network.HEADS[0].maps[0]
    assert mixed[name].shape == alike[name].shape
    assert (mixed[name] - alike[name]).abs().max() > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["anchored", "rolling"])
def test_every_step_of_a_stream_is_what_the_slow_twin_says(network: Trunk, mode: str) -> None:
    stream, window = WindowStream(network, torch.device("cpu")), RollingWindow(WINDOW, OVERLAP, mode)
    numbers = tuple(spec.number for spec in network.HEADS)
    for step in range(9):
        now = window.push(make_frame(step))
        newest = len(now.frames) - 1
        wanted = Wanted(tuple(sorted({0, newest})), numbers, numbers if step % 2 else numbers[1:])
        found = stream.maps(now, wanted)
        truth = window_maps(network, torch.stack(network_inputs(now.frames)), now.key)
        for order, heads in (("from_key", wanted.from_key_heads), ("to_key", wanted.to_key_heads)):
            assert_rows(network, getattr(found, order), getattr(truth, order), wanted.slots, heads)


@torch.inference_mode()
def test_recorded_pieces_are_replayed_for_every_network(network: Trunk) -> None:
    plain = WindowStream(network, torch.device("cpu"))
    recorded = WindowStream(network, torch.device("cpu"), run=Replays(record_eagerly))
    window = RollingWindow(WINDOW, OVERLAP, "anchored")
    numbers = tuple(spec.number for spec in network.HEADS)
    for step in range(9):
        now = window.push(make_frame(step))
        wanted = Wanted((len(now.frames) - 1,), numbers, numbers)
        one, other = plain.maps(now, wanted), recorded.maps(now, wanted)
        for order in ("from_key", "to_key"):
            assert_rows(network, getattr(other, order), getattr(one, order), (0,), numbers)


def assert_rows(network: Trunk, found: Maps, truth: Maps, slots: tuple[int, ...], heads: tuple[int, ...]) -> None:
    assert found.keys() == truth.keys()
    for spec in network.HEADS:
        for name in spec.maps:
            expected = truth[name][list(slots) if spec.number in heads else []]
            assert found[name].shape == expected.shape
            if len(expected):
                assert relative_error(found[name], expected) <= 1e-5, name


@torch.inference_mode()
def test_a_symmetric_stream_decodes_a_pair_once(tiny_config: NetworkConfig, make_network: Callable[..., Trunk]) -> None:
    network = make_network(dataclasses.replace(tiny_config, temporal_length=0, architecture="flow4r"))
    decoded, decode = [], network.decode
    network.decode = lambda *rest: decoded.append(len(rest[0])) or decode(*rest)  # type: ignore[method-assign]
    stream, window = WindowStream(network, torch.device("cpu")), RollingWindow(WINDOW, OVERLAP, "anchored")
    for step in range(12):
        stream.maps(now := window.push(make_frame(step)), Wanted((len(now.frames) - 1,), (1, 2), (1, 2)))
    assert max(decoded) == 2  # the pair with this window's key, and with the next one's
    assert set(decoded[: WINDOW - OVERLAP]) == {1}


@torch.inference_mode()
def test_graphs_for_other_runtimes_follow_from_the_table_of_heads(network: Trunk) -> None:
    plan = ExportPlan(network, (64, 48), 1, "all")
    graphs = {graph.name: graph for graph in plan_graphs(plan)}
    (tokens,) = (graphs["encoder"].module(random_images(plan, 1, 0)),)
    assert [tuple(tokens.shape[1:])] == [graphs["encoder"].outputs[0].shape[1:]]
    assert [port.name for graph in list(graphs.values())[2:] for port in graph.outputs] == [
        name for spec in network.HEADS for name in spec.maps
    ]


@torch.inference_mode()
def test_descriptors_are_unit_vectors_with_a_confidence_of_their_own(
    tiny_config: NetworkConfig, make_network: Callable[..., Trunk]
) -> None:
    shape = dataclasses.replace(tiny_config, temporal_length=0, **SHAPES["mast3r"])
    found = make_network(shape).pair_maps(images(1), images(1, seed=1))
    torch.testing.assert_close(found["desc_1"].norm(dim=-1), torch.ones(1, 48, 64))
    assert found["desc_conf_1"].min() > 0
    assert found["conf_1"].min() > 1
    other = make_network(dataclasses.replace(shape, desc_conf_min=1.0)).pair_maps(images(1), images(1, seed=1))
    torch.testing.assert_close(other["desc_conf_1"], found["desc_conf_1"] + 1)


@torch.inference_mode()
@pytest.mark.parametrize("head", ["dpt", "linear"])
def test_swapped_images_swap_flow4rs_outputs_exactly(
    tiny_config: NetworkConfig, make_network: Callable[..., Trunk], head: str
) -> None:
    network = make_network(dataclasses.replace(tiny_config, temporal_length=0, architecture="flow4r", head_type=head))
    here = network.pair_maps(images(1), images(1, seed=1))
    there = network.pair_maps(images(1, seed=1), images(1))
    for one, other in zip(*(spec.maps for spec in network.HEADS), strict=True):
        assert torch.equal(here[one], there[other])
        assert torch.equal(here[other], there[one])
    torch.testing.assert_close(here["weight_1"].sum((-2, -1)), torch.ones(1))


@torch.inference_mode()
def test_flows_correlation_is_one_volume_seen_from_either_view(
    tiny_config: NetworkConfig, make_network: Callable[..., Trunk]
) -> None:
    network = make_network(dataclasses.replace(tiny_config, temporal_length=0, architecture="d2ust3r", flow_head=True))
    seen: list[list[Tensor]] = [[], []]
    tokens = network.encode(images(2))
    lists = network.decode(tokens[:1], tokens[1:], (3, 4), watch=lambda view, logits: seen[view].append(logits))
    forth, back = (torch.stack(logits).mean((0, 2)) for logits in seen)
    torch.testing.assert_close(lists[0][-1], (forth + back.mT) / 2)
    torch.testing.assert_close(lists[1][-1], lists[0][-1].mT)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "mast3r", "temporal_length": 6},
        {"architecture": "mast3r", "temporal_length": 0, "head_type": "linear"},
        {"architecture": "dust4r"},
    ],
)
def test_networks_that_nobody_builds_are_refused(tiny_config: NetworkConfig, changes: dict) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(tiny_config, **changes)
