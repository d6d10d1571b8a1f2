"""`pomato convert` on small files of the official form: nothing runs, nothing is lost, the terms come along."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pomato_ros.cli.main import main
from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.checkpoint import file_sha256, load_checkpoint
from pomato_ros.sources.dust3r.trunk import Trunk

MAST3R_CALL = (
    "AsymmetricMASt3R(pos_embed='RoPE100', head_type='catmlp+dpt', output_mode='pts3d+desc6', two_confs=True, "
    "depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), desc_conf_mode=('exp', 0, inf), "
)
DUST3R_CALL = "AsymmetricCroCo3DStereo(pos_embed='RoPE100', head_type='dpt', output_mode='pts3d', "
SIZES = ("enc_embed_dim", "enc_depth", "enc_num_heads", "dec_embed_dim", "dec_depth", "dec_num_heads")
HEAD_SIZES = ("dpt_layer_dims", "dpt_feature_dim", "dpt_last_dim", "temporal_num_heads", "group_norm_groups")


def official(path: Path, network: Trunk, call: str) -> Path:
    sizes = dataclasses.asdict(network.config)
    text = call + ", ".join(f"{name}={sizes[name]!r}" for name in SIZES + HEAD_SIZES) + ")"
    torch.save({"model": network.state_dict(), "args": argparse.Namespace(model=text), "epoch": 3}, path)
    return path


@pytest.fixture
def config(tiny_config: NetworkConfig) -> NetworkConfig:
    return dataclasses.replace(tiny_config, temporal_length=0, desc_dim=6, desc_hidden_dim=8)


@pytest.mark.parametrize(
    ("architecture", "call", "terms"), [("mast3r", MAST3R_CALL, "Map-free"), ("d2ust3r", DUST3R_CALL, "non-commercial")]
)
def test_an_official_file_becomes_one_of_ours(
    config: NetworkConfig,
    make_network: Callable[..., Trunk],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    architecture: str,
    call: str,
    terms: str,
) -> None:
    network = make_network(dataclasses.replace(config, architecture=architecture))
    source, out = official(tmp_path / "weights_metric.pth", network, call), tmp_path / "ours.safetensors"
    words = ["convert", str(source), str(out), "--backend", architecture, "--precision", "fp32"]
    assert main([*words, "--sha256", file_sha256(source)]) == 0
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    loaded = load_checkpoint(out, printed["sha256"], architecture)
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    assert loaded.metric is True
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["source_sha256"] == file_sha256(source)
    assert terms in metadata["licence"]
    assert metadata["description"].startswith(call[:20])


def test_a_file_of_ours_keeps_what_it_knows_and_terms_can_be_named(
    config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path
) -> None:
    source = official(tmp_path / "w.pth", make_network(dataclasses.replace(config, architecture="mast3r")), MAST3R_CALL)
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert main(["convert", str(source), str(first), "--licence", "mine"]) == 0
    assert main(["convert", str(first), str(second), "--precision", "bf16"]) == 0
    again = load_checkpoint(second)
    assert again.metadata["licence"] == "mine"
    assert again.metadata["source_sha256"] == file_sha256(source)
    assert not again.metric


def test_what_cannot_be_converted_says_why(
    config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = official(tmp_path / "w.pth", make_network(dataclasses.replace(config, architecture="mast3r")), MAST3R_CALL)
    out = str(tmp_path / "a.safetensors")
    for words, advice in (
        ([str(source), str(tmp_path / "a.pth")], "ends in .safetensors"),
        ([str(source), out, "--backend", "dust4r"], "expected one of pomato"),
        ([str(source), out, "--backend", "pomato"], "no such head"),
        ([str(tmp_path / "none.pth"), out], "no weights file"),
    ):
        assert main(["convert", *words]) != 0
        printed = capsys.readouterr()
        assert advice in " ".join((printed.err + printed.out).replace("│", " ").split())
