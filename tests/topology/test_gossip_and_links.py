"""Gossip measures, gaps, degrees and diameters against products of dense matrices, closed forms and networkx."""

import itertools

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.hub import Hub
from simulator.graphs.networkx import NetworkX
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.ring import Ring
from simulator.graphs.spectra import mean_square_gap, singular_gap, spectral_gap
from simulator.topology.gaps import gaps, lyapunov_gap
from simulator.topology.gossip import (
    delay,
    ends_exactly,
    gossip_errors,
    invariant_gossip_errors,
    one_step_reduction,
    rounds_to_consensus,
)
from simulator.topology.invariance import invariant_spectra
from simulator.topology.links import diameter, traffic
from tests.topology.schedules import Drawn, Matrices, column_stochastic, doubly_stochastic, metropolis, ten_topologies


@pytest.mark.parametrize("name", list(ten_topologies()))
def test_gossip_errors_are_those_of_the_products(name):
    graph, counts = ten_topologies()[name], [1, 3, 7, 12]
    rounds = [graph.edges(t).to_matrix(32) for t in range(12)]
    products = list(itertools.accumulate(rounds, lambda product, matrix: matrix @ product))
    expected = [np.square(products[k - 1] - 1 / 32).sum() for k in counts]
    np.testing.assert_allclose(gossip_errors(graph, counts), expected, atol=1e-12)
    spectra = invariant_spectra(graph)
    if spectra is not None:
        np.testing.assert_allclose(invariant_gossip_errors(spectra, counts), expected, atol=1e-12)
    period = [np.square(matrix - 1 / 32).sum() for matrix in rounds[: graph.period]]
    assert one_step_reduction(graph, 1) == pytest.approx(np.mean(period))


def test_column_stochastic_rounds_are_debiased():
    matrices = [column_stochastic(5, seed) for seed in (1, 2)]
    graph = Matrices(*matrices, stochasticity="column")
    after = matrices[1] @ matrices[0]
    expected = np.square(after / (after @ np.ones(5))[:, None] - 0.2).sum()
    assert gossip_errors(graph, [2]) == [pytest.approx(expected)]
    reductions = [np.square(matrix / matrix.sum(axis=1, keepdims=True) - 0.2).sum() for matrix in matrices]
    assert one_step_reduction(graph, 1) == pytest.approx(np.mean(reductions))


def test_exact_consensus_is_told_from_fast_consensus():
    assert rounds_to_consensus(ten_topologies()["one-peer exponential"], 50) == 5
    assert rounds_to_consensus(ten_topologies()["complete"], 50) == 1
    assert rounds_to_consensus(Matrices(np.eye(4), np.full((4, 4), 0.25)), 50) == 2
    assert rounds_to_consensus(Matrices(0.9 / 4 + 0.1 * np.eye(4)), 100) is None  # 1e-100 after 100 rounds
    assert rounds_to_consensus(OnePeerExponential(num_nodes=6), 100) is None
    assert rounds_to_consensus(Ring(num_nodes=8), 3) is None
    assert rounds_to_consensus(Ring(num_nodes=1), 3) == 0
    column = np.outer([0.5, 0.3, 0.2], np.ones(3))
    assert ends_exactly(Matrices(column, stochasticity="column")) == 1


def test_delay_and_diameter():
    for name, graph in ten_topologies().items():
        if name in ("one-peer exponential", "solo"):
            continue
        expected = nx.diameter(nx.from_numpy_array(graph.matrices[0]))
        assert delay(graph, 100) == expected
        assert diameter(graph, 1, invariant=False) == (expected, expected)
        if invariant_spectra(graph) is not None:
            assert diameter(graph, 1, invariant=True) == (expected, expected)
    one_peer = ten_topologies()["one-peer exponential"]
    assert delay(one_peer, 100) == 5
    offsets = nx.DiGraph((i, (i + 2**k) % 32) for i in range(32) for k in range(5))
    assert diameter(one_peer, 1, invariant=True) == (nx.diameter(offsets),) * 2
    assert delay(ten_topologies()["solo"], 9) is None
    assert diameter(ten_topologies()["solo"], 1, invariant=False)[0] == np.inf
    assert delay(Hub(num_nodes=5), 9) == 2


