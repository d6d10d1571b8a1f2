"""Rigid motion shared by tracks: solved on the members that are seen, it carries those that are hidden."""

from dataclasses import dataclass, field

import numpy as np

from pomato_ros.geometry.rigid import rotation_exp, rotation_log
from pomato_ros.scene.point_filter import View
from pomato_ros.structures import PoseArray

STEPS = 6
SETTLED = 1e-2  # standard deviations


@dataclass(frozen=True, slots=True)
class Motion:
    """A rigid motion of points of the world: ``x -> centre + rotation (x - centre) + shift``."""

    centre: PoseArray  # (3,)
    shift: PoseArray  # (3,)
    turn_rad: PoseArray  # (3,) rotation vector

    def move(self, points: PoseArray) -> PoseArray:
        """Points (n, 3) after the motion."""
        return (points - self.centre) @ self.rotation().T + self.centre + self.shift

    def then(self, correction: "Motion") -> "Motion":
        """This motion followed by another one about the centre where it leads to."""
        turn_rad = rotation_log(correction.rotation() @ self.rotation())
        return Motion(self.centre, self.shift + correction.shift, turn_rad)

    def rotation(self) -> PoseArray:
        """(3, 3)."""
        return rotation_exp(self.turn_rad)


@dataclass(frozen=True, slots=True)
class MotionFit:
    """A motion solved on some points."""

    motion: Motion
    covariance: PoseArray  # (6, 6) of shift and turn
    distance: PoseArray  # (n,) squared Mahalanobis distance of each point's residual, chi square with 3 degrees


@dataclass(slots=True)
class RigidGroup:
    """Velocity of a rigid group at its centre, and how well it is known."""

    velocity: PoseArray = field(default_factory=lambda: np.zeros(3))  # a second
    turn_rate: PoseArray = field(default_factory=lambda: np.zeros(3))  # rad/s
    frames: int = 0  # that its motion was solved in
    still_frames: int = 0  # in a row without any
    unseen_frames: int = 0  # in a row

    def predict(self, centre: PoseArray, seconds: float) -> Motion:
        """The motion of the next ``seconds`` at constant velocity."""
        return Motion(centre, self.velocity * seconds, self.turn_rate * seconds)

    def learn(self, motion: Motion, seconds: float, weight: float) -> None:
        """Take a solved motion into the velocities, by a weight 0 .. 1."""
        share = 1.0 if self.frames == 0 else weight
        self.velocity = self.velocity + share * (motion.shift / seconds - self.velocity)
        self.turn_rate = self.turn_rate + share * (motion.turn_rad / seconds - self.turn_rate)
        self.frames += 1


def fit_motion(
    view: View,
    points: PoseArray,
    measured: PoseArray,
    total: PoseArray,
    expected: Motion,
    shift_std: float,
    turn_std_rad: float,
) -> MotionFit:
    """The rigid motion of points (n, 3) that explains what is measured of them.

    Gauss-Newton on ``r^T S^-1 r`` with Cauchy's weights ``1 / (1 + d^2 / 3)`` and a Gaussian prior about ``expected``.

    Args:
        view: the camera.
        points: (n, 3) world, before the motion.
        measured: (n, 3) pixel x, y and inverse depth after it; anything where the noise says not measured.
        total: (n, 3, 3) covariances of the residuals.
        expected: mean of the prior.
        shift_std: of the prior, along each axis.
        turn_std_rad: of the prior, about each axis.
    """
    information = np.linalg.inv(total)
    prior = np.diag(np.repeat((shift_std**-2, turn_std_rad**-2), 3))
    motion, covariance = expected, np.linalg.inv(prior)
    for _ in range(STEPS):
        moved = motion.move(points)
        residual = _residual(view, moved, measured)
        distance = np.einsum("ni,nij,nj->n", residual, information, residual)
        scale = max(1.0, float(np.median(distance)) / 2.4)  # chi square's median, so that a poor start still counts
        weights = 1.0 / (scale + distance / 3.0)
        by = _by_motion(view.jacobian(moved), moved - motion.centre - motion.shift)
        weighted = by.swapaxes(1, 2) @ (weights[:, None, None] * information)
        off = np.concatenate((motion.shift - expected.shift, motion.turn_rad - expected.turn_rad))
        covariance = np.linalg.inv((weighted @ by).sum(axis=0) + prior)
        step = covariance @ ((weighted @ residual[..., None]).sum(axis=0)[:, 0] - prior @ off)
        turn_rad = rotation_log(rotation_exp(step[3:]) @ motion.rotation())
        motion = Motion(motion.centre, motion.shift + step[:3], turn_rad)
        if (step**2 / np.diagonal(covariance)).max() < SETTLED**2:
            break
    return MotionFit(motion, covariance, residual_distance(view, motion.move(points), measured, total))


def residual_distance(view: View, moved: PoseArray, measured: PoseArray, total: PoseArray) -> PoseArray:
    """(n,) squared Mahalanobis distances between where points (n, 3) are and what is measured of them (n, 3).

    ``total`` (n, 3, 3): covariances of the residuals. Chi square with as many degrees of freedom as were measured.
    """
    residual = _residual(view, moved, measured)
    distance: PoseArray = np.einsum("ni,nij,nj->n", residual, np.linalg.inv(total), residual)
    return distance


def carried(motion: Motion, covariance: PoseArray) -> PoseArray:
    """Covariances (n, 6, 6) of points after a rigid motion that takes their errors along."""
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = motion.rotation()
    return turn @ covariance @ turn.T


def _residual(view: View, moved: PoseArray, measured: PoseArray) -> PoseArray:
    """(n, 3), zero for points behind the camera."""
    residual = measured - view.observe(moved)
    return np.where(np.isfinite(residual), residual, 0.0)


def _by_motion(jacobian: PoseArray, arms: PoseArray) -> PoseArray:
    """(n, 3, 6) of observations by shift and turn: ``J [I, -[arm]x]``."""
    by = np.empty((len(arms), 3, 6))
    by[..., :3] = jacobian
    by[..., 3:] = np.cross(arms[:, None], jacobian)
    return by
