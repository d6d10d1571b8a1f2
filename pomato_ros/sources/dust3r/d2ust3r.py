"""D²USt3R: DUSt3R's network, whose second pointmap shows movers where they were at the first view's time."""

import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.dpt_head import DptHead, PointmapHead
from pomato_ros.sources.dust3r.flow_head import FlowHead
from pomato_ros.sources.dust3r.heads import HeadSpec
from pomato_ros.sources.dust3r.trunk import AttentionWatch, Grid, Trunk

POINTMAPS = (
    HeadSpec(1, "downstream_head1", 0, ("points_1", "conf_1")),
    HeadSpec(2, "downstream_head2", 1, ("points_2", "conf_2")),
)
MASKS = (HeadSpec(3, "mask_head1", 0, ("mask_logit_1",)), HeadSpec(4, "mask_head2", 1, ("mask_logit_2",)))
FLOWS = (
    HeadSpec(5, "flow_head", 0, ("flow_1", "flow_info_1")),
    HeadSpec(6, "flow_head", 1, ("flow_2", "flow_info_2")),
)


class MaskHead(DptHead):
    """A DPT head of one channel: the logit that a pixel moves; 0 is the threshold."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build for ``config``."""
        super().__init__(config, channels=1)

    def maps_of(self, raw: Tensor) -> tuple[Tensor]:
        """(b, 1, h, w) -> (b, h, w)."""
        return (raw[:, 0].float(),)


class D2ust3r(Trunk):
    """D²USt3R. Maps: points_v and conf_v of both views, in camera 1 at view 1's time.

    With mask heads also mask_logit_v; with the flow head flow_v (to the other view, px) and flow_info_v. Names of mask
    and flow heads are ours: released weights have neither.
    """

    HEADS: tuple[HeadSpec, ...] = POINTMAPS

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained network."""
        super().__init__(config)
        self.downstream_head1 = PointmapHead(config)
        self.downstream_head2 = PointmapHead(config)
        if config.mask_heads:
            self.mask_head1 = MaskHead(config)
            self.mask_head2 = MaskHead(config)
            self.HEADS += MASKS
        if config.flow_head:
            self.flow_head = FlowHead(config)
            self.HEADS += FLOWS

    def decode(
        self,
        tokens_1: Tensor,
        tokens_2: Tensor,
        grid_hw: Grid,
        grid_2_hw: Grid | None = None,
        watch: AttentionWatch | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As :class:`Trunk`; with the flow head each list ends with its view's correlation with the other one.

        That is the mean over blocks, heads and both directions of the cross-attention's logits, (p, n, m) for view 1
        and its transpose for view 2.
        """
        if not self.config.flow_head:
            return super().decode(tokens_1, tokens_2, grid_hw, grid_2_hw, watch)
        sums: list[Tensor | float] = [0.0, 0.0]

        def add(view: int, logits: Tensor) -> None:
            sums[view] = sums[view] + logits.mean(1)
            if watch is not None:
                watch(view, logits)

        lists = super().decode(tokens_1, tokens_2, grid_hw, grid_2_hw, add)
        correlation = (torch.as_tensor(sums[0]) + torch.as_tensor(sums[1]).mT) / (2 * self.config.dec_depth)
        lists[0].append(correlation)
        lists[1].append(correlation.mT)
        return lists