def test_bounds_of_a_large_diameter_enclose_it():
    tree = NetworkX(num_nodes=4095, generator="balanced_tree", arguments={"r": 2, "h": 11})
    low, high = diameter(tree, 1, invariant=False)
    assert 22 >= low >= 11
    assert 22 <= high <= 44


def test_traffic():
    star = traffic(ten_topologies()["star"], 1)
    assert (star.messages_per_round, star.max_degree, star.max_sent_per_round) == (62, 31, 31)
    assert star.mean_degree == pytest.approx(62 / 32)
    hub = traffic(Hub(num_nodes=5), 1)  # up: each of four sends one; down: one sends four
    assert (hub.messages_per_round, hub.max_degree, hub.max_sent_per_round) == (4, 4, 2.5)
    assert traffic(ten_topologies()["one-peer exponential"], 1).max_degree == 1


def test_gaps_by_every_way():
    for name, graph in ten_topologies().items():
        found = gaps(graph, invariant_spectra(graph), num_rounds=10)
        expected = spectral_gap(graph), singular_gap(graph), mean_square_gap(graph)
        np.testing.assert_allclose(list(found.values()), expected, atol=2e-8, err_msg=name)
    assert set(gaps(Ring(num_nodes=1), None, num_rounds=1).values()) == {1.0}


def test_a_nilpotent_deviation_has_gap_one():
    """De Bruijn on 8 nodes averages exactly in 3 rounds; its eigenvalues come out as roots of the rounding error."""
    matrix = np.zeros((8, 8))
    for i, r in itertools.product(range(8), range(2)):
        matrix[(2 * i + r) % 8, i] += 0.5
    assert np.abs(np.linalg.matrix_power(matrix, 3) - 1 / 8).max() < 1e-15
    assert gaps(Matrices(matrix), None, num_rounds=1)["spectral_gap"] == 1.0


@pytest.mark.slow
def test_gaps_of_large_schedules():
    """Above 1024 nodes by ARPACK, or a reason."""
    n = 1100
    rng = np.random.default_rng(0)
    # A random 6-regular digraph mixes fast; a second round is its transpose.
    matrix = sum(np.eye(n)[rng.permutation(n)] for _ in range(6)) / 7 + np.eye(n) / 7
    graph = Matrices(matrix, matrix.T)
    found = gaps(graph, None, num_rounds=1)
    deviation = matrix - 1 / n
    largest = np.sqrt(np.linalg.eigvalsh(deviation.T @ deviation)[-1])  # rho(D' D)^(1/2)
    assert found["spectral_gap"] == pytest.approx(1 - largest, abs=1e-6)
    assert found["singular_gap"] == pytest.approx(1 - largest, abs=1e-6)
    both = (deviation.T @ deviation + deviation @ deviation.T) / 2
    assert found["mean_square_gap"] == pytest.approx(1 - np.sqrt(np.linalg.eigvalsh(both)[-1]), abs=1e-6)
    one_way = (np.eye(n) + np.roll(np.eye(n), 1, axis=1)) / 2
    assert "ARPACK does not converge" in gaps(Matrices(one_way), None, num_rounds=1)["spectral_gap"]


def test_lyapunov_gaps_of_periodic_and_random_schedules():
    static = Matrices(metropolis(nx.star_graph(7)))
    assert lyapunov_gap(static, 2000) == pytest.approx(1 / 8, abs=1e-2)
    column = Matrices(column_stochastic(6, 1), stochasticity="column")
    second = np.sort(np.abs(np.linalg.eigvals(column.matrices[0])))[-2]
    assert lyapunov_gap(column, 2000) == pytest.approx(1 - second, abs=2e-2)
    choices = [doubly_stochastic(4, seed) for seed in range(3)]
    graph = Drawn(4, lambda rng: choices[rng.integers(3)])
    deviation = np.eye(4) - 1 / 4
    growth = 0.0
    for step in range(3000):
        deviation = graph.edges(step).to_matrix(4) @ deviation
        deviation -= deviation.mean(axis=0)  # or rounding, which agrees, outgrows what is left
        size = np.linalg.norm(deviation)
        growth, deviation = growth + np.log(size), deviation / size
    assert lyapunov_gap(graph, 3000) == pytest.approx(1 - np.exp(growth / 3000), abs=1e-3)
    assert lyapunov_gap(Drawn(4, lambda rng: np.full((4, 4), 0.25)), 10) == 1.0
