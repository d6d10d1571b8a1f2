import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool, Trigger

from pomato_ros.errors import ConfigError
from pomato_ros.ros.conversions.stamps import time_from_stamp_ns
from pomato_ros.ros.diagnostics import DIAGNOSTIC_KEYS
from pomato_ros.ros.node import make_engine


def change(graph: Any, transition: int) -> bool:
    request = ChangeState.Request()
    request.transition.id = transition
    return bool(graph.call(ChangeState, "/pomato/change_state", request).success)


def state(graph: Any) -> int:
    return int(graph.call(GetState, "/pomato/get_state", GetState.Request()).current_state.id)


def test_autostart_configures_and_activates(graph: Any) -> None:
    assert state(graph) == State.PRIMARY_STATE_ACTIVE


def test_a_manager_takes_the_node_through_its_states(make_graph: Callable[..., Any], fakes: SimpleNamespace) -> None:
    graph = make_graph(autostart=False)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    assert graph.engines == []
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    assert len(graph.engines) == 1
    assert graph.client.count_subscribers("/image") == 0
    assert change(graph, Transition.TRANSITION_ACTIVATE)
    graph.wait_until_active()
    graph.step(0)
    assert change(graph, Transition.TRANSITION_DEACTIVATE)
    graph.spin_until(lambda: graph.client.count_subscribers("/image") == 0, "the node to unsubscribe")
    assert change(graph, Transition.TRANSITION_ACTIVATE)
    assert len(graph.engines) == 1  # the weights were kept
    graph.wait_until_active()
    graph.step(1)
    assert change(graph, Transition.TRANSITION_DEACTIVATE)
    assert change(graph, Transition.TRANSITION_CLEANUP)
    engine = weakref.ref(graph.engines.pop())
    gc.collect()
    assert engine() is None
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    assert change(graph, Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert state(graph) == State.PRIMARY_STATE_FINALIZED


def test_a_missing_checkpoint_fails_configure_says_why_and_can_be_tried_again(make_graph: Callable[..., Any]) -> None:
    graph = make_graph(autostart=False)

    def refuse(engine: Any) -> None:
        raise ConfigError("no weights at /nowhere/nano.safetensors; run: make train")

    graph.prepare = refuse
    assert not change(graph, Transition.TRANSITION_CONFIGURE)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    status = graph.diagnostics()["model"]
    assert status.level == DiagnosticStatus.ERROR
    assert "/nowhere/nano.safetensors" in status.message
    graph.prepare = lambda engine: None
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    assert graph.diagnostics()["model"].level == DiagnosticStatus.OK


def test_autostart_tells_that_it_failed(make_graph: Callable[..., Any]) -> None:
    graph = make_graph()

    def refuse(engine: Any) -> None:
        raise OSError("corrupt")

    graph.prepare = refuse
    graph.spin_until(graph.node.autostart_failed.is_set, "the failure")
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.parametrize("content", [None, b"", b"no weights at all", b"\x10\0\0\0\0\0\0\0{broken header"])
def test_the_real_engine_refuses_weights_that_are_missing_or_corrupt(
    make_graph: Callable[..., Any], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    graph = make_graph(checkpoint=str(path), autostart=False)
    graph.node._engine_factory = make_engine
    assert not change(graph, Transition.TRANSITION_CONFIGURE)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    error = graph.node.status.engine.model_error
    assert error.startswith("CheckpointError")
    assert str(path) in error


def test_diagnostics_have_fixed_names_and_keys(graph: Any, fakes: SimpleNamespace) -> None:
    for expected in ("without", "with"):
        statuses = graph.diagnostics()
        assert list(statuses) == list(DIAGNOSTIC_KEYS)
        for component, status in statuses.items():
            assert status.name == f"pomato: {component}"
            assert [pair.key for pair in status.values] == list(DIAGNOSTIC_KEYS[component]), expected
        graph.step(0 if expected == "without" else 1)


def test_reset_clears_and_starts_odometry_anew(graph: Any, fakes: SimpleNamespace) -> None:
    graph.step(0)
    graph.step(1)
    resets = graph.engine.resets
    response = graph.call(Trigger, "/pomato/reset", Trigger.Request())
    assert response.success
    graph.step(2)
    assert graph.engine.resets == resets + 1
    assert len(graph.node._outputs.history.trajectory()) == 1


def test_reset_is_refused_while_inactive(make_graph: Callable[..., Any]) -> None:
    graph = make_graph(autostart=False)
    assert not graph.call(Trigger, "/pomato/reset", Trigger.Request()).success


def test_paused_frames_are_not_perceived(graph: Any, fakes: SimpleNamespace) -> None:
    assert graph.call(SetBool, "/pomato/set_paused", SetBool.Request(data=True)).success
    graph.image_publisher.publish(fakes.image_of(0))
    graph.spin_until(lambda: graph.node.status.input.frames_in == 1, "the image")
    graph.spin_for(0.1)
    assert graph.engine.frames == []
    assert graph.diagnostics()["input"].level == DiagnosticStatus.WARN
    graph.call(SetBool, "/pomato/set_paused", SetBool.Request(data=False))
    graph.step(1)
    assert len(graph.engine.frames) == 1


def test_clouds_and_trajectories_are_saved_into_the_output_folder(
    make_graph: Callable[..., Any], tmp_path: Any
) -> None:
    folder = tmp_path / "results"
    graph = make_graph(output_dir=str(folder))
    graph.wait_until_active()
    assert not graph.call(Trigger, "/pomato/save_cloud", Trigger.Request()).success
    assert not graph.call(Trigger, "/pomato/save_trajectory", Trigger.Request()).success
    graph.step(0)
    graph.step(1)
    cloud = graph.call(Trigger, "/pomato/save_cloud", Trigger.Request())
    trajectory = graph.call(Trigger, "/pomato/save_trajectory", Trigger.Request())
    assert cloud.success
    assert trajectory.success
    assert {str(path.resolve()) for path in folder.iterdir()} == {cloud.message, trajectory.message}


def test_a_folder_that_cannot_be_written_is_told(make_graph: Callable[..., Any], tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    graph = make_graph(output_dir=str(tmp_path / "file" / "folder"))
    graph.wait_until_active()
    graph.step(0)
    response = graph.call(Trigger, "/pomato/save_cloud", Trigger.Request())
    assert not response.success
    assert "output_dir" in response.message


def test_a_simulated_clock_that_jumps_back_clears_everything(graph: Any, fakes: SimpleNamespace) -> None:
    clock = graph.client.create_publisher(Clock, "/clock", 10)
    graph.node.set_parameters([Parameter("use_sim_time", value=True)])
    graph.spin_until(lambda: clock.get_subscription_count() > 0, "the clock's subscription")

    def show(stamp_ns: int) -> None:
        clock.publish(Clock(clock=time_from_stamp_ns(stamp_ns)))
        graph.spin_until(lambda: graph.node.get_clock().now().nanoseconds == stamp_ns, "the clock")

    show(fakes.START_NS)
    graph.step(0)
    jumps, resets = graph.node.status.input.time_jumps, graph.engine.resets
    show(fakes.START_NS // 2)
    graph.spin_until(lambda: graph.node.status.input.time_jumps == jumps + 1, "the jump")
    graph.step(1)
    assert graph.engine.resets == resets + 1


@pytest.mark.parametrize("rate_hz", [4.0])
def test_the_step_rate_can_be_limited(make_graph: Callable[..., Any], fakes: SimpleNamespace, rate_hz: float) -> None:
    graph = make_graph(max_rate_hz=rate_hz)
    graph.wait_until_active()
    for index in range(30):
        graph.image_publisher.publish(fakes.image_of(index))
        graph.spin_for(0.02)
    came = graph.node.status.input
    assert came.frames_in > 20
    assert graph.node.status.engine.steps < came.frames_in / 2
    assert came.frames_passed_over > 0
