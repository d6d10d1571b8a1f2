"""Fixtures of MASt3R, D²USt3R and Flow4R networks: pairs of images of one size or two, weights stored or by recipe."""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.config import FULL_MAST3R, NetworkConfig, build_dataclass
from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.measures import network_measures
from pomato_ros.evaluation.parity.networks import WEIGHTS, load_weights, take_fixed_entries
from pomato_ros.evaluation.parity.report import ParityError
from pomato_ros.sources.dust3r.family import make_network
from pomato_ros.sources.dust3r.local_features import POINTMAP_CHANNELS
from pomato_ros.sources.dust3r.mast3r import Mast3r
from pomato_ros.sources.dust3r.preprocess import normalise
from pomato_ros.sources.dust3r.trunk import Trunk

# entries of a fixture's JSON by our name
SHAPE_ENTRIES = {
    "layer_dims": "dpt_layer_dims",
    "feature_dim": "dpt_feature_dim",
    "last_dim": "dpt_last_dim",
    "mlp_hidden": "desc_hidden_dim",
}
MAP_NAMES = {  # of a fixture's arrays, by our name
    "points_1": "pts3d1",
    "points_2": "pts3d_in_other_view2",
    "conf_1": "conf1",
    "conf_2": "conf2",
    "desc_1": "desc1",
    "desc_2": "desc2",
    "desc_conf_1": "desc_conf1",
    "desc_conf_2": "desc_conf2",
    "mask_logit_1": "mask_logit1",
    "mask_logit_2": "mask_logit2",
}
SUB_GRID = slice(1, None, 4), slice(2, None, 4)  # rows and columns of the maps that fixtures store in part
RECIPE_HEAD_SHARE = 0.15  # of the recipe's weights in a head's last convolution


def is_family_network(ledger: Ledger) -> bool:
    """Whether a fixture is one of a network of the family that is not POMATO's."""
    stored = any(name.startswith(WEIGHTS) for name in ledger.names(""))
    return (stored and not ledger.names(WEIGHTS + "downstream_head3.")) or "recipe" in ledger.about


@torch.no_grad()
def check_family(ledger: Ledger) -> None:
    """Every case of a fixture: outputs, tokens, raw heads, cross-attention, exchanged images.

    Raises:
        ParityError: it is of a network that this package does not build.
    """
    network = recipe_network(ledger) if "recipe" in ledger.about else stored_network(ledger)
    cases = [name.removesuffix("img1_u8") for name in ledger.names("") if name.endswith("img1_u8")]
    for case in cases:
        views = [normalise(ledger.take(f"{case}img{view}_u8")[None]) for view in (1, 2)]
        for name, value in pair_arrays(network, views[0], views[1]).items():
            _record(ledger, case + name, value)


def _record(ledger: Ledger, name: str, value: Tensor) -> None:
    """Compare one array, or the sub-grid of it that a fixture has, with or without its batch of one."""
    if name in ledger:
        stored, ours = name, value
    elif f"{name}_sub" in ledger:
        stored, ours = f"{name}_sub", value[:, SUB_GRID[0], SUB_GRID[1]]
    else:
        return
    reference = ledger.reference(stored)
    if reference.ndim == ours.ndim - 1 and len(ours) == 1:
        ours = ours[0]
    ledger.record(stored, network_measures(ours, reference))


