"""Image patches: where corners are, where they are found again, and how well a patch fixes its own position."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import MaskArray, PoseArray

GrayImage = NDArray[np.uint8]
CORNER_QUALITY = 0.005  # of the best corner's smaller eigenvalue (Shi and Tomasi 1994)
CORRELATION_SIDE_PX = 9


def new_corners(gray: GrayImage, allowed: MaskArray, taken: PoseArray, spacing_px: float, limit: int) -> PoseArray:
    """(n, 2) corners in allowed pixels, best first, at least ``spacing_px`` from each other and from ``taken``.

    Args:
        gray: (h, w).
        allowed: (h, w).
        taken: (m, 2) pixels x, y.
        spacing_px: least distance.
        limit: most of them.
    """
    mask = allowed.astype(np.uint8)
    for x, y in np.rint(taken).astype(int).tolist():
        cv2.circle(mask, (x, y), max(1, round(spacing_px)), 0, -1)
    if limit < 1 or not mask.any():
        return np.zeros((0, 2))
    found = cv2.goodFeaturesToTrack(gray, limit, CORNER_QUALITY, spacing_px, mask=mask, blockSize=5)
    return np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64)


def follow_patches(
    before: GrayImage, now: GrayImage, start: PoseArray, guess: PoseArray, side_px: int, levels: int
) -> tuple[PoseArray, MaskArray]:
    """Pixels (n, 2) in ``now`` of patches of ``before`` at ``start``, searched about ``guess``; and which were found.

    Alignment by translation over an image pyramid (Lucas and Kanade 1981, Bouguet 2001).
    """
    if not len(start):
        return np.zeros((0, 2)), np.zeros(0, bool)
    pixels, status, _ = cv2.calcOpticalFlowPyrLK(
        before,
        now,
        np.ascontiguousarray(start[:, None], np.float32),
        np.ascontiguousarray(guess[:, None], np.float32),
        winSize=(side_px, side_px),
        maxLevel=levels,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        minEigThreshold=1e-4,
    )
    return pixels[:, 0].astype(np.float64), status[:, 0].astype(bool)


def patch_correlation(one: GrayImage, other: GrayImage, at_one: PoseArray, at_other: PoseArray) -> PoseArray:
    """(n,) normalised cross-correlation, -1 .. 1, of square patches of two images about places (n, 2) in each."""
    if not len(at_one):
        return np.zeros(0)
    half = CORRELATION_SIDE_PX // 2
    offset = np.arange(-half, half + 1, dtype=np.float32)
    dx, dy = (part.ravel() for part in np.meshgrid(offset, offset))
    patches = []
    for image, places in ((one, at_one), (other, at_other)):
        x, y = places[:, :1].astype(np.float32) + dx, places[:, 1:].astype(np.float32) + dy
        values = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        patches.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-3))
    return np.einsum("ni,ni->n", *patches).astype(np.float64)


def structure_tensors(gray: GrayImage, pixels: PoseArray, side_px: int) -> PoseArray:
    """(n, 2, 2) sums of gradient products over square patches about pixels (n, 2), grey levels squared per px^2.

    Over the variance of the image noise this is the information of a patch about its own position: along an edge it
    is small (the aperture problem).
    """
    gx = cv2.Scharr(gray, cv2.CV_32F, 1, 0) * np.float32(1 / 32)
    gy = cv2.Scharr(gray, cv2.CV_32F, 0, 1) * np.float32(1 / 32)
    column, row = np.rint(pixels).astype(int).T
    products = [
        cv2.boxFilter(one * other, -1, (side_px, side_px), normalize=False)
        for one, other in ((gx, gx), (gx, gy), (gy, gy))
    ]
    xx, xy, yy = (product[row, column].astype(np.float64) for product in products)
    return np.stack((np.stack((xx, xy), -1), np.stack((xy, yy), -1)), -2)


def inside(pixels: PoseArray, shape: tuple[int, ...], border_px: int) -> MaskArray:
    """(n,) which pixels (n, 2) lie in an image (h, w), ``border_px`` away from its border; NaN does not."""
    x, y = pixels.T
    return np.asarray(
        (x >= border_px) & (y >= border_px) & (x <= shape[1] - 1 - border_px) & (y <= shape[0] - 1 - border_px)
    )
