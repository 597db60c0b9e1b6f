"""Graphs of networkx's generators, and its errors as one line."""

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.networkx import NetworkX


def test_networkx_graph_equals_the_generator():
    graph = NetworkX(num_nodes=20, generator="random_regular_graph", arguments={"d": 3}, seed=1)
    degrees = np.bincount(graph.edges(0).target) - 1
    np.testing.assert_array_equal(degrees, 3)
    petersen = NetworkX(num_nodes=10, generator="petersen_graph")
    np.testing.assert_array_equal(
        petersen.edges(0).to_matrix(10) > 0, nx.to_numpy_array(nx.petersen_graph()) + np.eye(10)
    )
    multi = NetworkX(num_nodes=8, generator="random_k_out_graph", arguments={"k": 2, "alpha": 1.0}, seed=1)
    assert multi.directed
    assert multi.stochasticity == "column"
    grid = NetworkX(num_nodes=6, generator="grid_2d_graph", arguments={"m": 2, "n": 3})
    assert len(grid.edges(0).source) == 6 + 2 * 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generator": "no_such_graph"}, "networkx has no function of this name"),
        ({"generator": "star_graph"}, r"made a graph of 9 nodes, but num_nodes=8"),
        (
            {"generator": "watts_strogatz_graph", "arguments": {"k": 3}},
            r"graph.arguments: networkx.watts_strogatz_graph",
        ),
        ({"generator": "watts_strogatz_graph", "arguments": {"k": 30, "p": 0.1}}, "failed: k>n"),
        ({"generator": "density", "arguments": {"G": 1}}, "graph.arguments"),
        ({"generator": "number_of_walks", "arguments": {}}, "graph.arguments"),
    ],
)
def test_networkx_errors_are_one_clear_line(arguments, message):
    graph = NetworkX(num_nodes=8, **arguments)
    with pytest.raises(ValueError, match=message) as error:
        graph.edges(0)
    assert "\n" not in str(error.value)
