"""Patch alignment to a fraction of a pixel, for all tracks of a frame in one batch.

Every track keeps a template of its own, so that what it follows does not drift. A template is aligned by the inverse
compositional form of Lucas and Kanade (Baker and Matthews, IJCV 2004) under a known affine warp, with gain and offset
of the brightness free.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import AlignmentTuning
from pomato_ros.scene.rows import pick
from pomato_ros.structures import FloatArray, MaskArray, PoseArray

NOISE_GAIN = 5.5  # of softened noise on a place over that of white noise as large: 7.1 on coarse texture, 4 on fine
GreyImage = NDArray[np.uint8]


@dataclass(slots=True)
class Templates:
    """Patches of side^2 = k grey values, one row a track."""

    values: FloatArray  # (n, k) less their mean
    gradients: FloatArray  # (n, 2, k) along x and y, less their mean, grey values per px
    normal_inverse: PoseArray  # (n, 2, 2) inverse of the structure tensor: sum over the patch of g g^T


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where templates lie in an image."""

    pixels: PoseArray  # (n, 2)
    covariance_px: PoseArray  # (n, 2, 2) from the image noise that remains and the structure tensor
    correlation: PoseArray  # (n,) zero-mean normalised cross-correlation there, -1 .. 1
    converged: MaskArray  # (n,)


def soften(image_gray: GreyImage) -> FloatArray:
    """(h, w) float32 image, smoothed by a binomial filter, whose gradients are linear over a pixel."""
    return cv2.GaussianBlur(image_gray, (3, 3), 0).astype(np.float32)


def capture(image: FloatArray, pixels: PoseArray, patch_px: int) -> Templates:
    """Templates (n) of the patches around ``pixels`` (n, 2) of an image from :func:`soften`."""
    side = patch_px + 2
    patches = _sampled(image, pixels, np.broadcast_to(np.eye(2), (len(pixels), 2, 2)), side)
    patches = patches.reshape(-1, side, side)
    gradients = np.empty((len(pixels), 2, patch_px, patch_px), np.float32)
    gradients[:, 0] = 0.5 * (patches[:, 1:-1, 2:] - patches[:, 1:-1, :-2])
    gradients[:, 1] = 0.5 * (patches[:, 2:, 1:-1] - patches[:, :-2, 1:-1])
    flat = gradients.reshape(len(pixels), 2, patch_px**2)
    flat -= flat.mean(axis=-1, keepdims=True)
    values = patches[:, 1:-1, 1:-1].reshape(len(pixels), patch_px**2)
    normal = (flat @ flat.swapaxes(1, 2)).astype(np.float64) + 1e-3 * np.eye(2)
    inverse: PoseArray = np.linalg.inv(normal).astype(np.float64)
    return Templates(values - values.mean(axis=-1, keepdims=True), flat, inverse)


def align(
    image: FloatArray, templates: Templates, start: PoseArray, warp: PoseArray, tuning: AlignmentTuning
) -> Alignment:
    """Where templates (n) lie in an image from :func:`soften`, from ``start`` (n, 2) on.

    ``warp`` (n, 2, 2) maps offsets in the template to offsets in the image: it stays as it is, the place is solved.
    Each step minimises ``|I(p + A o) - g T(o + d) - b|^2`` over d, g and b and moves the place by ``-A d``.
    """
    pixels, moving = start.copy(), np.arange(len(start))
    converged = np.zeros(len(start), bool)
    for _ in range(tuning.most_steps):
        chosen = templates if len(moving) == len(start) else pick(templates, moving)
        step = _step(image, chosen, pixels[moving], warp[moving], tuning.patch_px)
        pixels[moving] -= step
        settled = (step**2).sum(axis=-1) < tuning.settled_px**2
        converged[moving] = settled
        near = ((pixels[moving] - start[moving]) ** 2).sum(axis=-1) < tuning.farthest_px**2
        moving = moving[~settled & near]
        if not len(moving):
            break
    correlation, noise = _fit(image, templates, pixels, warp, tuning.patch_px)
    shape = warp @ templates.normal_inverse @ warp.swapaxes(1, 2)
    covariance = NOISE_GAIN * noise[:, None, None] * shape + tuning.floor_px**2 * np.eye(2)
    return Alignment(pixels, covariance, correlation, converged)


def follow(before: GreyImage, now: GreyImage, pixels: PoseArray, start: PoseArray, patch_px: int) -> PoseArray:
    """(n, 2) where ``pixels`` (n, 2) of one image are in the next, from ``start`` (n, 2) on; NaN where not found."""
    if not len(pixels):
        return np.zeros((0, 2))
    places, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        now,
        pixels.astype(np.float32).reshape(-1, 1, 2),
        start.astype(np.float32).reshape(-1, 1, 2).copy(),
        winSize=(patch_px + 4, patch_px + 4),
        maxLevel=3,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return np.where(found.reshape(-1, 1) > 0, places.reshape(-1, 2), np.nan).astype(np.float64)


def _step(image: FloatArray, templates: Templates, pixels: PoseArray, warp: PoseArray, patch_px: int) -> PoseArray:
    """(n, 2) by which places are off, px of the image."""
    _, residual, gain = _residual(image, templates, pixels, warp, patch_px)
    pull = (templates.gradients @ residual[..., None]).astype(np.float64)
    offset = templates.normal_inverse @ pull / gain[:, None, None]
    return (warp @ offset)[..., 0]


def _fit(
    image: FloatArray, templates: Templates, pixels: PoseArray, warp: PoseArray, patch_px: int
) -> tuple[PoseArray, PoseArray]:
    """Correlation (n,) and variance (n,) of what is left, in grey values of the template."""
    seen, residual, gain = _residual(image, templates, pixels, warp, patch_px)
    energy = (templates.values**2).sum(axis=-1) * (seen**2).sum(axis=-1)
    correlation = (templates.values * seen).sum(axis=-1) / np.sqrt(energy + 1e-6)
    freedom = templates.values.shape[1] - 4
    return correlation.astype(np.float64), (residual**2).sum(axis=-1) / freedom / gain**2


def _residual(
    image: FloatArray, templates: Templates, pixels: PoseArray, warp: PoseArray, patch_px: int
) -> tuple[FloatArray, FloatArray, PoseArray]:
    """Seen patch less its mean (n, k), its difference from the template at the best gain (n, k), and the gain (n,)."""
    seen = _sampled(image, pixels, warp, patch_px)
    seen -= seen.mean(axis=-1, keepdims=True)
    product = (seen * templates.values).sum(axis=-1)
    gain = np.clip(product / ((templates.values**2).sum(axis=-1) + 1e-6), 0.5, 2.0)
    return seen, seen - gain[:, None] * templates.values, gain.astype(np.float64)


def _sampled(image: FloatArray, pixels: PoseArray, warp: PoseArray, side: int) -> FloatArray:
    """(n, side^2) values at ``pixels`` + ``warp`` times the offsets of a patch, bilinear."""
    places = warp.astype(np.float32) @ _offsets(side) + pixels.astype(np.float32)[..., None]
    if not len(places):
        return np.zeros((0, side * side), np.float32)
    values: FloatArray = cv2.remap(image, places[:, 0], places[:, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values


@lru_cache(maxsize=8)
def _offsets(side: int) -> FloatArray:
    """(2, side^2) x, y of a patch's pixels from its centre."""
    reach = np.arange(side, dtype=np.float32) - np.float32(0.5 * (side - 1))
    return np.stack(np.meshgrid(reach, reach)).reshape(2, -1)
