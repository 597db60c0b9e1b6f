"""Weights with the most effective neighbours: gradient, optimality, closed forms."""

from functools import cache

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import linprog, minimize_scalar

from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.nw_optimal import mean_variance, nw_optimal, nw_optimal_nonnegative
from simulator.graphs.ring import Ring
from simulator.graphs.star import Star
from simulator.graphs.support import undirected_support
from simulator.graphs.weights import best_constant, fastest_mixing, lazy_metropolis, max_degree, metropolis

GAMMAS = (0.3, 0.951, 0.999)
GRAPHS = {
    "barbell": nx.barbell_graph(5, 1),
    "binary tree": nx.Graph([(k, k // 2) for k in range(1, 16)]),
    "random": nx.gnp_random_graph(24, 0.25, seed=1),
    "social network": nx.convert_node_labels_to_integers(nx.davis_southern_women_graph()),
    "star": nx.star_graph(6),
}


def support_of(graph):
    pairs = np.array(graph.edges())
    return undirected_support(pairs[:, 0], pairs[:, 1], len(graph))


def dense(weight, support, num_nodes):
    matrix = np.zeros((num_nodes, num_nodes))
    matrix[support[1], support[0]] = weight
    return matrix


@cache
def fastest(name):
    support, num_nodes = support_of(GRAPHS[name]), len(GRAPHS[name])
    return dense(fastest_mixing(*support, num_nodes), support, num_nodes)


def trace(matrix, gamma):
    """Tr (I - gamma W^2)^-1, by a plain inverse."""
    return np.trace(np.linalg.inv(np.eye(len(matrix)) - gamma * matrix @ matrix))


def effective_neighbours(matrix, gamma):
    """n / ((1 - gamma) tr Sigma), Sigma = sum_k gamma^k W^(2k + 2) by doubling."""
    total, factor = matrix @ matrix, gamma * matrix @ matrix
    for _ in range(25):
        total = total + factor @ total
        factor = factor @ factor
    return len(matrix) / ((1 - gamma) * np.trace(total))


def test_gradient_by_finite_differences_inside_and_beyond_the_continuation():
    graph, gamma, rng = nx.barbell_graph(4, 0), 0.9, np.random.default_rng(0)
    pairs = np.array(graph.edges()).T
    for scale in (0.15, 0.6, 2.0):
        weight = scale * rng.uniform(0.5, 1.5, pairs.shape[1])
        eigenvalues = np.linalg.eigvalsh(np.eye(8) - nx.incidence_matrix(graph, oriented=True) @ np.diag(weight)
                                         @ nx.incidence_matrix(graph, oriented=True).T)  # fmt: skip
        assert (np.abs(eigenvalues).max() > np.sqrt((1 + gamma) / (2 * gamma))) == (scale > 0.2)
        _, gradient = mean_variance(weight, *pairs, 8, gamma)
        step = 1e-5
        for edge in range(len(weight)):
            shifted = [weight + sign * step * (np.arange(len(weight)) == edge) for sign in (1, -1)]
            upper, lower = (mean_variance(each, *pairs, 8, gamma)[0] for each in shifted)
            assert gradient[edge] == pytest.approx((upper - lower) / (2 * step), rel=1e-5, abs=1e-7)


def test_continuation_is_of_second_order():
    """The eigenvalues of W - J of two nodes are 0 and 1 - 2w."""
    gamma, nodes = 0.6, (np.array([0]), np.array([1]))
    end = np.sqrt((1 + gamma) / (2 * gamma))
    for sign in (1, -1):
        for distance in (-0.05, -0.001, 0.001, 0.003):
            eigenvalue = sign * (end + distance)
            value, _ = mean_variance(np.array([(1 - eigenvalue) / 2]), *nodes, 2, gamma)
            exact = (1 + 1 / (1 - gamma * eigenvalue**2)) / 2
            assert value == pytest.approx(exact, abs=1e-13 if distance < 0 else 1500 * distance**3)


def test_value_is_the_trace_of_the_inverse():
    graph = GRAPHS["random"]
    support = support_of(graph)
    weight = metropolis(*support, 24)
    upper = support[0] < support[1]
    value, _ = mean_variance(weight[upper], support[0][upper], support[1][upper], 24, 0.9)
    # The eigenvalue 1 of the constant vector is taken out: it stands there with 1 instead of 1 / (1 - gamma).
    assert 24 * value == pytest.approx(trace(dense(weight, support, 24), 0.9) - 1 / (1 - 0.9) + 1, rel=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", GRAPHS)
def test_optimality(name, gamma):
    graph, support = GRAPHS[name], support_of(GRAPHS[name])
    num_nodes = len(graph)
    matrix = dense(nw_optimal(*support, num_nodes, gamma=gamma), support, num_nodes)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-12)
    adjacency = nx.to_numpy_array(graph, nodelist=range(num_nodes))
    assert not matrix[(adjacency + np.eye(num_nodes)) == 0].any()
    deviation = np.linalg.eigvalsh(matrix - 1 / num_nodes)
    assert np.abs(deviation).max() < 1
    # The gradient by W, projected on the feasible directions: steps along one edge, with its ends' self-weights.
    inverse = np.linalg.inv(np.eye(num_nodes) - gamma * matrix @ matrix)
    slope = 2 * gamma * matrix @ inverse @ inverse
    along = [2 * slope[i, j] - slope[i, i] - slope[j, j] for i, j in graph.edges()]
    best = trace(matrix, gamma)
    assert np.abs(along).max() < 1e-6 * best
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            change = np.triu(adjacency * rng.normal(0, size, adjacency.shape), 1)
            change = change + change.T
            change -= np.diag(change.sum(axis=1))
            other = matrix + change
            if np.abs(np.linalg.eigvalsh(other - 1 / num_nodes)).max() < 1 / np.sqrt(gamma):
                assert trace(other, gamma) > best
    for rule in (metropolis, max_degree, lazy_metropolis, best_constant):
        reference = dense(rule(*support, num_nodes), support, num_nodes)
        assert effective_neighbours(matrix, gamma) > effective_neighbours(reference, gamma) + 1e-6
    assert effective_neighbours(matrix, gamma) > effective_neighbours(fastest(name), gamma) + 1e-6


@pytest.mark.parametrize("gamma", [0.05, *GAMMAS])
@pytest.mark.parametrize("num_nodes", [2, 3, 4, 7, 16])
def test_a_ring_has_one_weight_found_by_search(num_nodes, gamma):
    """Edges of a ring are alike and the problem is convex, so some optimum has one weight for all."""
    ring = nx.to_numpy_array(nx.cycle_graph(num_nodes) if num_nodes > 2 else nx.path_graph(2))

    def with_weight(weight):
        return np.eye(num_nodes) - weight * (np.diag(ring.sum(axis=1)) - ring)

    top = np.linalg.eigvalsh(np.diag(ring.sum(axis=1)) - ring)[-1]
    found = minimize_scalar(
        lambda w: trace(with_weight(w), gamma), bounds=(0, 2 / top), method="bounded", options={"xatol": 1e-10}
    )
    graph = Ring(num_nodes=num_nodes, weights="nw_optimal", gamma=gamma)
    np.testing.assert_allclose(graph.edges(0).to_matrix(num_nodes), with_weight(found.x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("num_nodes", [3, 6, 20])
def test_a_short_memory_asks_for_the_smallest_norm(num_nodes):
    """For gamma -> 0 the objective is ||W||_F^2; on a star 2 (n-1) w^2 + (n-1) (1-w)^2 + (1 - (n-1) w)^2 is smallest
    at w = 2 / (n + 2)."""
    matrix = Star(num_nodes=num_nodes, weights="nw_optimal", gamma=1e-5).edges(0).to_matrix(num_nodes)
    np.testing.assert_allclose(matrix[0, 1:], 2 / (num_nodes + 2), rtol=0, atol=1e-4)


def test_complete_and_tiny_graphs_average_exactly():
    for num_nodes in (1, 2, 9):
        matrix = FullyConnected(num_nodes=num_nodes, weights="nw_optimal").edges(0).to_matrix(num_nodes)
        np.testing.assert_allclose(matrix, 1 / num_nodes, rtol=0, atol=1e-12)


def test_parts_that_are_not_joined_are_weighted_each_on_its_own():
    two = undirected_support([0, 1, 3], [1, 2, 4], 5)
    alone = undirected_support([0, 1], [1, 2], 3)
    matrix = dense(nw_optimal(*two, 5, gamma=0.9), two, 5)
    np.testing.assert_allclose(matrix[:3, :3], dense(nw_optimal(*alone, 3, gamma=0.9), alone, 3), rtol=0, atol=1e-6)
    np.testing.assert_allclose(matrix[3:, 3:], 0.5, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", GRAPHS)
def test_the_nonnegative_form_is_feasible_and_lies_between(name, gamma):
    graph, support = GRAPHS[name], support_of(GRAPHS[name])
    num_nodes = len(graph)
    matrix = dense(nw_optimal_nonnegative(*support, num_nodes, gamma=gamma), support, num_nodes)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-12)
    adjacency = nx.to_numpy_array(graph, nodelist=range(num_nodes))
    np.testing.assert_array_equal(matrix != 0, adjacency + np.eye(num_nodes) > 0)
    assert matrix.min() >= 0
    free = dense(nw_optimal(*support, num_nodes, gamma=gamma), support, num_nodes)
    best = effective_neighbours(matrix, gamma)
    assert best < effective_neighbours(free, gamma) + 1e-6
    for rule in (metropolis, max_degree, lazy_metropolis):
        assert best > effective_neighbours(dense(rule(*support, num_nodes), support, num_nodes), gamma)
    assert best > effective_neighbours(fastest(name), gamma) - 1e-6
    if free.min() >= 0:
        np.testing.assert_allclose(matrix, free, rtol=0, atol=1e-4)
    # Optimality on a convex set: no feasible point lies downhill. A linear program finds the one furthest down.
    inverse = np.linalg.inv(np.eye(num_nodes) - gamma * matrix @ matrix)
    slope = 2 * gamma * matrix @ inverse @ inverse
    edges = np.array(graph.edges())
    along = 2 * slope[edges[:, 0], edges[:, 1]] - slope[edges[:, 0], edges[:, 0]] - slope[edges[:, 1], edges[:, 1]]
    incidence = np.zeros((num_nodes, len(edges)))
    incidence[edges[:, 0], np.arange(len(edges))] = incidence[edges[:, 1], np.arange(len(edges))] = 1
    furthest = linprog(along, A_ub=incidence, b_ub=np.ones(num_nodes), bounds=(0, None))
    here = along @ matrix[edges[:, 0], edges[:, 1]]
    # The gap bounds how far the trace is from its minimum; 1e-6 / M is what the support is kept up with.
    assert here - furthest.fun < 1e-4 * trace(matrix, gamma)


@pytest.mark.parametrize("num_nodes", [5, 9, 20])
def test_the_hub_of_a_star_keeps_nothing_where_weights_must_not_be_negative(num_nodes):
    """Without the bound a short memory asks for 2 / (n + 2) on every edge, more than 1 / (n - 1)."""
    matrix = Star(num_nodes=num_nodes, weights="nw_optimal_nonnegative", gamma=0.5).edges(0).to_matrix(num_nodes)
    np.testing.assert_allclose(matrix[0, 1:], 1 / (num_nodes - 1), rtol=0, atol=1e-5)
    assert 0 < matrix[0, 0] < 1e-5


def test_nonnegative_weights_of_tiny_graphs():
    for num_nodes in (1, 2, 9):
        graph = FullyConnected(num_nodes=num_nodes, weights="nw_optimal_nonnegative")
        np.testing.assert_allclose(graph.edges(0).to_matrix(num_nodes), 1 / num_nodes, rtol=0, atol=1e-7)
