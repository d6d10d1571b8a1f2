"""Finding a lost camera again: ORB features of the keyframes, matched with the newest image, and a pose in RANSAC."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TUNED_WIDTH_PX
from pomato_ros.geometry.rigid import invert, pose_from
from pomato_ros.scene.landmarks import Keyframe, rays_through
from pomato_ros.scene.patches import GrayImage
from pomato_ros.structures import DepthMap, Intrinsics, PoseArray

FEATURES = 600
LEAST_MATCHES = 12
RATIO = 0.8  # of the best match's distance to the second best (Lowe 2004)
REPROJECTION_PX = 4.0  # of an image 640 px wide
KEYFRAMES_A_FRAME = 6  # searched in one frame: bounds the time


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    pixels: PoseArray  # (n, 2)
    descriptors: NDArray[np.uint8]  # (n, 32)


class Relocaliser:
    """Descriptors of keyframes, computed when a lost camera first asks for them."""

    def __init__(self) -> None:
        """Nothing is kept."""
        self._orb = cv2.ORB.create(FEATURES)
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
        self.reset()

    def reset(self) -> None:
        """Forget all descriptors."""
        self._kept: dict[int, _Features] = {}
        self._turn = 0

    def locate(self, gray: GrayImage, keyframes: dict[int, Keyframe], intrinsics: Intrinsics) -> PoseArray | None:
        """(4, 4) world_from_camera of an image near one of the keyframes; None where no keyframe is recognised.

        A few keyframes are tried in each call, in turn, the newest among them always.
        """
        newest = self._features(gray)
        self._kept = {number: kept for number, kept in self._kept.items() if number in keyframes}
        best: tuple[int, PoseArray] | None = None
        for number in self._candidates(sorted(keyframes)):
            found = self._pose(newest, keyframes[number], intrinsics)
            if found is not None and (best is None or found[0] > best[0]):
                best = found
        return None if best is None else best[1]

    def _candidates(self, numbers: list[int]) -> list[int]:
        """The newest keyframe, and others in turn."""
        older = numbers[:-1]
        start = self._turn % max(1, len(older))
        self._turn += KEYFRAMES_A_FRAME - 1
        return numbers[-1:] + (older[start:] + older[:start])[: KEYFRAMES_A_FRAME - 1]

    def _features(self, gray: GrayImage) -> _Features:
        points, descriptors = self._orb.detectAndCompute(gray, None)
        if descriptors is None:
            return _Features(np.zeros((0, 2)), np.zeros((0, 32), np.uint8))
        return _Features(np.array([point.pt for point in points], np.float64).reshape(-1, 2), descriptors)

    def _pose(self, newest: _Features, keyframe: Keyframe, intrinsics: Intrinsics) -> tuple[int, PoseArray] | None:
        """Number of inliers and pose of the newest image by one keyframe's features and depth."""
        if keyframe.depth is None:
            return None
        if keyframe.number not in self._kept:
            self._kept[keyframe.number] = self._features(keyframe.gray)
        known = self._kept[keyframe.number]
        pairs = self._matched(known, newest)
        if len(pairs) < LEAST_MATCHES:
            return None
        points, valid = lifted(known.pixels[pairs[:, 0]], keyframe.depth, intrinsics)
        pixels = newest.pixels[pairs[valid, 1]]
        if len(pixels) < LEAST_MATCHES:
            return None
        found, rotation, translation, inliers = cv2.solvePnPRansac(
            points,
            pixels,
            intrinsics.matrix(),
            None,
            iterationsCount=300,
            reprojectionError=REPROJECTION_PX * intrinsics.width_px / TUNED_WIDTH_PX,
            flags=cv2.SOLVEPNP_AP3P,
        )
        if not found or inliers is None or len(inliers) < LEAST_MATCHES:
            return None
        camera_from_keyframe = pose_from(cv2.Rodrigues(rotation)[0], translation[:, 0])
        return len(inliers), keyframe.world_from_camera @ invert(camera_from_keyframe)

    def _matched(self, known: _Features, newest: _Features) -> NDArray[np.int64]:
        """(n, 2) rows of features that match unambiguously."""
        if len(known.descriptors) < 2 or len(newest.descriptors) < 2:
            return np.zeros((0, 2), np.int64)
        twos = self._matcher.knnMatch(known.descriptors, newest.descriptors, k=2)
        pairs = [
            (best.queryIdx, best.trainIdx)
            for best, second in (two for two in twos if len(two) == 2)
            if best.distance < RATIO * second.distance
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)


def lifted(pixels: PoseArray, depth: DepthMap, intrinsics: Intrinsics) -> tuple[PoseArray, NDArray[np.int64]]:
    """Points (m, 3) in the camera of those pixels (n, 2) that have depth, and their rows (m,)."""
    column, row = np.rint(pixels).astype(int).T
    usable = np.flatnonzero(depth.valid[row, column] & (depth.inverse_depth[row, column] > 0))
    inverse = depth.inverse_depth[row[usable], column[usable]].astype(np.float64)
    return rays_through(pixels[usable], intrinsics) / inverse[:, None], usable
