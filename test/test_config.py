"""The one place of all defaults: documented, unique, limited, and refusing with reasons."""

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from pomato_ros.config import (
    FULL_TEMPORAL,
    NANO,
    NETWORK_PRESETS,
    NetworkConfig,
    OptionInfo,
    PomatoConfig,
    build_dataclass,
    check_value,
    iter_options,
)
from pomato_ros.errors import ConfigError

INFOS = list(iter_options())
EVERY_OPTION = pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
OTHER_KIND: dict[type, list[Any]] = {
    bool: [1, "true", None],
    int: [1.5, True, "3", None],
    float: [True, "1.0", None],
    str: [1, None, b"auto"],
}


# --- options


@EVERY_OPTION
def test_every_option_says_what_it_is_in_one_line(info: OptionInfo) -> None:
    assert len(info.description) > 10
    assert "\n" not in info.description
    assert not info.description.endswith(".")


@EVERY_OPTION
def test_every_default_is_of_a_plain_type_and_within_its_own_limits(info: OptionInfo) -> None:
    assert type(info.default) in (bool, int, float, str)
    check_value(info, info.default)
    if type(info.default) is str and info.choices:
        assert len(set(info.choices)) == len(info.choices)


@EVERY_OPTION
def test_every_number_has_a_lower_limit(info: OptionInfo) -> None:
    if type(info.default) in (int, float):
        assert info.minimum is not None


def test_names_are_unique_across_groups() -> None:
    names = [info.name for info in INFOS]
    assert len(set(names)) == len(names)
    groups = {item.name for item in dataclasses.fields(PomatoConfig)}
    assert {info.group for info in INFOS} == groups


@EVERY_OPTION
def test_a_value_of_another_type_is_refused_by_name(info: OptionInfo) -> None:
    for value in OTHER_KIND[type(info.default)]:
        with pytest.raises(ConfigError, match=f"^{info.name} must be of type {type(info.default).__name__}, got "):
            PomatoConfig().with_values({info.name: value})


@EVERY_OPTION
def test_a_value_outside_the_limits_is_refused_with_the_limit(info: OptionInfo) -> None:
    step = 1 if type(info.default) is int else 1e-6
    for limit, beyond, word in ((info.minimum, -step, "least"), (info.maximum, step, "most")):
        if limit is None:
            continue
        check_value(info, type(info.default)(limit))
        with pytest.raises(ConfigError, match=re.escape(f"{info.name} must be at {word} {limit}")):
            check_value(info, type(info.default)(limit + beyond))


@EVERY_OPTION
def test_a_choice_that_is_not_offered_is_refused_with_the_offers(info: OptionInfo) -> None:
    if info.choices:
        with pytest.raises(ConfigError, match=f"^{info.name} must be one of {', '.join(info.choices)}; got 'none of'"):
            PomatoConfig().with_values({info.name: "none of"})


@EVERY_OPTION
def test_what_is_no_number_is_refused(info: OptionInfo) -> None:
    if type(info.default) is float:
        with pytest.raises(ConfigError, match=f"^{info.name} must be at least"):
            PomatoConfig().with_values({info.name: math.nan})


def test_another_nodes_odom_may_tell_the_scale_where_this_node_sends_none() -> None:
    values = {"scale_source": "tf", "prior_frame": "odom", "publish_tf": False}
    assert PomatoConfig().with_values(values).scale.prior_frame == "odom"


def test_a_scale_is_finite() -> None:
    with pytest.raises(ConfigError, match="scale must be at most"):
        PomatoConfig().with_values({"scale": math.inf})


def test_whole_numbers_suit_where_fractions_do() -> None:
    assert PomatoConfig().with_values({"max_rate_hz": 5}).window.max_rate_hz == 5


# --- the whole


def test_flat_values_make_the_same_config_again() -> None:
    changed = PomatoConfig().with_values({"mode": "rolling", "range_max": 7.5, "max_tracks": 3, "publish_tf": False})
    assert PomatoConfig().with_values(changed.flat()) == changed
    assert list(changed.flat()) == [info.name for info in INFOS]


