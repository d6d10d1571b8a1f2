"""Network fixtures: trunk, heads, wirings, units and masks, with weights loaded strictly."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig, build_dataclass
from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.parity.fixture import Ledger
from pomato_ros.evaluation.parity.masks import check_masks
from pomato_ros.evaluation.parity.measures import absolute_measure, each_value_measure, exact_measure, network_measures
from pomato_ros.evaluation.parity.report import Measure, ParityError
from pomato_ros.sources.dust3r.attention import NORM_EPS
from pomato_ros.sources.dust3r.dpt_head import activate
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.position import RotaryTables, token_positions
from pomato_ros.sources.dust3r.prediction import PairPrediction
from pomato_ros.sources.dust3r.preprocess import normalise
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.sources.dust3r.wiring import Wiring, predict_wiring

WEIGHTS = "sd/"
IMAGE_TOLERANCE = 1e-6
TABLE_TOLERANCE = 1e-5
PAIRWISE_OUTPUTS = {
    "pts3d_1": "points_1",
    "conf_1": "conf_1",
    "pts3d_2": "points_2",
    "conf_2": "conf_2",
    "pts3d_m": "points_match",
    "conf_m": "conf_match",
}
TEMPORAL_OUTPUTS = {
    "mono_pts3d": "points_1",
    "mono_conf": "conf_1",
    "recon_pts3d": "points_2",
    "recon_conf": "conf_2",
    "match_pts3d": "points_match",
    "match_conf": "conf_match",
}
# entries of a fixture's JSON that belong to the network's shape, by our name
SHAPE_ENTRIES = {
    "mlp_ratio": "mlp_ratio",
    "patch_size": "patch_size",
    "temporal_heads": "temporal_num_heads",
    "group_norm_groups": "group_norm_groups",
}
# what this package builds, and cannot be told to build otherwise
FIXED_ENTRIES = {"norm_eps": NORM_EPS, "depth_mode": ["exp", "-inf", "inf"], "conf_mode": ["exp", 1, "inf"]}


@torch.no_grad()
def check_network(ledger: Ledger) -> None:
    """Everything of a pairwise or temporal network's fixture."""
    config = network_config(ledger.about)
    network = load_network(ledger, config)
    if "img_u8" in ledger:
        ours = normalise(ledger.take("img_u8"))
        ledger.record("img", absolute_measure(ours, ledger.reference("img"), IMAGE_TOLERANCE), "from img_u8")
    images = torch.from_numpy(ledger.reference("img") if "img_u8" in ledger else ledger.take("img"))
    if "pairs" in ledger:
        check_pairs(ledger, network, images)
    else:
        check_windows(ledger, network, images)
    check_units(ledger, network)


def network_config(about: Mapping[str, Any]) -> NetworkConfig:
    """The network's shape as a fixture's JSON tells it.

    Raises:
        ParityError: it asks for a network that this package does not build.
    """
    if not isinstance(about.get("config"), Mapping):
        raise ParityError("the JSON of a network fixture must hold the network's shape under config")
    entries = dict(about["config"])
    take_fixed_entries(entries, about)
    for theirs, ours in SHAPE_ENTRIES.items():
        value = entries.pop(theirs, about.get(theirs))
        if value is not None:
            entries[ours] = value
    try:
        config: NetworkConfig = build_dataclass(NetworkConfig, entries, "fixture config")
    except ConfigError as error:
        raise ParityError(str(error)) from error
    return config


def take_fixed_entries(entries: dict[str, Any], about: Mapping[str, Any]) -> None:
    """Take from a fixture's ``entries`` what this package builds one way only, and put RoPE's base in its place.

    Raises:
        ParityError: the fixture has it another way.
    """
    for name, expected in FIXED_ENTRIES.items():
        found = entries.pop(name, about.get(name, expected))
        if found != expected:
            raise ParityError(f"this package builds networks with {name} {expected} only, the fixture has {found}")
    positions = re.fullmatch(r"RoPE(\d+(?:\.\d+)?)", str(entries.pop("pos_embed", "RoPE100")))
    if positions is None:
        raise ParityError(f"expected pos_embed RoPE<base>, got {about['config']['pos_embed']}")
    entries["rope_base"] = float(positions[1])


def load_network(ledger: Ledger, config: NetworkConfig) -> Pomato:
    """A POMATO network with the fixture's weights, see :func:`load_weights`."""
    network = Pomato(config).eval()
    load_weights(ledger, network)
    return network


def load_weights(ledger: Ledger, network: Trunk) -> None:
    """Load the fixture's weights; one row for all of them: names missing or left over."""
    tables = {name: value.clone() for name, value in network.state_dict().items() if name.endswith(".pe")}
    weights = {name.removeprefix(WEIGHTS): torch.from_numpy(ledger.take(name)) for name in ledger.names(WEIGHTS)}
    try:
        mismatch = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ParityError(f"weights do not fit the network: {error}") from error
    wrong = float(len(mismatch.missing_keys) + len(mismatch.unexpected_keys))
    ledger.stand_in(WEIGHTS, f"sd/* ({len(weights)} tensors)", (Measure("missing or left over", wrong, 0.0),))
    if tables:
        worst = max(float((weights[name] - tables[name]).abs().max()) for name in tables if name in weights)
        measure = Measure("formula, max |diff|", worst, TABLE_TOLERANCE)
        ledger.record(f"sd/*.pe ({len(tables)} tables)", (measure,))


