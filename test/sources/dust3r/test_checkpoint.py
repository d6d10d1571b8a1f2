"""Weights files: a strict round trip, files of others, and everything that must be refused."""

import argparse
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.errors import CheckpointError, ConfigError
from pomato_ros.sources.dust3r.checkpoint import (
    build_network,
    file_sha256,
    is_derived,
    load_checkpoint,
    parse_description,
    save_weights,
)
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.trunk import Trunk

# as in official files; what this package does not build from is there too
DESCRIPTION = (
    "AsymmetricMASt3R(pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 512), head_type='dpt', "
    "output_mode='pts3d', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), freeze='encoder', "
    "dynamic_matching=True, landscape_only=False"
)

# of ours, not in such a call
OWN_ENTRIES = (
    "temporal_length",
    "architecture",
    "head_type",
    "mask_heads",
    "flow_head",
    "two_confs",
)


@pytest.fixture(scope="module")
def network(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(tiny_config)


@pytest.fixture(scope="module")
def pairwise_config(tiny_config: NetworkConfig) -> NetworkConfig:
    return dataclasses.replace(tiny_config, temporal_length=0)


@pytest.fixture
def saved(network: Pomato, tmp_path: Path) -> Path:
    save_weights(tmp_path / "weights.safetensors", network, 160, {"seed": "3"}, torch.float32)
    return tmp_path / "weights.safetensors"


def described(config: NetworkConfig, **changes: Any) -> str:
    """The constructor call of ``config``; its own window length is not mentioned."""
    sizes = {name: value for name, value in dataclasses.asdict(config).items() if name not in OWN_ENTRIES}
    return f"{DESCRIPTION}, {', '.join(f'{name}={value!r}' for name, value in {**sizes, **changes}.items())})"


def save_official(path: Path, tensors: dict[str, Tensor], description: Any, **extra: Any) -> Path:
    args = argparse.Namespace(model=description, batch_size=4, train_dataset="1000 @ Somewhere()")
    torch.save({"args": args, "model": tensors, "epoch": 9, **extra}, path)
    return path


def rewritten(path: Path, tensors: dict[str, Tensor], **header: str | None) -> Path:
    """The file with other tensors and some entries of its header changed or, with None, left out."""
    with safe_open(path, framework="pt") as file:
        metadata = {**file.metadata(), **header}
    save_file(tensors, path, metadata={name: value for name, value in metadata.items() if value is not None})
    return path


def assert_equal_weights(one: Pomato, other: Pomato, dtype: torch.dtype = torch.float32) -> None:
    assert one.config == other.config
    weights = one.state_dict()
    for name, value in other.state_dict().items():
        expected = value if name.endswith(".pe") else value.to(dtype).float()
        assert torch.equal(weights[name], expected), name


# --- our own files


def shards_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}-*-of-*.safetensors"))


@pytest.mark.parametrize("limit_kib", [100, 160])
def test_weights_in_several_files_are_the_same_weights(network: Pomato, tmp_path: Path, limit_kib: int) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, network, 160, {"seed": "3"}, torch.float32, shard_bytes=limit_kib * 1024)
    files = [path, *shards_of(path)]
    assert len(files) > 2
    assert all(file.stat().st_size <= limit_kib * 1024 for file in files)
    whole = {name for name in network.state_dict() if not is_derived(name)}
    parts = [set(load_file(file)) for file in files]
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)
    checkpoint = load_checkpoint(path)
    assert_equal_weights(checkpoint.network, network)
    assert checkpoint.metadata["seed"] == "3"


def test_weights_that_fit_are_one_file(network: Pomato, tmp_path: Path) -> None:
    limited, unlimited = tmp_path / "limited.safetensors", tmp_path / "unlimited.safetensors"
    save_weights(unlimited, network, 160, {})
    size = unlimited.stat().st_size
    hashes = {save_weights(limited, network, 160, {}, shard_bytes=2 * size), file_sha256(unlimited)}
    assert len(hashes) == 1
    assert not shards_of(limited)


