"""From the engine's world (the first camera's optical frame) to ``odom`` and ``base_link``: pure pose rules.

``odom`` is z-up (REP-103) and starts at identity: T_odom_base(t) = T_bo (P_0^-1 P_t) T_bo^-1, where T_bo is
base <- optical and P_t is world <- optical. Forward motion is +x and a left turn is +yaw for every camera mount.
"""

from dataclasses import dataclass, replace

import numpy as np

from pomato_ros.geometry.rigid import cross_matrix, invert, rotation_log
from pomato_ros.ros.twist_noise import TwistNoise
from pomato_ros.structures import PoseArray

OPTICAL_ROTATION = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # body (x forward, z up) <- optical
UNKNOWN_VARIANCE = 9999.0
FARTHEST_M = 1e7  # about the Earth's radius: no frame of a robot lies farther from another
MINIMUM_VARIANCE = 1e-9  # a covariance of zero makes filters trust without limit
MINIMUM_STEP_VARIANCE = 1e-6  # of the motion between two frames: (1 mm)^2, (1 mrad)^2


def assumed_mount() -> PoseArray:
    """Base <- optical of a camera that looks forward from the base's origin."""
    mount = np.eye(4)
    mount[:3, :3] = OPTICAL_ROTATION
    return mount


def looks_like_body_frame(base_from_camera: PoseArray) -> bool:
    """Whether the camera's z axis points up in the base: then its frame is no optical frame (REP-103)."""
    return bool(base_from_camera[2, 2] > 0.9)


def is_rigid(pose: PoseArray) -> bool:
    """Whether a (4, 4) matrix is a rotation and a translation of at most :data:`FARTHEST_M`; NaN is neither."""
    if not np.isfinite(pose).all() or np.abs(pose[:3, 3]).max() > FARTHEST_M:
        return False
    rotation = pose[:3, :3]
    return bool(np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) and np.linalg.det(rotation) > 0.0)


@dataclass(frozen=True, slots=True)
class OdometryState:
    """Pose and velocity of the base; covariances are of x, y, z, rot x, rot y, rot z."""

    stamp_ns: int
    odom_from_base: PoseArray  # (4, 4)
    pose_covariance: PoseArray  # (6, 6), axes of odom
    twist_base: PoseArray  # (6,), m/s and rad/s in the base frame
    twist_covariance: PoseArray  # (6, 6), axes of the base
    lost: bool


def unknown_covariance() -> PoseArray:
    """The covariance that tells a filter to ignore the value."""
    return np.eye(6) * UNKNOWN_VARIANCE


