"""Flow4R: one encoder, one decoder and one head for both views, so that swapped images give swapped outputs."""

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.flow4r_head import DptFlowHead, LinearFlowHead
from pomato_ros.sources.dust3r.heads import HeadSpec
from pomato_ros.sources.dust3r.trunk import Trunk


class Flow4r(Trunk):
    """Flow4R. Maps of view v: points_v in its own camera, points_vt_v in the other one at its time, weight_v, conf_v.

    Names of parameters are DUSt3R's without the second decoder and head; no public weights exist.
    """

    HEADS = (
        HeadSpec(1, "downstream_head1", 0, ("points_1", "points_vt_1", "weight_1", "conf_1")),
        HeadSpec(2, "downstream_head1", 1, ("points_2", "points_vt_2", "weight_2", "conf_2")),
    )
    SYMMETRIC = True

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained network."""
        super().__init__(config)
        self.downstream_head1 = LinearFlowHead(config) if config.head_type == "linear" else DptFlowHead(config)
