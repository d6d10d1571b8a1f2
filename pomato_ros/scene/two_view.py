"""The relative pose of two frames from flow alone, up to the length of its translation.

An essential matrix by five points and random sampling (Nister 2004; OpenCV's USAC), or a rotation alone where that
explains as many matches: with no parallax an essential matrix would excuse what moves.
"""

import cv2
import numpy as np

from pomato_ros.config import TwoViewTuning
from pomato_ros.geometry.rigid import pose_from, rotation_exp
from pomato_ros.scene.rest import Matches, PairGeometry, RelativePose, geometry_of, refined, rest_of
from pomato_ros.structures import PoseArray

LEAST_MATCHES = 32


def pair_geometry(matches: Matches, camera_matrix: PoseArray, tuning: TwoViewTuning):
    if len(matches.x) < LEAST_MATCHES:
        return None
    newest = np.stack((matches.x, matches.y), axis=-1).astype(np.float64)
    earlier = np.stack((matches.to_x, matches.to_y), axis=-1).astype(np.float64)
    threshold_px = max(tuning.inlier_gate * float(np.sqrt(np.median(matches.variance))), tuning.least_threshold_px)
    plane, _ = cv2.findHomography(newest, earlier, cv2.USAC_MAGSAC, threshold_px, maxIters=tuning.samples)
    flat = PairGeometry(plane, np.zeros(3)) if plane is not None else None
    pose = _essential(newest, earlier, matches, camera_matrix, tuning, threshold_px)
    if pose is None:
        return (flat, None, 0, 0)
    moved = geometry_of(pose.earlier_from_newest, camera_matrix)
    s0 = explained(matches, flat, threshold_px) if flat is not None else 0
    s1 = explained(matches, moved, threshold_px)
    return (flat, None, s0, s1) if s0 >= tuning.rotation_preference * s1 else (moved, pose, s0, s1)


def explained(matches: Matches, geometry: PairGeometry, threshold_px: float) -> float:
    """Share of the matches that are within ``gate`` standard deviations of a place at rest."""
    r = rest_of(matches, geometry)
    return float((np.hypot(r.x - matches.to_x, r.y - matches.to_y) < threshold_px).mean())


def _essential(newest, earlier, matches, camera_matrix, tuning, threshold_px):
    """Rotation and direction of translation that most matches agree with."""
    essential, inliers = cv2.findEssentialMat(
        newest,
        earlier,
        camera_matrix,
        method=cv2.USAC_ACCURATE,
        prob=0.999,
        threshold=threshold_px,
        maxIters=tuning.samples,
    )
    if essential is None or essential.shape != (3, 3):
        return None
    _, rotation, translation, _ = cv2.recoverPose(essential, newest, earlier, camera_matrix, mask=inliers.copy())
    covariance = np.diag([tuning.direction**2] * 3 + [tuning.rotation_rad**2] * 3)
    start = RelativePose(pose_from(rotation, translation[:, 0]), covariance)
    return refined(matches, start, camera_matrix, tuning.steps, tuning.inlier_gate, tuning.correlated)
