"""Schedules whose matrices are known, what they take, and the arguments that they refuse."""

import math
import tracemalloc

import numpy as np
import pytest

from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.k_hop_ring import KHopRing
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_undirected import RandomUndirected
from simulator.graphs.ring import Ring
from tests.graphs.every_graph import make


def test_known_matrices(tmp_path):
    third, fifth = 1 / 3, 1 / 5
    ring = make("ring", 4, tmp_path).edges(0).to_matrix(4)
    np.testing.assert_allclose(
        ring, third * np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]]), atol=1e-15
    )
    directed = make("directed_ring", 3, tmp_path).edges(0).to_matrix(3)
    np.testing.assert_allclose(directed, 0.5 * np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]]), atol=1e-15)
    star = make("star", 3, tmp_path).edges(0).to_matrix(3)
    np.testing.assert_allclose(star, third * np.array([[1, 1, 1], [1, 2, 0], [1, 0, 2]]), atol=1e-15)
    two_hop = make("two_hop_ring", 7, tmp_path).edges(0).to_matrix(7)
    np.testing.assert_allclose(two_hop[3], fifth * np.array([0, 1, 1, 1, 1, 1, 0]), atol=1e-15)
    exponential = make("exponential", 6, tmp_path).edges(0).to_matrix(6)
    np.testing.assert_allclose(exponential[:, 0], 0.25 * np.array([1, 1, 1, 0, 1, 0]), atol=1e-15)
    np.testing.assert_array_equal(make("self_loop", 3, tmp_path).edges(0).to_matrix(3), np.eye(3))
    np.testing.assert_allclose(make("fully_connected", 3, tmp_path).edges(0).to_matrix(3), third, atol=1e-15)


@pytest.mark.parametrize("num_nodes", [2, 3, 5, 6, 8, 16])
def test_one_peer_exponential_averages_exactly_iff_power_of_two(num_nodes, tmp_path):
    graph = make("one_peer_exponential", num_nodes, tmp_path)
    assert graph.period == math.ceil(math.log2(num_nodes))
    product = np.eye(num_nodes)
    for step in range(graph.period):
        product = graph.edges(step).to_matrix(num_nodes) @ product
    deviation = np.abs(product - 1 / num_nodes).max()
    assert (deviation < 1e-15) == (num_nodes & (num_nodes - 1) == 0)


def test_k_hop_ring_becomes_the_complete_graph():
    np.testing.assert_allclose(KHopRing(num_nodes=6, k=3).edges(0).to_matrix(6), 1 / 6, atol=1e-15)
    np.testing.assert_allclose(KHopRing(num_nodes=6, k=10**9).edges(0).to_matrix(6), 1 / 6, atol=1e-15)


def test_ring_of_ten_thousand_nodes_takes_linear_memory():
    tracemalloc.start()
    edges = Ring(num_nodes=10_000).edges(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(edges.source) == 30_000
    assert peak < 10 * 2**20  # an n x n matrix of bytes alone would be 95 MiB
    rows = np.bincount(edges.target, edges.weight)
    np.testing.assert_allclose(rows, 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Ring, {"num_nodes": 0}, "graph.num_nodes=0"),
        (KHopRing, {"num_nodes": 3, "k": 0}, "graph.k=0"),
        (ErdosRenyi, {"num_nodes": 3, "probability": 1.5}, "graph.probability=1.5"),
        (ErdosRenyi, {"num_nodes": 3, "probability": 0}, "graph.probability=0"),
        (
            ErdosRenyi,
            {"num_nodes": 3, "probability": 0.5, "weights": "mh"},
            "the rules are metropolis, metropolis_without_self, lazy_metropolis",
        ),
        (RandomDirected, {"num_nodes": 3, "rate_low": 0.9, "rate_high": 0.8}, "graph.rate_low=0.9"),
        (RandomDirected, {"num_nodes": 3, "rate_low": 0, "rate_high": 0}, "high above 0"),
        (RandomUndirected, {"num_nodes": 3, "rate_low": 0.4, "rate_high": 1.8}, "rates lie in"),
        (
            RandomUndirected,
            {"num_nodes": 3, "rate_low": 0.4, "rate_high": 0.8, "base_probability": 0},
            "graph.base_probability=0",
        ),
        (
            RandomUndirected,
            {"num_nodes": 3, "rate_low": 0.4, "rate_high": 0.8, "weights": "in_degree"},
            "the rules are out_degree, metropolis",
        ),
    ],
)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
