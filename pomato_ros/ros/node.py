"""The lifecycle node ``pomato``: configure loads the model, activate subscribes, a worker thread perceives.

The image callback only stores; the newest frame wins. All arithmetic lives below, in :mod:`perception` and the engine.
"""

from pomato_ros.ros.quiet_start import end_quietly_when_interrupted

if __name__ == "__main__":
    end_quietly_when_interrupted()

import argparse
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_srvs.srv import SetBool, Trigger

from pomato_ros.config import MONOCULAR, PomatoConfig
from pomato_ros.errors import ConfigError
from pomato_ros.ros import topics
from pomato_ros.ros.backend_choice import BackendChoice, choice_on_graph, wait_for_discovery
from pomato_ros.ros.diagnostics import build_statuses
from pomato_ros.ros.lifecycle_requests import LifecycleRequests
from pomato_ros.ros.log_bridge import install_log_bridge, remove_log_bridge
from pomato_ros.ros.node_usage import node_usage
from pomato_ros.ros.outputs import Outputs
from pomato_ros.ros.parameters import ParameterUpdates, declare_parameters, unknown_overrides, with_frame_prefix
from pomato_ros.ros.perception import Engine
from pomato_ros.ros.run import Run
from pomato_ros.ros.saving import save_cloud, save_trajectory
from pomato_ros.ros.settling import settle, unsettle
from pomato_ros.ros.signals import init_interruptible
from pomato_ros.ros.status import NodeStatus, SceneStatus
from pomato_ros.ros.surviving import answer_always, spin_once
from pomato_ros.ros.worker import LOADING_THREAD, load_engine

NODE_NAME = "pomato"
DIAGNOSTICS_PERIOD_S = 1.0
LOAD_REPORT_S = 5.0
EngineFactory = Callable[[PomatoConfig], Engine]
Transition = Callable[["PomatoNode", LifecycleState], TransitionCallbackReturn]


def make_engine(config: PomatoConfig) -> Engine:
    """The real engine; imported late, since it brings torch and the node's errors must not wait for that."""
    from pomato_ros.engine import Engine as PomatoEngine

    engine = PomatoEngine(config)
    engine.warm_up()
    return engine


