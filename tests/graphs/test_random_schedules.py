"""Schedules that are drawn anew every round: what every round is, and what rounds are on average, in closed form."""

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.b_connected_directed import BConnectedDirected
from simulator.graphs.epidemic import Epidemic, draw_regular, draw_subsets
from simulator.graphs.equi_dyn import EquiDyn
from simulator.graphs.random_matching import RandomMatching
from simulator.graphs.slowly_changing import SlowlyChanging
from simulator.randomness import generator


def assert_mean_is(graph, expected, num_rounds=4000):
    """The mean of W_t over rounds, entry by entry, within five standard errors."""
    draws = np.array([graph.edges(step).to_matrix(graph.num_nodes) for step in range(num_rounds)])
    bound = 5 * draws.std(axis=0) / np.sqrt(num_rounds) + 1e-12
    assert (np.abs(draws.mean(axis=0) - expected) <= bound).all()
    assert bound.max() < 0.25 * np.max(expected)


def spread(num_nodes, own, other):
    """The matrix with ``own`` on the diagonal and ``other`` elsewhere."""
    return (own - other) * np.eye(num_nodes) + other


def test_random_matching():
    assert_mean_is(RandomMatching(num_nodes=6, seed=1), spread(6, 1 / 2, 1 / 10))
    assert_mean_is(RandomMatching(num_nodes=7, seed=1), spread(7, 8 / 14, 1 / 14))
    for num_nodes in (6, 7):
        graph = RandomMatching(num_nodes=num_nodes)
        for step in range(20):
            matrix = graph.edges(step).to_matrix(num_nodes)
            assert np.array_equal(matrix, matrix.T)
            assert np.sum(np.diag(matrix) == 1) == num_nodes % 2
            assert np.sum(matrix == 0.5) == 2 * (num_nodes // 2 * 2)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_directed_equi_dyn(eta):
    graph = EquiDyn(num_nodes=7, eta=eta, directed=True, seed=2)
    assert_mean_is(graph, (1 - eta) * np.eye(7) + eta / 7)
    offsets = set()
    for step in range(60):
        matrix = graph.edges(step).to_matrix(7)
        (offset,) = {(i - j) % 7 for i, j in np.argwhere(matrix) if i != j}
        shift = np.roll(np.eye(7), offset, axis=0)
        np.testing.assert_allclose(matrix, (1 - eta) * np.eye(7) + eta * (np.eye(7) / 7 + 6 / 7 * shift), atol=1e-15)
        offsets.add(offset)
    assert offsets == set(range(1, 7))


def matching_of(num_nodes, offset, start):
    """A plain transcription: pairs of the scan from ``start``."""
    free, pairs = set(range(num_nodes)), []
    for i in [*range(start, num_nodes), *range(start)]:
        j = (i + offset) % num_nodes
        if {i, j} <= free:
            free -= {i, j}
            pairs.append((i, j))
    return pairs


@pytest.mark.parametrize("num_nodes", [6, 7])
def test_undirected_equi_dyn(num_nodes):
    eta = 0.7
    given = eta * (num_nodes - 1) / num_nodes
    possible = {}
    for offset in range(1, num_nodes):
        for start in range(num_nodes):
            matrix = np.eye(num_nodes)
            for i, j in matching_of(num_nodes, offset, start):
                matrix[[i, j], [i, j]] -= given
                matrix[[i, j], [j, i]] += given
            possible[offset, start] = matrix
    graph = EquiDyn(num_nodes=num_nodes, eta=eta, directed=False, seed=3)
    assert_mean_is(graph, np.mean(list(possible.values()), axis=0))
    for step in range(30):
        matrix = graph.edges(step).to_matrix(num_nodes)
        assert any(np.allclose(matrix, other, rtol=0, atol=1e-15) for other in possible.values())


def test_epidemic_oracle():
    num_nodes, num_out = 7, 2
    assert_mean_is(
        Epidemic(num_nodes=num_nodes, num_out=num_out, seed=4),
        spread(num_nodes, 1 / 3, 2 / 3 / (num_nodes - 1)),
    )
    graph = Epidemic(num_nodes=40, num_out=5)
    for step in range(10):
        matrix = graph.edges(step).to_matrix(40)
        assert set(np.unique(matrix)) == {0, 1 / 6}
        assert (np.sum(matrix > 0, axis=0) == 6).all()
        assert (np.sum(matrix > 0, axis=1) == 6).all()


def test_epidemic_local():
    num_nodes, num_out = 7, 2
    heard = num_out / (num_nodes - 1)
    # A node hears Binomial(M - 1, p) others: E[1 / (1 + X)] = (1 - (1 - p)^M) / (M p).
    own = (1 - (1 - heard) ** num_nodes) / (num_nodes * heard)
    graph = Epidemic(num_nodes=num_nodes, num_out=num_out, variant="local", seed=5)
    assert_mean_is(graph, spread(num_nodes, own, (1 - own) / (num_nodes - 1)))
    uneven = False
    for step in range(20):
        matrix = graph.edges(step).to_matrix(num_nodes)
        assert (np.sum(matrix > 0, axis=0) == num_out + 1).all()
        np.testing.assert_allclose(matrix, (matrix > 0) / np.sum(matrix > 0, axis=1, keepdims=True), atol=1e-15)
        uneven |= len(set(np.sum(matrix > 0, axis=1))) > 1
    assert uneven


def test_regular_digraphs_of_every_degree():
    for num_nodes in range(2, 13):
        for degree in range(num_nodes):
            for step in range(5):
                receivers = draw_regular(num_nodes, degree, generator(0, "test", step=step))
                assert receivers.shape == (num_nodes, degree)
                assert (np.bincount(receivers.ravel(), minlength=num_nodes) == degree).all()
                assert all(len({node, *row}) == degree + 1 for node, row in enumerate(receivers.tolist()))


def test_subsets_are_uniform():
    """All 6 sets of two of the four others, for every one of 5 nodes; five standard deviations of a frequency."""
    counts = {}
    for step in range(3000):
        for node, row in enumerate(draw_subsets(5, 2, generator(0, "test", step=step)).tolist()):
            counts[node, frozenset(row)] = counts.get((node, frozenset(row)), 0) + 1
    assert len(counts) == 30
    assert all(node not in chosen and len(chosen) == 2 for node, chosen in counts)
    assert np.abs(np.array(list(counts.values())) / 3000 - 1 / 6).max() < 5 * np.sqrt(5 / 36 / 3000)


def joined_pairs(graph, step):
    edges = graph.edges(step)
    return {(i, j) for i, j in zip(edges.source.tolist(), edges.target.tolist(), strict=True) if i < j}


@pytest.mark.parametrize("num_changes", [1, 3])
def test_slowly_changing(num_changes):
    graph = SlowlyChanging(num_nodes=8, num_changes=num_changes, seed=1)
    counts = np.zeros(28)
    before = joined_pairs(graph, 0)
    number = {pair: place for place, pair in enumerate((i, j) for i in range(8) for j in range(i + 1, 8))}
    for step in range(1, 1000):
        after = joined_pairs(graph, step)
        assert len(before ^ after) == num_changes
        assert nx.is_connected(nx.Graph(list(after)))
        assert {node for pair in after for node in pair} == set(range(8))
        counts[[number[pair] for pair in before ^ after]] += 1
        before = after
    chance = num_changes / 28  # but for changes that would disconnect the graph
    assert np.abs(counts / 999 - chance).max() < 6 * np.sqrt(chance / 999)
    degree = np.bincount(graph.edges(9).source) - 1
    weights = {1 / (1 + max(degree[i], degree[j])) for i, j in joined_pairs(graph, 9)}
    matrix = graph.edges(9).to_matrix(8)
    assert set(matrix[np.triu_indices(8, 1)]) - {0} == weights


def test_slowly_changing_is_the_same_from_wherever_it_is_walked_to():
    steps = [430, 5, 250, 249, 251, 99, 100, 430, 0, 300]
    walked = SlowlyChanging(num_nodes=6, num_changes=2, seed=2)
    seen = {step: joined_pairs(walked, step) for step in range(431)}
    jumping = SlowlyChanging(num_nodes=6, num_changes=2, seed=2)
    assert [joined_pairs(jumping, step) for step in steps] == [seen[step] for step in steps]


def test_a_graph_that_cannot_change_says_so():
    graph = SlowlyChanging(num_nodes=2, num_changes=1)
    assert joined_pairs(graph, 0) == {(0, 1)}
    with pytest.raises(
        ValueError, match=r"none of 1000 draws is connected; toggle fewer pairs than graph.num_changes=1"
    ):
        graph.edges(1)


def union(graph, steps):
    digraph = nx.DiGraph()
    digraph.add_nodes_from(range(graph.num_nodes))
    for step in steps:
        edges = graph.edges(step)
        digraph.add_edges_from(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    return digraph


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_b_connected_over_any_window_and_no_less(window):
    graph = BConnectedDirected(num_nodes=9, window=window, probability=0.0, seed=6)
    for start in range(20):
        assert nx.is_strongly_connected(union(graph, range(start, start + window)))
        if window > 1:
            assert not nx.is_strongly_connected(union(graph, range(start, start + window - 1)))
    denser = BConnectedDirected(num_nodes=9, window=window, probability=0.1, seed=6)
    for start in range(20):
        assert nx.is_strongly_connected(union(denser, range(start, start + window)))


def test_b_connected_weights_and_density():
    num_nodes, window, probability = 12, 3, 0.2
    graph = BConnectedDirected(num_nodes=num_nodes, window=window, probability=probability, seed=7)
    counts = np.zeros((num_nodes, num_nodes))
    for step in range(1500):
        heard = graph.edges(step).to_matrix(num_nodes) > 0
        if step < 20:
            np.testing.assert_allclose(graph.edges(step).to_matrix(num_nodes), heard / heard.sum(axis=0), atol=1e-15)
        counts += heard
    cycle = union(BConnectedDirected(num_nodes=num_nodes, window=window, seed=7), range(window))
    frequency = np.where(nx.to_numpy_array(cycle).T > 0, (1 + (window - 1) * probability) / window, probability)
    frequency[np.eye(num_nodes, dtype=bool)] = 1
    assert np.abs(counts / 1500 - frequency).max() < 5 * 0.5 / np.sqrt(1500)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (EquiDyn, {"num_nodes": 4, "eta": 0.0}, r"graph.eta=0.0: expected a number in \(0, 1\]"),
        (Epidemic, {"num_nodes": 4, "num_out": 4}, "graph.num_out=4: a node sends to at least 1 and at most .* = 3"),
        (Epidemic, {"num_nodes": 4, "num_out": 0}, "graph.num_out=0"),
        (Epidemic, {"num_nodes": 4, "num_out": 1, "variant": "push"}, "graph.variant='push': .* are oracle, local"),
        (BConnectedDirected, {"num_nodes": 4, "window": 0}, "graph.window=0"),
        (SlowlyChanging, {"num_nodes": 4, "num_changes": 7}, "graph.num_changes=7: expected 1 to 6"),
        (SlowlyChanging, {"num_nodes": 4, "num_changes": 2, "probability": 0.0}, "graph.probability=0.0"),
        (BConnectedDirected, {"num_nodes": 4, "window": 2, "probability": 1.0}, "graph.probability=1.0"),
    ],
)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        kind(**arguments)
    assert "\n" not in str(error.value)