def pair_arrays(network: Trunk, view_1: Tensor, view_2: Tensor) -> dict[str, Tensor]:
    """Everything that a fixture may hold of one pair of images (1, 3, h, w), by its name there."""
    grids = network.grid_of(view_1), network.grid_of(view_2)
    tokens = network.encode(view_1), network.encode(view_2)
    logits: tuple[list[Tensor], list[Tensor]] = ([], [])
    lists = network.decode(*tokens, *grids, lambda view, products: logits[view].append(products))
    found: dict[str, Tensor] = {}
    for view, (encoded, of_view, products) in enumerate(zip(tokens, lists, logits, strict=True), start=1):
        found[f"enc{view}"] = encoded
        found |= {f"dec{view}_{depth}": x for depth, x in enumerate(of_view) if depth}
        found[f"xattn_logits_headmean{view}"] = torch.stack([layer.mean(1) for layer in products])
        found[f"xattn_prob_mean{view}"] = torch.stack([layer.softmax(-1).mean(1) for layer in products]).mean(0)
    for spec in network.HEADS:
        head = network.head(spec)
        raw = head.raw(lists[spec.view], grids[spec.view], 1)
        if spec.maps[0].startswith("points_"):
            found[f"dpt_raw{spec.view + 1}"] = raw[:, :POINTMAP_CHANNELS]
        for name, value in zip(spec.maps, head.maps_of(raw), strict=True):
            found[MAP_NAMES[name]] = value if "mask" not in name else value[:, None]
    swapped = network.pair_maps(view_2, view_1)
    return found | {f"swapped_{MAP_NAMES[name]}": value for name, value in swapped.items()}


def stored_network(ledger: Ledger) -> Trunk:
    """The network whose weights a fixture stores, loaded strictly.

    Raises:
        ParityError: it asks for a network that this package does not build.
    """
    network = make_network(family_config(ledger)).eval()
    load_weights(ledger, network)
    return network


def family_config(ledger: Ledger) -> NetworkConfig:
    """The shape of a fixture's network, as its JSON and the names of its weights say.

    Raises:
        ParityError: it asks for a network that this package does not build.
    """
    if not isinstance(ledger.about.get("config"), Mapping):
        raise ParityError("the JSON of a network fixture must hold the network's shape under config")
    entries = dict(ledger.about["config"])
    take_fixed_entries(entries, ledger.about)
    hooks = entries.pop("hooks", None)
    entries.pop("mask_head_channels", None)
    desc_conf = entries.pop("desc_conf_mode", ["exp", 0, "inf"])
    if desc_conf[0] != "exp":
        raise ParityError(f"this package builds networks with desc_conf_mode exp only, the fixture has {desc_conf}")
    entries = {SHAPE_ENTRIES.get(name, name): value for name, value in entries.items()}
    entries["architecture"] = architecture_of(ledger)
    entries["desc_conf_min"] = desc_conf[1]
    entries["mask_heads"] = bool(ledger.names(WEIGHTS + "mask_head"))
    try:
        config: NetworkConfig = build_dataclass(NetworkConfig, entries, "fixture config")
    except ConfigError as error:
        raise ParityError(str(error)) from error
    if hooks is not None and tuple(hooks) != config.hooks:
        raise ParityError(f"this package builds networks with hooks {config.hooks} only, the fixture has {hooks}")
    return config


def architecture_of(ledger: Ledger) -> str:
    """Whose network the stored weights are, by their names."""
    if any("head_local_features" in name for name in ledger.names(WEIGHTS)):
        return "mast3r"
    return "d2ust3r" if ledger.names(WEIGHTS + "dec_blocks2.") else "flow4r"


def recipe_network(ledger: Ledger) -> Trunk:
    """A full-size MASt3R whose weights follow from their names by the fixture's formula."""
    network = Mast3r(FULL_MAST3R).eval()
    salt = str(ledger.about["recipe"]["salt"])
    for name, parameter in network.named_parameters():
        parameter.copy_(torch.from_numpy(recipe_values(salt, name, tuple(parameter.shape))))
    return network


def recipe_values(salt: str, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights of one name: uniform noise seeded by the CRC of salt and name, scaled by the number of inputs."""
    noise = np.random.RandomState(zlib.crc32((salt + name).encode())).random_sample(shape) * 2 - 1
    if len(shape) > 1:
        share = RECIPE_HEAD_SHARE if name.endswith("dpt.head.4.weight") else 1.0
        return (noise * (math.sqrt(3 / math.prod(shape[1:])) * share)).astype(np.float32)
    return (1 + 0.1 * noise if name.endswith("weight") else 0.05 * noise).astype(np.float32)
