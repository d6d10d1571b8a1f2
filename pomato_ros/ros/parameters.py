"""ROS parameters, declared by walking the typed config, so that no default is written twice."""

import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from pomato_ros.config import OptionInfo, PomatoConfig, check_value, iter_options
from pomato_ros.errors import ConfigError

LARGEST_INTEGER = 2**63 - 1
FOREIGN_PARAMETERS = ("use_sim_time", "start_type_description_service")
FOREIGN_PREFIXES = ("qos_overrides.",)


def declare_parameters(node: Node) -> PomatoConfig:
    """Declare every option of :class:`PomatoConfig` and return the config that the given values make.

    Raises:
        ConfigError: A given value does not suit its option, or two options contradict each other.
    """
    values = {}
    for info in iter_options():
        value = coerce(info, override_of(node, info.name, info.default))
        check_value(info, value)
        node.declare_parameter(info.name, value, describe(info), ignore_override=True)
        values[info.name] = value
    return PomatoConfig().with_values(values)


def with_frame_prefix(config: PomatoConfig) -> PomatoConfig:
    """The config whose own frames carry ``frame_prefix``, as robot_state_publisher's frames do."""
    frames = config.frames
    named = {name: frames.frame_prefix + getattr(frames, name) for name in ("odom_frame", "base_frame")}
    return replace(config, frames=replace(frames, **named))


def override_of(node: Node, name: str, default: Any) -> Any:
    """The value given for a parameter by file, command line or launch, else ``default``."""
    override = overrides_of(node).get(name)
    return default if override is None else override.value


def overrides_of(node: Node) -> dict[str, Parameter]:
    """All values given to the node before it declared anything; rclpy has no public way to ask for them."""
    return dict(node._parameter_overrides)


def coerce(info: OptionInfo, value: Any) -> Any:
    """The value of the option's type: of an integer given for a float, as YAML's ``5`` is, or of a former value."""
    if info.name == "publish_camera_tf" and isinstance(value, bool):
        return "camera_link" if value else "never"
    if isinstance(info.default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def unknown_overrides(node: Node) -> list[str]:
    """One sentence for each given parameter that the node does not have, with the closest names it does have."""
    known = [info.name for info in iter_options()]
    sentences = []
    for name in sorted(overrides_of(node)):
        if name in known or name in FOREIGN_PARAMETERS or name.startswith(FOREIGN_PREFIXES):
            continue
        close = difflib.get_close_matches(name, known)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; see docs/parameters.md for all names"
        sentences.append(f"unknown parameter '{name}' has no effect{hint}")
    return sentences


def describe(info: OptionInfo) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows of an option."""
    text = f"{info.description} [{info.unit}]" if info.unit else info.description
    descriptor = ParameterDescriptor(name=info.name, description=text, read_only=not info.dynamic)
    if info.choices:
        descriptor.additional_constraints = f"one of: {', '.join(info.choices)}"
    if info.minimum is None and info.maximum is None:
        return descriptor
    if isinstance(info.default, float):
        descriptor.floating_point_range = [float_range(info)]
    else:
        descriptor.integer_range = [integer_range(info)]
    return descriptor


def float_range(info: OptionInfo) -> FloatingPointRange:
    """The allowed range of a float option, open ends at the largest numbers."""
    return FloatingPointRange(
        from_value=float(-sys.float_info.max if info.minimum is None else info.minimum),
        to_value=float(sys.float_info.max if info.maximum is None else info.maximum),
        step=0.0,
    )


def integer_range(info: OptionInfo) -> IntegerRange:
    """The allowed range of an integer option, open ends at the largest numbers."""
    return IntegerRange(
        from_value=int(-LARGEST_INTEGER if info.minimum is None else info.minimum),
        to_value=int(LARGEST_INTEGER if info.maximum is None else info.maximum),
        step=0,
    )


class ParameterUpdates:
    """Checks changes of dynamic parameters as a whole and hands the new config on."""

    def __init__(self, node: Node, config: PomatoConfig, apply: Callable[[PomatoConfig], None]) -> None:
        """Watch ``node``; ``apply`` is called with the new config after each accepted change."""
        self._config = config
        self._apply = apply
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._accept)

    def _check(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            self._config.with_values(known_values(parameters))
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _accept(self, parameters: Sequence[Parameter]) -> None:
        values = known_values(parameters)
        if values:
            self._config = self._config.with_values(values)
            self._apply(self._config)


def known_values(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Values of the parameters that are options of the package; the others belong to rclpy."""
    names = {info.name for info in iter_options()}
    return {parameter.name: parameter.value for parameter in parameters if parameter.name in names}
