"""Weights with their config: strict loading of our own files and of official ones; data only, never code."""

import argparse
import ast
import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.errors import CheckpointError, ConfigError
from pomato_ros.sources.dust3r.family import NETWORKS, make_network
from pomato_ros.sources.dust3r.trunk import Trunk

LOGGER = logging.getLogger(__name__)
FORMAT = "pomato_ros"
OFFICIAL_IMAGE_SIZE_PX = 512
SMALLEST_IMAGE_PX, LARGEST_IMAGE_PX = 16, 8192  # one patch; more than any memory has room for
HEADER_BYTES = 16 * 1024  # room for the config and other entries in a file's header
TENSOR_HEADER_BYTES = 128  # room for a tensor's own entry, without its name
BUNDLED_WEIGHTS = Path(__file__).parents[2] / "weights" / "nano.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network ready to run, and where it came from."""

    network: Trunk
    image_size_px: int  # long side the weights were trained at
    path: Path
    sha256: str
    metadata: dict[str, str]

    @property
    def metric(self) -> bool:
        """Whether the weights were trained to give metres, as their file says."""
        return self.metadata.get("metric") == "true"


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash(stream)


def _hash(stream: Any) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def is_derived(name: str) -> bool:
    """Whether a parameter name repeats another (DPT aliases) or follows from the config (slot encodings)."""
    return ".scratch.layer_rn." in name or name.endswith(".pos_encoder.pe")


