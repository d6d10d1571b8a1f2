"""Leads cross-attention to where a patch's content is in the other view: a truth that rendered scenes give for free.

The pointmap losses alone teach a small network from nothing to guess depth from one image, and it hardly learns to
compare two (dev/LOG.md). The network is not changed: the loss reads the attention that its decoders compute anyway.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pomato_ros.sources.dust3r.attention import CrossAttention, split_heads
from pomato_ros.sources.dust3r.position import RotaryTables
from pomato_ros.sources.dust3r.trunk import Trunk

LEAST_SHARE = 1e-6  # of attention; keeps the logarithm finite

Watched = tuple[list[Tensor], list[Tensor]]  # attention (p, n, n) of view 1 on view 2, and of 2 on 1; one a block
ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], None]


@contextmanager
def watched_attention(network: Trunk) -> Iterator[Watched]:
    """Collect what the decoders' second halves attend to, mean over heads, while the context lasts."""
    seen: Watched = ([], [])
    handles = []
    for blocks, found in ((network.dec_blocks, seen[0]), (network.dec_blocks2, seen[1])):
        for block in list(blocks)[len(blocks) // 2 :]:
            handles.append(block.get_submodule("cross_attn").register_forward_hook(collector(found)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def collector(found: list[Tensor]) -> ForwardHook:
    """A forward hook that appends a block's attention (p, n, n), rows sum to 1, to ``found``."""

    def collect(module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        if not isinstance(module, CrossAttention):
            raise TypeError(f"expected a CrossAttention, got {type(module).__name__}")
        found.append(attention_shares(module, *inputs))

    return collect


def attention_shares(module: CrossAttention, x: Tensor, memory: Tensor, rotary: RotaryTables) -> Tensor:
    """(p, n, n) fp32: how much tokens of ``x`` (p, n, c) attend to those of ``memory`` (p, n, c), mean over heads."""
    q = rotary.rotate(split_heads(module.projq(x), module.heads)).float()
    k = rotary.rotate(split_heads(module.projk(memory), module.heads)).float()
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)


def attention_loss(attention: list[Tensor], matches: Tensor) -> Tensor:
    """Cross entropy of attention (p, n, n) with the shares of each patch's content that lie in each patch of the other.

    ``matches``: (p, n, n), rows sum to the share of the patch that the other view sees; what is hidden asks for
    nothing.
    """
    asked = matches.sum().clamp(min=1)
    terms = [-(matches * shares.clamp(min=LEAST_SHARE).log()).sum() / asked for shares in attention]
    return torch.stack(terms).mean()