class OdometryFrames:
    """Holds where ``odom`` lies in the engine's world, and the last pose, so that odometry is continuous."""

    def __init__(self, base_from_optical: PoseArray) -> None:
        """Start at identity with a camera mounted at ``base_from_optical`` (4, 4)."""
        self._base_from_optical = base_from_optical
        self._odom_from_world = base_from_optical.copy()
        self._start_covariance = np.zeros((6, 6))  # of where the engine's world begins, axes of odom
        self._start_odom = np.zeros(3)
        self._last: OdometryState | None = None
        self._twist_noise = TwistNoise()
        self._motion_known = False  # whether the next pose and the last one are of one world

    @property
    def odom_from_world(self) -> PoseArray:
        """(4, 4) odom <- world, to bring points and tracks into odom."""
        return self._odom_from_world

    def odom_from_optical(self, world_from_camera: PoseArray) -> PoseArray:
        """(4, 4) odom <- optical frame of a camera pose in the engine's world."""
        return self._odom_from_world @ world_from_camera

    def change_mount(self, base_from_optical: PoseArray) -> None:
        """The camera sits elsewhere on the base than was assumed: the base moves, the camera does not.

        With T_oc the camera in odom, the base is at T_oc T_bo^-1 of the new mount T_bo. Before the first pose odom
        itself follows, so that it starts at identity.
        """
        if self._last is None:
            self._odom_from_world = base_from_optical.copy()
        else:
            old_from_new = self._base_from_optical @ invert(base_from_optical)
            self._last = replace(self._last, odom_from_base=self._last.odom_from_base @ old_from_new)
        self._base_from_optical = base_from_optical

    def continue_from_last(self, unseen: PoseArray) -> None:
        """The engine starts a new world at its next frame: let that world begin at the last known pose.

        What was unknown of that pose stays unknown; ``unseen`` (6, 6) is the covariance of what the camera may have
        done since, axes of odom.
        """
        self._motion_known = False
        if self._last is not None:
            self._odom_from_world = self._last.odom_from_base @ self._base_from_optical
            self._start_covariance = self._last.pose_covariance + unseen
            self._start_odom = self._last.odom_from_base[:3, 3]

    def update(self, stamp_ns: int, world_from_camera: PoseArray | None, covariance: PoseArray | None) -> OdometryState:
        """Odometry of one step; without a pose, the last one with a covariance that says so."""
        if world_from_camera is None or covariance is None or not is_rigid(world_from_camera):
            return self._lost_state(stamp_ns)
        odom_from_base = self.odom_from_optical(world_from_camera) @ invert(self._base_from_optical)
        if not is_rigid(odom_from_base):
            return self._lost_state(stamp_ns)
        pose_covariance = self._base_covariance(world_from_camera, covariance)
        pose_covariance = pose_covariance + self._carried_start_covariance(odom_from_base)
        twist, twist_covariance = self._twist(stamp_ns, odom_from_base, pose_covariance)
        self._last = OdometryState(stamp_ns, odom_from_base, pose_covariance, twist, twist_covariance, lost=False)
        self._motion_known = True
        return self._last

    def _lost_state(self, stamp_ns: int) -> OdometryState:
        pose = np.eye(4) if self._last is None else self._last.odom_from_base
        return OdometryState(stamp_ns, pose, unknown_covariance(), np.zeros(6), unknown_covariance(), lost=True)

    def _base_covariance(self, world_from_camera: PoseArray, covariance: PoseArray) -> PoseArray:
        """Covariance of the base in odom axes: the camera's, carried over the lever arm between them.

        A rotation error d_theta about the camera moves the base's origin by d_theta x lever.
        """
        base_origin_optical = invert(self._base_from_optical)[:3, 3]
        lever_world = world_from_camera[:3, :3] @ base_origin_optical
        world_axes = np.eye(6)
        world_axes[:3, 3:] = -cross_matrix(lever_world)
        odom_axes = np.kron(np.eye(2), self._odom_from_world[:3, :3])
        jacobian = odom_axes @ world_axes
        return floor_variance(jacobian @ covariance @ jacobian.T)

    def _carried_start_covariance(self, odom_from_base: PoseArray) -> PoseArray:
        """The uncertainty of where this world begins, carried over the way since."""
        jacobian = np.eye(6)
        jacobian[:3, 3:] = -cross_matrix(odom_from_base[:3, 3] - self._start_odom)
        return jacobian @ self._start_covariance @ jacobian.T

    def _twist(self, stamp_ns: int, odom_from_base: PoseArray, covariance: PoseArray) -> tuple[PoseArray, PoseArray]:
        """Finite difference since the last pose, in the base's axes now."""
        if self._last is None or not self._motion_known or stamp_ns <= self._last.stamp_ns:
            self._twist_noise.interrupt()
            return np.zeros(6), unknown_covariance()
        seconds = (stamp_ns - self._last.stamp_ns) * 1e-9
        base_from_odom = odom_from_base[:3, :3].T
        linear = base_from_odom @ (odom_from_base[:3, 3] - self._last.odom_from_base[:3, 3])
        angular = rotation_log(self._last.odom_from_base[:3, :3].T @ odom_from_base[:3, :3])
        twist = np.concatenate([linear, angular]) / seconds
        self._twist_noise.note(seconds, twist)
        observed = self._twist_noise.covariance(seconds, twist)
        if observed is not None:
            return twist, observed
        axes = np.kron(np.eye(2), base_from_odom)
        growth = step_covariance(self._last.pose_covariance, covariance)
        twist_covariance = axes @ growth @ axes.T / seconds**2
        return twist, floor_variance(twist_covariance)


def unseen_motion(seconds: float, speed_m_s: float, turn_rad_s: float) -> PoseArray:
    """(6, 6) covariance of where a camera may have gone in a time without images.

    Args:
        seconds: how long nothing was seen.
        speed_m_s: standard deviation of its speed along each axis, rad/s likewise for ``turn_rad_s``.
        turn_rad_s: its turn, after half a turn unknown altogether.
    """
    way_m, turned_rad = speed_m_s * seconds, min(turn_rad_s * seconds, np.pi)
    return np.diag([min(way_m**2, UNKNOWN_VARIANCE)] * 3 + [turned_rad**2] * 3)


def step_covariance(before: PoseArray, after: PoseArray) -> PoseArray:
    """Covariance (6, 6) of the motion between two poses, errors of which add up: by how much they grew.

    The errors of the two poses are nearly the same, so that their sum would grow without end.
    """
    variances, axes = np.linalg.eigh((after - before + (after - before).T) / 2)
    return np.asarray((axes * np.maximum(variances, MINIMUM_STEP_VARIANCE)) @ axes.T, np.float64)


def floor_variance(covariance: PoseArray) -> PoseArray:
    """The symmetric covariance with no variance at or below zero, and none that is not a number."""
    if not np.isfinite(covariance).all():
        return unknown_covariance()
    symmetric = (covariance + covariance.T) / 2
    np.fill_diagonal(symmetric, np.maximum(np.diag(symmetric), MINIMUM_VARIANCE))
    return symmetric
