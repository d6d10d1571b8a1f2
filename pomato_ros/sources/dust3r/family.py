"""The networks of the family by name."""

from collections.abc import Mapping

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.d2ust3r import D2ust3r
from pomato_ros.sources.dust3r.flow4r import Flow4r
from pomato_ros.sources.dust3r.mast3r import Mast3r
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.trunk import Trunk

NETWORKS: Mapping[str, type[Trunk]] = {"pomato": Pomato, "mast3r": Mast3r, "d2ust3r": D2ust3r, "flow4r": Flow4r}


def make_network(config: NetworkConfig) -> Trunk:
    """An untrained network of ``config.architecture``."""
    return NETWORKS[config.architecture](config)
