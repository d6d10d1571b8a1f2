"""A reconstruction as one HTML file: cloud, cameras, moving things and a time slider, drawn by WebGL, nothing to load.

Positions are stored as 16-bit steps across the bounding box of everything shown, colours as bytes.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomato_ros.sinks.point_files import write_whole

TEMPLATE = "web_page.html"
STATIC_POINTS = 150_000
MOVING_POINTS = 1_500  # of each frame
STEPS = 65535


@dataclass(frozen=True, slots=True)
class PageContent:
    """What the page shows, all in one world frame (x right, y down, z forward of the first camera).

    Attributes:
        title: of the page.
        static_points: (n, 3).
        static_colours: (n, 3) uint8.
        moving_points: (m, 3) for each frame.
        moving_colours: (m, 3) uint8 for each frame.
        world_from_camera: (t, 4, 4).
        stamps_ns: (t,).
        facts: shown beside the picture.
    """

    title: str
    static_points: NDArray[np.floating]
    static_colours: NDArray[np.uint8]
    moving_points: Sequence[NDArray[np.floating]]
    moving_colours: Sequence[NDArray[np.uint8]]
    world_from_camera: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    facts: dict[str, str]


def write_page(path: Path, content: PageContent, seed: int = 0) -> None:
    """Write the page as a whole; clouds larger than it can show are thinned at random, by ``seed``."""
    draw = np.random.default_rng(seed)
    static, static_colours = _thinned(content.static_points, content.static_colours, STATIC_POINTS, draw)
    moving = [
        _thinned(points, colours, MOVING_POINTS, draw)
        for points, colours in zip(content.moving_points, content.moving_colours, strict=True)
    ]
    centres = content.world_from_camera[:, :3, 3]
    low, high = _bounds([static, *(points for points, _ in moving)], centres)
    moving_all = np.concatenate([points for points, _ in moving]) if moving else np.zeros((0, 3))
    moving_rgb = np.concatenate([colours for _, colours in moving]) if moving else np.zeros((0, 3), np.uint8)
    data = {
        "title": content.title,
        "facts": content.facts,
        "low": low.tolist(),
        "high": high.tolist(),
        "static": _packed(static, low, high),
        "staticColours": _base64(static_colours.astype(np.uint8)),
        "moving": _packed(moving_all, low, high),
        "movingColours": _base64(moving_rgb.astype(np.uint8)),
        "movingEnds": np.cumsum([len(points) for points, _ in moving]).tolist(),
        "cameras": np.round(content.world_from_camera[:, :3].reshape(len(centres), 12), 6).tolist(),
        "seconds": np.round((content.stamps_ns - content.stamps_ns[:1]) * 1e-9, 4).tolist(),
    }
    template = files("pomato_ros.sinks").joinpath(TEMPLATE).read_text(encoding="utf-8")
    write_whole(path, template.replace("/*DATA*/null", json.dumps(data).replace("</", "<\\/")))


def _thinned(
    points: NDArray[np.floating], colours: NDArray[np.uint8], most: int, draw: np.random.Generator
) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """At most so many points, drawn evenly; none that is not finite."""
    finite = np.flatnonzero(np.isfinite(points).all(axis=-1))
    chosen = finite if len(finite) <= most else np.sort(draw.choice(finite, most, replace=False))
    return points[chosen], colours[chosen]


def _bounds(
    clouds: Sequence[NDArray[np.floating]], centres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The box (3,), (3,) around all cameras and nearly all points; the farthest would only spoil its resolution."""
    everything = np.concatenate([cloud for cloud in clouds if len(cloud)] or [centres])
    low, high = np.quantile(everything, [0.001, 0.999], axis=0)
    low, high = np.minimum(low, centres.min(axis=0)), np.maximum(high, centres.max(axis=0))
    return low, np.maximum(high, low + 1e-6)


def _packed(points: NDArray[np.floating], low: NDArray[np.float64], high: NDArray[np.float64]) -> str:
    """Little-endian 16-bit steps across the box."""
    share = np.clip((points - low) / (high - low), 0, 1)
    return _base64(np.rint(share * STEPS).astype("<u2"))


def _base64(values: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
