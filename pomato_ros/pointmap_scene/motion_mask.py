"""Which pixels moved, from the disagreement of reconstruction and matching pointmaps."""

import torch
from torch import Tensor


def motion_distance(points: Tensor, points_match: Tensor) -> Tensor:
    """``|X_m - X|`` (..., h, w) of two pointmaps (..., h, w, 3): how far each pixel's point went between two times."""
    return torch.linalg.vector_norm(points_match - points, dim=-1)


def motion_mask(
    points: Tensor, points_match: Tensor, alpha: float, floor: float, valid: Tensor | None = None
) -> Tensor:
    """Moving pixels: farther than ``alpha`` medians over the image (paper, eq. 5 and 9) and than ``floor`` ranges.

    The floor is relative to the point's own distance from the camera, ``|X_m - X| > floor * |X|``, so that a still
    scene, whose median is the network's own noise, has an empty mask at any scale.

    Args:
        points: (..., h, w, 3), where pixels' points are.
        points_match: (..., h, w, 3), where the same points were at the other time, same camera.
        alpha: medians.
        floor: share of the range; 0 leaves the paper's rule.
        valid: (..., h, w), pixels that may count and move; None means all finite ones.

    Returns:
        (..., h, w) bool; each image of a batch has its own median.
    """
    distance = motion_distance(points, points_match)
    usable = torch.isfinite(distance) if valid is None else torch.isfinite(distance) & valid
    threshold = alpha * lower_median(distance, usable)[..., None, None]
    far = distance > floor * torch.linalg.vector_norm(points, dim=-1)
    return usable & far & (distance > threshold)


def lower_median(values: Tensor, usable: Tensor) -> Tensor:
    """Median of the usable pixels of each image (..., h, w) -> (...), the lower of two middle ones; NaN if none is."""
    return torch.where(usable, values, torch.nan).flatten(-2).nanmedian(dim=-1).values