def save_weights(
    path: Path,
    network: Trunk,
    image_size_px: int,
    metadata: dict[str, str],
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = 0,
) -> str:
    """Write safetensors with the config inside; returns the file's SHA-256.

    Where one file would exceed ``shard_bytes`` (0: no limit), tensors go on in files beside it, none larger than that
    unless one tensor is. The first file names them with their SHA-256, so that its own hash stands for all of them.

    Args:
        path: the file, or the first of them; folders are made if need be.
        network: what to write; derived names are left out.
        image_size_px: long side that the weights were trained at.
        metadata: more entries of the header.
        dtype: of the stored values.
        shard_bytes: see above.
    """
    tensors = {
        name: value.detach().to("cpu", dtype).contiguous()
        for name, value in network.state_dict().items()
        if not is_derived(name)
    }
    header = {
        **metadata,
        "format": FORMAT,
        "network": network.config.to_json(),
        "image_size_px": str(image_size_px),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = split_tensors(tensors, shard_bytes)
    further = {}
    for number, part in enumerate(others, start=2):
        shard = path.with_name(f"{path.stem}-{number}-of-{1 + len(others)}{path.suffix}")
        shard.write_bytes(with_sorted_header(save(part, metadata={"format": FORMAT})))
        further[shard.name] = file_sha256(shard)
    if further:
        header["shards"] = json.dumps(further)
    path.write_bytes(with_sorted_header(save(first, metadata=header)))
    return file_sha256(path)


def split_tensors(tensors: dict[str, Tensor], limit_bytes: int) -> list[dict[str, Tensor]]:
    """Tensors in their order, dealt to files of at most ``limit_bytes`` with their headers (0: one file)."""
    parts: list[dict[str, Tensor]] = [{}]
    used = HEADER_BYTES
    for name, value in tensors.items():
        size = value.nbytes + len(name) + TENSOR_HEADER_BYTES
        if limit_bytes and parts[-1] and used + size > limit_bytes:
            parts.append({})
            used = HEADER_BYTES
        parts[-1][name] = value
        used += size
    return parts


def with_sorted_header(content: bytes) -> bytes:
    """A safetensors file with its header in order: the library shuffles it, and equal weights shall be equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # what follows stays aligned
    return len(header).to_bytes(8, "little") + header + content[end:]


def load_checkpoint(path: Path, expected_sha256: str = "", architecture: str = "") -> Checkpoint:
    """Load our own safetensors or an official ``.pth`` of the family, on the CPU, in fp32, strictly.

    Args:
        path: the file.
        expected_sha256: of its content; empty: not checked.
        architecture: whose network it is to be; empty: as the file says, where DUSt3R and MonST3R weights, which do not
            tell themselves from D²USt3R's, become a POMATO.

    Raises:
        CheckpointError: the file is missing, is not what its hash says, or does not fit a network exactly.
    """
    path = path.expanduser() if path.parts[:1] and path.parts[0].startswith("~") else path
    if not path.is_file():
        raise CheckpointError(f"no weights file at {path}; set 'checkpoint' to an existing file or leave it empty")
    sha256 = file_sha256(path)
    if expected_sha256 and sha256 != expected_sha256.lower():
        raise CheckpointError(f"{path} has SHA-256 {sha256}, expected {expected_sha256}; fetch the file again")
    if path.suffix == ".safetensors":
        return _load_native(path, sha256, architecture)
    return _load_official(path, sha256, architecture)


def _load_native(path: Path, sha256: str, architecture: str) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            tensors = {name: numbers(f"{path.name}: {name}", file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); fetch it again") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by pomato_ros: its metadata has no format={FORMAT}")
    tensors |= _load_shards(path, metadata.get("shards", "{}"))
    try:
        config = NetworkConfig.from_json(metadata["network"])
        image_size_px = image_size(metadata["image_size_px"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} carries no usable network config ({error})") from error
    if architecture and architecture != config.architecture:
        raise CheckpointError(f"{path} holds a {config.architecture} network, expected {architecture}; choose another")
    return Checkpoint(build_network(config, tensors, path), image_size_px, path, sha256, metadata)


def _tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file in fp32."""
    with safe_open(path, framework="pt") as file:
        return {name: numbers(f"{path.name}: {name}", file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def numbers(name: str, value: Tensor) -> Tensor:
    """Weights in fp32.

    Raises:
        CheckpointError: They are no floating-point numbers, or some are NaN or infinite: nothing could be computed.
    """
    if not value.is_floating_point() and not is_derived(name):
        raise CheckpointError(
            f"expected floating-point weights, got {name} as {value.dtype}; quantised files do not run"
        )
    if not torch.isfinite(value).all():
        raise CheckpointError(f"expected finite weights, got NaN or infinity in {name}; the training had diverged")
    return value.float()


def image_size(text: str) -> int:
    """The long side that the weights were trained at, px."""
    size_px = int(text)
    if not SMALLEST_IMAGE_PX <= size_px <= LARGEST_IMAGE_PX:
        raise ValueError(f"expected an image_size_px of {SMALLEST_IMAGE_PX} to {LARGEST_IMAGE_PX}, got {size_px}")
    return size_px


def _load_shards(path: Path, listed: str) -> dict[str, Tensor]:
    """The tensors in the files beside ``path`` that it lists with their hashes."""
    tensors: dict[str, Tensor] = {}
    try:
        shards = {path.with_name(name): str(sha256) for name, sha256 in json.loads(listed).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} carries no usable list of its further files ({error})") from error
    for shard, sha256 in shards.items():
        if not shard.is_file():
            raise CheckpointError(f"{shard} is missing; {path.name} goes on there, fetch it into the same folder")
        found = file_sha256(shard)
        if found != sha256:
            raise CheckpointError(f"{shard} has SHA-256 {found}, {path.name} expects {sha256}; fetch both again")
        try:
            tensors |= _tensors_of(shard)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{shard} is not a readable safetensors file ({error}); fetch it again") from error
    return tensors


def _load_official(path: Path, sha256: str, architecture: str) -> Checkpoint:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: numbers(name, value) for name, value in content["model"].items()}
        description = content["args"].model
        if not isinstance(description, str):
            raise TypeError(f"args.model must be the text of a constructor call, got {description!r}")
    except Exception as error:  # torch.load raises whatever the pickle provokes
        raise CheckpointError(f"{path} is not a readable checkpoint with 'model' and 'args' ({error})") from error
    try:
        config = parse_description(description, tensors, architecture)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    network = build_network(config, NETWORKS[config.architecture].adapt_weights(tensors), path)
    metadata = {"description": description, "metric": str(path.stem.endswith("_metric")).lower()}
    return Checkpoint(network, OFFICIAL_IMAGE_SIZE_PX, path, sha256, metadata)


def build_network(config: NetworkConfig, tensors: dict[str, Tensor], source: Path | str) -> Trunk:
    """A network of ``config`` with exactly ``tensors``; derived names may be absent, anything else is an error."""
    with torch.device("meta"):
        network = make_network(config)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    missing = [name for name in expected if name not in tensors and not is_derived(name)]
    extra = [name for name in tensors if name not in expected]
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if missing or extra or wrong:
        raise CheckpointError(
            f"{source} does not fit its network: {len(missing)} names missing {missing[:3]}, {len(extra)} unknown "
            f"{extra[:3]}, {len(wrong)} of other shape {wrong[:3]}; use weights made for this architecture"
        )
    network = make_network(config)
    # what may be absent is right already: slot encodings by their formula, aliases by sharing their values
    network.load_state_dict({**network.state_dict(), **tensors}, strict=True)
    return network.eval()


def parse_description(description: str, tensors: dict[str, Tensor], architecture: str = "") -> NetworkConfig:
    """The network's sizes from the constructor call stored in official checkpoints, read as data.

    Unknown keywords are ignored; the length of the window comes from the slot encodings themselves. Without an
    ``architecture``, MASt3R's heads make a MASt3R and all others a POMATO.

    Raises:
        ConfigError: the text is not a call with literal keywords, or describes a head this package does not build.
    """
    values = _keywords(description)
    architecture = architecture or ("mast3r" if values.get("head_type") == "catmlp+dpt" else "pomato")
    known = {item.name for item in dataclasses.fields(NetworkConfig)}
    sizes = {name: value for name, value in values.items() if name in known and name != "head_type"}
    sizes |= NETWORKS[architecture].described_entries(values, tensors)
    sizes["architecture"] = architecture
    sizes["rope_base"] = _rope_base(values.get("pos_embed", "RoPE100"))
    encodings = [value for name, value in tensors.items() if name.endswith(".pos_encoder.pe") and value.ndim == 3]
    sizes["temporal_length"] = encodings[0].shape[1] if encodings else 0
    return NetworkConfig(**sizes)


def _keywords(description: str) -> dict[str, Any]:
    """The keyword arguments of a constructor call."""
    try:
        call = ast.parse(description.strip(), mode="eval").body
        if isinstance(call, ast.Call):
            return {item.arg: _literal(item.value) for item in call.keywords if item.arg}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # what ast.parse raises for odd text
        raise ConfigError(f"the network description is not a constructor call: {description[:200]!r}") from error
    raise ConfigError(f"the network description is not a constructor call: {description[:200]!r}")


def _rope_base(pos_embed: Any) -> float:
    """100.0 for ``RoPE100``."""
    digits = pos_embed.removeprefix("RoPE") if isinstance(pos_embed, str) else ""
    if not digits.isdecimal() or digits == pos_embed:
        raise ConfigError(f"expected pos_embed='RoPE100' or another base, got {pos_embed!r}")
    return float(digits)


def _literal(node: ast.expr) -> Any:
    """A literal, with the names inf and nan allowed; anything else becomes its source text."""
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        return -value if isinstance(value, int | float) else ast.unparse(node)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_literal(item) for item in node.elts)
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)
