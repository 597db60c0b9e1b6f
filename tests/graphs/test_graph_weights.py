"""Weight rules against plain transcriptions of their definitions."""

import sys

import networkx as nx
import numpy as np
import pytest

from simulator.graphs import weights
from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.spectra import spectral_gap
from simulator.graphs.support import circulant_support, directed_support, draw_connected_support, undirected_support


def dense(rule, support, num_nodes):
    source, target = support
    matrix = np.zeros((num_nodes, num_nodes))
    matrix[target, source] = rule(source, target, num_nodes)
    return matrix


def slem(matrix):
    return np.sort(np.abs(np.linalg.eigvalsh(matrix)))[-2]


@pytest.fixture
def graph():
    return nx.barbell_graph(4, 2)


@pytest.fixture
def support(graph):
    pairs = np.array(graph.edges())
    return undirected_support(pairs[:, 0], pairs[:, 1], len(graph))


def test_metropolis_max_degree_and_lazy(graph, support):
    num_nodes = len(graph)
    expected = np.zeros((num_nodes, num_nodes))
    for i, j in graph.edges():
        expected[i, j] = expected[j, i] = 1 / (1 + max(graph.degree[i], graph.degree[j]))
    for i in range(num_nodes):
        expected[i, i] = 1 - expected[i].sum()
    found = dense(weights.metropolis, support, num_nodes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    lazy = dense(weights.lazy_metropolis, support, num_nodes)
    np.testing.assert_allclose(lazy, (expected + np.eye(num_nodes)) / 2, rtol=0, atol=1e-15)
    laplacian = nx.laplacian_matrix(graph).toarray().astype(float)
    largest = max(dict(graph.degree).values())
    np.testing.assert_allclose(
        dense(weights.max_degree, support, num_nodes), np.eye(num_nodes) - laplacian / (1 + largest), rtol=0, atol=1e-15
    )


def test_best_constant_beats_other_constants(graph, support):
    num_nodes = len(graph)
    laplacian = nx.laplacian_matrix(graph).toarray().astype(float)
    best = dense(weights.best_constant, support, num_nodes)
    alpha = best[0, 1]
    np.testing.assert_allclose(best, np.eye(num_nodes) - alpha * laplacian, rtol=0, atol=1e-13)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert slem(best) < slem(np.eye(num_nodes) - factor * alpha * laplacian)
    np.testing.assert_array_equal(weights.best_constant(np.array([0]), np.array([0]), 1), [1.0])


def test_degree_rules_and_sinkhorn_on_a_digraph():
    num_nodes = 5
    arcs = np.array([(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 2), (0, 2), (1, 2)])
    support = directed_support(arcs[:, 0], arcs[:, 1], num_nodes)
    pattern = np.eye(num_nodes)
    pattern[arcs[:, 1], arcs[:, 0]] = 1
    column, row, double = (
        dense(rule, support, num_nodes) for rule in (weights.out_degree, weights.in_degree, weights.sinkhorn)
    )
    np.testing.assert_allclose(column, pattern / pattern.sum(axis=0), rtol=0, atol=1e-15)
    np.testing.assert_allclose(row, pattern / pattern.sum(axis=1, keepdims=True), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(double > 0, pattern > 0)
    np.testing.assert_allclose(double.sum(axis=0), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(double.sum(axis=1), 1, rtol=0, atol=1e-12)
    # Scaling keeps the ratio of products along two ways around: W = diag(a) pattern diag(b).
    assert double[0, 0] * double[1, 1] * double[2, 2] != pytest.approx(0)
    ratio = double[1, 0] * double[2, 1] / (double[1, 1] * double[2, 0])
    assert ratio == pytest.approx(1, abs=1e-9)


def test_sinkhorn_refuses_an_edge_on_no_cycle():
    with pytest.raises(ValueError, match="every edge lies on a cycle"):
        weights.sinkhorn(*directed_support([0], [1], 2), 2, num_rounds=200)


@pytest.mark.parametrize("seed", range(5))
def test_fastest_mixing_is_valid_and_no_worse_than_metropolis(seed):
    num_nodes = 14
    fastest = ErdosRenyi(num_nodes=num_nodes, probability=0.3, weights="fmmc", seed=seed)
    plain = ErdosRenyi(num_nodes=num_nodes, probability=0.3, seed=seed)
    matrix, reference = (graph.edges(0).to_matrix(num_nodes) for graph in (fastest, plain))
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(matrix > 0, reference > 0)
    assert matrix[matrix > 0].min() >= 0.9e-2 / num_nodes
    assert slem(matrix) < slem(reference) - 0.01  # on irregular graphs it pays
    assert spectral_gap(fastest) == pytest.approx(1 - slem(matrix), abs=1e-9)


@pytest.mark.parametrize("num_nodes", [5, 8, 13])
def test_fastest_mixing_on_a_ring_is_the_best_constant(num_nodes):
    """All edges of a ring are alike, so the optimum has one weight: 2 / (lambda_2 + lambda_M)."""
    support = circulant_support(num_nodes, [-1, 1])
    found, expected = (dense(rule, support, num_nodes) for rule in (weights.fastest_mixing, weights.best_constant))
    assert slem(found) == pytest.approx(slem(expected), abs=2e-3)


def test_fastest_mixing_on_a_star_is_capped_by_the_hub():
    """The hub's row allows 1 / (M - 1) per leaf at most, which is slower than the best constant would be."""
    num_nodes = 9
    support = undirected_support(np.zeros(8, dtype=int), np.arange(1, 9), num_nodes)
    assert slem(dense(weights.fastest_mixing, support, num_nodes)) == pytest.approx(1 - 1 / 8, abs=2e-3)


def test_fastest_mixing_on_small_and_complete_graphs():
    for num_nodes in (1, 2, 6):
        matrix = dense(weights.fastest_mixing, circulant_support(num_nodes, np.arange(num_nodes)), num_nodes)
        np.testing.assert_allclose(matrix, 1 / num_nodes, rtol=0, atol=1e-15)


def test_fastest_mixing_refuses_a_disconnected_graph():
    with pytest.raises(ValueError, match="this one has 2 components"):
        weights.fastest_mixing(*undirected_support([0, 2], [1, 3], 4), 4)


def test_drawn_supports_are_simple_connected_graphs():
    for seed in range(20):
        source, target = draw_connected_support(25, 0.15, seed, "test")
        graph = nx.DiGraph(zip(source.tolist(), target.tolist(), strict=True))
        assert nx.is_strongly_connected(graph)
        assert all(graph.has_edge(b, a) for a, b in graph.edges())
        assert all(graph.has_edge(i, i) for i in range(25))


def test_complete_supports_of_many_sizes():
    for num_nodes in (1, 2, 3, 4, 50, 301):
        source, target = draw_connected_support(num_nodes, 1.0, 0, "test")
        np.testing.assert_array_equal(target * num_nodes + source, np.arange(num_nodes**2))


@pytest.mark.parametrize("package", ["cvxpy", "scs"])
def test_fastest_mixing_says_which_extra_it_needs(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"^graph\.weights=fastest_mixing needs .*: uv pip install '\.\[weights\]'$"):
        weights.fastest_mixing(*circulant_support(5, np.array([1])), 5)
