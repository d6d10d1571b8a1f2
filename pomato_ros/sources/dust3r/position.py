"""Rotary two-dimensional token positions."""

from functools import lru_cache

import torch
from torch import Tensor

KEPT_TABLES = 16  # for so many sizes of images, widths and devices


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
        return (tokens * self.cos + quarter_turn(tokens) * self.sin).to(tokens.dtype)

    def rotate_back(self, tokens: Tensor) -> Tensor:
        """The inverse of :meth:`rotate`."""
        return (tokens * self.cos - quarter_turn(tokens) * self.sin).to(tokens.dtype)


def quarter_turn(tokens: Tensor) -> Tensor:
    """Every pair of channels of ``tokens`` (..., head_dim) turned by 90 degrees, see :class:`RotaryTables`."""
    halves = tokens.unflatten(-1, (2, 2, -1))  # (..., [row | column], [first | second], head_dim / 4)
    first, second = halves.unbind(-2)
    return torch.stack((-second, first), dim=-2).flatten(-3)


@torch.inference_mode(False)
@torch.no_grad()
def make_rotary(grid_hw: tuple[int, int], head_dim: int, base: float, device: torch.device) -> RotaryTables:
    """Tables for a grid of patches; of plain tensors, which training may use as well."""
    return RotaryTables(token_positions(*grid_hw, device=device), head_dim, base)


@torch.inference_mode(False)
@torch.no_grad()
def make_code(grid_hw: tuple[int, int], dim: int, base: float, device: torch.device) -> Tensor:
    """:func:`position_code` (n, dim) of a grid of patches."""
    return position_code(token_positions(*grid_hw, device=device), dim, base)


kept_rotary, kept_code = lru_cache(KEPT_TABLES)(make_rotary), lru_cache(KEPT_TABLES)(make_code)


def rotary_of(grid_hw: tuple[int, int], head_dim: int, base: float, device: torch.device) -> RotaryTables:
    """:func:`make_rotary`, kept from call to call; made anew where torch records what is done."""
    return (make_rotary if torch.onnx.is_in_onnx_export() else kept_rotary)(grid_hw, head_dim, base, device)


def code_of(grid_hw: tuple[int, int], dim: int, base: float, device: torch.device) -> Tensor:
    """:func:`make_code`, kept from call to call; made anew where torch records what is done."""
    return (make_code if torch.onnx.is_in_onnx_export() else kept_code)(grid_hw, dim, base, device)
