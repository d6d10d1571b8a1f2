"""The one thread that owns the engine: takes the newest frame, steps, publishes."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CameraInfo

from pomato_ros.config import PomatoConfig
from pomato_ros.ros.intake import Arrival, NewestFrame
from pomato_ros.ros.perception import Engine, Perception, StepResult
from pomato_ros.ros.status import NodeStatus, SceneStatus

LOG = logging.getLogger(__name__)
LOADING_THREAD = "pomato_load"
LONGEST_REST_S = 0.2  # at once, so that a rate that changes meanwhile is followed


@dataclass(slots=True)
class Wishes:
    """What other threads want of the worker before its next frame."""

    reset: bool = False
    time_jumped: bool = False
    config: PomatoConfig | None = None


class Worker:
    """Runs :class:`Perception` on the newest frame until stopped."""

    def __init__(
        self,
        perception: Perception,
        newest_frame: NewestFrame,
        camera_info: Callable[[], CameraInfo | None],
        publish: Callable[[StepResult], None],
        status: NodeStatus,
    ) -> None:
        """``camera_info`` returns the newest calibration; ``publish`` is called from the worker's thread."""
        self._perception = perception
        self._newest_frame = newest_frame
        self._camera_info = camera_info
        self._publish = publish
        self._status = status
        self._wishes_lock = threading.Lock()
        self._wishes = Wishes()
        self._thread = self._make_thread()
        self.max_rate_hz = 0.0  # 0: no limit

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def revive(self) -> None:
        """Start another thread if the worker's own has ended before it was stopped, as a library may make it."""
        if self._thread.is_alive() or self._newest_frame.closed:
            return
        LOG.error("the worker's thread has ended: starting another")
        self._status.engine.worker_restarts += 1
        self._status.engine.fail(f"the worker's thread ended and was started again: {self._end}")
        self.ask_reset()
        self._thread = self._make_thread()
        self._thread.start()

    def _make_thread(self) -> threading.Thread:
        self._end = "reason unknown"
        return threading.Thread(target=self._run, name="pomato_worker", daemon=True)

    def stop(self) -> None:
        """Finish the step at hand and end."""
        self._newest_frame.close()
        self._thread.join()

    def ask_reset(self, *, time_jumped: bool = False) -> None:
        """Clear everything before the next frame; a step at hand is not published."""
        with self._wishes_lock:
            self._wishes.reset = True
            self._wishes.time_jumped |= time_jumped
        self._status.input.frames_passed_over += self._newest_frame.clear()

    def change_config(self, config: PomatoConfig) -> None:
        """Use new values of dynamic options from the next frame on."""
        self.max_rate_hz = config.window.max_rate_hz
        with self._wishes_lock:
            self._wishes.config = config

    def _run(self) -> None:
        try:
            while (arrival := self._newest_frame.take()) is not None:
                self._status.engine.busy_since_s = started_s = time.monotonic()
                self._survive(arrival)
                self._status.engine.busy_since_s = None
                self._rest(started_s)
        except BaseException as error:  # what ends a thread, as SystemExit: `revive` starts another and says why
            self._end = f"{type(error).__name__}: {error}"
        finally:
            self._status.engine.busy_since_s = None

    def _survive(self, arrival: Arrival) -> None:
        try:
            self._process(arrival)
        except Exception as error:  # one frame costs no more than itself
            LOG.exception("a frame could not be processed")
            self._status.engine.fail(f"processing: {type(error).__name__}: {error}")

    def _process(self, arrival: Arrival) -> None:
        self._obey()
        for result in self._perception.process(arrival, self._camera_info()):
            if not self._reset_is_asked():
                self._hand_on(result)

    def _reset_is_asked(self) -> bool:
        with self._wishes_lock:
            return self._wishes.reset

    def _obey(self) -> None:
        """Do what other threads asked for since the last frame."""
        with self._wishes_lock:
            wishes, self._wishes = self._wishes, Wishes()
        if wishes.reset:
            clear = self._perception.jump_in_time if wishes.time_jumped else self._perception.reset
            clear()
        if wishes.config is not None:
            self._perception.change_config(wishes.config)

    def _hand_on(self, result: StepResult) -> None:
        """Publish; a message that cannot be built or sent is an error of its own kind."""
        self._status.scene = scene_status(result)
        try:
            self._publish(result)
        except Exception as error:
            LOG.exception("publishing the step of %d ns failed", result.scene.stamp_ns)
            self._status.engine.fail(f"publishing: {error}")

    def _rest(self, started_s: float) -> None:
        """Until the rate allows another step; a change of the rate counts at once."""
        while self.max_rate_hz > 0.0 and not self._newest_frame.closed:
            left_s = 1.0 / self.max_rate_hz - (time.monotonic() - started_s)
            if left_s <= 0.0:
                return
            self._newest_frame.sleep(min(left_s, LONGEST_REST_S))


def scene_status(result: StepResult) -> SceneStatus:
    """What diagnostics say about a step."""
    scene = result.scene
    x, y, z = (float(value) for value in result.odometry.odom_from_base[:3, 3])
    return SceneStatus(
        state=scene.state.value,
        frames_in_window=scene.frames_in_window,
        inlier_ratio=float(scene.pose_inlier_ratio),
        position_odom=(x, y, z),
        tracks=len(scene.tracks.ids),
        moving_share=float(scene.dynamic_mask.mean()),
        metres_per_unit=float(scene.metres_per_unit),
        budget=scene.budget,
        left_out=scene.left_out,
        scale_std=float(scene.scale_std) if np.isfinite(scene.scale_std) else None,
        focal_px=float(scene.intrinsics.fx_px),
        intrinsics_known=bool(scene.intrinsics_known),
    )


def load_engine(make_engine: Callable[[PomatoConfig], Engine], config: PomatoConfig, report_every_s: float) -> Engine:
    """Build the engine in a thread of its own and log how long it is taking.

    Raises:
        Exception: Whatever ``make_engine`` raised.
    """
    outcome: list[Engine] = []
    failure: list[Exception] = []

    def build() -> None:
        try:
            outcome.append(make_engine(config))
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=build, name=LOADING_THREAD, daemon=True)
    started_s = time.monotonic()
    thread.start()
    while thread.is_alive():
        thread.join(timeout=report_every_s)
        if thread.is_alive():
            LOG.info("loading the model: %.0f s so far", time.monotonic() - started_s)
    if failure:
        raise failure[0]
    LOG.info("model loaded in %.1f s", time.monotonic() - started_s)
    return outcome[0]
