"""D²USt3R: DUSt3R's network, whose second pointmap shows movers where they were at the first view's time."""

import dataclasses

import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.dpt_head import DptHead, PointmapHead
from pomato_ros.sources.dust3r.flow_head import FlowHead
from pomato_ros.sources.dust3r.heads import HeadSpec, Maps
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.scene_flow import robust_similarity
from pomato_ros.sources.dust3r.trunk import AttentionWatch, Grid, Trunk

FIT_STRIDE_PX = 4  # of the pixels that the similarity between the passes is fitted on
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

    def own_wanted(self, wanted: Wanted) -> Wanted:
        """As :class:`Trunk`: X^{2,1} at view 2's own time is made of X^{2,2} of the swapped pass."""
        orders = [set(wanted.from_key_heads), set(wanted.to_key_heads)]
        asked: list[set[int]] = [set(), set()]
        for number, heads in enumerate(orders):
            asked[number] |= {1 if head == 1 else 2 for head in heads}
            if 2 in heads:
                asked[1 - number].add(1)
                asked[number] |= {4} if self.config.mask_heads else set()
        return dataclasses.replace(wanted, from_key_heads=tuple(sorted(asked[0])), to_key_heads=tuple(sorted(asked[1])))

    def three_maps(self, number: int, own: Maps, other: Maps) -> tuple[Tensor, Tensor]:
        """As :class:`Trunk`: the time-aligned pointmap is the matching one.

        X^{2,1} is X^{2,2} of the swapped pass moved into camera 1, by the similarity that rests on what rests: movers
        are outliers of a robust fit, or are left out by the mask head.
        """
        if number == 1:
            return own["points_1"], own["conf_1"]
        if number == 3:
            return own["points_2"], own["conf_2"]
        still = own["conf_2"].double()
        if "mask_logit_2" in own and len(own["mask_logit_2"]):
            still = still * (-own["mask_logit_2"].double()).sigmoid()
        few = (slice(None), slice(None, None, FIT_STRIDE_PX), slice(None, None, FIT_STRIDE_PX))
        swapped = other["points_1"].double()
        parts = (swapped[few].flatten(1, 2), own["points_2"].double()[few].flatten(1, 2), still[few].flatten(1))
        motion, scale = robust_similarity(*parts)
        rotated = (scale[:, None, None, None] * swapped) @ motion[:, None, :3, :3].mT
        return (rotated + motion[:, None, None, :3, 3]).to(own["points_2"].dtype), other["conf_1"]
