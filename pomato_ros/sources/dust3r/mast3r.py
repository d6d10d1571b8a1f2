"""MASt3R: DUSt3R's two pointmap heads, each with descriptors to match images by."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.errors import ConfigError
from pomato_ros.sources.dust3r.heads import HeadSpec
from pomato_ros.sources.dust3r.local_features import DescriptorHead
from pomato_ros.sources.dust3r.trunk import Trunk


class Mast3r(Trunk):
    """MASt3R. Maps: points_v, conf_v, desc_v and desc_conf_v of both views; points of both in camera 1."""

    HEADS = (
        HeadSpec(1, "downstream_head1", 0, ("points_1", "conf_1", "desc_1", "desc_conf_1")),
        HeadSpec(2, "downstream_head2", 1, ("points_2", "conf_2", "desc_2", "desc_conf_2")),
    )

    OUTPUT_RULES = {**Trunk.OUTPUT_RULES, "head_type": "catmlp+dpt"}

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained network."""
        super().__init__(config)
        self.downstream_head1 = DescriptorHead(config)
        self.downstream_head2 = DescriptorHead(config)

    @classmethod
    def described_entries(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """As :class:`Trunk`; width and confidence of descriptors from the call, the hidden layer from the weights.

        The public training demo names no ``desc_conf_mode``, which then is ``conf_mode``.
        """
        output_mode = str(values.get("output_mode", "pts3d+desc24"))
        width = re.fullmatch(r"pts3d\+desc(\d+)", output_mode)
        if width is None:
            raise ConfigError(f"expected output_mode='pts3d+desc<width>', got {output_mode!r}; no such head is built")
        super().described_entries({**values, "output_mode": "pts3d"}, tensors)
        mode = values.get("desc_conf_mode", values.get("conf_mode", ("exp", 1, math.inf)))
        if not isinstance(mode, tuple) or len(mode) != 3 or mode[0] != "exp" or mode[2] != math.inf:
            raise ConfigError(f"expected desc_conf_mode=('exp', <least>, inf), got {mode!r}; no such head is built")
        hidden = [value for name, value in tensors.items() if name.endswith("head_local_features.fc1.bias")]
        return {
            "desc_dim": int(width[1]),
            "two_confs": values.get("two_confs", False),
            "desc_conf_min": mode[1],
            "desc_hidden_dim": hidden[0].shape[0] if hidden else 0,
        }
