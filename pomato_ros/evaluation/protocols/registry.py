"""All protocols by the name of their layout."""

from collections.abc import Mapping
from types import MappingProxyType

from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.protocols import (
    adt,
    bonn,
    davis,
    dynamic_replica,
    euroc,
    kitti,
    point_odyssey,
    pstudio,
    scannet,
    seven_scenes,
    sintel,
    tartanair,
    tum,
)
from pomato_ros.evaluation.protocols.protocol import Protocol

MODULES = (
    sintel,
    bonn,
    tum,
    scannet,
    kitti,
    davis,
    tartanair,
    point_odyssey,
    adt,
    pstudio,
    dynamic_replica,
    euroc,
    seven_scenes,
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({m.PROTOCOL.layout: m.PROTOCOL for m in MODULES})


def protocol_of(layout: str) -> Protocol:
    """The protocol of a layout.

    Raises:
        ConfigError: there is none of this name.
    """
    if layout not in PROTOCOLS:
        raise ConfigError(f"no layout '{layout}'; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[layout]
