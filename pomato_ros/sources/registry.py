"""Every backend by its name: the only table that says which sources there are."""

from collections.abc import Callable

from pomato_ros.config import PomatoConfig
from pomato_ros.sources.base import Source


def build_pomato(config: PomatoConfig) -> Source:
    """The POMATO network; torch is imported by those who need it only."""
    from pomato_ros.sources.dust3r.pomato_source import PomatoSource

    return PomatoSource.from_config(config)


SOURCES: dict[str, Callable[[PomatoConfig], Source]] = {"pomato": build_pomato}
