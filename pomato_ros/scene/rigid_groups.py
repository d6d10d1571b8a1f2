"""Rigid motion shared by tracks: solved on the members that are seen, it carries those that are hidden."""

from dataclasses import dataclass, field

import numpy as np

from pomato_ros.geometry.rigid import rotation_exp, rotation_log
from pomato_ros.scene.point_filter import View
from pomato_ros.structures import Intrinsics, PoseArray

STEPS = 6
SETTLED = 0.05  # standard deviations


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
    distance: PoseArray  # (n,) squared Mahalanobis distance of each point's residual, chi square with 3 degrees


@dataclass(slots=True)
class RigidGroup:
    """Velocity of a rigid group at its centre, and how well it is known."""

    velocity: PoseArray = field(default_factory=lambda: np.zeros(3))  # a second
    turn_rate: PoseArray = field(default_factory=lambda: np.zeros(3))  # rad/s
    frames: int = 0  # that its motion was solved in
    still_frames: int = 0  # in a row without any
    supported: bool = False  # its newest motion was solved, not only predicted

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
    whitening = np.linalg.cholesky(np.linalg.inv(total)).swapaxes(1, 2)  # W^T W = S^-1
    turn = view.camera_from_world[:3, :3]
    arms, centre = (points - expected.centre) @ turn.T, turn @ expected.centre + view.camera_from_world[:3, 3]
    shift, rotation = turn @ expected.shift, turn @ expected.rotation() @ turn.T
    start, start_turn = shift, rotation
    prior = np.repeat((shift_std**-2, turn_std_rad**-2), 3)
    for _ in range(STEPS):
        arm = arms @ rotation.T
        predicted, by = _observe(view.intrinsics, arm + centre + shift, arm)
        residual = (whitening @ _finite(measured - predicted)[..., None])[..., 0]
        distance = (residual * residual).sum(axis=-1)
        scale = max(1.0, float(np.median(distance)) / 2.4)  # chi square's median, so that a poor start still counts
        root = (1.0 / np.sqrt(scale + distance / 3.0))[:, None]
        flat = (root[..., None] * (whitening @ by)).reshape(-1, 6)
        off = np.concatenate((shift - start, rotation_log(rotation @ start_turn.T)))
        normal = flat.T @ flat
        normal[np.diag_indices(6)] += prior
        step = np.linalg.solve(normal, flat.T @ (root * residual).ravel() - prior * off)
        shift, rotation = shift + step[:3], rotation_exp(step[3:]) @ rotation
        if step @ normal @ step < SETTLED**2:
            break
    motion = Motion(expected.centre, turn.T @ shift, rotation_log(turn.T @ rotation @ turn))
    predicted, _ = _observe(view.intrinsics, arms @ rotation.T + centre + shift, arms)
    residual = (whitening @ _finite(measured - predicted)[..., None])[..., 0]
    return MotionFit(motion, (residual * residual).sum(axis=-1))


def residual_distance(view: View, moved: PoseArray, measured: PoseArray, total: PoseArray) -> PoseArray:
    """(n,) squared Mahalanobis distances between where points (n, 3) are and what is measured of them (n, 3).

    ``total`` (n, 3, 3): covariances of the residuals. Chi square with as many degrees of freedom as were measured.
    """
    residual = _finite(measured - view.observe(moved))[..., None]
    return (residual * np.linalg.solve(total, residual)).sum(axis=(1, 2))


def carried(motion: Motion, covariance: PoseArray) -> PoseArray:
    """Covariances (n, 6, 6) of points after a rigid motion that takes their errors along."""
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = motion.rotation()
    return turn @ covariance @ turn.T


def _observe(intrinsics: Intrinsics, camera: PoseArray, arms: PoseArray) -> tuple[PoseArray, PoseArray]:
    """(n, 3) pixel x, y and inverse depth of points (n, 3) in the camera, and (n, 3, 6) by shift and turn.

    ``J [I, -[arm]x]``: a turn moves a point by its cross product with the arm (n, 3) from the centre. NaN and zero for
    points behind the camera.
    """
    ahead = camera[:, 2] > 0
    inverse = np.where(ahead, 1.0 / np.where(ahead, camera[:, 2], 1.0), 0.0)
    x, y = camera[:, 0] * inverse, camera[:, 1] * inverse
    fx, fy = intrinsics.fx_px * inverse, intrinsics.fy_px * inverse
    predicted = np.stack(
        (intrinsics.fx_px * x + intrinsics.cx_px, intrinsics.fy_px * y + intrinsics.cy_px, inverse), -1
    )
    predicted[~ahead] = np.nan
    by = np.zeros((len(camera), 3, 6))
    by[:, 0, 0], by[:, 0, 2], by[:, 1, 1], by[:, 1, 2], by[:, 2, 2] = fx, -fx * x, fy, -fy * y, -(inverse**2)
    a, b, c = arms.T[:, :, None]
    by[..., 3] = b * by[..., 2] - c * by[..., 1]
    by[..., 4] = c * by[..., 0] - a * by[..., 2]
    by[..., 5] = a * by[..., 1] - b * by[..., 0]
    return predicted, by


def _finite(residual: PoseArray) -> PoseArray:
    return np.where(np.isfinite(residual), residual, 0.0)
