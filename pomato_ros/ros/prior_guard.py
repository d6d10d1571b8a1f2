"""One bad moment of a sensor is one event: a jump of another odometry, or depth in another unit, does not go on."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import invert, rotation_angle
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.structures import PoseArray

SLACK_M, SLACK_RAD = 0.1, 0.1  # of an odometry's pose, beyond what its speed explains
UNIT_FACTOR = 30.0  # depth whose median is so many times another's is in another unit
DEPTHS_KEPT = 12  # the frames of a window


class ContinuousOdometry:
    """Poses of another odometry without its jumps.

    Wheels that are reset or a filter that takes up a landmark place the robot elsewhere and go on from there. The pose
    at a jump is refused, and those after it are brought back to where constant motion leads: P'_k = C P_k with
    C = P'_{k-1} M P_k^{-1}, M the motion between the last two poses before.
    """

    def __init__(self) -> None:
        """No pose yet."""
        self.clear()

    def clear(self) -> None:
        """Time jumped, or the poses are of another frame."""
        self._last: tuple[int, PoseArray] | None = None  # stamp and pose, without jumps
        self._motion: PoseArray = np.eye(4)  # between the last two
        self._motion_s = 0.0
        self._correction: PoseArray = np.eye(4)

    def take(self, stamp_ns: int, pose: PoseArray, max_speed_m_s: float, max_turn_rad_s: float) -> PoseArray:
        """The pose (4, 4) in the frame of the first ones.

        Raises:
            InputError: It is farther from the last one than any motion; the next one goes on from here.
        """
        pose = self._correction @ pose
        last, self._last = self._last, (stamp_ns, pose)
        if last is None or stamp_ns <= last[0]:
            return pose
        seconds = (stamp_ns - last[0]) * 1e-9
        motion = invert(last[1]) @ pose
        way_m, turn_rad = float(np.linalg.norm(motion[:3, 3])), float(rotation_angle(motion[:3, :3]))
        if way_m <= max_speed_m_s * seconds + SLACK_M and turn_rad <= max_turn_rad_s * seconds + SLACK_RAD:
            self._motion, self._motion_s = motion, seconds
            return pose
        expected = last[1] @ (self._motion if abs(self._motion_s - seconds) < 0.5 * seconds else np.eye(4))
        self._correction = expected @ invert(pose) @ self._correction
        self._last = (stamp_ns, expected)
        raise InputError(
            f"the other odometry jumped by {way_m:.1f} m and {np.rad2deg(turn_rad):.0f} degrees in {seconds:.2f} s, "
            "more than max_speed and max_angular_speed allow: not used for this frame, then on from there"
        )


class DepthUnit:
    """Knows the usual depth of a sensor's images, so that a frame in another unit is noticed."""

    def __init__(self) -> None:
        """No image yet."""
        self._usual: deque[float] = deque(maxlen=DEPTHS_KEPT)  # medians of the images that were used
        self._strange: deque[float] = deque(maxlen=DEPTHS_KEPT)

    def clear(self) -> None:
        """Another camera, or another time."""
        self._usual.clear()
        self._strange.clear()

    def check(self, depth_m: NDArray[np.float32]) -> None:
        """Take note of an (h, w) depth image, NaN where invalid.

        Raises:
            InputError: Its median is another unit's than that of the last images. A whole window of such images is
                believed: the sensor was wrong before.
        """
        median_m = float(np.nanmedian(depth_m))
        usual_m = float(np.median(self._usual)) if self._usual else median_m
        if 1.0 / UNIT_FACTOR < median_m / usual_m < UNIT_FACTOR:
            self._usual.append(median_m)
            self._strange.clear()
            return
        self._strange.append(median_m)
        if len(self._strange) == DEPTHS_KEPT:
            self._usual, self._strange = self._strange, deque(maxlen=DEPTHS_KEPT)
            return
        raise InputError(
            f"depth image: expected a median depth near the last images' {usual_m:.3g} m, got {median_m:.3g} m; does "
            "the sensor change its unit?"
        )
