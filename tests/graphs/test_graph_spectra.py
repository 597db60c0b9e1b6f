"""Gaps against closed forms, and checks of connectivity and sums."""

import time

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.base import Edges, Graph, PeriodicGraph
from simulator.graphs.connectivity import check_mixes, check_stochastic
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.exponential import Exponential
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.networkx import NetworkX
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_undirected import RandomUndirected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.spectra import mean_square_gap, singular_gap, spectral_gap
from simulator.graphs.star import Star
from tests.topology.schedules import Matrices


@pytest.mark.parametrize("num_nodes", [3, 5, 8, 16, 33])
def test_closed_forms_of_static_graphs(num_nodes):
    ring = 1 - (1 + 2 * np.cos(2 * np.pi / num_nodes)) / 3
    assert spectral_gap(Ring(num_nodes=num_nodes)) == pytest.approx(ring, abs=1e-12)
    assert singular_gap(Ring(num_nodes=num_nodes)) == pytest.approx(ring, abs=1e-12)
    assert spectral_gap(Star(num_nodes=num_nodes)) == pytest.approx(1 / num_nodes, abs=1e-12)
    one_way = 1 - abs(np.cos(np.pi / num_nodes))
    assert spectral_gap(DirectedRing(num_nodes=num_nodes)) == pytest.approx(one_way, abs=1e-12)
    assert singular_gap(DirectedRing(num_nodes=num_nodes)) == pytest.approx(one_way, abs=1e-12)
    for gap in (spectral_gap, singular_gap, mean_square_gap):
        assert gap(FullyConnected(num_nodes=num_nodes)) == pytest.approx(1, abs=1e-7)
        assert gap(SelfLoop(num_nodes=num_nodes)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("log_nodes", [1, 2, 3, 5])
def test_closed_forms_of_exponential_graphs(log_nodes):
    num_nodes = 2**log_nodes
    assert spectral_gap(Exponential(num_nodes=num_nodes)) == pytest.approx(2 / (1 + log_nodes), abs=1e-12)
    one_peer = OnePeerExponential(num_nodes=num_nodes)
    assert spectral_gap(one_peer) == 1
    assert mean_square_gap(one_peer) == pytest.approx(1 - np.sqrt(1 - 1 / log_nodes), abs=1e-7)


@pytest.mark.parametrize("num_nodes", [6, 12, 20])
def test_exponential_gap_for_even_sizes(num_nodes):
    gap = 2 / (1 + np.ceil(np.log2(num_nodes)))
    assert spectral_gap(Exponential(num_nodes=num_nodes)) == pytest.approx(gap, abs=1e-12)


def test_periodic_gap_is_the_rate_of_the_deviation():
    graph = OnePeerExponential(num_nodes=11)
    deviation, norms = np.eye(11) - 1 / 11, []
    for step in range(16 * graph.period):
        deviation = graph.edges(step).to_matrix(11) @ deviation
        norms.append(np.linalg.norm(deviation))
    window = 6 * graph.period
    rate = (norms[-1] / norms[-1 - window]) ** (1 / window)
    assert spectral_gap(graph) == pytest.approx(1 - rate, abs=1e-3)


def test_gap_of_a_column_stochastic_matrix_is_the_rate_of_powers():
    matrix = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.6], [0.1, 0.3, 0.3]])
    graph = Matrices(matrix, stochasticity="column")
    limit = np.linalg.matrix_power(matrix, 200)
    norms = [np.linalg.norm(np.linalg.matrix_power(matrix, k) - limit) for k in (12, 13)]
    assert spectral_gap(graph) == pytest.approx(1 - norms[1] / norms[0], abs=1e-4)


def test_random_schedules_need_a_number_of_rounds():
    graph = RandomUndirected(num_nodes=6, rate_low=0.4, rate_high=0.8, weights="metropolis")
    for gap in (spectral_gap, mean_square_gap):
        with pytest.raises(ValueError, match="give the number of rounds"):
            gap(graph)
        with pytest.raises(ValueError, match="num_rounds=0"):
            gap(graph, num_rounds=0)
        assert 0 < gap(graph, num_rounds=20) < 1


def test_a_single_node_has_gap_one():
    for gap in (spectral_gap, singular_gap, mean_square_gap):
        assert gap(Ring(num_nodes=1)) == 1


