"""No message, no service call and no parameter ends the node, on real processes."""

import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)

from pomato_ros.config import iter_options

INDICES = itertools.count(1)  # of images; those of one node must not go back in time
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP


def change(node: Any, transition: int, label: str = "") -> bool:
    request = ChangeState.Request(transition=Transition(id=transition, label=label))
    return bool(node.call(ChangeState, "/pomato/change_state", request).success)


def state(node: Any) -> int:
    answer = node.call(GetState, "/pomato/get_state", GetState.Request(), again_after_s=3.0)
    return int(answer.current_state.id)


def steps(node: Any, fakes: SimpleNamespace) -> None:
    """The node perceives images."""
    before = int(node.value("inference", "steps"))
    for _ in range(2):
        node.image_publisher.publish(fakes.image_of(next(INDICES)))
    node.spin_until(lambda: int(node.value("inference", "steps")) > before, "a step")


@pytest.fixture(scope="module")
def node(start_node: Callable[..., Any]) -> Any:
    node = start_node()
    node.wait_until_active()
    return node


def test_a_lifecycle_manager_beside_autostart_reaches_every_state_it_asks_for(
    start_node: Callable[..., Any], fakes: SimpleNamespace
) -> None:
    """As Nav2's manager works: ask for a transition, and check that the state is the one it leads to."""
    node = start_node()
    state(node)  # as a manager has met both services before it asks for anything
    for transition, reached in (
        (CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
        (CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        (CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (ACTIVATE, State.PRIMARY_STATE_ACTIVE),
    ):
        assert change(node, transition)
        assert state(node) == reached
    node.wait_until_active()
    steps(node, fakes)
    assert change(node, CONFIGURE)  # while active, as a manager does that is started after the node
    assert state(node) == State.PRIMARY_STATE_INACTIVE
    assert change(node, ACTIVATE)
    assert state(node) == State.PRIMARY_STATE_ACTIVE


def test_configure_that_nobody_follows_up_does_not_stop_an_autostarted_node(node: Any, fakes: SimpleNamespace) -> None:
    assert change(node, CONFIGURE)
    node.spin_until(lambda: node.value("model", "lifecycle") == "inactive", "the node to wait")
    node.spin_until(lambda: node.value("model", "lifecycle") == "active", "the node to come back")
    node.wait_until_active()
    steps(node, fakes)


def test_transitions_that_are_none_are_refused(node: Any) -> None:
    for transition, label in ((99, ""), (0, "nonsense"), (0, ""), (8, ""), (30, ""), (CLEANUP, ""), (255, "")):
        assert not change(node, transition, label)
        assert state(node) == State.PRIMARY_STATE_ACTIVE


def test_what_is_reached_already_is_granted(node: Any) -> None:
    assert change(node, ACTIVATE)
    assert change(node, 0, "activate")
    assert state(node) == State.PRIMARY_STATE_ACTIVE


def test_parameters_of_no_type_are_refused_each_with_a_reason(node: Any, fakes: SimpleNamespace) -> None:
    good = Parameter(name="max_speed", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=3.0))
    bad = Parameter(name="max_speed", value=ParameterValue(type=200))
    answer = node.call(SetParameters, "/pomato/set_parameters", SetParameters.Request(parameters=[good, bad, good]))
    assert [result.successful for result in answer.results] == [True, False, False]
    assert answer.results[1].reason
    request = SetParametersAtomically.Request(parameters=[bad])
    answer = node.call(SetParametersAtomically, "/pomato/set_parameters_atomically", request)
    assert (answer.result.successful, bool(answer.result.reason)) == (False, True)
    many = SetParameters.Request(parameters=[good] * 10_000)
    answer = node.call(SetParameters, "/pomato/set_parameters", many)
    assert len(answer.results) == 10_000
    assert "at most" in answer.results[0].reason
    steps(node, fakes)


def random_value(draw: random.Random) -> ParameterValue:
    """A value of any type, of none, and of edges."""
    value = ParameterValue(type=draw.choice([*range(10), 200]))
    value.bool_value = draw.random() < 0.5
    value.integer_value = draw.choice([0, 1, -1, 64, 2**31, 2**63 - 1, -(2**63)])
    value.double_value = draw.choice([0.0, -1.0, 1e-320, 1e-11, 1e300, float("nan"), float("inf")])
    value.string_value = draw.choice(["", "auto", "../..", "\u2603" * 50])
    return value


def test_random_parameters_are_survived(node: Any, fakes: SimpleNamespace) -> None:
    draw = random.Random(7)
    names = [option.name for option in iter_options()] + ["", "nope", "../x", "use_sim_time"]
    for _ in range(60):
        chosen = [Parameter(name=draw.choice(names), value=random_value(draw)) for _ in range(draw.randint(1, 5))]
        answer = node.call(SetParameters, "/pomato/set_parameters", SetParameters.Request(parameters=chosen))
        assert len(answer.results) == len(chosen)
        assert all(result.successful or result.reason for result in answer.results)
    for service, name, request in (
        (GetParameters, "get_parameters", GetParameters.Request(names=["nope", "", "max_speed"])),
        (DescribeParameters, "describe_parameters", DescribeParameters.Request(names=["nope", ""])),
        (ListParameters, "list_parameters", ListParameters.Request(prefixes=["..", "\u2603" * 500], depth=2**63)),
    ):
        node.call(service, f"/pomato/{name}", request)
    rate = Parameter(name="max_rate_hz", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.0))
    assert (
        node.call(SetParameters, "/pomato/set_parameters", SetParameters.Request(parameters=[rate]))
        .results[0]
        .successful
    )
    sim = Parameter(name="use_sim_time", value=ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False))
    node.call(SetParameters, "/pomato/set_parameters", SetParameters.Request(parameters=[sim]))
    steps(node, fakes)