def check_pairs(ledger: Ledger, network: Pomato, images: Tensor) -> None:
    """Outputs of all pairs, intermediates of the first pair, masks."""
    pairs = torch.from_numpy(ledger.take("pairs"))
    prediction = network(images[pairs[:, 0]], images[pairs[:, 1]])
    check_outputs(ledger, "out/", prediction, PAIRWISE_OUTPUTS)
    check_intermediates(ledger, network, images[pairs[0, 0]][None], images[pairs[0, 1]][None])
    check_masks(ledger, pairs, prediction.points_2, prediction.points_match)


def check_windows(ledger: Ledger, network: Pomato, images: Tensor) -> None:
    """Outputs of every wiring that the fixture has; ``images`` (b, t, 3, h, w)."""
    known = {wiring.value: wiring for wiring in Wiring}
    modes = dict.fromkeys(name.split("/")[1] for name in ledger.names("out/"))
    for mode in modes:
        if mode in known:
            prediction = predict_wiring(network, images, known[mode])
            check_outputs(ledger, f"out/{mode}/", prediction, TEMPORAL_OUTPUTS)
    if "mid/enc" in ledger:
        tokens = network.encode(images.flatten(0, 1))
        ledger.record("mid/enc", network_measures(tokens, ledger.reference("mid/enc")))


def check_outputs(ledger: Ledger, prefix: str, prediction: PairPrediction, fields: Mapping[str, str]) -> None:
    """The heads' outputs, as far as the fixture has them."""
    for theirs, ours in fields.items():
        if prefix + theirs in ledger:
            measures = network_measures(getattr(prediction, ours), ledger.reference(prefix + theirs))
            ledger.record(prefix + theirs, measures)


def check_intermediates(ledger: Ledger, network: Pomato, view_1: Tensor, view_2: Tensor) -> None:
    """Tokens and raw head outputs of one pair of images (1, 3, h, w)."""
    for name, value in intermediates(network, view_1, view_2).items():
        if name in ledger:
            measures_of = exact_measure if name == "mid/pos" else network_measures
            ledger.record(name, measures_of(value, ledger.reference(name)))


def intermediates(network: Pomato, view_1: Tensor, view_2: Tensor) -> dict[str, Tensor]:
    """Everything inside the network that a fixture may hold, by its name there."""
    grid = network.grid_of(view_1)
    tokens = network.encode(view_1), network.encode(view_2)
    lists = network.decode(*tokens, grid)
    found = {"mid/pos": token_positions(*grid)[None]}
    for number, (image, encoded, tokens_list) in enumerate(zip((view_1, view_2), tokens, lists, strict=True), start=1):
        found[f"mid/patch_embed_view{number}"] = network.patch_embed(image)
        found[f"mid/enc_view{number}"] = encoded
        for layer, x in enumerate(tokens_list):
            found[f"mid/dec{number}_after_block{layer}"] = x
            found[f"mid/dec{number}_hook{layer}"] = x
    for spec in network.HEADS:
        found[f"mid/head{spec.number}_raw"] = network.head(spec).raw(lists[spec.view], grid, 1)
    return found


def check_units(ledger: Ledger, network: Pomato) -> None:
    """Single parts: motion modules, activation of the heads, rotary positions."""
    for name in ledger.names("unit/motion"):
        match = re.fullmatch(r"unit/motion(\d+)_head(\d+)_in", name)
        if match and network.config.temporal_length:
            module = network.get_submodule(f"downstream_head{match[2]}.dpt.motion_modules.{match[1]}")
            ours = module(torch.from_numpy(ledger.take(name)), network.config.temporal_length)
            _record_network(ledger, name.removesuffix("_in") + "_out", ours)
    if "unit/post_raw" in ledger:
        points, confidence = activate(torch.from_numpy(ledger.take("unit/post_raw")))
        for name, ours in (("unit/post_pts3d", points), ("unit/post_conf", confidence)):
            if name in ledger:
                reference = ledger.reference(name)
                ledger.record(name, (*network_measures(ours, reference), *each_value_measure(ours, reference)))
    if "unit/rope_in" in ledger and "unit/rope_pos_yx" in ledger:
        tokens = torch.from_numpy(ledger.take("unit/rope_in"))
        positions = torch.from_numpy(ledger.take("unit/rope_pos_yx"))[:, None]  # one table for all heads
        tables = RotaryTables(positions, tokens.shape[-1], network.config.rope_base)
        _record_network(ledger, "unit/rope_out", tables.rotate(tokens))


def _record_network(ledger: Ledger, name: str, ours: Tensor) -> None:
    """Compare one array with the networks' tolerances, if the fixture has it."""
    if name in ledger:
        ledger.record(name, network_measures(np.asarray(ours), ledger.reference(name)))