def test_the_first_files_hash_stands_for_all_files(network: Pomato, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    sha256 = save_weights(path, network, 160, {}, torch.float32, shard_bytes=100 * 1024)
    last = shards_of(path)[-1]
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{last.name} has SHA-256 .*, weights.safetensors expects"):
        load_checkpoint(path, sha256)
    last.unlink()
    with pytest.raises(CheckpointError, match=f"{last.name} is missing; weights.safetensors goes on there"):
        load_checkpoint(path)


@pytest.mark.parametrize("listed", ["[]", "no JSON", '{"weights-2-of-2.safetensors": 5}'])
def test_a_list_of_files_that_is_none_is_refused(saved: Path, listed: str) -> None:
    rewritten(saved, load_file(saved), shards=listed)
    with pytest.raises(CheckpointError, match="no usable list of its further files|is missing"):
        load_checkpoint(saved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_come_back_in_single_precision_with_config_and_origin(
    network: Pomato, tmp_path: Path, dtype: torch.dtype
) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    sha256 = save_weights(path, network, 160, {"seed": "3"}, dtype)
    checkpoint = load_checkpoint(path, sha256.upper())
    assert_equal_weights(checkpoint.network, network, dtype)
    assert checkpoint.sha256 == sha256 == file_sha256(path)
    assert checkpoint.image_size_px == 160
    assert checkpoint.metadata["seed"] == "3"
    assert not checkpoint.network.training
    assert {value.dtype for value in load_file(path).values()} == {dtype}


def test_equal_weights_make_equal_files(network: Pomato, tmp_path: Path) -> None:
    metadata = {f"fact {number}": str(number) for number in range(20)}
    hashes = {save_weights(tmp_path / f"{n}.safetensors", network, 160, metadata) for n in range(4)}
    assert len(hashes) == 1


def test_only_what_cannot_be_derived_is_stored(network: Pomato, saved: Path) -> None:
    parameters = dict(network.named_parameters())  # names every shared tensor once
    assert load_file(saved).keys() == parameters.keys()
    assert all(is_derived(name) == (name not in parameters) for name in network.state_dict())


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="no weights file at .*; set 'checkpoint'"):
            load_checkpoint(path)


def test_a_wrong_hash_is_refused_with_both_hashes(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=f"has SHA-256 {file_sha256(saved)}, expected {'0' * 64}"):
        load_checkpoint(saved, "0" * 64)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 7, 5000])
