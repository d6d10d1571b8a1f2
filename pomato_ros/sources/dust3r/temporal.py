"""Motion modules: attention along the window's time axis, one location at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomato_ros.sources.dust3r.attention import attend_briefly, merge_heads, split_heads

LAYER_NORM_EPS = 1e-5
GROUP_NORM_EPS = 1e-6


def take(x: Tensor, dim: int, at: Sequence[int]) -> Tensor:
    """The places ``at`` of one axis of ``x``, in that order.

    Without an index tensor: made from a list, it would have the host wait for a GPU each time.
    """
    first, count = at[0], len(at)
    if count > 1 and first >= 0 and tuple(at) == tuple(range(first, first + count)):
        return x.narrow(dim, first, count)
    return (
        torch.stack([x.select(dim, place) for place in at], dim) if count > 1 else x.select(dim, first).unsqueeze(dim)
    )


def pick_slots(x: Tensor, frames: int, slots: Sequence[int] | None) -> Tensor:
    """Rows (b * frames, ...) -> (b * len(slots), ...), those of some frames of each window; all where it is None."""
    return x if slots is None else take(x.unflatten(0, (-1, frames)), 1, slots).flatten(0, 1)


def sinusoid_table(length: int, dim: int) -> Tensor:
    """(length, dim): ``[t, 2k] = sin(t * 10000 ** (-2k / dim))`` and ``[t, 2k + 1]`` the cosine of the same."""
    frequency = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10000.0) / dim))
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


class SlotEncoding(nn.Module):
    """Holds the fixed encoding of the slots of a window; stored in official checkpoints, never trained."""

    pe: Tensor

    def __init__(self, length: int, dim: int) -> None:
        """Encodings of ``length`` slots."""
        super().__init__()
        self.register_buffer("pe", sinusoid_table(length, dim)[None])


@dataclass(frozen=True, slots=True)
class Projected:
    """Queries, keys and values of frames at their slots, each (..., t, c)."""

    q: Tensor
    k: Tensor
    v: Tensor


class TimeAttention(nn.Module):
    """Self-attention over time; the slot encoding enters queries, keys and values alike."""

    def __init__(self, dim: int, heads: int, length: int) -> None:
        """``dim`` channels split over ``heads``, windows of at most ``length`` frames."""
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.pos_encoder = SlotEncoding(length, dim)

    def project(self, x: Tensor, at: Sequence[int] | slice, asking: Sequence[int] | None = None) -> Projected:
        """Of frames (..., t, c) that stand at the slots ``at``, on their own; queries of the frames ``asking`` only."""
        encodings = self.pos_encoder.pe[0]
        x = x + (encodings[at] if isinstance(at, slice) else take(encodings, 0, at)).to(x.dtype)
        return Projected(self.to_q(x if asking is None else take(x, -2, asking)), self.to_k(x), self.to_v(x))

    def forward(self, projected: Projected) -> Tensor:
        """(locations, t, c) each -> (locations, t, c): what the queries' frames read of all."""
        parts = (projected.q, projected.k, projected.v)
        q, k, v = (split_heads(part, self.heads) for part in parts)
        return self.to_out[0](merge_heads(attend_briefly(q, k, v)))


