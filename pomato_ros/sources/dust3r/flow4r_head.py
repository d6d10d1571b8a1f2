"""Flow4R's head: every pixel's point, the same point in the other camera at its time, pose weight and confidence."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.dpt_head import DptHead
from pomato_ros.sources.dust3r.heads import PATCH_SIZE_PX, EarlyModules, Head, TokenList, points_of
from pomato_ros.sources.dust3r.temporal import pick_slots

CHANNELS = 8  # P (3), P_vt (3), W (1), C (1)


class DptFlowHead(DptHead):
    """Flow4R's head of its second stage."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build for ``config``."""
        super().__init__(config, CHANNELS)

    def maps_of(self, raw: Tensor) -> tuple[Tensor, ...]:
        """As :func:`flow_maps`."""
        return flow_maps(raw)

    def begin(self) -> None:
        """Points begin near, along the optical axis; weights nearly uniform."""
        begin_layer(self.dpt.head[4])


class LinearFlowHead(Head):
    """Flow4R's head of its first stage: one linear layer on the last tokens, spread over each patch."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build for ``config``."""
        super().__init__()
        self.hooks, self.channels = (config.dec_depth,), CHANNELS
        self.proj = nn.Linear(config.dec_embed_dim, CHANNELS * PATCH_SIZE_PX**2)

    def raw(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        stride: int = 1,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> Tensor:
        """(b, 8, h, w), every pixel whatever ``stride`` is: it is as cheap."""
        last = pick_slots(tokens[self.hooks[0]], frames, slots)
        return F.pixel_shuffle(self.proj(last).transpose(1, 2).unflatten(-1, grid_hw), PATCH_SIZE_PX)

    def maps_of(self, raw: Tensor) -> tuple[Tensor, ...]:
        """As :func:`flow_maps`."""
        return flow_maps(raw)

    def begin(self) -> None:
        """Points begin near, along the optical axis; weights nearly uniform."""
        begin_layer(self.proj)


def flow_maps(raw: Tensor) -> tuple[Tensor, ...]:
    """Raw output (b, 8, h, w) -> P (b, h, w, 3), P_vt (b, h, w, 3), W (b, h, w), C (b, h, w); in fp32.

    P is a pixel's point in its own camera, P_vt = P + F the same point in the other camera at the other time (eq. 1).
    W is the softmax over the image of one logit, so that it sums to 1; C = 1 + exp(c) > 1. The paper leaves these
    activations open.
    """
    raw = raw.float().permute(0, 2, 3, 1)
    weight = raw[..., 6].flatten(1).softmax(-1).view(raw.shape[:3])
    return points_of(raw[..., :3]), points_of(raw[..., 3:6]), weight, 1 + raw[..., 7].exp()


@torch.no_grad()
def begin_layer(layer: nn.Module) -> None:
    """Small weights; both points on the optical axis."""
    weight, bias = layer.parameters()
    weight.mul_(0.3)
    bias.view(CHANNELS, -1).copy_(torch.tensor([0.0, 0.0, 0.7, 0.0, 0.0, 0.7, 0.0, 0.0])[:, None])