def test_large_sparse_graphs():
    num_nodes = 10_000
    start = time.perf_counter()
    ring = 2 * (1 - np.cos(2 * np.pi / num_nodes)) / 3
    assert spectral_gap(Ring(num_nodes=num_nodes)) == pytest.approx(ring, rel=1e-6)
    assert time.perf_counter() - start < 10
    random = ErdosRenyi(num_nodes=1100, probability=0.02)
    slem = np.sort(np.abs(np.linalg.eigvalsh(random.edges(0).to_matrix(1100))))[-2]
    assert spectral_gap(random) == pytest.approx(1 - slem, abs=1e-9)


def test_large_grid_against_its_product_form():
    rows, columns = 20, 60
    graph = NetworkX(
        num_nodes=rows * columns,
        generator="grid_2d_graph",
        arguments={"m": rows, "n": columns, "periodic": True},
    )
    closed = 1 - (3 + 2 * np.cos(2 * np.pi / columns)) / 5
    assert spectral_gap(graph) == pytest.approx(closed, rel=1e-6)


def test_every_connected_schedule_passes_quickly():
    start = time.perf_counter()
    check_mixes(Ring(num_nodes=10_000))
    check_mixes(OnePeerExponential(num_nodes=10_000))
    check_mixes(RandomDirected(num_nodes=100, rate_low=0.4, rate_high=0.8))
    assert time.perf_counter() - start < 5
    check_mixes(SelfLoop(num_nodes=4))


def test_a_sparse_random_schedule_needs_several_rounds():
    graph = RandomDirected(num_nodes=12, rate_low=0.05, rate_high=0.05, seed=1)
    with pytest.raises(ValueError, match="over 1 round its edges leave"):
        check_mixes(graph, num_rounds=1)
    check_mixes(graph, num_rounds=300)


def test_a_graph_that_cannot_mix_is_named():
    apart = NetworkX(num_nodes=9, generator="ring_of_cliques", arguments={"num_cliques": 3, "clique_size": 3})
    check_mixes(apart)
    blocks = np.kron(np.diag([1, 1]), np.full((3, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"over 1 round its edges leave 2 strongly connected components of 6 nodes"):
        check_mixes(Matrices(blocks))
    one_way = np.array([[1, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0.5]])
    assert nx.number_strongly_connected_components(nx.from_numpy_array(one_way, create_using=nx.DiGraph)) == 3
    with pytest.raises(ValueError, match="leave 3 strongly connected components of 3 nodes") as error:
        check_mixes(Matrices(one_way, stochasticity="column"))
    assert "\n" not in str(error.value)


def test_the_cut_off_nodes_are_named():
    blocks = np.eye(12)
    blocks[:8, :8] = 1 / 8
    blocks[9:, 9:] = 1 / 3
    with pytest.raises(ValueError, match=r"leave 3 .*cut off, for example: node 8\)"):
        check_mixes(Matrices(blocks))


def test_a_period_counts_as_a_whole():
    first, second = np.eye(4), np.eye(4)
    first[:2, :2] = first[2:, 2:] = 0.5
    second[1:3, 1:3] = 0.5
    with pytest.raises(ValueError, match="leave 2 strongly"):
        check_mixes(Matrices(first))
    check_mixes(Matrices(first, second))


def test_wrong_declarations_are_found():
    column = np.array([[0.5, 0.2], [0.5, 0.8]])
    check_stochastic(Matrices(column, stochasticity="column"))
    check_stochastic(Matrices(np.full((2, 2), 0.5), stochasticity="row"))
    with pytest.raises(ValueError, match=r"declares stochasticity 'double', but in round 1 only the columns"):
        check_stochastic(Matrices(np.eye(2), column))
    with pytest.raises(ValueError, match="in round 0 only the rows"):
        check_stochastic(Matrices(column.T, stochasticity="column"))
    with pytest.raises(ValueError, match="neither rows nor columns"):
        check_stochastic(Matrices(column + 0.1, stochasticity="column"))
    with pytest.raises(ValueError, match="neither rows nor columns"):
        check_stochastic(Matrices(column * np.nan, stochasticity="column"))


def test_a_graph_must_declare_itself():
    class Silent(PeriodicGraph):
        def build(self, phase: int) -> Edges:
            return Edges.from_matrix(np.eye(1))

    with pytest.raises(TypeError, match="abstract"):
        Silent(num_nodes=1)
    assert issubclass(Silent, Graph)
