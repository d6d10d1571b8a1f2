"""Rotary two-dimensional token positions."""

import torch
from torch import Tensor


def token_positions(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """(rows * columns, 2) integer (y, x) of every patch, row by row."""
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack((y.flatten(), x.flatten()), dim=-1)


def position_code(positions: Tensor, dim: int, base: float) -> Tensor:
    """(n, dim) sine and cosine of each ``positions`` (n, 2) of (y, x), turned ``base ** (-4k / dim)`` a patch.

    A quarter of the channels each: sine and cosine of the row, sine and cosine of the column; ``dim`` divisible by 4.
    """
    exponents = torch.arange(dim // 4, dtype=torch.float32, device=positions.device) * 4 / dim
    angles = positions.to(torch.float32)[..., None] * base**-exponents  # (n, 2, dim / 4)
    return torch.stack((angles.sin(), angles.cos()), dim=-2).flatten(-3)


class RotaryTables:
    """Cosine and sine tables that rotate queries and keys: half of each head by the row, half by the column.

    Within a half of D channels, channel k and k + D/2 form a pair turned by ``position * base ** (-2k / D)``.
    """

    def __init__(self, positions: Tensor, head_dim: int, base: float) -> None:
        """Tables for ``positions`` (..., n, 2) of (y, x)."""
        half = head_dim // 2
        exponents = torch.arange(0, half, 2, dtype=torch.float32, device=positions.device) / half
        angles = positions.to(torch.float32)[..., None] * base**-exponents  # (..., n, 2, half / 2)
        angles = torch.cat((angles, angles), dim=-1).flatten(-2)  # (..., n, head_dim)
        self.cos, self.sin = angles.cos(), angles.sin()

    def rotate(self, tokens: Tensor) -> Tensor:
        """Rotate ``tokens`` (..., heads, n, head_dim); the tables broadcast over batch and heads."""
        halves = tokens.unflatten(-1, (2, 2, -1))  # (..., n, [row | column], [first | second], head_dim / 4)
        first, second = halves.unbind(-2)
        turned = torch.stack((-second, first), dim=-2).flatten(-3)
        return (tokens * self.cos + turned * self.sin).to(tokens.dtype)
