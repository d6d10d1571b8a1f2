"""How each network's maps become X^{n,n}, X^{n,r} and X_m^{n,r}, on scenes where all three are known."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pomato_ros.config import ModelOptions, NetworkConfig
from pomato_ros.sources.dust3r.checkpoint import load_checkpoint, save_weights
from pomato_ros.sources.dust3r.d2ust3r import D2ust3r
from pomato_ros.sources.dust3r.flow4r import Flow4r
from pomato_ros.sources.dust3r.heads import Maps
from pomato_ros.sources.dust3r.mast3r import Mast3r
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.scene_flow import apply_rigid, robust_similarity
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.structures import PreparedFrame
from pomato_ros.window import RollingWindow

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def config(tiny_config: NetworkConfig) -> NetworkConfig:
    return dataclasses.replace(tiny_config, temporal_length=0, desc_dim=6, desc_hidden_dim=8)


def cloud(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, HEIGHT, WIDTH, 3, generator=generator) + torch.tensor([0.0, 0.0, 6.0])


def motion() -> Tensor:
    skew = torch.tensor([[0.0, 0.1, -0.2], [-0.1, 0.0, 0.05], [0.2, -0.05, 0.0]])
    full = torch.eye(4)[None].clone()
    full[0, :3, :3] = torch.linalg.matrix_exp(skew)
    full[0, :3, 3] = torch.tensor([0.3, -0.2, 0.1])
    return full


def conf(value: float = 2.0) -> Tensor:
    return torch.full((1, HEIGHT, WIDTH), value)


def test_flow4r_moves_its_own_points_by_the_motion_that_its_weights_fit(config: NetworkConfig) -> None:
    points, full = cloud(), motion()
    moved = apply_rigid(full, points)
    moved[:, 10:30, 20:40] += 0.7
    weights = conf()
    weights[:, 10:30, 20:40] = 0
    maps = {"points_1": cloud(1), "conf_1": conf(3.0), "points_2": points, "points_vt_2": moved}
    maps |= {"weight_2": weights / weights.sum(), "conf_2": conf()}
    network = Flow4r(dataclasses.replace(config, architecture="flow4r"))
    own, at_time_2, at_time_1 = (network.three_maps(number, maps, {}) for number in (1, 2, 3))
    assert torch.equal(own[0], maps["points_1"])
    torch.testing.assert_close(at_time_2[0], apply_rigid(full, points), atol=1e-5, rtol=1e-5)
    assert torch.equal(at_time_1[0], moved)


@pytest.mark.parametrize("masks", [False, True])
def test_d2ust3r_moves_the_swapped_pass_by_what_rests(config: NetworkConfig, masks: bool) -> None:
    in_2, full = cloud(), motion()
    in_1 = apply_rigid(full, 2.5 * in_2)
    aligned = in_1.clone()
    aligned[:, 10:35, 20:50] += 0.8  # where a mover was at time 1
    own = {"points_1": cloud(1), "conf_1": conf(), "points_2": aligned, "conf_2": conf()}
    if masks:
        own["mask_logit_2"] = torch.full((1, HEIGHT, WIDTH), -9.0)
        own["mask_logit_2"][:, 10:35, 20:50] = 9.0
    network = D2ust3r(dataclasses.replace(config, architecture="d2ust3r", mask_heads=masks))
    other = {"points_1": in_2, "conf_1": conf(5.0)}
    found, confidence = network.three_maps(2, own, other)
    torch.testing.assert_close(found, in_1, atol=2e-4, rtol=1e-4)
    assert torch.equal(confidence, conf(5.0))
    assert torch.equal(network.three_maps(3, own, other)[0], aligned)


def test_mast3r_reads_the_matched_pixels_point(config: NetworkConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    desc_1 = F.normalize(torch.randn(HEIGHT, WIDTH, 6, generator=generator), dim=-1)
    desc_2 = torch.roll(desc_1, (-3, -5), (0, 1))  # pixel (x, y) of view 2 is (x + 5, y + 3) of view 1
    points = cloud()
    maps = {"points_1": points, "conf_1": conf(4.0), "desc_1": desc_1[None], "desc_2": desc_2[None]}
    network = Mast3r(dataclasses.replace(config, architecture="mast3r"))
    found, confidence = network.three_maps(3, maps, {})
    inner = (slice(0, 1), slice(5, HEIGHT - 8), slice(5, WIDTH - 10))
    torch.testing.assert_close(found[inner], torch.roll(points, (-3, -5), (1, 2))[inner])
    assert torch.equal(confidence[inner], conf(4.0)[inner])
    assert found[0, -1, -1].isnan().all()  # its match would be beyond the image


def test_half_of_the_points_may_move_and_the_similarity_stands() -> None:
    points, full = cloud()[0].flatten(0, 1).double()[None], motion().double()
    moved = (1.7 * points) @ full[:, :3, :3].mT + full[:, None, :3, 3]
    moved[:, : points.shape[1] * 2 // 5] += torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    found, scale = robust_similarity(points, moved, torch.ones(1, points.shape[1], dtype=torch.float64))
    torch.testing.assert_close(found, full, atol=1e-4, rtol=1e-4)
    assert scale.item() == pytest.approx(1.7, rel=1e-4)


@pytest.mark.parametrize("architecture", ["mast3r", "d2ust3r", "flow4r"])
def test_the_predictor_gives_three_maps_of_any_network(
    config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path, architecture: str
) -> None:
    network = make_network(dataclasses.replace(config, architecture=architecture))
    save_weights(tmp_path / "weights.safetensors", network, 64, {}, torch.float32)
    checkpoint = load_checkpoint(tmp_path / "weights.safetensors")
    options = ModelOptions(device="cpu", precision="fp32", num_threads=1)
    fast, slow = (
        Predictor.of_checkpoint(checkpoint, dataclasses.replace(options, reuse=reuse)) for reuse in (True, False)
    )
    window = RollingWindow(4, 2, "anchored")
    for step in range(5):
        pixels = np.random.default_rng(step).integers(0, 256, (32, 48, 3), np.uint8)
        now = window.push(PreparedFrame(step, pixels, None, np.eye(3), (48, 32)))
        newest = len(now.frames) - 1
        found, twin = fast.predict(now, Wanted((newest,), (1,), (2, 3))), slow.predict(now)
        assert len(found.from_key.points_2) == len(found.to_key.points_1) == 0
        torch.testing.assert_close(found.from_key.points_1[0], twin.from_key.points_1[newest], atol=1e-4, rtol=1e-4)
        assert found.to_key.points_2.shape == found.to_key.points_match.shape == (1, 32, 48, 3)
        if architecture == "flow4r":
            for name in ("points_2", "points_match", "conf_match"):
                expected = getattr(twin.to_key, name)[newest]
                torch.testing.assert_close(getattr(found.to_key, name)[0], expected, atol=1e-3, rtol=1e-3)


def test_only_what_is_read_is_evaluated(config: NetworkConfig) -> None:
    wanted = Wanted((3,), (1,), (2, 3))
    expected: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "mast3r": ((1,), (1, 2)),
        "d2ust3r": ((1,), (2,)),
        "flow4r": ((1,), (2,)),
    }
    for network, architecture in ((Mast3r, "mast3r"), (D2ust3r, "d2ust3r"), (Flow4r, "flow4r")):
        own = network(dataclasses.replace(config, architecture=architecture)).own_wanted(wanted)
        assert (own.from_key_heads, own.to_key_heads) == expected[architecture]
        assert own.slots == wanted.slots


def test_a_trunk_without_heads_says_nothing(config: NetworkConfig) -> None:
    empty: Maps = {}
    with pytest.raises(NotImplementedError):
        Trunk(config).three_maps(1, empty, empty)