def test_a_damaged_file_is_refused(saved: Path, tmp_path: Path, suffix: str, keep: int) -> None:
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a readable"):
        load_checkpoint(damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("enc_norm.bias"), r"1 names missing \['enc_norm.bias'\], 0 unknown"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), r"0 names missing \[\], 1 unknown \['extra'\]"),
        (
            lambda tensors: tensors.update({"enc_norm.bias": torch.zeros(5)}),
            r"1 of other shape \['enc_norm.bias \(5,\) instead of \(24,\)'\]; use weights made for",
        ),
    ],
)
def test_weights_that_do_not_fit_exactly_are_refused_by_name(
    saved: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    tensors = load_file(saved)
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(rewritten(saved, tensors))


@pytest.mark.parametrize(
    "header",
    [
        {"format": None},
        {"format": "other"},
        {"network": None},
        {"network": "not JSON"},
        {"network": "[1]"},
        {"network": json.dumps({"unheard_of": 1})},
        {"network": json.dumps({"enc_embed_dim": "24"})},
        {"network": json.dumps({"enc_num_heads": 0})},
        {"network": json.dumps({"temporal_length": 6, "group_norm_groups": 7})},
        {"image_size_px": "large"},
    ],
)
def test_a_header_that_describes_no_network_is_refused(saved: Path, header: dict[str, str | None]) -> None:
    with pytest.raises(CheckpointError, match="was not written by pomato_ros|carries no usable network config"):
        load_checkpoint(rewritten(saved, load_file(saved), **header))


# --- files of others


@pytest.mark.parametrize("temporal_length", [0, 6])
def test_an_official_file_gives_its_own_network(
    tiny_config: NetworkConfig, make_network: Callable[..., Pomato], tmp_path: Path, temporal_length: int
) -> None:
    network = make_network(dataclasses.replace(tiny_config, temporal_length=temporal_length))
    path = save_official(tmp_path / "official.pth", network.state_dict(), described(network.config))
    checkpoint = load_checkpoint(path, file_sha256(path))
    assert_equal_weights(checkpoint.network, network)
    assert checkpoint.image_size_px == 512
    assert checkpoint.sha256 == file_sha256(path)


def test_a_file_of_two_heads_becomes_pairwise_with_the_second_head_twice(
    pairwise_config: NetworkConfig, make_network: Callable[..., Pomato], tmp_path: Path
) -> None:
    weights = make_network(pairwise_config).state_dict()
    two_heads = {name: value for name, value in weights.items() if not name.startswith("downstream_head3.")}
    loaded = load_checkpoint(save_official(tmp_path / "two.pth", two_heads, described(pairwise_config))).network
    second, third = loaded.downstream_head2.state_dict(), loaded.downstream_head3.state_dict()
    for name, value in second.items():
        assert torch.equal(third[name], value)
        assert torch.equal(value, weights[f"downstream_head2.{name}"])
    head = loaded.downstream_head2.dpt.head[0].weight
    assert head.data_ptr() != loaded.downstream_head3.dpt.head[0].weight.data_ptr()


def test_published_two_head_names_convert_to_the_published_pairwise_names(reference_dir: Path) -> None:
    two, three = (
        json.loads((reference_dir / file).read_text())["keys"]
        for file in ("dust3r_dpt_512.keys.json", "pomato_pairwise.keys.json")
    )
    converted = Pomato.adapt_weights({name: torch.empty(shape, device="meta") for name, shape in two.items()})
    assert {name: list(value.shape) for name, value in converted.items()} == three


def test_weights_without_a_second_head_cannot_be_converted() -> None:
    with pytest.raises(CheckpointError, match="expected weights with downstream_head2"):
        Pomato.adapt_weights({"enc_norm.bias": torch.zeros(3)})


def test_an_official_file_that_does_not_fit_is_refused(network: Pomato, tmp_path: Path) -> None:
    weights = {name: value for name, value in network.state_dict().items() if name != "dec_norm.weight"}
    path = save_official(tmp_path / "short.pth", weights, described(network.config))
    with pytest.raises(CheckpointError, match=r"1 names missing \['dec_norm.weight'\]"):
        load_checkpoint(path)


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_pickle_does_not_run(network: Pomato, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = save_official(
        tmp_path / "evil.pth", network.state_dict(), described(network.config), extra=Malicious(marker)
    )
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        load_checkpoint(path)
    assert not marker.exists()


def test_code_in_a_description_does_not_run(network: Pomato, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"__import__('os').mkdir({str(marker)!r})"
    ignored = f"{described(network.config)[:-1]}, freeze_more={code})"
    load_checkpoint(save_official(tmp_path / "ignored.pth", network.state_dict(), ignored))
    read = f"{DESCRIPTION}, enc_embed_dim={code})"
    with pytest.raises(CheckpointError, match="enc_embed_dim must be a whole number of at least 1"):
        load_checkpoint(save_official(tmp_path / "read.pth", network.state_dict(), read))
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [{}, {"model": {}}, {"model": {"a": 1}, "args": argparse.Namespace(model="M()")}, [1, 2]],
    ids=["empty", "no args", "no tensors", "a list"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is not a readable checkpoint with 'model' and 'args'"):
        load_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize("description", [None, 5, b"M()"])
def test_a_description_that_is_no_text_is_refused(network: Pomato, tmp_path: Path, description: Any) -> None:
    with pytest.raises(CheckpointError, match="must be the text of a constructor call"):
        load_checkpoint(save_official(tmp_path / "other.pth", network.state_dict(), description))


# --- descriptions


def test_sizes_come_from_the_call_and_the_window_from_the_slot_encodings(tiny_config: NetworkConfig) -> None:
    tensors = {f"downstream_head1.dpt.motion_modules.{n}.x.pos_encoder.pe": torch.zeros(1, 6, 8) for n in range(2)}
    assert parse_description(described(tiny_config), tensors) == tiny_config
    assert parse_description(described(tiny_config)[:-1] + ", temporal_length=12)", tensors) == tiny_config
    pairwise = dataclasses.replace(tiny_config, temporal_length=0)
    assert parse_description(described(tiny_config)[:-1] + ", temporal_length=12)", {}) == pairwise


def test_the_published_description_is_the_full_network() -> None:
    assert parse_description(DESCRIPTION + ")", {}) == NetworkConfig()
    assert parse_description("\n Anything() ", {}) == NetworkConfig()


def test_the_base_of_the_rotary_positions_is_read(tiny_config: NetworkConfig) -> None:
    assert parse_description("M(pos_embed='RoPE10000')", {}).rope_base == 10000.0
    with pytest.raises(ConfigError, match="expected pos_embed='RoPE100'"):
        parse_description("M(pos_embed='cosine')", {})


@pytest.mark.parametrize(
    "text",
    [
        "M(head_type='linear')",
        "M(output_mode='pts3d+desc24')",
        "M(depth_mode=('square', -inf, inf))",
        "M(depth_mode=5)",
        "M(conf_mode=('sigmoid', 0, 1))",
    ],
)
def test_heads_that_speak_another_language_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="this package builds no such head"):
        parse_description(text, {})


@pytest.mark.parametrize("text", ["", "5", "M(", "import os", "M()\nM()", "M(\0)", "(" * 3000 + ")" * 3000])
def test_text_that_is_no_call_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a constructor call"):
        parse_description(text, {})


def test_a_network_is_built_of_exactly_its_tensors(network: Pomato) -> None:
    rebuilt = build_network(network.config, dict(network.state_dict()), "here")
    assert_equal_weights(rebuilt, network)
    images = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(rebuilt(images, images).points_match, network(images, images).points_match)


# --- the family


MAST3R_DESCRIPTION = (
    "AsymmetricMASt3R(pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 512), "
    "head_type='catmlp+dpt', output_mode='pts3d+desc6', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), "
    "two_confs=True, desc_conf_mode=('exp', 0, inf)"
)


@pytest.fixture(scope="module")
def mast3r(pairwise_config: NetworkConfig, make_network: Callable[..., Trunk]) -> Trunk:
    return make_network(dataclasses.replace(pairwise_config, architecture="mast3r", desc_dim=6, desc_hidden_dim=8))


def mast3r_call(network: Trunk) -> str:
    sizes = dataclasses.asdict(network.config)
    named = ("enc_embed_dim", "enc_depth", "enc_num_heads", "dec_embed_dim", "dec_depth", "dec_num_heads")
    dpt = ("dpt_layer_dims", "dpt_feature_dim", "dpt_last_dim", "temporal_num_heads", "group_norm_groups")
    return f"{MAST3R_DESCRIPTION}, {', '.join(f'{name}={sizes[name]!r}' for name in (*named, *dpt))})"


def test_an_official_mast3r_is_read_from_its_call_and_is_metric_where_its_name_says_so(
    mast3r: Trunk, tmp_path: Path
) -> None:
    for name, metric in (("catmlpdpt_metric.pth", True), ("catmlpdpt.pth", False)):
        loaded = load_checkpoint(save_official(tmp_path / name, mast3r.state_dict(), mast3r_call(mast3r)))
        assert_equal_weights(loaded.network, mast3r)
        assert loaded.metric is metric
        assert loaded.network.config.desc_conf_min == 0


def test_without_a_mode_of_their_own_descriptors_confidence_is_that_of_the_points(mast3r: Trunk) -> None:
    call = mast3r_call(mast3r).replace(", desc_conf_mode=('exp', 0, inf)", "")
    assert parse_description(call, {}).desc_conf_min == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("desc6", "dust6"),
        ("('exp', 0, inf)", "('sigmoid', 0, 1)"),
        ("('exp', -inf, inf)", "('square', -inf, inf)"),
    ],
)
def test_descriptors_of_another_kind_are_refused(mast3r: Trunk, old: str, new: str) -> None:
    with pytest.raises(ConfigError, match="no such head"):
        parse_description(mast3r_call(mast3r).replace(old, new), {})


def test_dust3r_weights_are_d2ust3rs_where_asked_for(
    pairwise_config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path
) -> None:
    network = make_network(dataclasses.replace(pairwise_config, architecture="d2ust3r"))
    path = save_official(tmp_path / "ddust3r.pth", network.state_dict(), described(network.config))
    assert_equal_weights(load_checkpoint(path, architecture="d2ust3r").network, network)
    assert isinstance(load_checkpoint(path).network, Pomato)


def test_one_decoder_becomes_both(
    pairwise_config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path
) -> None:
    network = make_network(dataclasses.replace(pairwise_config, architecture="d2ust3r"))
    one = {name: value for name, value in network.state_dict().items() if not name.startswith("dec_blocks2.")}
    path = save_official(tmp_path / "croco.pth", one, described(network.config))
    loaded = load_checkpoint(path, architecture="d2ust3r").network.state_dict()
    for name in one:
        assert torch.equal(loaded[name.replace("dec_blocks.", "dec_blocks2.")], loaded[name])


@pytest.mark.parametrize("architecture", ["mast3r", "d2ust3r", "flow4r"])
def test_our_own_files_say_whose_network_they_hold(
    pairwise_config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path, architecture: str
) -> None:
    network = make_network(dataclasses.replace(pairwise_config, architecture=architecture))
    path = tmp_path / "weights.safetensors"
    save_weights(path, network, 64, {"metric": "true"}, torch.float32)
    loaded = load_checkpoint(path, architecture=architecture)
    assert_equal_weights(loaded.network, network)
    assert loaded.metric
    with pytest.raises(CheckpointError, match=f"holds a {architecture} network, expected pomato"):
        load_checkpoint(path, architecture="pomato")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(saved: Path, value: float) -> None:
    tensors, header = contents(saved)
    name = next(iter(tensors))
    tensors[name] = torch.full_like(tensors[name], value)
    save_file(tensors, saved, metadata=header)
    with pytest.raises(CheckpointError, match=rf"finite weights, got NaN or infinity in {saved.name}: {name}"):
        load_checkpoint(saved)


def test_weights_that_are_whole_numbers_are_refused(saved: Path) -> None:
    tensors, header = contents(saved)
    save_file({name: value.to(torch.int8) for name, value in tensors.items()}, saved, metadata=header)
    with pytest.raises(CheckpointError, match="torch.int8"):
        load_checkpoint(saved)


@pytest.mark.parametrize("size", ["0", "-128", "nan", "1000000000", "12.5"])
def test_an_image_size_that_no_network_has_is_refused(saved: Path, size: str) -> None:
    tensors, header = contents(saved)
    save_file(tensors, saved, metadata={**header, "image_size_px": size})
    with pytest.raises(CheckpointError, match="no usable network config"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("enc_depth", value) for value in (10**6, 10**9)),
        *(("dec_depth", 10**6), ("enc_embed_dim", 4 * 10**9), ("temporal_length", 10**9), ("rope_base", 1e300)),
    ],
)
def test_sizes_beyond_any_network_are_refused_before_one_is_built(
    tiny_config: NetworkConfig, saved: Path, name: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be .*at most"):
        dataclasses.replace(tiny_config, **{name: value})
    tensors, header = contents(saved)
    network = {**json.loads(header["network"]), name: value}
    save_file(tensors, saved, metadata={**header, "network": json.dumps(network)})
    with pytest.raises(CheckpointError, match="no usable network config"):
        load_checkpoint(saved)


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file of ours."""
    with safe_open(path, "pt") as file:
        return load_file(path), dict(file.metadata())


def test_the_home_folder_may_be_written_short(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved.parent))
    assert load_checkpoint(Path("~") / saved.name).image_size_px == 160


@pytest.mark.parametrize("text", ["[]", "null", "3", "[" * 100_000], ids=["list", "null", "number", "deep"])
def test_a_network_that_is_no_table_is_refused(saved: Path, text: str) -> None:
    tensors, header = contents(saved)
    save_file(tensors, saved, metadata={**header, "network": text})
    with pytest.raises(CheckpointError, match="no usable network config"):
        load_checkpoint(saved)


def test_a_further_file_that_is_none_is_named(saved: Path) -> None:
    tensors, header = contents(saved)
    (saved.parent / "more.safetensors").write_bytes(b"\xff" * 100)
    shards = json.dumps({"more.safetensors": file_sha256(saved.parent / "more.safetensors")})
    save_file(tensors, saved, metadata={**header, "shards": shards})
    with pytest.raises(CheckpointError, match=r"more\.safetensors is not a readable"):
        load_checkpoint(saved)
