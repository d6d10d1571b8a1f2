"""What JPEG does to an image, on any device: 8 x 8 cosine transform, quantised, with colour at half the resolution.

Rounding and tables are those of ITU-T T.81, Annex K, scaled by quality as libjpeg does; the lossless part of the format
is left out.
"""

import math

import torch
from torch import Tensor

BLOCK = 8
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
YCC_FROM_RGB = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
RGB_FROM_YCC = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def compressed(images: Tensor, quality: int) -> Tensor:
    """``images`` (t, h, w, 3) of values in [0, 255] as they come back from a JPEG of ``quality``, 1 to 100.

    Raises:
        ValueError: the quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"a JPEG's quality is from 1 to 100, got {quality}")
    height, width = images.shape[1:3]
    planes = torch.movedim(images @ images.new_tensor(YCC_FROM_RGB).T, -1, 1)
    planes = _padded(planes, 2 * BLOCK)
    brightness = _quantised(planes[:, :1] - 128.0, LUMA, quality) + 128.0
    colour = _quantised(torch.nn.functional.avg_pool2d(planes[:, 1:], 2), CHROMA, quality)
    colour = torch.nn.functional.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)
    back = torch.movedim(torch.cat((brightness, colour), dim=1), 1, -1) @ images.new_tensor(RGB_FROM_YCC).T
    return back[:, :height, :width].clamp(0.0, 255.0)


def _padded(planes: Tensor, multiple: int) -> Tensor:
    """``planes`` (t, c, h, w) with the last row and column repeated to whole multiples."""
    height, width = planes.shape[2:]
    pad = (0, -width % multiple, 0, -height % multiple)
    return torch.nn.functional.pad(planes, pad, mode="replicate")


def _quantised(planes: Tensor, table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """``planes`` (t, c, h, w) after their blocks' cosine transform was rounded to multiples of the scaled table."""
    scale = 50.0 / quality if quality < 50 else 2.0 - 0.02 * quality
    steps = torch.floor(planes.new_tensor(table) * scale + 0.5).clamp(1.0, 255.0)
    basis = _cosines(planes.device).to(planes.dtype)
    blocks = planes.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)  # (t, c, gh, gw, 8, 8)
    spectrum = basis @ blocks @ basis.T
    blocks = basis.T @ (torch.round(spectrum / steps) * steps) @ basis
    return blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _cosines(device: torch.device) -> Tensor:
    """(8, 8) orthonormal cosine transform: row k is sqrt(2/8) c_k cos((2 n + 1) k pi / 16), c_0 = sqrt(1/2)."""
    number = torch.arange(BLOCK, dtype=torch.float64, device=device)
    rows = torch.cos((2.0 * number + 1.0) * number[:, None] * math.pi / (2 * BLOCK)) * math.sqrt(2.0 / BLOCK)
    rows[0] *= math.sqrt(0.5)
    return rows
