"""Schedules that average exactly: the product over a period is J, with as many rounds and neighbours as said."""

import math
from itertools import combinations_with_replacement

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.base_k import BaseK, base_digits, smooth_part
from simulator.graphs.hierarchical import Hierarchical
from simulator.graphs.hyper_hypercube import HyperHypercube, fewest_factors
from simulator.graphs.local_steps import LocalSteps
from simulator.graphs.matching_ring import MatchingRing
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.one_peer_hypercube import OnePeerHypercube
from simulator.graphs.p_peer_exponential import PPeerExponential


def product(graph, num_rounds=None):
    """W_{T-1} ... W_0."""
    matrix = np.eye(graph.num_nodes)
    for step in range(num_rounds or graph.period):
        matrix = graph.edges(step).to_matrix(graph.num_nodes) @ matrix
    return matrix


def deviation(graph, num_rounds=None):
    return np.abs(product(graph, num_rounds) - 1 / graph.num_nodes).max()


def largest_degree(graph):
    """Over all rounds and nodes, in messages that are received and in messages that are sent."""
    rounds = [graph.edges(step) for step in range(graph.period)]
    return max(max(np.bincount(each.target).max(), np.bincount(each.source).max()) for each in rounds) - 1


@pytest.mark.parametrize("simple", [True, False])
@pytest.mark.parametrize("max_degree", range(1, 6))
def test_base_k_averages_exactly_for_every_number_of_nodes(max_degree, simple):
    for num_nodes in range(1, 71):
        graph = BaseK(num_nodes=num_nodes, max_degree=max_degree, simple=simple)
        assert deviation(graph) < 1e-12, num_nodes
        assert graph.period <= 2 * math.log(num_nodes, max_degree + 1) + 2 + 1e-9, num_nodes
        assert largest_degree(graph) <= max_degree, num_nodes


