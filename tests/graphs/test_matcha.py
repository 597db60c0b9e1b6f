"""MATCHA: matchings against networkx, probabilities against a semidefinite program, alpha against all rounds."""

from itertools import product

import networkx as nx
import numpy as np
import pytest

from simulator.graphs import matching_probabilities
from simulator.graphs.chain import Chain
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.edge_colouring import matchings
from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.matcha import Matcha
from simulator.graphs.matching_probabilities import Laplacians, best_alpha, best_probabilities
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.star import Star

GRAPHS = {
    **{f"gnp-{n}-{p}": nx.gnp_random_graph(n, p, seed=n) for n in (5, 12, 25) for p in (0.2, 0.5, 0.9)},
    **{f"complete-{n}": nx.complete_graph(n) for n in (2, 3, 8, 9)},
    **{f"cycle-{n}": nx.cycle_graph(n) for n in (3, 8, 9)},
    "star": nx.star_graph(6),
    "petersen": nx.petersen_graph(),  # of the second class: no 3 matchings
    "bipartite": nx.complete_bipartite_graph(4, 6),
    "regular": nx.random_regular_graph(7, 20, seed=1),
    "empty": nx.empty_graph(4),
}


def ends(graph):
    pairs = np.array([sorted(edge) for edge in graph.edges()], dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


@pytest.mark.parametrize("name", GRAPHS)
def test_edges_are_decomposed_into_few_matchings(name):
    graph = GRAPHS[name]
    found = matchings(*ends(graph), len(graph))
    assert len(found) <= max((degree for _, degree in graph.degree()), default=0) + 1
    parts = [set(zip(first.tolist(), second.tolist(), strict=True)) for first, second in found]
    assert all(part and nx.is_matching(graph, part) for part in parts)
    assert sum(len(part) for part in parts) == graph.number_of_edges()
    assert set.union(set(), *parts) == {tuple(sorted(edge)) for edge in graph.edges()}


def laplacians_of(graph):
    found = matchings(*ends(graph), len(graph))
    parts = [nx.Graph() for _ in found]
    for part, (first, second) in zip(parts, found, strict=True):
        part.add_nodes_from(range(len(graph)))
        part.add_edges_from(zip(first.tolist(), second.tolist(), strict=True))
    dense = [nx.laplacian_matrix(part, nodelist=range(len(graph))).toarray().astype(float) for part in parts]
    return found, np.array(dense)


def dense_laplacians(graph):
    """L_j of a schedule, [m, M, M]."""
    dense = np.zeros((len(graph.matchings), graph.num_nodes, graph.num_nodes))
    for laplacian, pairs in zip(dense, graph.matchings, strict=True):
        for a, b in zip(*pairs, strict=True):
            laplacian[[a, b], [a, b]] = 1.0
            laplacian[[a, b], [b, a]] = -1.0
    return dense


def lambda_2(probabilities, laplacians):
    return np.linalg.eigvalsh(np.tensordot(probabilities, laplacians, 1))[1]


@pytest.mark.parametrize("many", [128, 1])
@pytest.mark.parametrize("budget", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [1, 3])
def test_probabilities_are_those_of_a_semidefinite_program(monkeypatch, budget, seed, many):
    """Newton's equations by factorisation, and by conjugate gradients, which end with a larger gap."""
    import cvxpy

    monkeypatch.setattr(matching_probabilities, "_MANY_MATCHINGS", many)

    found, laplacians = laplacians_of(nx.gnp_random_graph(14, 0.45, seed=seed))
    count = len(found)
    probabilities = best_probabilities(Laplacians(found, 14), budget)
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert probabilities.sum() <= budget * count + 1e-9
    variables, bound = cvxpy.Variable(count), cvxpy.Variable()
    mixed = sum(variables[j] * laplacians[j] for j in range(count))
    constraints = [variables >= 0, variables <= 1, cvxpy.sum(variables) <= budget * count]
    constraints += [mixed - bound * (np.eye(14) - 1 / 14) >> 0]
    optimum = cvxpy.Problem(cvxpy.Maximize(bound), constraints).solve(solver=cvxpy.SCS, eps=1e-7)
    reached = lambda_2(probabilities, laplacians)
    assert optimum * (1 - (5e-5 if many > count else 1e-3)) <= reached <= optimum * (1 + 5e-5)
    # Equal probabilities, which periodic use of the whole graph comes to, are worse by far more than that.
    assert lambda_2(np.full(count, budget), laplacians) < 0.97 * optimum


@pytest.mark.parametrize(
    ("base", "value"),
    [
        (FullyConnected(num_nodes=7), 7.0),
        (Star(num_nodes=9), 1.0),
        (Ring(num_nodes=2), 2.0),
        (Chain(num_nodes=40), None),
    ],
)
def test_probabilities_where_symmetry_makes_them_equal(base, value):
    """With p = budget everywhere lambda_2 is budget times that of the graph: 7, 1 and 2 for these."""
    graph = Matcha(base=base, budget=0.4)
    value = value or 2 - 2 * np.cos(np.pi / 40)
    assert lambda_2(graph.probabilities, dense_laplacians(graph)) >= 0.4 * value * (1 - 1e-5)
    if not isinstance(base, Chain):
        np.testing.assert_allclose(graph.probabilities, 0.4, atol=1e-4)


@pytest.mark.parametrize(
    "base", [Ring(num_nodes=7), ErdosRenyi(num_nodes=8, probability=0.5, seed=2), Star(num_nodes=6)]
)
@pytest.mark.parametrize("budget", [0.3, 0.8])
def test_alpha_is_the_best_over_all_rounds_that_there_are(base, budget):
    graph = Matcha(base=base, budget=budget)
    nodes = base.num_nodes
    patterns = []
    for on in product((0, 1), repeat=len(graph.matchings)):
        chance = np.prod(np.where(on, graph.probabilities, 1 - graph.probabilities))
        patterns.append((chance, np.tensordot(on, dense_laplacians(graph), 1)))

    def rho(alpha):
        rounds = [(chance, np.eye(nodes) - alpha * laplacian) for chance, laplacian in patterns]
        second_moment = sum(chance * matrix.T @ matrix for chance, matrix in rounds)
        return np.abs(np.linalg.eigvalsh(second_moment - 1 / nodes)).max()

    best = rho(graph.alpha)
    assert best < 1
    assert all(best <= rho(alpha) + 1e-12 for alpha in np.linspace(0, 2, 81))
    assert all(best <= rho(graph.alpha + change) + 1e-12 for change in (-1e-3, 1e-3))


def test_products_with_laplacians():
    found, dense = laplacians_of(nx.gnp_random_graph(12, 0.5, seed=2))
    laplacians = Laplacians(found, 12)
    x = np.random.default_rng(0).standard_normal((12, 12))
    x, weights = x + x.T, np.random.default_rng(1).random(len(found))
    np.testing.assert_allclose(laplacians.combined(weights), np.tensordot(weights, dense, 1), atol=1e-12)
    np.testing.assert_allclose(laplacians.products(x), [np.trace(x @ part) for part in dense], atol=1e-12)
    expected = [[np.trace(x @ one @ x @ other) for other in dense] for one in dense]
    np.testing.assert_allclose(laplacians.all_products(x), expected, atol=1e-11)


def test_alpha_by_hand():
    """Two nodes: p (1 - 2 alpha)^2 + 1 - p."""
    assert best_alpha(np.array([0.3]), Laplacians([(np.array([0]), np.array([1]))], 2)) == pytest.approx(0.5, abs=1e-7)
    assert Matcha(base=FullyConnected(num_nodes=5), budget=1.0).alpha == pytest.approx(1 / 5, abs=1e-7)


def test_rounds_are_matchings_that_are_on_as_often_as_said():
    graph = Matcha(base=ErdosRenyi(num_nodes=10, probability=0.5, seed=4), budget=0.5, seed=1)
    base = graph.base.edges(0).to_matrix(10) > 0
    num_rounds = 3000
    counts = np.zeros(len(graph.matchings))
    for step in range(num_rounds):
        matrix = graph.edges(step).to_matrix(10)
        on = np.array([matrix[first[0], second[0]] != 0 for first, second in graph.matchings])
        if step < 50:
            expected = np.eye(10) - graph.alpha * np.tensordot(on, dense_laplacians(graph), 1)
            np.testing.assert_allclose(matrix, expected, atol=1e-14)
            assert not (matrix[~base] != 0).any()
        counts += on
    deviation = np.sqrt(graph.probabilities * (1 - graph.probabilities) / num_rounds)
    assert (np.abs(counts / num_rounds - graph.probabilities) <= 5 * deviation + 1e-12).all()


@pytest.mark.parametrize(
    ("base", "budget", "message"),
    [
        (DirectedRing(num_nodes=5), 0.5, "graph.base: MATCHA needs a static undirected graph, and DirectedRing is not"),
        (OnePeerExponential(num_nodes=8), 0.5, "graph.base: MATCHA needs a static undirected graph"),
        (SelfLoop(num_nodes=5), 0.5, "graph.base: MATCHA needs a connected graph, and SelfLoop is not"),
        (Ring(num_nodes=5), 0.0, r"graph.budget=0.0: expected a number in \(0, 1\]"),
        (Ring(num_nodes=5), 1.5, r"graph.budget=1.5: expected a number in \(0, 1\]"),
    ],
)
def test_bad_arguments_are_refused(base, budget, message):
    with pytest.raises(ValueError, match=message) as error:
        Matcha(base=base, budget=budget).edges(0)
    assert "\n" not in str(error.value)
