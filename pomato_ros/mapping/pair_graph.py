"""Which images are paired: edges (i, j) of numbers of images, in the published orders and by similarity."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pomato_ros.errors import ConfigError
from pomato_ros.mapping.options import PairOptions

Edges = NDArray[np.int64]


def pair_graph(count: int, options: PairOptions, descriptors: NDArray[np.floating] | None = None) -> Edges:
    """Edges (e, 2) among ``count`` images, connected, each once.

    Args:
        count: images, at least two.
        options: kind and size of the graph.
        descriptors: (count, d) of the images, which retrieval compares.

    Raises:
        ConfigError: fewer than two images, or retrieval without descriptors.
    """
    if count < 2:
        raise ConfigError(f"a pair graph needs at least two images, got {count}; use a longer source")
    if options.graph == "complete":
        pairs = complete(count)
    elif options.graph == "window":
        pairs = window(count, [1 + options.stride * n for n in range(options.neighbours)], options.cyclic)
    elif options.graph == "logarithmic":
        pairs = window(count, [2**n for n in range(options.neighbours)], options.cyclic)
    elif options.graph == "reference":
        pairs = [(count // 2, other) for other in range(count) if other != count // 2]
    elif descriptors is not None:
        pairs = [*window(count, [1], options.cyclic), *retrieval(descriptors, options.neighbours)]
    else:
        raise ConfigError("a graph by retrieval needs descriptors of the images")
    return _ordered(pairs, options.both_orders)


def complete(count: int) -> list[tuple[int, int]]:
    """Every image with every later one."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def window(count: int, offsets: Iterable[int], cyclic: bool) -> list[tuple[int, int]]:
    """Each image with those ``offsets`` later; the last ones with the first ones where ``cyclic``."""
    pairs = [(i, i + offset) for offset in offsets for i in range(count)]
    return [(i, j % count) for i, j in pairs if (cyclic or j < count) and i != j % count]


def retrieval(descriptors: NDArray[np.floating], neighbours: int) -> list[tuple[int, int]]:
    """Each image with the ``neighbours`` most alike: cosine of descriptors (n, d), mean removed."""
    centred = np.asarray(descriptors, dtype=np.float64) - np.mean(descriptors, axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    alike = centred @ centred.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(neighbours, len(centred) - 1)]
    return [(i, int(j)) for i, row in enumerate(nearest) for j in row]


def _ordered(pairs: Iterable[tuple[int, int]], both_orders: bool) -> Edges:
    """Each pair once, earlier image first; then all of them the other order."""
    once = list(dict.fromkeys((min(pair), max(pair)) for pair in pairs))
    turned = [(j, i) for i, j in once] if both_orders else []
    return np.array([*once, *turned], dtype=np.int64).reshape(-1, 2)
