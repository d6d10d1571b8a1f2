"""The whole network: official names, both views alike, sizes, and batches that know nothing of each other."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pomato_ros.config import FULL_PAIRWISE, FULL_TEMPORAL, NetworkConfig
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import PairPrediction
from pomato_ros.sources.dust3r.trunk import initialise

OUTPUTS = [item.name for item in dataclasses.fields(PairPrediction)]
SIZES = [(64, 48), (48, 64), (80, 48), (16, 16), (112, 80)]  # height, width; odd and even grids, portrait, one patch


@pytest.fixture(scope="module")
def network(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(tiny_config)


@pytest.fixture(scope="module")
def pairwise(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(dataclasses.replace(tiny_config, temporal_length=0))


def images(count: int, size_hw: tuple[int, int] = (48, 64), seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *size_hw, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def assert_equal_predictions(one: PairPrediction, other: PairPrediction, rows: slice = slice(None)) -> None:
    for name in OUTPUTS:
        expected = getattr(other, name)[rows]
        torch.testing.assert_close(getattr(one, name), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "file"), [(FULL_PAIRWISE, "pomato_pairwise.keys.json"), (FULL_TEMPORAL, "pomato_temporal.keys.json")]
)
def test_names_and_shapes_at_full_size_are_the_published_ones(
    reference_dir: Path, config: NetworkConfig, file: str
) -> None:
    published = json.loads((reference_dir / file).read_text())
    with torch.device("meta"):
        network = Pomato(config)
    ours = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert ours == published["keys"]
    assert sum(parameter.numel() for parameter in network.parameters()) == published["_meta"]["n_parameters_unique"]


@pytest.mark.parametrize("size_hw", SIZES)
def test_every_size_of_whole_patches_is_seen_in_full(network: Pomato, size_hw: tuple[int, int]) -> None:
    prediction = network(images(2, size_hw, 0), images(2, size_hw, 1))
    for name in OUTPUTS:
        value = getattr(prediction, name)
        assert value.shape == ((2, *size_hw, 3) if "points" in name else (2, *size_hw))
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("size_hw", [(50, 64), (48, 70)])
def test_broken_patches_are_refused_with_advice(network: Pomato, size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"multiple of 16 px, got {size_hw[1]}x{size_hw[0]}; crop or resize"):
        network(images(1, size_hw), images(1, size_hw))


def test_views_of_two_shapes_are_refused(network: Pomato) -> None:
    with pytest.raises(ValueError, match="both views must have one shape"):
        network(images(1, (48, 64)), images(1, (64, 48)))


def test_an_image_is_encoded_alike_in_any_company(network: Pomato) -> None:
    batch = images(4)
    alone = torch.cat([network.encode(image[None]) for image in batch])
    torch.testing.assert_close(network.encode(batch), alone, atol=1e-5, rtol=1e-5)


def test_pairs_know_nothing_of_each_other(network: Pomato) -> None:
    views = images(3, seed=0), images(3, seed=1)
    together = network(*views)
    for number in range(3):
        one = slice(number, number + 1)
        assert_equal_predictions(network(views[0][one], views[1][one]), together, one)


def test_windows_of_a_batch_know_nothing_of_each_other(network: Pomato) -> None:
    frames, windows = 4, 2
    tokens_1 = network.encode(images(frames * windows, seed=0))
    tokens_2 = network.encode(images(frames * windows, seed=1))
    together = network.predict(tokens_1, tokens_2, (3, 4), frames)
    for number in range(windows):
        rows = slice(number * frames, (number + 1) * frames)
        assert_equal_predictions(network.predict(tokens_1[rows], tokens_2[rows], (3, 4), frames), together, rows)


def test_both_decoders_read_what_the_other_said_before_this_layer(network: Pomato) -> None:
    tokens_1, tokens_2 = network.encode(images(1, seed=0)), network.encode(images(1, seed=1))
    lists = network.decode(tokens_1, tokens_2, (3, 4))
    rotary = network.rotary((3, 4), 8, torch.device("cpu"))
    assert lists[0][0] is tokens_1
    assert lists[1][0] is tokens_2
    before = network.decoder_embed(tokens_1), network.decoder_embed(tokens_2)
    for layer, blocks in enumerate(zip(network.dec_blocks, network.dec_blocks2, strict=True), start=1):
        after = blocks[0](before[0], before[1], rotary), blocks[1](before[1], before[0], rotary)
        last = layer == network.config.dec_depth
        for view in range(2):
            expected = network.dec_norm(after[view]) if last else after[view]
            torch.testing.assert_close(lists[view][layer], expected)
        before = after


def test_views_that_change_places_change_sides_where_both_sides_are_one(
    tiny_config: NetworkConfig, make_network: Callable[..., Pomato]
) -> None:
    network = make_network(tiny_config)
    network.dec_blocks2.load_state_dict(network.dec_blocks.state_dict())
    network.downstream_head2.load_state_dict(network.downstream_head1.state_dict())
    here, there = network(images(1, seed=0), images(1, seed=1)), network(images(1, seed=1), images(1, seed=0))
    torch.testing.assert_close(here.points_1, there.points_2)
    torch.testing.assert_close(here.conf_2, there.conf_1)


def test_the_matching_head_reads_the_second_view(
    tiny_config: NetworkConfig, make_network: Callable[..., Pomato]
) -> None:
    network = make_network(tiny_config)
    network.downstream_head3.load_state_dict(network.downstream_head2.state_dict())
    prediction = network(images(1, seed=0), images(1, seed=1))
    assert torch.equal(prediction.points_match, prediction.points_2)
    assert torch.equal(prediction.conf_match, prediction.conf_2)


def test_a_temporal_network_starts_as_the_pairwise_one(tiny_config: NetworkConfig) -> None:
    temporal = Pomato(tiny_config).eval()
    initialise(temporal, torch.Generator().manual_seed(0))
    pairwise = Pomato(dataclasses.replace(tiny_config, temporal_length=0)).eval()
    shared = pairwise.state_dict().keys()
    pairwise.load_state_dict({name: value for name, value in temporal.state_dict().items() if name in shared})
    with torch.no_grad():
        tokens_1, tokens_2 = temporal.encode(images(4, seed=0)), temporal.encode(images(4, seed=1))
        in_pairs = pairwise(images(4, seed=0), images(4, seed=1))
        assert_equal_predictions(temporal.predict(tokens_1, tokens_2, (3, 4), 4), in_pairs)


def test_a_start_is_drawn_from_its_generator_alone(tiny_config: NetworkConfig) -> None:
    networks = [Pomato(tiny_config).eval() for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        initialise(network, torch.Generator().manual_seed(seed))
    first, again, other = (torch.nn.utils.parameters_to_vector(network.parameters()) for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_image_and_its_mirror_image_are_not_the_same_thing(pairwise: Pomato) -> None:
    view = images(1)
    there = pairwise(view.flip(-1), view.flip(-1)).points_1.flip(2)
    assert (pairwise(view, view).points_1 - there).abs().max() > 1e-2
