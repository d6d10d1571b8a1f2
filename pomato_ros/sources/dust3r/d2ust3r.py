"""D²USt3R: DUSt3R's network, whose second pointmap shows movers where they were at the first view's time."""

from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.dpt_head import DptHead, PointmapHead
from pomato_ros.sources.dust3r.heads import HeadSpec
from pomato_ros.sources.dust3r.trunk import Trunk


class MaskHead(DptHead):
    """A DPT head of one channel: the logit that a pixel moves; 0 is the threshold."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build for ``config``."""
        super().__init__(config, channels=1)

    def maps_of(self, raw: Tensor) -> tuple[Tensor]:
        """(b, 1, h, w) -> (b, h, w)."""
        return (raw[:, 0].float(),)


class D2ust3r(Trunk):
    """D²USt3R. Maps: points_v and conf_v of both views, in camera 1 at view 1's time; mask_logit_v with mask heads."""

    HEADS: tuple[HeadSpec, ...] = (
        HeadSpec(1, "downstream_head1", 0, ("points_1", "conf_1")),
        HeadSpec(2, "downstream_head2", 1, ("points_2", "conf_2")),
    )

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained network."""
        super().__init__(config)
        self.downstream_head1 = PointmapHead(config)
        self.downstream_head2 = PointmapHead(config)
        if config.mask_heads:
            self.mask_head1 = MaskHead(config)
            self.mask_head2 = MaskHead(config)
            self.HEADS = (
                *self.HEADS,
                HeadSpec(3, "mask_head1", 0, ("mask_logit_1",)),
                HeadSpec(4, "mask_head2", 1, ("mask_logit_2",)),
            )
