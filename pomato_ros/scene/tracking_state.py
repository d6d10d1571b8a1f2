"""Whether the odometry's newest pose is believed: warming up, tracking, lost, recovering."""

import logging
from dataclasses import dataclass

import numpy as np

from pomato_ros.config import RobustnessOptions
from pomato_ros.scene.located import Located
from pomato_ros.scene.pose import displacement
from pomato_ros.structures import TrackingState

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Believed:
    stamp_ns: int
    located: Located


class TrackingMonitor:
    """Judges each pose against the limits of the options, and counts what a lost camera still has to confirm."""

    def __init__(self) -> None:
        """Nothing was judged yet."""
        self.reset()

    def reset(self) -> None:
        """Forget the last pose."""
        self.state = TrackingState.WARMING
        self._last: _Believed | None = None
        self._to_confirm = 0

    def judge(self, stamp_ns: int, located: Located | None, limits: RobustnessOptions) -> Located | None:
        """``located`` if it is to be believed, else None; :attr:`state` follows.

        Args:
            stamp_ns: of the newest frame.
            located: where the odometry has the camera; None: nowhere.
            limits: on speed and inliers.
        """
        reason = self._objection(stamp_ns, located, limits)
        if reason:
            self._lose(stamp_ns, reason, limits)
            return None
        assert located is not None  # noqa: S101
        self._last = _Believed(stamp_ns, located)
        self._to_confirm = max(0, self._to_confirm - 1)
        self.state = TrackingState.RECOVERING if self._to_confirm else TrackingState.TRACKING
        return located

    def _objection(self, stamp_ns: int, located: Located | None, limits: RobustnessOptions) -> str:
        """Why the pose is not to be believed; empty: it is."""
        if located is None:
            return "too few landmarks agree on a pose"
        if located.inlier_ratio < limits.min_inlier_ratio:
            return f"only {located.inlier_ratio:.0%} of the landmarks are inliers"
        if self._last is None or located.relocalised:
            return ""
        step = displacement(self._last.located.world_from_camera, located.world_from_camera)
        seconds = max((stamp_ns - self._last.stamp_ns) * 1e-9, 1e-6)
        speed, turn = float(np.linalg.norm(step[:3])) / seconds, float(np.linalg.norm(step[3:])) / seconds
        if speed <= limits.max_speed and turn <= limits.max_angular_speed:
            return ""
        return (
            f"{speed:.3g} m/s and {turn:.3g} rad/s since the last pose, where max_speed is {limits.max_speed:g} and "
            f"max_angular_speed {limits.max_angular_speed:g}"
        )

    def _lose(self, stamp_ns: int, reason: str, limits: RobustnessOptions) -> None:
        level = logging.DEBUG if self.state is TrackingState.LOST else logging.WARNING
        LOGGER.log(level, "lost at %d ns: %s", stamp_ns, reason)
        self.state = TrackingState.LOST
        self._to_confirm = limits.recover_frames + 1