class GatedProjection(nn.Module):
    """Linear to twice the size, one half gating the other through an exact GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        """``dim`` in, ``hidden`` out."""
        super().__init__()
        self.proj = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., hidden)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class GatedFeedForward(nn.Module):
    """Gated projection to four times the size and back."""

    def __init__(self, dim: int) -> None:
        """``dim`` channels."""
        super().__init__()
        self.net = nn.ModuleList([GatedProjection(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """(..., c) -> (..., c)."""
        return self.net[2](self.net[0](x))


class TemporalBlock(nn.Module):
    """Two attentions over time and one gated feed-forward, pre-norm."""

    def __init__(self, dim: int, heads: int, length: int) -> None:
        """Sizes as in :class:`TimeAttention`."""
        super().__init__()
        self.attention_blocks = nn.ModuleList([TimeAttention(dim, heads, length) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(dim, eps=LAYER_NORM_EPS) for _ in range(2)])
        self.ff = GatedFeedForward(dim)
        self.ff_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)

    def project(self, x: Tensor, at: Sequence[int] | slice) -> Projected:
        """First projections of frames (..., t, c) at the slots ``at``, on their own."""
        return cast(TimeAttention, self.attention_blocks[0]).project(self.norms[0](x), at)

    def forward(
        self, x: Tensor, projected: Projected, slots: Sequence[int] | None = None, frames: int | None = None
    ) -> Tensor:
        """``x`` and its first projections, (locations, t, c) -> (locations, t, c), or (locations, len(slots), c)."""
        x = x + self.attention_blocks[0](projected)
        asking = x if slots is None else take(x, 1, slots)
        second = cast(TimeAttention, self.attention_blocks[1])
        x = asking + second(second.project(self.norms[1](x), slice(frames or x.shape[1]), slots))
        return x + self.ff(self.ff_norm(x))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a motion module makes of frames before any of them sees another: (rows, locations, c) each."""

    tokens: Tensor
    projected: Projected

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens, queries, keys, values."""
        return self.tokens, self.projected.q, self.projected.k, self.projected.v

    def rows(self) -> "list[Prepared]":
        """One for each row."""
        return [Prepared(tokens, Projected(q, k, v)) for tokens, q, k, v in zip(*self.parts(), strict=True)]


def stack_prepared(rows: Sequence[Prepared]) -> Prepared:
    """Of single frames, (locations, c) each -> of them all."""
    tokens, q, k, v = (torch.stack(part) for part in zip(*(row.parts() for row in rows), strict=True))
    return Prepared(tokens, Projected(q, k, v))


class TemporalTransformer(nn.Module):
    """Per-frame group norm, projection in, one block over time, projection out, residual."""

    def __init__(self, dim: int, heads: int, length: int, groups: int) -> None:
        """Sizes as in :class:`TimeAttention`; ``groups`` of the group norm."""
        super().__init__()
        self.length = length
        self.norm = nn.GroupNorm(groups, dim, eps=GROUP_NORM_EPS)
        self.proj_in = nn.Linear(dim, dim)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(dim, heads, length)])
        self.proj_out = nn.Linear(dim, dim)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def prepare(self, x: Tensor, at: Sequence[int] | slice) -> Prepared:
        """(b * t, c, h, w), b windows of t frames that stand at the slots ``at`` -> what needs no other frame."""
        # contiguous: torch crashes in the backward of a channels-last group norm whose input needs no gradient
        tokens = self.proj_in(self.norm(x.contiguous()).permute(0, 2, 3, 1)).flatten(1, 2)  # (b * t, h * w, c)
        frames = at.stop if isinstance(at, slice) else len(at)
        in_time = tokens.unflatten(0, (-1, frames)).transpose(1, 2)  # (b, h * w, t, c)
        projected = cast(TemporalBlock, self.transformer_blocks[0]).project(in_time, at)
        q, k, v = (part.transpose(1, 2).flatten(0, 1) for part in (projected.q, projected.k, projected.v))
        return Prepared(tokens, Projected(q, k, v))

    def forward(
        self, x: Tensor, frames: int, slots: Sequence[int] | None = None, prepared: Prepared | None = None
    ) -> Tensor:
        """(b * frames, c, h, w) -> same, or (b * len(slots), c, h, w); a norm per frame, attention over ``frames``.

        ``prepared``: of these very rows at the slots 0, 1, ..., where it is known already.
        """
        rows, _, height, width = x.shape
        if frames > self.length or rows % frames:
            raise ValueError(
                f"expected rows of a multiple of {frames} frames and at most {self.length} frames a window, got {rows} "
                "rows; use a shorter window or weights with a longer temporal_length"
            )
        ready = prepared or self.prepare(x, slice(frames))
        # (b * h * w, t, c) each
        tokens, q, k, v = (part.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1) for part in ready.parts())
        tokens = self.transformer_blocks[0](tokens, Projected(q, k, v), slots, frames)
        tokens = self.proj_out(tokens).unflatten(0, (-1, height * width)).transpose(1, 2)
        asking = pick_slots(x, frames, slots)
        return asking + tokens.reshape(-1, height, width, tokens.shape[-1]).permute(0, 3, 1, 2)


class MotionModule(nn.Module):
    """A :class:`TemporalTransformer` under the name that official checkpoints give it."""

    def __init__(self, dim: int, heads: int, length: int, groups: int) -> None:
        """Sizes as in :class:`TemporalTransformer`."""
        super().__init__()
        self.temporal_transformer = TemporalTransformer(dim, heads, length, groups)

    def prepare(self, x: Tensor, at: Sequence[int]) -> Prepared:
        """As :class:`TemporalTransformer`."""
        return self.temporal_transformer.prepare(x, at)

    def forward(
        self, x: Tensor, frames: int, slots: Sequence[int] | None = None, prepared: Prepared | None = None
    ) -> Tensor:
        """As :class:`TemporalTransformer`."""
        return self.temporal_transformer(x, frames, slots, prepared)
