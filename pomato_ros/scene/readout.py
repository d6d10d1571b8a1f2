"""Rolling shutter: the time from an image's first row to its last, estimated from residuals while the camera moves.

Most colour cameras expose row after row. A point at row v of an image of height h is seen at the stamp plus
``tau (v / h - 1/2)``, so that its pixel lies ``tau (v / h - 1/2) du/dt`` from where a global shutter would have it,
du/dt being the image velocity of a static point. The readout time tau enters all residuals linearly; it is estimated
beside the pose and filtered over time, for it is a constant of the camera.
"""

from dataclasses import dataclass

import numpy as np

from pomato_ros.structures import Intrinsics, PoseArray

FIRST_STD_S = 0.015  # of the readout time before anything was seen: half a frame at 30 Hz
CORRELATED_FRAMES = 20.0  # residuals of so many frames count as one: their errors last


DRIFT_STD_S = 0.0005  # random walk in a frame, so that early biased estimates are forgotten
MOST_STEP_S = 0.002  # in one frame


@dataclass(frozen=True, slots=True)
class Readout:
    """The camera's readout time, positive from the top row down."""

    seconds: float = 0.0
    variance: float = FIRST_STD_S**2

    def updated(self, estimate_s: float, information: float, limit_s: float) -> "Readout":
        """After a frame whose residuals ask for a change of ``estimate_s`` with an ``information`` (1/s^2)."""
        if not (np.isfinite(estimate_s) and information > 0.0):
            return self
        information /= CORRELATED_FRAMES
        variance = min(self.variance + DRIFT_STD_S**2, FIRST_STD_S**2)
        gain = information / (information + 1.0 / variance)
        step = float(np.clip(gain * estimate_s, -MOST_STEP_S, MOST_STEP_S))
        seconds = float(np.clip(self.seconds + step, -limit_s, limit_s))
        return Readout(seconds, 1.0 / (information + 1.0 / variance))


def row_phase(pixels: PoseArray, height_px: int) -> PoseArray:
    """(n,) -1/2 at the first row .. 1/2 at the last, of pixels (n, 2)."""
    phase: PoseArray = (pixels[:, 1] + 0.5) / height_px - 0.5
    return phase


def image_velocity(points_camera: PoseArray, velocity: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(n, 2) px/s of static points (n, 3) seen by a camera that moves with ``velocity`` (6,): m/s, rad/s, its own axes.

    ``dX/dt = -v - omega x X`` (Longuet-Higgins and Prazdny 1980).
    """
    x, y, z = points_camera.T
    vx, vy, vz, wx, wy, wz = velocity.tolist()
    inverse = 1.0 / np.maximum(z, 1e-6)
    toward = (vz + wx * y - wy * x) * inverse  # rate at which the depth shrinks, over the depth
    rates = np.empty((len(points_camera), 2))
    rates[:, 0] = intrinsics.fx_px * (x * toward - vx - wy * z + wz * y) * inverse
    rates[:, 1] = intrinsics.fy_px * (y * toward - vy - wz * x + wx * z) * inverse
    return rates
