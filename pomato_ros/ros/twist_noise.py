"""How far a velocity from two poses is off, read from how unsteady the poses are.

The errors of two poses in a row are mostly the same, so the covariance of a pose says little of the step between them.
What differs shows in the third difference of the poses, which the smooth motion of a body leaves small. With white
errors of standard deviation s in each pose, the velocity v_k = (p_k - p_{k-1}) / dt has the variance 2 s^2 / dt^2, and
what v_k differs from its linear prediction, times dt, has 20 s^2: a tenth of its square, over dt^2, is the velocity's
variance. Real jerk makes that larger, never smaller.
"""

from collections import deque

import numpy as np

from pomato_ros.structures import PoseArray

RESIDUALS_KEPT = 20
RESIDUALS_NEEDED = 4
VARIANCE_SHARE = 0.1  # 2 s^2 of 20 s^2, see above
SCALE_SHARE = 0.01  # of the speed: an error of the unit is no unsteadiness
LEAST_STD = 1e-3  # m/s and rad/s


class TwistNoise:
    """Watches the twists of one camera."""

    def __init__(self) -> None:
        """Nothing seen."""
        self._before: deque[tuple[float, PoseArray]] = deque(maxlen=2)  # the last steps' seconds and twists
        self._squares: deque[tuple[float, float]] = deque(maxlen=RESIDUALS_KEPT)  # per axis, m^2 and rad^2

    def interrupt(self) -> None:
        """The next twist does not go on from the last one."""
        self._before.clear()

    def note(self, seconds: float, twist: PoseArray) -> None:
        """A step of so many seconds had this twist (6,), axes of the base."""
        if len(self._before) == 2:
            (seconds_2, twist_2), (seconds_1, twist_1) = self._before
            acceleration = (twist_1 - twist_2) / (0.5 * (seconds_1 + seconds_2))
            residual = (twist - twist_1 - acceleration * 0.5 * (seconds + seconds_1)) * seconds
            self._squares.append((float(np.mean(residual[:3] ** 2)), float(np.mean(residual[3:] ** 2))))
        self._before.append((seconds, twist))

    def covariance(self, seconds: float, twist: PoseArray) -> PoseArray | None:
        """(6, 6) of a twist over so many seconds, axes of the base; None before enough steps were seen."""
        if len(self._squares) < RESIDUALS_NEEDED:
            return None
        variances = VARIANCE_SHARE * np.mean(self._squares, axis=0) / seconds**2 + LEAST_STD**2
        variances[0] += SCALE_SHARE**2 * float(twist[:3] @ twist[:3])
        return np.diag(np.repeat(variances, 3))
