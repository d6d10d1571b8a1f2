"""Image features followed from the reference frame to the newest one: what the pixels themselves say of the camera."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.pointmap_scene.follow import follow_from
from pomato_ros.structures import MaskArray, PoseArray

MAX_FEATURES = 400
MIN_DISTANCE_PX = 3.0
CORNER_QUALITY = 0.002
PATCH_PX = 7  # of the pyramidal Lucas-Kanade tracker; in a larger one two surfaces meet more often
PYRAMID_LEVELS = 3
STEPS = 30  # most of the tracker's on a level
STEP_PX = 0.01  # a shorter one is the last
SOFTENING_PX = 0.8  # standard deviation,
SOFTENED_PX = 5  # within a square of this side: farther off no weight is left in whole grey levels
MIN_EPIPOLAR = 20  # matches below which an essential matrix tells nothing
EPIPOLAR_PX = 0.5  # distance from the epipolar line


@dataclass(frozen=True, slots=True)
class FeatureMatches:
    """Places of the same image features in two frames of one size."""

    reference_pixels: PoseArray  # (n, 2) x, y
    newest_pixels: PoseArray  # (n, 2)


def match_features(
    reference_rgb: NDArray[np.uint8], newest_rgb: NDArray[np.uint8], guess: FeatureMatches | None = None
) -> FeatureMatches:
    """Corners of the reference frame, tracked to the newest one and checked by tracking them back.

    Args:
        reference_rgb: (h, w, 3).
        newest_rgb: (h, w, 3).
        guess: matches of the same reference frame with an earlier frame; their features are tracked on from there, new
            ones fill the gaps.
    """
    reference, newest = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (reference_rgb, newest_rgb))
    start, expected = _starting_points(reference, guess)
    if not len(start):
        return FeatureMatches(np.zeros((0, 2)), np.zeros((0, 2)))
    there, good = follow_features(reference, newest, start, expected)
    return FeatureMatches(start[good].astype(np.float64), there[good])


@dataclass(frozen=True, slots=True, eq=False)
class SoftImage:
    """A :func:`softened` image, and every other of its pixels, softer still, for rough places of its features."""

    whole: NDArray[np.uint8]  # (h, w)
    half: NDArray[np.uint8]  # ((h + 1) // 2, (w + 1) // 2); its pixel x, y is at 2 x, 2 y of the whole

    @classmethod
    def of(cls, image_rgb: NDArray[np.uint8]) -> "SoftImage":
        """Of an image (h, w, 3)."""
        whole = softened(image_rgb)
        return cls(whole, cv2.pyrDown(whole))


def softened(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) grey and a little blurred, so that texture finer than a pixel does not pull features about."""
    return cv2.GaussianBlur(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), (SOFTENED_PX, SOFTENED_PX), SOFTENING_PX)


def follow_features(
    before: NDArray[np.uint8],
    newest: NDArray[np.uint8],
    pixels: NDArray[np.floating],
    expected: NDArray[np.floating],
    patch_px: int = PATCH_PX,
) -> tuple[PoseArray, MaskArray]:
    """:func:`follow.follow_from` with all levels and steps, there and back, from wherever it is started.

    ``pixels`` (n, 2) of ``before``; ``expected`` (n, 2): where to start looking; ``patch_px``: side of the patch that
    is compared.
    """
    return follow_from(
        before,
        newest,
        pixels,
        expected,
        patch_px,
        levels=PYRAMID_LEVELS,
        steps=STEPS,
        step_px=STEP_PX,
        levels_back=PYRAMID_LEVELS,
        steps_back=STEPS,
    )


def new_features(grey: NDArray[np.uint8], taken: PoseArray, room: int) -> PoseArray:
    """At most ``room`` corners (n, 2) of a softened image, away from the places ``taken`` (m, 2)."""
    if room <= 0:
        return np.zeros((0, 2))
    free = free_of(taken, grey.shape)
    corners = cv2.goodFeaturesToTrack(grey, room, CORNER_QUALITY, MIN_DISTANCE_PX, mask=free)
    return np.zeros((0, 2)) if corners is None else corners.reshape(-1, 2).astype(np.float64)


def free_of(taken: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(h, w) 0 within MIN_DISTANCE_PX of places (n, 2) of an image, else 255."""
    free = np.full(shape, 255, np.uint8)
    x, y = np.rint(taken).astype(int).T
    free[y, x] = 0
    reach = int(MIN_DISTANCE_PX)
    about = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= MIN_DISTANCE_PX
    return cv2.erode(free, about.astype(np.uint8))


def keep_rigid(matches: FeatureMatches, camera_matrix: PoseArray) -> FeatureMatches:
    """Matches that one camera motion explains whatever their depth: inliers of the best essential matrix.

    What moves by itself mostly does not, so this drops movers without asking the network. Too few matches to tell are
    all kept.
    """
    if len(matches.reference_pixels) < MIN_EPIPOLAR:
        return matches
    _, inliers = cv2.findEssentialMat(
        matches.reference_pixels,
        matches.newest_pixels,
        camera_matrix,
        method=cv2.USAC_MAGSAC,
        prob=0.999,
        threshold=EPIPOLAR_PX,
        maxIters=1000,
    )
    if inliers is None:
        return matches
    rigid = inliers.ravel().astype(bool)
    return FeatureMatches(matches.reference_pixels[rigid], matches.newest_pixels[rigid])


def _starting_points(
    reference: NDArray[np.uint8], guess: FeatureMatches | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of the reference (n, 2) and where to start looking for each in the newest frame."""
    known = np.zeros((0, 2), np.float32) if guess is None else guess.reference_pixels.astype(np.float32)
    expected = np.zeros((0, 2), np.float32) if guess is None else guess.newest_pixels.astype(np.float32)
    room = MAX_FEATURES - len(known)
    if room > 0:
        free = free_of(known, reference.shape)
        corners = cv2.goodFeaturesToTrack(reference, room, CORNER_QUALITY, MIN_DISTANCE_PX, mask=free)
        fresh = np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
        shift = np.median(expected - known, axis=0) if len(known) else np.zeros(2, np.float32)
        known, expected = np.concatenate((known, fresh)), np.concatenate((expected, fresh + shift))
    return known.astype(np.float32), expected.astype(np.float32)
