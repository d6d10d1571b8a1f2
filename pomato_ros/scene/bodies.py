"""Rigid motions that moving tracks share: what moves as one is followed as one.

A track alone slides along plain surfaces and errs in depth anew in every frame. Tracks on one rigid thing are held
together by its motion, which all of them tell: they are carried with it, and then are to it as resting tracks are to
the world. What does not go with the others, as limbs and cloth, goes on alone.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp, transform
from pomato_ros.structures import MaskArray, PoseArray

ALONE = -1  # the body of a track that is on none
LEAST_TRACKS = 6  # that are seen in a frame, or there is no body
LEAST_SHARE = 0.6  # of them that agree with its motion
WORST_MISFIT = 2.0  # standard deviations, median over a body's tracks: beyond, it is none
GATE = 3.0  # standard deviations, or usual misfits, beyond which a track does not belong to a body
DEPTH_GATE = 0.1  # of the depth
PIXEL_STD = 0.5  # px, of a place found in the image
LOG_DEPTH_STD = 0.0126  # of a good network's smooth errors, which a body's tracks share
TURN_STD_RAD = 0.05  # by which a body turns otherwise than in the frame before
SOLVER_STEPS = 6
SETTLED = 0.03  # standard deviations: a shorter step is the last
CALM_SHARE, CALM_FRAMES = 0.2, 5  # with fewer of its tracks in the moving mask, for longer, a body has come to rest
VELOCITY_SMOOTHING = 0.5  # weight of the newest
LEAST_AHEAD_M = 1e-3


@dataclass(frozen=True, slots=True)
class BodyTracks:
    """Tracks of the newest frame, rows of equal length; in its camera, metres."""

    bodies: NDArray[np.int64]  # (n,) each one's body so far, or ALONE
    points: PoseArray  # (n, 3) where they were in the frame before
    pixels: PoseArray  # (n, 2) where they are now
    pixel_std: PoseArray  # (n,) px
    depth: PoseArray  # (n,) what is seen there
    seen: MaskArray  # (n,) for which pixel and depth count
    labels: NDArray[np.int64]  # (n,) the region of the moving mask that they are seen in; 0: none
    may_join: MaskArray  # (n,) are known to move


@dataclass(frozen=True, slots=True)
class BodyMotion:
    """What one body did since the frame before."""

    tracks: MaskArray  # (n,) that it carries
    newest_from_before: PoseArray  # (4, 4) in the newest camera
    new: MaskArray  # (n,) of them that were not on it before


@dataclass(slots=True)
class _Body:
    turn_rad: PoseArray = field(default_factory=lambda: np.zeros(3))  # in the frame before
    calm_frames: int = 0


class Bodies:
    """Which tracks go together, from frame to frame."""

    def __init__(self) -> None:
        """None yet."""
        self._bodies: dict[int, _Body] = {}
        self._next_number = 0

    def update(
        self, tracks: BodyTracks, camera_matrix: PoseArray, depth_variance_factor: float = 1.0
    ) -> tuple[NDArray[np.int64], list[BodyMotion]]:
        """Each track's body (n,) from now on, and what the bodies did."""
        bodies = self._joined(tracks)
        motions = []
        log_depth_std = LOG_DEPTH_STD * depth_variance_factor**0.5
        for number, body in list(self._bodies.items()):
            mine = bodies == number
            used = mine & tracks.seen
            solved = None
            if np.count_nonzero(used) >= LEAST_TRACKS:
                solved = rigid_motion(
                    tracks.points[used],
                    tracks.pixels[used],
                    tracks.pixel_std[used],
                    tracks.depth[used],
                    camera_matrix,
                    log_depth_std,
                    body.turn_rad,
                )
            calm = not np.any(used) or float(np.mean(tracks.labels[used] > 0)) < CALM_SHARE
            body.calm_frames = body.calm_frames + 1 if calm else 0
            if solved is None or body.calm_frames > CALM_FRAMES:
                bodies[mine] = ALONE
                del self._bodies[number]
                continue
            motion, body.turn_rad, fits = solved
            bodies[np.flatnonzero(used)[~fits]] = ALONE
            carried = bodies == number
            motions.append(BodyMotion(carried, motion, carried & (tracks.bodies != number)))
        return bodies, motions

    def _joined(self, tracks: BodyTracks) -> NDArray[np.int64]:
        """(n,) bodies, those of tracks without one being that of most tracks in their region, or a new one."""
        bodies = tracks.bodies.copy()
        labels = np.where(tracks.seen & tracks.may_join, tracks.labels, 0)
        alone = (bodies == ALONE) & (labels > 0)
        for label in np.unique(labels[alone]).tolist():
            here = labels == label
            owners = bodies[here & (bodies != ALONE)]
            if len(owners):
                bodies[here & alone] = np.bincount(owners).argmax()
            elif np.count_nonzero(here) >= LEAST_TRACKS:
                self._bodies[self._next_number] = _Body()
                bodies[here] = self._next_number
                self._next_number += 1
        return bodies