@pytest.mark.parametrize(("num_nodes", "max_degree", "period"), [(243, 2, 5), (1000, 9, 3), (125, 4, 3), (512, 1, 9)])
def test_powers_of_the_base_are_not_cut(num_nodes, max_degree, period):
    """Logarithms in floating point would cut 243 = 3^5 and 1000 = 10^3 into blocks."""
    graph = BaseK(num_nodes=num_nodes, max_degree=max_degree, simple=True)
    assert graph.period == period
    assert deviation(graph) < 1e-12
    assert base_digits(num_nodes, max_degree + 1) == [(1, num_nodes)]
    assert base_digits(num_nodes - 1, max_degree + 1)[0] == (max_degree, num_nodes // (max_degree + 1))


def test_base_k_on_five_nodes_by_hand():
    """5 = 4 + 1: the four average, one of them meets the fifth with weight 4/5, the four average again."""
    graph = BaseK(num_nodes=5, max_degree=1, simple=True)
    meetings = []
    for step in range(graph.period):
        edges = graph.edges(step)
        meetings.append(
            {
                (int(i), int(j)): pytest.approx(float(w))
                for i, j, w in zip(edges.source, edges.target, edges.weight, strict=True)
                if i < j
            }
        )
    assert meetings[0] == meetings[4] == {(0, 1): 0.5, (2, 3): 0.5}
    assert meetings[1] == meetings[3] == {(0, 2): 0.5, (1, 3): 0.5}
    assert meetings[2] == {(0, 4): 0.8, (1, 2): 0.5}


def test_the_full_version_is_never_longer_and_sometimes_shorter():
    lengths = {
        num_nodes: [BaseK(num_nodes=num_nodes, max_degree=1, simple=simple).period for simple in (False, True)]
        for num_nodes in range(1, 71)
    }
    assert all(full <= simple for full, simple in lengths.values())
    # 6 = 2 * 3: three nodes need 3 rounds, and one more joins the two halves; 4 + 2 nodes need 5.
    assert lengths[6] == [4, 5]


def test_digits_and_smooth_parts():
    for number in range(1, 300):
        for base in (2, 3, 5, 10):
            digits = base_digits(number, base)
            assert sum(digit * place for digit, place in digits) == number
            assert all(0 < digit < base for digit, _ in digits)
            assert digits == sorted(digits, key=lambda entry: -entry[1])
            part = smooth_part(number, base)
            assert number % part == 0
            assert all(prime <= base for prime in primes(part))
            assert all(prime > base for prime in primes(number // part))


def primes(number):
    return {p for p in range(2, number + 1) if number % p == 0 and all(p % q for q in range(2, p))}


@pytest.mark.parametrize("largest", [2, 3, 4, 6])
def test_factors_are_as_few_as_possible(largest):
    for number in range(2, 100):
        found = fewest_factors(number, largest)
        shortest = next(
            (
                length
                for length in range(1, 8)
                for factors in combinations_with_replacement(range(2, largest + 1), length)
                if math.prod(factors) == number
            ),
            None,
        )
        assert (found is None) == (shortest is None), number
        assert found is None or (len(found) == shortest and math.prod(found) == number and max(found) <= largest)


@pytest.mark.parametrize(("num_nodes", "max_degree"), [(12, 2), (12, 3), (30, 4), (64, 7), (81, 2), (100, 9), (7, 6)])
def test_hyper_hypercube_averages_exactly(num_nodes, max_degree):
    graph = HyperHypercube(num_nodes=num_nodes, max_degree=max_degree)
    assert deviation(graph) < 1e-12
    assert largest_degree(graph) <= max_degree
    for step in range(graph.period):
        groups = nx.from_numpy_array(graph.edges(step).to_matrix(num_nodes))
        for group in nx.connected_components(groups):
            assert len(group) == graph.factors[step]
            assert nx.density(groups.subgraph(group).copy()) >= 1


@pytest.mark.parametrize("num_nodes", [1, 2, 4, 8, 64])
def test_one_peer_hypercube_averages_exactly(num_nodes):
    graph = OnePeerHypercube(num_nodes=num_nodes)
    assert graph.period == max(1, int(math.log2(num_nodes)))
    assert deviation(graph) < 1e-12
    assert largest_degree(graph) == min(1, num_nodes - 1)
    union = nx.Graph()
    for step in range(graph.period):
        edges = graph.edges(step)
        union.add_edges_from(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    union.remove_edges_from(nx.selfloop_edges(union))
    if num_nodes > 1:
        assert nx.is_isomorphic(union, nx.hypercube_graph(graph.period))


@pytest.mark.parametrize("num_out", [1, 2, 3, 5])
def test_p_peer_exponential_averages_exactly_on_powers_of_its_base(num_out):
    for length in (1, 2, 3):
        graph = PPeerExponential(num_nodes=(num_out + 1) ** length, num_out=num_out)
        assert graph.period == length
        assert deviation(graph) < 1e-12
        assert largest_degree(graph) == num_out
    for num_nodes in (7, 11, 20, 47):
        graph = PPeerExponential(num_nodes=num_nodes, num_out=num_out)
        assert largest_degree(graph) <= num_out
        assert (num_out + 1) ** (graph.period - 1) < num_nodes <= (num_out + 1) ** graph.period
        assert (deviation(graph) < 1e-12) == (num_nodes - 1 <= num_out)


def test_p_peer_exponential_by_hand():
    graph = PPeerExponential(num_nodes=9, num_out=2)
    third = 1 / 3
    np.testing.assert_allclose(graph.edges(0).to_matrix(9)[:, 0], third * np.array([1, 1, 1, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(graph.edges(1).to_matrix(9)[:, 1], third * np.array([0, 1, 0, 0, 1, 0, 0, 1, 0]))
    # On 6 nodes the distances of round 1 are 3 and 6: the latter is the node itself.
    merged = PPeerExponential(num_nodes=6, num_out=2).edges(1).to_matrix(6)
    np.testing.assert_allclose(merged[:, 0], [0.5, 0, 0, 0.5, 0, 0])


def test_matching_ring_by_hand():
    graph = MatchingRing(num_nodes=4)
    even = np.array([[1, 2, 0, 0], [2, 1, 0, 0], [0, 0, 1, 2], [0, 0, 2, 1]]) / 3
    odd = np.array([[1, 0, 0, 2], [0, 1, 2, 0], [0, 2, 1, 0], [2, 0, 0, 1]]) / 3
    np.testing.assert_allclose(graph.edges(0).to_matrix(4), even, atol=1e-15)
    np.testing.assert_allclose(graph.edges(1).to_matrix(4), odd, atol=1e-15)
    np.testing.assert_allclose(graph.edges(6).to_matrix(4), even, atol=1e-15)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_local_steps(every):
    graph = LocalSteps(num_nodes=6, every=every)
    assert graph.period == every
    for step in range(2 * every):
        expected = np.full((6, 6), 1 / 6) if (step + 1) % every == 0 else np.eye(6)
        np.testing.assert_allclose(graph.edges(step).to_matrix(6), expected, atol=1e-15)


@pytest.mark.parametrize(("num_nodes", "group_size"), [(16, 4), (24, 3), (10, 5), (6, 6), (8, 1), (12, 4), (15, 3)])
def test_hierarchical(num_nodes, group_size):
    graph = Hierarchical(num_nodes=num_nodes, group_size=group_size)
    num_groups = num_nodes // group_size
    between = OnePeerExponential(num_nodes=num_groups)
    inside = np.kron(np.eye(num_groups), np.full((group_size, group_size), 1 / group_size))
    for step in range(graph.period):
        outside = np.kron(between.edges(step // 2).to_matrix(num_groups), np.eye(group_size))
        expected = outside if step % 2 else inside
        np.testing.assert_allclose(graph.edges(step).to_matrix(num_nodes), expected, atol=1e-15)
    assert (deviation(graph) < 1e-12) == (num_groups & (num_groups - 1) == 0)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (OnePeerHypercube, {"num_nodes": 6}, "graph.num_nodes=6: a hypercube has a power of two of nodes"),
        (MatchingRing, {"num_nodes": 5}, "graph.num_nodes=5: a ring of matchings has an even number"),
        (HyperHypercube, {"num_nodes": 10, "max_degree": 3}, "graph.max_degree=3: num_nodes=10 has a prime factor abo"),
        (HyperHypercube, {"num_nodes": 8, "max_degree": 0}, "graph.max_degree=0"),
        (BaseK, {"num_nodes": 8, "max_degree": 0}, "graph.max_degree=0"),
        (PPeerExponential, {"num_nodes": 8, "num_out": 0}, "graph.num_out=0"),
        (LocalSteps, {"num_nodes": 8, "every": 0}, "graph.every=0"),
        (Hierarchical, {"num_nodes": 8, "group_size": 3}, "graph.group_size=3: expected a divisor of num_nodes=8"),
        (Hierarchical, {"num_nodes": 8, "group_size": 0}, "graph.group_size=0"),
    ],
)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        kind(**arguments)
    assert "\n" not in str(error.value)
