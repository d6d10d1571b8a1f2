"""The tools that make bundled weights and tell how they learned."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.model.pomato import Pomato
from tools.learning_curves import draw, looks_of_log, power_law
from tools.mean_weights import THIRD_HEAD, mean_network

MakeNetwork = Callable[..., Pomato]


def test_the_mean_of_two_networks_is_half_of_each(tiny_config: NetworkConfig, make_network: MakeNetwork) -> None:
    one, other = make_network(tiny_config, 0), make_network(tiny_config, 1)
    mean = mean_network(one, other).state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(mean[name], 0.5 * (value + other.state_dict()[name]))


def test_a_third_head_that_tells_motion_has_no_mean_with_one_that_tells_points(
    tiny_config: NetworkConfig, make_network: MakeNetwork
) -> None:
    older = make_network(tiny_config, 0)
    newer = make_network(dataclasses.replace(tiny_config, relative_matching=True), 1)
    mean, given = mean_network(older, newer), newer.state_dict()
    assert mean.config == newer.config
    same = {name for name, value in mean.state_dict().items() if torch.equal(value, given[name])}
    assert {name for name in given if name.startswith(THIRD_HEAD)} <= same
    assert "enc_blocks.0.attn.qkv.weight" not in same


def test_networks_of_two_shapes_have_no_mean(tiny_config: NetworkConfig, make_network: MakeNetwork) -> None:
    other = dataclasses.replace(tiny_config, enc_depth=tiny_config.enc_depth + 1)
    with pytest.raises(ValueError, match="expected two networks of one shape"):
        mean_network(make_network(tiny_config), make_network(other))


def test_a_power_law_is_found_again() -> None:
    minutes = np.array([60.0, 150.0, 400.0])
    assert power_law(minutes, 0.6 * minutes**-0.2) == pytest.approx((0.6, 0.2))


def test_looks_follow_those_of_earlier_runs_and_are_drawn(tmp_path: Path) -> None:
    scores = {"absrel": 0.3, "motion": 1.0, "mask_iou": 0.0}
    lines = [{"step": 10, "time": 600.0}, {"step": 150, "time": 1200.0, "validation": scores}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    first = [{"run": 1, "minutes": 60, "step": 9, "absrel": 0.4, "motion": 1.2}]
    looks = first + looks_of_log(log, run=2, minutes_before=60)
    assert looks[1] == {"run": 2, "minutes": 70, "step": 150, "absrel": 0.3, "motion": 1.0}
    assert "hours on such a machine" in draw(looks, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