def regions_at(mask: MaskArray, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the connected region of a mask (h, w) that pixels lie in, from 1 on; 0: in none."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return labels[rows, columns].astype(np.int64)


def rigid_motion(
    points: PoseArray,
    pixels: PoseArray,
    pixel_std: PoseArray,
    depth: PoseArray,
    camera_matrix: PoseArray,
    log_depth_std: float,
    turn_rad: PoseArray,
) -> tuple[PoseArray, PoseArray, MaskArray] | None:
    """The motion (4, 4) that takes points to where they are seen, its turn (3,), and which go with it (n,).

    Least squares over pixels and log depths, robust by Cauchy's weights, with a turn that is about the one before. The
    depths' errors are smooth, so that all of them together tell as much as one. None where too few go together.

    Args:
        points: (n, 3) before, in the camera of now.
        pixels: (n, 2) now.
        pixel_std: (n,) px.
        depth: (n,) now.
        camera_matrix: (3, 3).
        log_depth_std: of the errors that the depths share.
        turn_rad: (3,) expected, as a rotation vector.
    """
    (fx, _, cx), (_, fy, cy), _ = camera_matrix.tolist()
    u, v = (pixels[:, 0] - cx) / fx, (pixels[:, 1] - cy) / fy
    log_depth = np.log(depth)
    middle = np.median(points, axis=0)
    arms = (points - middle).T
    shift = np.median(np.stack((u * depth, v * depth, depth), axis=-1) - points, axis=0)
    rotation, turned = np.eye(3), np.zeros(3)
    pixel_weights = 1.0 / pixel_std**2
    depth_weight = 1.0 / (log_depth_std**2 * (1 + len(points)))
    prior = np.diag([0.0] * 3 + [1.0 / TURN_STD_RAD**2] * 3)
    for _ in range(SOLVER_STEPS):
        arm = rotation @ arms
        x, y, z = arm + (middle + shift)[:, None]
        if not (z > LEAST_AHEAD_M).all():
            return None
        inverse = 1.0 / z
        off = np.stack((fx * (x * inverse - u), fy * (y * inverse - v), np.log(z) - log_depth))
        weights = np.empty_like(off)
        weights[:2] = pixel_weights / (1.0 + (off[0] ** 2 + off[1] ** 2) * pixel_weights / GATE)
        weights[2] = depth_weight / (1.0 + (off[2] / (GATE * log_depth_std)) ** 2)
        by = _by_motion(arm, x * inverse, y * inverse, inverse, fx, fy)
        weighted = by * weights[:, None]
        normal = sum((weighted[row] @ by[row].T for row in range(3)), start=prior)
        pull = np.einsum("rpn,rn->p", weighted, off)
        pull[3:] += prior[3:, 3:] @ (turned - turn_rad)
        try:
            step = -np.linalg.solve(normal, pull)
        except np.linalg.LinAlgError:
            return None
        shift, rotation, turned = shift + step[:3], rotation_exp(step[3:]) @ rotation, turned + step[3:]
        if step @ normal @ step < SETTLED**2:
            break
    motion = pose_from(rotation, middle + shift - rotation @ middle)
    x, y, z = transform(motion, points).T
    if not (z > LEAST_AHEAD_M).all():
        return None
    misfit = np.hypot(fx * (x / z - u), fy * (y / z - v))
    if not np.median(misfit / pixel_std) <= WORST_MISFIT:
        return None
    usual = np.maximum(pixel_std, max(PIXEL_STD, 1.5 * float(np.median(misfit))))
    fits = (misfit < GATE * usual) & (np.abs(np.log(z) - log_depth) < DEPTH_GATE)
    if np.count_nonzero(fits) < max(LEAST_TRACKS, LEAST_SHARE * len(points)):
        return None
    return motion, turned, fits


def _by_motion(arm: PoseArray, x: PoseArray, y: PoseArray, inverse: PoseArray, fx: float, fy: float) -> PoseArray:
    """(3, 6, n) how pixel x, y and log depth change with the shift and with a turn about the middle.

    ``arm`` (3, n) from the middle; ``x``, ``y`` (n,) on the plane at distance 1; ``inverse`` (n,) of the depth.
    """
    by = np.zeros((3, 6, len(inverse)))
    by[0, 0], by[0, 2] = fx * inverse, -fx * x * inverse
    by[1, 1], by[1, 2] = fy * inverse, -fy * y * inverse
    by[2, 2] = inverse
    p, q, r = arm
    a, b, c = by[:, 0], by[:, 1], by[:, 2]
    by[:, 3], by[:, 4], by[:, 5] = q * c - r * b, r * a - p * c, p * b - q * a
    return by


def in_world(motion_camera: PoseArray, world_from_camera: PoseArray) -> PoseArray:
    """A motion (4, 4) in the axes of a camera -> the same in the world."""
    return world_from_camera @ motion_camera @ invert(world_from_camera)
