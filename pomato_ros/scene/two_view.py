"""Where points at rest go between two frames, from flow alone.

An essential matrix by five points and random sampling (Nister 2004; OpenCV's USAC), refined, or a homography where that
explains enough: it ties each pixel to a point, the essential matrix to a line only, so that with little parallax the
latter would excuse what moves. A match on a line of length L costs about ln(L / s) where one that a homography does not
explain costs 2 ln(L / s), so that the homography is the better model from half the essential matrix's share on (as in
GRIC, Torr 1998).
"""

import cv2
import numpy as np

from pomato_ros.config import TwoViewTuning
from pomato_ros.geometry.rigid import pose_from
from pomato_ros.scene.rest import Matches, PairGeometry, geometry_of, refined, rest_of
from pomato_ros.structures import PoseArray, PosePrior


def pair_geometry(
    matches: Matches, camera_matrix: PoseArray, tuning: TwoViewTuning
) -> tuple[PairGeometry, PosePrior | None] | None:
    """The geometry that most matches agree with, and its pose where it has one; None: flow fits neither model.

    Args:
        matches: some hundred or thousand, spread over the image; their depth is not used.
        camera_matrix: (3, 3).
        tuning: thresholds.
    """
    newest = np.stack((matches.x, matches.y), axis=-1).astype(np.float64)
    earlier = np.stack((matches.to_x, matches.to_y), axis=-1).astype(np.float64)
    gate_px = max(tuning.inlier_gate * float(np.sqrt(np.median(matches.variance))), tuning.least_threshold_px)
    plane, _ = cv2.findHomography(newest, earlier, cv2.USAC_MAGSAC, gate_px, maxIters=tuning.samples)
    flat = None if plane is None else PairGeometry(plane, np.zeros(3))
    start = _essential(newest, earlier, camera_matrix, gate_px, tuning)
    if start is None:
        return None if flat is None else (flat, None)
    pose = refined(matches, start, camera_matrix, tuning)
    deep = geometry_of(pose.earlier_from_newest, camera_matrix)
    if flat is None:
        return deep, pose
    enough = tuning.homography_preference * explained(matches, deep, gate_px)
    return (flat, None) if explained(matches, flat, gate_px) >= enough else (deep, pose)


def explained(matches: Matches, geometry: PairGeometry, gate_px: float) -> float:
    """Share of the matches that are within ``gate_px`` of a place at rest."""
    rest = rest_of(matches, geometry)
    return float((np.hypot(rest.x - matches.to_x, rest.y - matches.to_y) < gate_px).mean())


def _essential(
    newest: PoseArray, earlier: PoseArray, camera_matrix: PoseArray, gate_px: float, tuning: TwoViewTuning
) -> PosePrior | None:
    """Rotation and direction of translation that most pixels (n, 2) of the newest and the earlier frame agree with."""
    essential, inliers = cv2.findEssentialMat(
        newest,
        earlier,
        camera_matrix,
        method=cv2.USAC_ACCURATE,
        prob=0.999,
        threshold=gate_px,
        maxIters=tuning.samples,
    )
    if essential is None or essential.shape != (3, 3):
        return None
    _, rotation, translation, _ = cv2.recoverPose(essential, newest, earlier, camera_matrix, mask=inliers.copy())
    covariance = np.diag([tuning.direction**2] * 3 + [tuning.rotation_rad**2] * 3)
    return PosePrior(1, pose_from(rotation, translation[:, 0]), covariance)
