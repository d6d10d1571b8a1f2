"""Pair graphs: the published offsets, each pair once, and every graph in one piece."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pomato_ros.errors import ConfigError
from pomato_ros.mapping.options import GRAPHS, PairOptions
from pomato_ros.mapping.pair_graph import pair_graph, retrieval


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("count", [2, 3, 9])
def test_every_graph_is_connected_and_has_no_pair_twice(graph: str, count: int) -> None:
    descriptors = np.random.default_rng(0).normal(size=(count, 8))
    edges = pair_graph(count, PairOptions(graph=graph), descriptors)
    assert len({(i, j) for i, j in edges}) == len(edges)
    assert (edges[:, 0] != edges[:, 1]).all()
    adjacency = coo_array((np.ones(len(edges)), edges.T), shape=(count, count))
    assert connected_components(adjacency)[0] == 1
    half = len(edges) // 2
    assert (edges[:half, ::-1] == edges[half:]).all()


def test_the_default_window_has_the_published_offsets() -> None:
    edges = pair_graph(20, PairOptions(both_orders=False))
    assert sorted({int(j - i) for i, j in edges}) == [1, 3, 5, 7, 9]


def test_a_cyclic_window_closes() -> None:
    edges = pair_graph(6, PairOptions(cyclic=True, neighbours=1))
    assert (0, 5) in {(int(i), int(j)) for i, j in edges}


def test_the_complete_graph_has_all_pairs_and_the_reference_one_star() -> None:
    assert len(pair_graph(5, PairOptions(graph="complete"))) == 20
    star = pair_graph(5, PairOptions(graph="reference"))
    assert (star == 2).any(axis=1).all()


def test_retrieval_pairs_what_is_alike() -> None:
    descriptors = np.array([[1.0, 0], [0, 1.0], [0.99, 0.01], [0.01, 0.99]])
    assert (0, 2) in retrieval(descriptors, 1)
    assert (1, 3) in retrieval(descriptors, 1)


def test_too_few_images_and_missing_descriptors_are_errors() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        pair_graph(1, PairOptions())
    with pytest.raises(ConfigError, match="descriptors"):
        pair_graph(4, PairOptions(graph="retrieval"))
