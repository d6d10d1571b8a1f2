"""POMATO: DUSt3R's two pointmap heads and a third that matches points over time."""

import logging
from collections.abc import Mapping

from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.errors import CheckpointError
from pomato_ros.sources.dust3r.dpt_head import PointmapHead
from pomato_ros.sources.dust3r.heads import HeadSpec, Maps
from pomato_ros.sources.dust3r.prediction import PairPrediction
from pomato_ros.sources.dust3r.trunk import THREE_MAPS, Grid, Trunk, copied

LOGGER = logging.getLogger(__name__)


class Pomato(Trunk):
    """POMATO, pairwise or temporal (``config.temporal_length > 0``). All pairs of one call share a size.

    Maps are the fields of :class:`pomato_ros.sources.dust3r.prediction.PairPrediction`. Motion modules start as the
    identity.
    """

    HEADS = (
        HeadSpec(1, "downstream_head1", 0, ("points_1", "conf_1")),
        HeadSpec(2, "downstream_head2", 1, ("points_2", "conf_2")),
        HeadSpec(3, "downstream_head3", 1, ("points_match", "conf_match")),
    )

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained network."""
        super().__init__(config)
        self.downstream_head1 = PointmapHead(config)
        self.downstream_head2 = PointmapHead(config)
        self.downstream_head3 = PointmapHead(config)

    @classmethod
    def adapt_weights(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """DUSt3R and MonST3R weights as a pairwise POMATO: by the paper's rule the third head starts as the second.

        Raises:
            CheckpointError: there is no second head either.
        """
        weights = super().adapt_weights(tensors)
        if any(name.startswith("downstream_head3.") for name in weights):
            return weights
        copies = copied(weights, "downstream_head2.", "downstream_head3.")
        if not copies:
            raise CheckpointError(
                "expected weights with downstream_head2, found none; this is not a DUSt3R-like network"
            )
        LOGGER.info("these weights have two heads (DUSt3R, MonST3R): the matching head starts as a copy of the second")
        return {**weights, **copies}

    def three_maps(self, number: int, own: Maps, other: Maps) -> tuple[Tensor, Tensor]:
        """As :class:`Trunk`: its own heads."""
        points, conf = THREE_MAPS[number]
        return own[points], own[conf]

    def predict(self, tokens_1: Tensor, tokens_2: Tensor, grid_hw: Grid, frames: int = 1) -> PairPrediction:
        """Encoder tokens of P = b * ``frames`` pairs, in window order -> all three heads."""
        return PairPrediction(**self.predict_maps(tokens_1, tokens_2, grid_hw, frames))

    def forward(self, view_1: Tensor, view_2: Tensor) -> PairPrediction:
        """Images of P pairs, each (p, 3, h, w), each pair a window of its own -> all three heads."""
        if view_1.shape != view_2.shape:
            raise ValueError(f"both views must have one shape, got {tuple(view_1.shape)} and {tuple(view_2.shape)}")
        return PairPrediction(**self.pair_maps(view_1, view_2))
