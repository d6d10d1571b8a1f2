"""Rigid motions that moving tracks share: what moves as one is followed as one.

A track alone slides along plain surfaces and errs in depth anew in every frame. Tracks on one rigid thing are held
together by its motion, which all of them tell: they are carried with it, and then are to it as resting tracks are to
the world. What does not go with the others, as limbs and cloth, goes on alone.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.camera import project
from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp
from pomato_ros.structures import MaskArray, PoseArray

ALONE = -1  # the body of a track that is on none
LEAST_TRACKS = 6  # that are seen in a frame, or there is no body
LEAST_SHARE = 0.6  # of them that agree with its motion
APART_SHARE = 0.5  # of the misfit of what is known: more, and a region has no second motion
WORST_MISFIT = 2.0  # standard deviations, median over a body's tracks: beyond, it is none
GATE = 3.0  # standard deviations, or usual misfits, beyond which a track does not belong to a body
DEPTH_GATE = 0.1  # of the depth
FOUND_PX = 0.5  # by how much a place found in the image errs, one standard deviation
LOG_DEPTH_STD = 0.0126  # of a good network's smooth errors, which a body's tracks share
TURN_STD_RAD = 0.05  # by which a body turns otherwise than in the frame before
SOLVER_STEPS = 3
SETTLED = 1.0  # standard deviations: a shorter step is the last
CALM_SHARE, CALM_FRAMES = 0.2, 5  # with fewer of its tracks in the moving mask, for longer, a body has come to rest
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


@dataclass(slots=True)
class _Body:
    turn_rad: PoseArray  # (3,) in the frame before
    calm_frames: int = 0


class Bodies:
    """Which tracks go together, from frame to frame."""

    def __init__(self) -> None:
        """None yet."""
        self._bodies: dict[int, _Body] = {}
        self._next_number = 0

    def update(
        self, tracks: BodyTracks, camera_matrix: PoseArray, depth_variance_factor: float = 1.0
    ) -> tuple[NDArray[np.int64], dict[int, PoseArray]]:
        """Each track's body (n,) from now on, and the motion (4, 4) of each body, numbers rising, in the newest camera.

        First each body goes on as the tracks that are on it tell; then lone tracks in the moving mask join a body of
        their region, if its motion explains them, and better than rest does, or begin one of their own.
        """
        bodies, motions = tracks.bodies.copy(), {}
        log_depth_std = LOG_DEPTH_STD * depth_variance_factor**0.5
        for number, body in list(self._bodies.items()):
            rows = np.flatnonzero((bodies == number) & tracks.seen)
            found = _solved(tracks, rows, camera_matrix, log_depth_std, body.turn_rad)
            calm = not len(rows) or np.count_nonzero(tracks.labels[rows]) < CALM_SHARE * len(rows)
            body.calm_frames = body.calm_frames + 1 if calm else 0
            if found is None or body.calm_frames > CALM_FRAMES:
                bodies[bodies == number] = ALONE
                del self._bodies[number]
                continue
            motions[number], body.turn_rad, fits = found
            bodies[rows[~fits]] = ALONE
        labels = np.where(tracks.seen & tracks.may_join, tracks.labels, 0)
        alone = (tracks.bodies == ALONE) & (labels > 0)
        for label in sorted(set(labels[alone].tolist())):
            here = np.flatnonzero(alone & (labels == label))
            ways = sorted({*bodies[labels == label].tolist()} - {ALONE})
            misfits = np.empty((0, len(here)))
            if ways:
                misfits = misfits_px([np.eye(4), *(motions[number] for number in ways)], tracks, here, camera_matrix)
            begun = self._begun(tracks, here, misfits, camera_matrix, log_depth_std)
            if begun is not None:
                number, motions[number], fits = begun
                bodies[here[fits]] = number
            elif ways:
                rests, goes, best = misfits[0], misfits[1:].min(axis=0), misfits[1:].argmin(axis=0)
                joins = (goes < GATE * tracks.pixel_std[here]) & (goes < rests)
                bodies[here[joins]] = np.array(ways)[best[joins]]
        return bodies, motions

    def _begun(
        self,
        tracks: BodyTracks,
        here: NDArray[np.int64],
        misfits: PoseArray,
        camera_matrix: PoseArray,
        log_depth_std: float,
    ) -> tuple[int, PoseArray, MaskArray] | None:
        """A new body of the lone tracks ``here`` (k,), its motion (4, 4), and which are on it (k,); None: it is none.

        It must explain them far better than rest and the bodies that their region has already, if any, which leave
        ``misfits`` (m, k), px.
        """
        if len(here) < LEAST_TRACKS:
            return None
        least = float(medians(misfits).min(initial=np.inf))
        if least < FOUND_PX:
            return None
        solved = _solved(tracks, here, camera_matrix, log_depth_std, np.zeros(3))
        if solved is None:
            return None
        motion, turn_rad, fits = solved
        if len(misfits) and not np.median(misfits_px([motion], tracks, here, camera_matrix)) < APART_SHARE * least:
            return None
        number, self._next_number = self._next_number, self._next_number + 1
        self._bodies[number] = _Body(turn_rad)
        return number, motion, fits


def _solved(
    tracks: BodyTracks,
    used: NDArray[np.int64],
    camera_matrix: PoseArray,
    log_depth_std: float,
    turn_rad: PoseArray,
) -> tuple[PoseArray, PoseArray, MaskArray] | None:
    """:func:`rigid_motion` of the tracks in rows ``used`` (k,); None with too few."""
    if len(used) < LEAST_TRACKS:
        return None
    return rigid_motion(
        tracks.points.take(used, axis=0),
        tracks.pixels.take(used, axis=0),
        tracks.pixel_std.take(used),
        tracks.depth.take(used),
        camera_matrix,
        log_depth_std,
        turn_rad,
    )


def misfits_px(
    motions: list[PoseArray], tracks: BodyTracks, here: NDArray[np.int64], camera_matrix: PoseArray
) -> PoseArray:
    """(m, k) px between where motions (4, 4) take the tracks ``here`` (k,) and where they are seen."""
    each = np.array(motions)
    places = tracks.points[here] @ each[:, :3, :3].swapaxes(1, 2) + each[:, None, :3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = project(places, camera_matrix) - tracks.pixels[here]
    return np.hypot(apart[..., 0], apart[..., 1])


def regions_at(mask: MaskArray, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the connected region of a mask (h, w) that pixels lie in, from 1 on; 0: in none.

    Regions are told on blocks of two by two pixels, where gaps that are narrower vanish.
    """
    few = halved(mask)
    _, labels = cv2.connectedComponents(few.view(np.uint8), connectivity=4, ltype=cv2.CV_16U)
    return np.where(mask[rows, columns], labels[rows // 2, columns // 2], 0).astype(np.int64)


def halved(mask: MaskArray) -> MaskArray:
    """((h + 1) // 2, (w + 1) // 2) which blocks of two by two pixels of a mask (h, w) hold any that is set."""
    height, width = mask.shape
    if height % 2 or width % 2:
        mask = np.pad(mask, ((0, height % 2), (0, width % 2)))
    pairs = np.ascontiguousarray(mask).view(np.uint16)
    return (pairs[::2] | pairs[1::2]) != 0


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
    depths' errors are smooth, so that all of them together tell as much as one. Derivatives are those at the start,
    which does for turns of some four TURN_STD_RAD. None where too few go together.

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
    focal, centre = np.array(((fx,), (fy,))), np.array(((cx,), (cy,)))
    before = np.ascontiguousarray(points.T)
    seen = np.empty_like(before)  # pixels, log depth
    seen[:2], seen[2] = pixels.T - centre, np.log(depth)
    now = np.empty_like(before)
    now[:2], now[2] = seen[:2] / focal * depth, depth
    middle = medians(before)[:, None]  # a few that lie far off would take the mean along
    arms, rotation, turned = before - middle, rotation_exp(turn_rad), turn_rad
    arm = rotation @ arms
    centre_now = medians(now - arm)
    place = arm + centre_now[:, None]
    if not place[2].min() > LEAST_AHEAD_M:
        return None
    off, weights, by = np.empty_like(before), np.empty_like(before), np.zeros((6, 3, len(points)))
    flat = by.reshape(6, -1)
    _residuals(place, seen, focal, off)
    _by_motion(arm, place, focal, by)
    pixel_weights = 1.0 / pixel_std**2
    depth_weight = 1.0 / (log_depth_std**2 * (1 + len(points)))
    prior = 1.0 / TURN_STD_RAD**2
    for _ in range(SOLVER_STEPS):
        squares = off * off  # Cauchy's weights fall to a half at the root of GATE in pixels, and at GATE in depth
        weights[:2] = pixel_weights / (1.0 + (squares[0] + squares[1]) * (pixel_weights / GATE))
        weights[2] = depth_weight / (1.0 + squares[2] / (GATE * log_depth_std) ** 2)
        weighted = flat * weights.ravel()
        normal, pull = weighted @ flat.T, weighted @ off.ravel()
        normal.ravel()[21::7] += prior  # of the turn
        pull[3:] += prior * (turned - turn_rad)
        solved, column = cv2.solve(normal, pull[:, None], flags=cv2.DECOMP_CHOLESKY)
        if not solved:
            return None
        step = -column[:, 0]
        centre_now, turned = centre_now + step[:3], turned + step[3:]
        rotation = rotation_exp(step[3:]) @ rotation
        place = rotation @ arms + centre_now[:, None]
        if not place[2].min() > LEAST_AHEAD_M:
            return None
        _residuals(place, seen, focal, off)
        if -(step @ pull) < SETTLED**2:  # normal @ step is -pull
            break
    motion = pose_from(rotation, centre_now - rotation @ middle[:, 0])
    misfit = np.hypot(off[0], off[1])
    usual_misfit, usual_stds = medians(misfit[None])[0], medians((misfit / pixel_std)[None])[0]
    if not usual_stds <= WORST_MISFIT:
        return None
    usual = np.maximum(pixel_std, max(FOUND_PX, 1.5 * usual_misfit))
    fits = (misfit < GATE * usual) & (np.abs(off[2]) < DEPTH_GATE)
    if np.count_nonzero(fits) < max(LEAST_TRACKS, LEAST_SHARE * len(points)):
        return None
    return motion, turned, fits


def medians(rows: PoseArray) -> PoseArray:
    """(r,) of each of a few short rows (r, n): NumPy's own takes longer for a call than for so little."""
    ordered, half = np.sort(rows, axis=1), rows.shape[1] // 2
    return ordered[:, half] if rows.shape[1] % 2 else 0.5 * (ordered[:, half - 1] + ordered[:, half])


def _residuals(place: PoseArray, seen: PoseArray, focal: PoseArray, off: PoseArray) -> None:
    """Into ``off`` (3, n) by how much places (3, n) are off what is ``seen`` (3, n): px from the centre, log depth."""
    np.divide(place[:2], place[2], out=off[:2])
    off[:2] *= focal
    np.log(place[2], out=off[2])
    off -= seen


def _by_motion(arm: PoseArray, place: PoseArray, focal: PoseArray, by: PoseArray) -> None:
    """Into ``by`` (6, 3, n) how pixel x, y and log depth change with the shift and with a turn about the middle.

    ``arm`` (3, n) from there to the ``place`` (3, n); ``focal`` (2, 1) px; what is 0 in ``by`` stays as it is.
    """
    inverse = 1.0 / place[2]
    a, b = scale = focal * inverse
    by[0, 0], by[1, 1], by[2, 2] = a, b, inverse
    along = by[2]
    np.multiply(scale * inverse, -place[:2], out=along[:2])
    p, q, r = arm
    np.multiply(q, along, out=by[3])
    by[3, 1] -= r * b
    np.multiply(-p, along, out=by[4])
    by[4, 0] += r * a
    by[5, 0], by[5, 1] = -q * a, p * b


def motion_in_world(motion_camera: PoseArray, world_from_camera: PoseArray) -> PoseArray:
    """Motions (..., 4, 4) in the axes of a camera -> the same in the world."""
    return world_from_camera @ motion_camera @ invert(world_from_camera)
