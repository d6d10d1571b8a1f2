"""Where new tracks begin: on texture, away from jumps in depth, spread over the image, more on what moves."""

import math

import cv2
import numpy as np

from pomato_ros.config import SeedTuning
from pomato_ros.scene.depth_patches import depth_jumps
from pomato_ros.structures import DepthMap, FloatArray, MaskArray, PoseArray


def seed_scores(image: FloatArray, depth: DepthMap, mask: MaskArray, tuning: SeedTuning) -> FloatArray:
    """(h, w) texture where a track may begin, 0 elsewhere; depth and mask do not change nearby."""
    texture = cv2.cornerMinEigenVal(image, tuning.texture_px)
    kernel = np.ones((tuning.texture_px, tuning.texture_px), np.uint8)
    moving = mask.view(np.uint8)
    edge = cv2.dilate(moving, kernel) != cv2.erode(moving, kernel)
    allowed = ~edge & ~depth_jumps(depth, tuning.jump_px, tuning.jump) & (texture > tuning.least_texture)
    scores = np.where(allowed, texture, np.float32(0))
    inner, border = np.zeros_like(scores), tuning.border_px
    inner[border:-border, border:-border] = scores[border:-border, border:-border]
    return inner


def choose_seeds(scores: FloatArray, taken_px: PoseArray, cell_px: int) -> PoseArray:
    """(n, 2) the best pixel of each cell of a grid that holds no track yet, best first.

    Args:
        scores: (h, w) from :func:`seed_scores`, 0 where nothing may begin.
        taken_px: (m, 2) pixels of tracks.
        cell_px: side of a cell.
    """
    height, width = scores.shape
    rows, columns = math.ceil(height / cell_px), math.ceil(width / cell_px)
    padded = np.zeros((rows * cell_px, columns * cell_px), np.float32)
    padded[:height, :width] = scores
    cells = padded.reshape(rows, cell_px, columns, cell_px).swapaxes(1, 2).reshape(rows * columns, cell_px**2)
    best = cells.argmax(axis=1)
    worth = cells[np.arange(len(cells)), best]
    at = (taken_px[np.isfinite(taken_px).all(axis=-1)] // cell_px).astype(np.int64)
    at = at[(at >= 0).all(axis=-1) & (at[:, 0] < columns) & (at[:, 1] < rows)]
    worth[at[:, 1] * columns + at[:, 0]] = 0.0
    chosen = np.flatnonzero(worth > 0)
    chosen = chosen[np.argsort(-worth[chosen], kind="stable")]
    x = chosen % columns * cell_px + best[chosen] % cell_px
    y = chosen // columns * cell_px + best[chosen] // cell_px
    return np.stack((x, y), axis=-1).astype(np.float64)
