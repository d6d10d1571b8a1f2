from collections.abc import Callable
from typing import Any

import pytest
import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.parameter import Parameter

from pomato_ros.config import PomatoConfig, iter_options
from pomato_ros.errors import ConfigError

INFOS = list(iter_options())


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_every_option_is_a_described_parameter(graph: Any, info: Any) -> None:
    descriptor: ParameterDescriptor = graph.node.describe_parameter(info.name)
    assert info.description in descriptor.description
    assert info.unit in descriptor.description
    assert descriptor.read_only is not info.dynamic
    expected = {"tf_timeout": 0.0}.get(info.name, info.default)
    assert graph.node.get_parameter(info.name).value == expected


def test_ranges_are_declared(graph: Any) -> None:
    node = graph.node
    size = node.describe_parameter("window_size").integer_range[0]
    assert (size.from_value, size.to_value) == (2, 64)
    floor = node.describe_parameter("mask_floor").floating_point_range[0]
    assert (floor.from_value, floor.to_value) == (0.0, 10.0)
    assert "anchored" in node.describe_parameter("mode").additional_constraints


def set_one(graph: Any, name: str, value: Any) -> Any:
    return graph.node.set_parameters([Parameter(name, value=value)])[0]


def test_a_dynamic_parameter_reaches_the_engine(graph: Any) -> None:
    assert set_one(graph, "conf_threshold", 2.5).successful
    graph.step(0)
    assert graph.engine.config.scene.conf_threshold == 2.5


def test_a_contradiction_is_refused_with_the_reason(graph: Any) -> None:
    result = set_one(graph, "range_min", 500.0)
    assert not result.successful
    assert "range_max" in result.reason


def test_a_value_out_of_range_is_refused(graph: Any) -> None:
    assert not set_one(graph, "points_stride", 0).successful


def test_what_is_read_at_start_cannot_be_set_later(graph: Any) -> None:
    result = set_one(graph, "window_size", 6)
    assert not result.successful
    assert "read" in result.reason


def test_given_values_become_the_config(make_graph: Callable[..., Any]) -> None:
    graph = make_graph(window_size=6, overlap=2, odom_frame="world", max_rate_hz=5)
    graph.wait_until_active()
    config: PomatoConfig = graph.engine.config
    assert (config.window.window_size, config.window.overlap, config.frames.odom_frame) == (6, 2, "world")
    assert config.window.max_rate_hz == 5.0  # an integer in YAML is good enough for a float


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"window_size": 1}, "at least 2"),
        ({"mode": "sideways"}, "anchored"),
        ({"device": 3}, "type str"),
        ({"window_size": 4, "overlap": 4}, "overlap"),
    ],
)
def test_a_bad_start_value_is_refused_with_what_was_expected(
    make_graph: Callable[..., Any], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        make_graph(**given)


def test_an_unknown_parameter_is_named_with_the_closest_known_one(
    make_graph: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    graph = make_graph(windw_size=6)
    graph.wait_until_active()
    said = capfd.readouterr().err
    assert "unknown parameter 'windw_size'" in said
    assert "window_size" in said
    assert graph.engine.config.window.window_size == PomatoConfig().window.window_size


def test_qos_overrides_are_no_unknown_parameters(
    make_graph: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    graph = make_graph(**{"qos_overrides./image.subscription.depth": 2})
    graph.wait_until_active()
    assert "unknown parameter" not in capfd.readouterr().err
    assert graph.node.get_parameter("qos_overrides./image.subscription.depth").value == 2


def test_the_context_of_the_tests_is_their_own(graph: Any) -> None:
    assert graph.context is not rclpy.get_default_context()
