"""Every backend by its name: the only table of sources."""

from collections.abc import Callable, Mapping

from pomato_ros.config import ARCHITECTURES, PomatoConfig
from pomato_ros.sources.base import Source
from pomato_ros.sources.rgbd import RgbdSource
from pomato_ros.sources.stereo import StereoSource


def build_network(config: PomatoConfig) -> Source:
    """A network of the DUSt3R family; torch is imported by those who need it only."""
    from pomato_ros.sources.dust3r.pomato_source import PomatoSource

    return PomatoSource.from_config(config)


SOURCES: Mapping[str, Callable[[PomatoConfig], Source]] = {
    "rgbd": RgbdSource,
    "stereo": StereoSource,
    **dict.fromkeys(ARCHITECTURES, build_network),
}
