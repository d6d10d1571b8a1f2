"""Flow4R: one encoder, one decoder and one head for both views, so that swapped images give swapped outputs."""

import dataclasses

from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.flow4r_head import DptFlowHead, LinearFlowHead
from pomato_ros.sources.dust3r.heads import HeadSpec, Maps
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.scene_flow import split_flow
from pomato_ros.sources.dust3r.trunk import Trunk

OWN_HEADS = {1: 1, 2: 2, 3: 2}  # that give each of POMATO's three maps


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

    def own_wanted(self, wanted: Wanted) -> Wanted:
        """As :class:`Trunk`: X^{2,1} and X_m^{2,1} are both made of view 2's maps."""
        orders = (wanted.from_key_heads, wanted.to_key_heads)
        from_key, to_key = (tuple(sorted({OWN_HEADS[number] for number in heads})) for heads in orders)
        return dataclasses.replace(wanted, from_key_heads=from_key, to_key_heads=to_key)

    def three_maps(self, number: int, own: Maps, other: Maps) -> tuple[Tensor, Tensor]:
        """As :class:`Trunk`: P of view 1; T P of view 2, with the motion T that its weights fit; P_vt of view 2."""
        if number == 1:
            return own["points_1"], own["conf_1"]
        if number == 3:
            return own["points_vt_2"], own["conf_2"]
        maps = (own[name].double() for name in ("points_2", "points_vt_2", "weight_2"))
        return split_flow(*maps).seen_from_other.to(own["points_2"].dtype), own["conf_2"]
