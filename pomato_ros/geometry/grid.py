"""Pixel grids and bilinear sampling. Integer coordinates are pixel centres: pixel (0, 0) has its centre at (0, 0)."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def pixel_grid(height: int, width: int) -> NDArray[np.float64]:
    """(height, width, 2): the (x, y) of every pixel's centre."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    return np.stack((x, y), axis=-1)


def sample_bilinear(maps: Tensor, pixels: Tensor) -> Tensor:
    """Values of ``maps`` (n, h, w, c) at ``pixels`` (p, 2) or (n, p, 2) of (x, y) -> (n, p, c).

    At an integer pixel the value is that pixel's own. Outside the image everything is zero, so within one pixel of the
    border (coordinates in (-1, 0) or (w - 1, w)) the value fades to zero.
    """
    count, height, width, _ = maps.shape
    extent = torch.tensor([width - 1, height - 1], dtype=maps.dtype, device=maps.device).clamp(min=1)
    normalised = (pixels.to(maps) / extent * 2 - 1).expand(count, -1, 2)
    sampled = F.grid_sample(
        maps.permute(0, 3, 1, 2), normalised[:, :, None], mode="bilinear", padding_mode="zeros", align_corners=True
    )
    return sampled[..., 0].transpose(1, 2)
