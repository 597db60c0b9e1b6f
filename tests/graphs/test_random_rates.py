"""Edges that are there at random rates: how often, how independently, with which weights, and how fast."""

import time

import numpy as np
import pytest

from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_undirected import RandomUndirected


@pytest.mark.parametrize(("kind", "seed"), [(RandomDirected, 0), (RandomUndirected, 1)])
def test_edge_frequencies_follow_the_rates(kind, seed):
    num_nodes, num_rounds = 7, 3000
    graph = kind(num_nodes=num_nodes, rate_low=0.4, rate_high=0.8, seed=seed)
    counts = np.zeros((num_nodes, num_nodes))
    for step in range(num_rounds):
        counts += graph.edges(step).to_matrix(num_nodes) > 0
    rates = np.zeros((num_nodes, num_nodes))
    rates[graph.base[1], graph.base[0]] = graph.rates
    off_diagonal = rates[~np.eye(num_nodes, dtype=bool)]
    assert off_diagonal.min() >= 0.4
    assert off_diagonal.max() <= 0.8
    assert off_diagonal.std() > 0.05
    # Five standard deviations of a binomial frequency.
    bound = 5 * np.sqrt(rates * (1 - rates) / num_rounds) + 1e-12
    assert (np.abs(counts / num_rounds - rates) <= bound).all()
    assert np.array_equal(rates, rates.T) == (kind is RandomUndirected)


def test_random_directed_pairs_and_rounds_are_uncorrelated():
    graph = RandomDirected(num_nodes=6, rate_low=0.5, rate_high=0.5, seed=5)
    up = np.array([graph.edges(step).to_matrix(6)[~np.eye(6, dtype=bool)] > 0 for step in range(4000)], dtype=float)
    correlation = np.corrcoef(np.concatenate([up[1:], up[:-1]], axis=1).T)
    # 60 * 59 / 2 correlations of standard deviation 1/sqrt(4000): five of them.
    assert np.abs(correlation - np.eye(60)).max() < 5 / np.sqrt(4000)


def test_random_weights_against_a_plain_transcription():
    directed = RandomDirected(num_nodes=9, rate_low=0.4, rate_high=0.8, seed=2)
    undirected = RandomUndirected(num_nodes=9, rate_low=0.4, rate_high=0.8, seed=2)
    for graph in (directed, undirected):
        for step in range(5):
            matrix = graph.edges(step).to_matrix(9)
            connectivity = (matrix > 0).astype(float)
            np.testing.assert_allclose(matrix, connectivity / connectivity.sum(axis=0), rtol=0, atol=1e-15)


def test_base_graph_limits_the_edges():
    graph = RandomDirected(num_nodes=30, rate_low=1, rate_high=1, base_probability=0.3, seed=4)
    matrix = graph.edges(0).to_matrix(30) > 0
    assert (matrix == matrix.T).all()
    np.testing.assert_array_equal(matrix, graph.edges(9).to_matrix(30) > 0)
    assert 30 * 29 * 0.2 < matrix.sum() - 30 < 30 * 29 * 0.4


@pytest.mark.parametrize("kind", [RandomDirected, RandomUndirected])
def test_a_random_round_of_a_hundred_nodes_takes_less_than_a_millisecond(kind):
    graph = kind(num_nodes=100, rate_low=0.4, rate_high=0.8)
    graph.edges(0)
    times = []
    for step in range(30):
        start = time.perf_counter()
        graph.edges(step)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3
