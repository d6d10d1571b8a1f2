"""Lucas and Kanade's tracker with a say in how much of it is done: most of its time goes to what a good start saves."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import FloatArray, MaskArray, PoseArray

LEAST_SIDE_PX = 32  # with fewer rows OpenCV's dense flow reads beyond the image
EIGHT = 8  # columns of a patch that OpenCV compares at once; what is left of a row it does one by one
STEP_PX = 0.02  # a shorter step is the last, from a good start
STEPS_BACK = 3  # a right place is at the end of the way back from the first on
ROUND_TRIP_PX = 0.5  # there and back again must end this close to the start


def follow_from(
    before: NDArray[np.uint8],
    newest: NDArray[np.uint8],
    pixels: NDArray[np.floating],
    expected: NDArray[np.floating],
    patch_px: int,
    *,
    levels: int,
    steps: int,
    step_px: float = STEP_PX,
    levels_back: int = 0,
    steps_back: int = STEPS_BACK,
    checked: bool = True,
) -> tuple[PoseArray, MaskArray]:
    """Where ``pixels`` (n, 2) of one grey image are in another (n, 2), and which were found (n,).

    The way there takes as many levels of the pyramid as the start needs. The way back begins at its own end, so that
    unless told otherwise it takes few steps on the full image alone.

    Args:
        before: (h, w).
        newest: (h, w).
        pixels: (n, 2) in ``before``.
        expected: (n, 2) where to start looking in ``newest``.
        patch_px: side of the patch that is compared.
        levels: of the pyramid above the image; each doubles how far off a start may be, about half a patch without.
        steps: most steps on a level.
        step_px: a shorter step is the last.
        levels_back: as ``levels``, on the way back.
        steps_back: as ``steps``, on the way back.
        checked: only what comes back to where it was is found.
    """
    start = np.ascontiguousarray(pixels, dtype=np.float32)
    if not len(start):
        return np.zeros((0, 2)), np.zeros(0, dtype=bool)
    there, found = track(before, newest, start, expected.astype(np.float32), patch_px, levels, steps, step_px)
    height, width = newest.shape
    good = found.copy()
    if checked:
        back, found_back = track(newest, before, there, start, patch_px, levels_back, steps_back, step_px)
        away = back - start
        good &= found_back & (away[:, 0] ** 2 + away[:, 1] ** 2 < ROUND_TRIP_PX**2)
    good &= (there[:, 0] >= 0) & (there[:, 0] <= width - 1) & (there[:, 1] >= 0) & (there[:, 1] <= height - 1)
    return there.astype(np.float64), good


def track(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    points: NDArray[np.float32],
    expected: NDArray[np.float32],
    patch_px: int,
    levels: int,
    steps: int,
    step_px: float,
) -> tuple[NDArray[np.float32], MaskArray]:
    """Pyramidal Lucas-Kanade from ``points`` (n, 2), started at ``expected`` -> places (n, 2), found (n,)."""
    narrow = patch_px % EIGHT == EIGHT - 1  # of nearly as many pixels, and twice as fast
    places, found, _ = cv2.calcOpticalFlowPyrLK(
        source,
        target,
        points.reshape(-1, 1, 2),
        expected.reshape(-1, 1, 2).copy(),
        winSize=(patch_px + narrow, patch_px - narrow),
        maxLevel=levels,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, step_px),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return places.reshape(-1, 2), found.ravel().astype(bool)


def dense_flow(method: cv2.DISOpticalFlow, newest: NDArray[np.uint8], other: NDArray[np.uint8]) -> FloatArray:
    """(h, w, 2) px from each pixel of a grey image (h, w) to where it is in another.

    Narrow images are continued by their edges.
    """
    height, width = newest.shape
    below, right = (max(0, LEAST_SIDE_PX - side) for side in (height, width))
    if not below and not right:
        return method.calc(newest, other, None)
    whole = [cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE) for image in (newest, other)]
    flow: FloatArray = method.calc(whole[0], whole[1], None)
    return np.ascontiguousarray(flow[:height, :width])
