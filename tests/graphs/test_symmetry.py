"""Schedules of shifts are undirected exactly when their matrices are symmetric."""

import numpy as np
import pytest

from simulator.graphs.de_bruijn import DeBruijn
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.equi_dyn import EquiDyn
from simulator.graphs.equi_static import EquiStatic
from simulator.graphs.exponential import Exponential
from simulator.graphs.hierarchical import Hierarchical
from simulator.graphs.k_hop_ring import KHopRing
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.p_peer_exponential import PPeerExponential
from simulator.testing.graphs import rounds_of


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("num_nodes", range(1, 11))
def test_equi_static_is_undirected_exactly_when_its_matrix_is_symmetric(num_nodes, directed):
    """An offset that is drawn twice and its opposite once make a symmetric support, but not a symmetric matrix."""
    only_the_support = 0
    for seed in range(200):
        graph = EquiStatic(num_nodes=num_nodes, directed=directed, seed=seed)
        matrix = graph.edges(0).to_matrix(num_nodes)
        assert graph.directed != np.array_equal(matrix, matrix.T)
        only_the_support += graph.directed and np.array_equal(matrix != 0, matrix.T != 0)
    if num_nodes <= 8:  # with nine nodes and four offsets it is rarer than one draw in 200
        assert (only_the_support > 0) == (directed and num_nodes >= 5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((DeBruijn, {"degree": degree}) for degree in range(2, 8)),
        *((PPeerExponential, {"num_out": num_out}) for num_out in range(1, 8)),
        *((KHopRing, {"k": k}) for k in range(1, 4)),
        *((kind, {}) for kind in (Exponential, OnePeerExponential, DirectedRing)),
        *((EquiDyn, {"directed": directed}) for directed in (True, False)),
        (Hierarchical, {"group_size": 1}),
    ],
)
def test_shifts_are_undirected_exactly_when_their_matrices_are_symmetric(kind, settings):
    for num_nodes in range(1, 20):
        graph = kind(num_nodes=num_nodes, **settings)
        matrices = [graph.edges(step).to_matrix(num_nodes) for step in rounds_of(graph)]
        assert graph.directed != all(np.array_equal(matrix, matrix.T) for matrix in matrices), num_nodes
