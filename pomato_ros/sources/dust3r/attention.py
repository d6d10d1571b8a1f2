"""Attention, feed-forward and the two kinds of transformer blocks of the trunk (DUSt3R's wiring)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomato_ros.sources.dust3r.position import RotaryTables

NORM_EPS = 1e-6
SMALL_HEAD = 16  # channels of a head up to which plain products beat the fused kernel on a CPU


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(b, n, c) -> (b, heads, n, c / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merge_heads(tokens: Tensor) -> Tensor:
    """(b, heads, n, d) -> (b, n, heads * d)."""
    return tokens.transpose(-2, -3).flatten(-2)


def attend_briefly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of very many, very short sequences: (b, heads, t, d), (b, heads, s, d) twice -> (b, heads, t, d).

    On a CPU, torch's fused kernel and its softmax over a short last axis take several times the arithmetic's own time
    where heads are small. Here all sequences are one batch of small products in fp32, and lie along the last axis while
    the softmax runs. Elsewhere, and for larger heads, this is the fused kernel.
    """
    if q.device.type != "cpu" or q.shape[-1] > SMALL_HEAD or torch.onnx.is_in_onnx_export():
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        queries, keys, values = (
            x.to(torch.float32, memory_format=torch.contiguous_format).flatten(0, 1) for x in (q, k, v)
        )
        scores = torch.bmm(queries * q.shape[-1] ** -0.5, keys.mT)
        shares = scores.permute(1, 2, 0).contiguous().softmax(1).permute(2, 0, 1).contiguous()
        return torch.bmm(shares, values).unflatten(0, q.shape[:2]).to(v.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions on queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        """``dim`` channels split over ``heads``."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotary: RotaryTables) -> Tensor:
        """(b, n, c) -> (b, n, c)."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(rotary.rotate(q), rotary.rotate(k), v)
        return self.proj(merge_heads(attended))


class CrossAttention(nn.Module):
    """Multi-head attention from one view to the other, rotary positions on both.

    With ``relative_values`` a value is turned by its own place, and what a query gathers is turned back by the query's:
    what arrives depends on how far away it was found, which is how motion in the image reaches the tokens.
    """

    def __init__(self, dim: int, heads: int, relative_values: bool = False) -> None:
        """``dim`` channels split over ``heads``."""
        super().__init__()
        self.heads = heads
        self.relative_values = relative_values
        self.projq = nn.Linear(dim, dim)
        self.projk = nn.Linear(dim, dim)
        self.projv = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, memory: Tensor, rotary: RotaryTables, memory_rotary: RotaryTables | None = None
    ) -> Tensor:
        """Queries from ``x`` (b, n, c), keys and values from ``memory`` (b, m, c) -> (b, n, c).

        ``memory_rotary``: places of ``memory`` where they are not those of ``x``.
        """
        places = memory_rotary or rotary
        q, k = self._queries_and_keys(x, memory, rotary, places)
        v = split_heads(self.projv(memory), self.heads)
        if not self.relative_values:
            return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))
        gathered = F.scaled_dot_product_attention(q, k, places.rotate(v))
        return self.proj(merge_heads(rotary.rotate_back(gathered)))

    def logits(
        self, x: Tensor, memory: Tensor, rotary: RotaryTables, memory_rotary: RotaryTables | None = None
    ) -> Tensor:
        """(b, heads, n, m) fp32: scaled products of queries and keys before the softmax."""
        q, k = self._queries_and_keys(x, memory, rotary, memory_rotary or rotary)
        return q.float() @ k.float().mT * q.shape[-1] ** -0.5

    def _queries_and_keys(
        self, x: Tensor, memory: Tensor, rotary: RotaryTables, places: RotaryTables
    ) -> tuple[Tensor, Tensor]:
        """(b, heads, n, d) and (b, heads, m, d), turned by their places."""
        q = rotary.rotate(split_heads(self.projq(x), self.heads))
        return q, places.rotate(split_heads(self.projk(memory), self.heads))


class FeedForward(nn.Module):
    """Two linear layers with an exact (erf) GELU between."""

    def __init__(self, dim: int, ratio: int) -> None:
        """Hidden size is ``ratio * dim``."""
        super().__init__()
        self.fc1 = nn.Linear(dim, ratio * dim)
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., c) -> (..., c)."""
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        """Sizes as in :class:`pomato_ros.config.NetworkConfig`."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = FeedForward(dim, mlp_ratio)

    def forward(self, x: Tensor, rotary: RotaryTables) -> Tensor:
        """(b, n, c) -> (b, n, c)."""
        x = x + self.attn(self.norm1(x), rotary)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, cross-attention to the other view, and feed-forward."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int, relative_values: bool = False) -> None:
        """Sizes as in :class:`pomato_ros.config.NetworkConfig`."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = SelfAttention(dim, heads)
        self.norm_y = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.cross_attn = CrossAttention(dim, heads, relative_values)
        self.norm3 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = FeedForward(dim, mlp_ratio)

    def forward(
        self,
        x: Tensor,
        other: Tensor,
        rotary: RotaryTables,
        other_rotary: RotaryTables | None = None,
        watch: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """``x`` (b, n, c) of this view, ``other`` (b, m, c) of the other view before this layer -> (b, n, c).

        ``other_rotary``: places of ``other`` where the two images differ in size. ``watch``: is given the
        cross-attention's :meth:`CrossAttention.logits`.
        """
        x = x + self.attn(self.norm1(x), rotary)
        asking, memory = self.norm2(x), self.norm_y(other)
        if watch is not None:
            watch(self.cross_attn.logits(asking, memory, rotary, other_rotary))
        x = x + self.cross_attn(asking, memory, rotary, memory_rotary=other_rotary)
        return x + self.mlp(self.norm3(x))