def test_with_values_changes_what_it_names_and_nothing_else() -> None:
    before = PomatoConfig()
    after = before.with_values({"window_size": 6})
    different = {name for name, value in after.flat().items() if value != before.flat()[name]}
    assert different == {"window_size"}
    assert before == PomatoConfig()
    assert before.with_values({}) == before


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'windowsize'; known options: .*window_size"):
        PomatoConfig().with_values({"windowsize": 6})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window_size": 4}, "overlap must be smaller than window_size 4, got 4"),
        ({"overlap": 12}, "overlap must be smaller than window_size 12, got 12"),
        ({"range_min": 200.0}, "range_min 200.0 must be below range_max 100.0"),
        ({"scale_source": "tf"}, "scale_source tf needs prior_frame: the fixed frame on TF"),
        ({"scale_source": "tf", "prior_frame": "base_link"}, "must be a fixed frame .* got base_frame 'base_link'"),
        ({"scale_source": "tf", "prior_frame": "odom"}, "prior_frame 'odom' is odom_frame, which this node sends"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PomatoConfig().with_values(values)


def test_values_that_agree_only_together_are_taken_together() -> None:
    config = PomatoConfig().with_values({"window_size": 4, "overlap": 1, "range_min": 200.0, "range_max": 300.0})
    assert (config.window.window_size, config.scene.range_min) == (4, 200.0)


# --- networks


@pytest.mark.parametrize("preset", NETWORK_PRESETS.values(), ids=NETWORK_PRESETS.keys())
def test_a_network_config_survives_its_json(preset: NetworkConfig) -> None:
    assert NetworkConfig.from_json(preset.to_json()) == preset


def test_the_default_window_suits_the_preset_networks() -> None:
    for preset in (NANO, FULL_TEMPORAL):
        assert PomatoConfig().window.window_size <= preset.temporal_length


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enc_embed_dim": 100}, "enc_embed_dim 100 over enc_num_heads 16 must give a head size divisible by 4"),
        ({"dec_num_heads": 128}, "dec_embed_dim 768 over dec_num_heads 128 must give a head size divisible by 4"),
        ({"dec_depth": 3}, "dec_depth must be at least 4"),
        ({"enc_depth": 0}, "enc_depth must be a whole number of at least 1, got 0"),
        ({"enc_num_heads": 0}, "enc_num_heads must be a whole number of at least 1, got 0"),
        ({"mlp_ratio": 4.0}, "mlp_ratio must be a whole number of at least 1, got 4.0"),
        ({"dec_embed_dim": "768"}, "dec_embed_dim must be a whole number of at least 1, got '768'"),
        ({"patch_size": 8}, "patch_size must be 16"),
        ({"temporal_length": -1}, "temporal_length must be a whole number of at least 0, got -1"),
        ({"position_code": -0.1}, "position_code must be a number of at least 0, got -0.1"),
        ({"relative_values": 1}, "relative_values must be true or false, got 1"),
        ({"position_code": True}, "position_code must be a number of at least 0, got True"),
        ({"rope_base": 0}, "rope_base must be a positive number, got 0"),
        ({"temporal_length": 12, "group_norm_groups": 7}, "motion modules of 768 channels need"),
        ({"temporal_length": 12, "dpt_feature_dim": 100}, "motion modules of 100 channels need"),
        ({"dpt_layer_dims": (1, 2, 3)}, r"dpt_layer_dims must be four whole numbers of at least 1, got \(1, 2, 3\)"),
        ({"dpt_layer_dims": 5}, "dpt_layer_dims must be four whole numbers of at least 1, got 5"),
        ({"rope_base": 0.0}, "rope_base must be a positive number"),
        ({"rope_base": "100"}, "rope_base must be a positive number"),
    ],
)
def test_sizes_that_make_no_network_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(NetworkConfig(), **changes)


def test_a_network_json_with_unknown_entries_is_refused() -> None:
    with pytest.raises(ConfigError, match="network config: unknown entries depth; known: .*enc_depth"):
        NetworkConfig.from_json(json.dumps({"depth": 3}))


def test_lists_become_tuples() -> None:
    built = build_dataclass(NetworkConfig, {"dpt_layer_dims": [1, 2, 3, 4]}, "here")
    assert built.dpt_layer_dims == (1, 2, 3, 4)


@pytest.mark.parametrize(("odom", "base"), [("odom", "odom"), ("", "base_link"), ("odom", "")])
def test_odom_and_base_are_two_frames(odom: str, base: str) -> None:
    with pytest.raises(ConfigError, match="two names"):
        PomatoConfig().with_values({"odom_frame": odom, "base_frame": base})