def logged(transition: Transition) -> Transition:
    """Log what a transition raises: rclpy swallows it."""

    @functools.wraps(transition)
    def run(node: "PomatoNode", state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            logging.getLogger(__name__).exception("%s failed", transition.__name__)
            return TransitionCallbackReturn.ERROR

    return run


class PomatoNode(LifecycleNode):
    """Frames in, a scene out."""

    def __init__(self, *, engine_factory: EngineFactory = make_engine, **node_options: Any) -> None:
        """Declare parameters and, with ``autostart``, configure and activate as soon as the node spins.

        Raises:
            ConfigError: A parameter has a value that its option refuses.
        """
        super().__init__(NODE_NAME, **node_options)
        self._engine_factory = engine_factory
        given = declare_parameters(self)
        self._config = with_frame_prefix(given)
        self._log_bridge = install_log_bridge(self.get_logger())
        for sentence in unknown_overrides(self):
            self.get_logger().warning(sentence)
        self._updates = ParameterUpdates(self, given, self._apply_config)
        self.status = NodeStatus()
        self.autostart_failed = threading.Event()
        self._engine: Engine | None = None
        self._outputs: Outputs | None = None
        self._run: Run | None = None
        self._choice = BackendChoice(self._config.model.backend, "not decided before activation")
        steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(
            DiagnosticArray,
            topics.DIAGNOSTICS.name,
            topics.DIAGNOSTICS.qos(),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady_clock)
        self._create_services()
        self._answer_always(steady_clock)
        self._watch_clock()
        if self._config.output.autostart:
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady_clock)

    def destroy_node(self) -> None:
        """Stop the worker and the log bridge before the node goes."""
        self._stop_run()
        remove_log_bridge(self._log_bridge)
        super().destroy_node()

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        self.status.engine.model_error = ""
        self.get_logger().info("configuring: loading the model")
        try:
            wait_for_discovery(self, self._config)
            self._choice = choice_on_graph(self, self._config)
            engine = self._load(self._choice)
        except Exception as error:  # whatever the cause, the node must live on and say it
            self.status.engine.model_error = f"{type(error).__name__}: {error}"
            self.get_logger().error(f"cannot configure: {self.status.engine.model_error}")
            return TransitionCallbackReturn.FAILURE
        self._engine = engine
        self._outputs = Outputs(self, self._config, self.status)
        settle()
        self.status.lifecycle = "inactive"
        facts = ", ".join(f"{name} {value}" for name, value in self.status.engine.model.items())
        self.get_logger().info(f"configured: {facts}")
        return super().on_configure(state)

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker."""
        if self._engine is None or self._outputs is None:
            raise RuntimeError("activated without being configured; configure first")
        choice = choice_on_graph(self, self._config)
        if choice.backend != self._choice.backend and not self._change_backend(choice):
            return TransitionCallbackReturn.FAILURE
        self._choice = choice
        self._name_choice()
        super().on_activate(state)
        self._run = Run(self, self._engine, self._outputs, self._running_config, self.status)
        self.status.lifecycle = "active"
        self.get_logger().info(f"active: waiting for images on '{self.status.input.stream.topic}'")
        return TransitionCallbackReturn.SUCCESS

    def _load(self, choice: BackendChoice) -> Engine:
        """The engine of a backend, and its facts for diagnostics."""
        engine = load_engine(self._engine_factory, choice.applied(self._config), LOAD_REPORT_S)
        self.status.engine.model = engine.describe()
        return engine

    def _change_backend(self, choice: BackendChoice) -> bool:
        """Load another backend than configured, for sensors that came or went since; false where it cannot be."""
        try:
            self._engine = self._load(choice)
        except Exception as error:  # whatever the cause, the node must live on and say it
            self.status.engine.model_error = f"{type(error).__name__}: {error}"
            self.get_logger().error(f"cannot activate: {self.status.engine.model_error}")
            return False
        return True

    @property
    def _running_config(self) -> PomatoConfig:
        """The options with the backend that was chosen for ``auto``."""
        return self._choice.applied(self._config)

    def _name_choice(self) -> None:
        """Say which backend runs and why."""
        status = self.status.engine
        status.backend, status.backend_reason = self._choice.backend, self._choice.reason
        self.get_logger().info(f"backend {status.backend} ({status.backend_reason})")

    def _watch_sensors(self) -> None:
        """Hint at a sensor that was connected after ``auto`` had chosen."""
        now = choice_on_graph(self, self._config)
        self.status.engine.backend_hint = ""
        if self._run is not None and now.backend not in (self._choice.backend, MONOCULAR):
            self.status.engine.backend_hint = (
                f"backend {self._choice.backend} runs ({self._choice.reason}), {now.backend} could ({now.reason}): "
                "deactivate and activate to change, or set backend"
            )

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker; the weights stay."""
        self._stop_run()
        self.status.lifecycle = "inactive"
        self.status.scene = SceneStatus()
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and remove the publishers."""
        self._free()
        self.status.lifecycle = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._stop_run()
        self._free()
        self.status.lifecycle = "finalized"
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an unexpected failure."""
        self._stop_run()
        self._free()
        self.status.lifecycle = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def _autostart(self) -> None:
        """Do a lifecycle manager's work, once, unless one has begun."""
        self._autostart_timer.cancel()
        if self._lifecycle_state() != "unconfigured":
            return
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                self.autostart_failed.set()
                return

    def _stop_run(self) -> None:
        if self._run is not None:
            self._run.stop()
            self._run = None

    def _free(self) -> None:
        unsettle()
        self._engine = None
        self.status.engine.model = {}
        self.status.scene = SceneStatus()
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None

    def _watch_clock(self) -> None:
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._jump_handle = self.get_clock().create_jump_callback(threshold, post_callback=self._on_clock_jump)

    def _on_clock_jump(self, _jump: Any) -> None:
        self.status.input.time_jumps += 1
        self.get_logger().warning("the ROS clock jumped back or changed: clearing window, tracks, pose and TF")
        if self._run is not None:
            self._run.jump_in_time()

    # -- services and parameters --------------------------------------------------------------------------------------

    def _create_services(self) -> None:
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/set_paused", self._on_set_paused)
        self.create_service(Trigger, "~/save_cloud", self._on_save_cloud)
        self.create_service(Trigger, "~/save_trajectory", self._on_save_trajectory)

    def _answer_always(self, steady_clock: Clock) -> None:
        """No call, however ill-formed or untimely, may end the process or go without an answer."""
        change_state = self._service_change_state
        change_state.callback = requests = LifecycleRequests(
            self,
            self._lifecycle_state,
            change_state.callback,
            steady_clock,
            come_back=self._config.output.autostart,
        )
        get_state = self._service_get_state
        get_state.callback = requests.watched(get_state.callback)
        answer_always(self)

    def _lifecycle_state(self) -> str:
        return str(self._state_machine.current_state[1])

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._run is not None
        response.message = "not active: nothing to reset"
        if self._run is not None:
            self._run.reset()
            response.message = "window, tracks, pose and scale are cleared before the next frame"
        return response

    def _on_set_paused(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.status.input.paused = bool(request.data)
        if request.data and self._run is not None:
            self._run.newest_frame.clear()
        response.success, response.message = True, "paused" if request.data else "running"
        return response

    def _on_save_cloud(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        newest = None if self._outputs is None else self._outputs.history.newest
        if newest is None or newest.scene.world_from_camera is None:
            response.success, response.message = False, "no cloud with a pose yet"
            return response
        odom_from_optical = newest.odom_from_world @ newest.scene.world_from_camera
        return self._saved(response, functools.partial(save_cloud, newest.scene, odom_from_optical))

    def _on_save_trajectory(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        trajectory = [] if self._outputs is None else self._outputs.history.trajectory()
        if not trajectory:
            response.success, response.message = False, "no pose yet"
            return response
        return self._saved(response, functools.partial(save_trajectory, trajectory))

    def _saved(self, response: Trigger.Response, save: Callable[[Path], Path]) -> Trigger.Response:
        folder = Path(self._config.output.output_dir)
        try:
            path = save(folder)
        except OSError as error:
            response.success, response.message = False, f"cannot write into output_dir '{folder}': {error}"
            return response
        response.success, response.message = True, str(path.resolve())
        return response

    def _apply_config(self, config: PomatoConfig) -> None:
        """A dynamic parameter changed."""
        config = with_frame_prefix(config)
        self._config = config
        if self._outputs is not None:
            self._outputs.config = config
        if self._run is not None:
            self._run.change_config(self._running_config)

    # -- diagnostics --------------------------------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        came, metres = self.status.input, self.status.scale_input
        if self._run is not None:
            self._run.watch()
        self._watch_sensors()
        message = DiagnosticArray(
            status=build_statuses(self.get_fully_qualified_name().strip("/"), self.status, self._running_config)
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self.status.depth.drop_is_news = self.status.right.drop_is_news = False
        came.drop_is_news = metres.drop_is_news = self.status.engine.error_is_news = False


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The few arguments that are not ROS parameters."""
    parser = argparse.ArgumentParser(
        prog="pomato",
        description="Online 3-D perception among moving things.",
        epilog=node_usage(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--exit-on-failure", action="store_true", help="end with code 1 when autostart cannot load the model"
    )
    return parser.parse_args(arguments)


def spin(node: PomatoNode, *, exit_on_failure: bool) -> int:
    """Run the node until it is interrupted; 1 if it was told to end on a failed start."""
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    try:
        while rclpy.ok(context=node.context):
            failure = spin_once(executor, node, timeout_s=1.0)
            if failure:
                node.status.note_callback_failure(failure)
            if exit_on_failure and node.autostart_failed.is_set():
                return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        executor.shutdown()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``ros2 run pomato_ros pomato``: 0 when interrupted, 1 when it could not start."""
    argv = list(sys.argv if arguments is None else arguments)
    init_interruptible(argv)
    try:
        options = parse_arguments(rclpy.utilities.remove_ros_args(argv)[1:])
        code = run(exit_on_failure=options.exit_on_failure)
    except KeyboardInterrupt:  # before the node spins
        code = 0
    finally:
        rclpy.try_shutdown()
    leave_loading_behind(code)
    return code


def run(*, exit_on_failure: bool) -> int:
    """Make the node and spin it; the code that the process ends with."""
    try:
        node = PomatoNode()
    except ConfigError as error:
        rclpy.logging.get_logger(NODE_NAME).fatal(f"refused parameter: {error}")
        return 1
    try:
        return spin(node, exit_on_failure=exit_on_failure)
    finally:
        node.destroy_node()


def leave_loading_behind(code: int) -> None:
    """End the process at once if the model is still being loaded: nothing can stop that thread.

    It runs in libraries that abort the process when the interpreter is taken down around them.
    """
    if any(thread.name == LOADING_THREAD and thread.is_alive() for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