def test_bytes_that_are_no_message_are_survived_and_named(node: Any, fakes: SimpleNamespace) -> None:
    """What a program with another definition of the message, or none, may send."""
    draw = random.Random(3)
    errors = int(node.value("inference", "errors"))
    for length in (0, 3, 5, 40, 400):
        node.image_publisher.publish(b"\x00\x01\x00\x00" + draw.randbytes(length))
    steps(node, fakes)
    assert node.process.poll() is None
    assert int(node.value("inference", "errors")) >= errors


def test_a_tiny_rate_is_named_and_another_one_followed_at_once(node: Any, fakes: SimpleNamespace) -> None:
    def set_rate(rate_hz: float) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=rate_hz)
        request = SetParameters.Request(parameters=[Parameter(name="max_rate_hz", value=value)])
        assert node.call(SetParameters, "/pomato/set_parameters", request).results[0].successful

    for rate_hz in (1e-11, 1e-320, 0.01):
        set_rate(rate_hz)
        status = node.diagnosis("inference")
        assert status.level == DiagnosticStatus.WARN
        assert "max_rate_hz" in status.message
        set_rate(100.0)
        steps(node, fakes)


def test_a_worker_that_ended_is_an_error_and_is_started_again(node: Any, fakes: SimpleNamespace) -> None:
    steps(node, fakes)
    black = fakes.image_of(next(INDICES))
    black.data = type(black.data)("B", bytes(len(black.data)))
    node.image_publisher.publish(black)
    node.spin_until(lambda: node.value("inference", "worker_restarts") == "1", "a new worker")
    said = [one for message in node.diagnoses for one in message.status if one.name.endswith(": inference")]
    assert any(one.level == DiagnosticStatus.ERROR and "a library gave up" in one.message for one in said)
    steps(node, fakes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_node_in_order(start_node: Callable[..., Any], number: signal.Signals) -> None:
    node = start_node()
    node.wait_until_active()
    node.process.send_signal(number)
    assert node.process.wait(timeout=20.0) == 0
    assert "Traceback" not in node.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_the_model_loads_ends_the_node_in_order(
    start_node: Callable[..., Any], number: signal.Signals
) -> None:
    """The engine of this process loads for a minute in a library that cannot be interrupted."""
    node = start_node(checkpoint="slow")
    node.spin_until(lambda: "loading the model" in node.log.read_text(), "the model to be loaded")
    node.process.send_signal(number)
    assert node.process.wait(timeout=20.0) == 0
    assert "Traceback" not in node.log.read_text()
    assert "terminate" not in node.log.read_text()


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_python_imports_ends_the_process_without_a_word(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-m", "pomato_ros.ros.node"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20.0
    while not catches(process.pid, signal.SIGTERM) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, words = process.communicate(timeout=20.0)
    assert (process.returncode, words) == (0, "")
