"""Random graphs that are drawn once or in every round: what a draw is, how often, and when drawing gives up."""

import math
import time
from collections import Counter

import networkx as nx
import numpy as np
import pytest

from simulator.graphs.barabasi_albert import BarabasiAlbert
from simulator.graphs.erdos_renyi import ErdosRenyi
from simulator.graphs.k_hop_ring import KHopRing
from simulator.graphs.random_geometric import RandomGeometric
from simulator.graphs.random_regular import RandomRegular
from simulator.graphs.watts_strogatz import WattsStrogatz
from simulator.randomness import generator

KINDS = {
    "barabasi_albert": (BarabasiAlbert, {}),
    "erdos_renyi": (ErdosRenyi, {"probability": 0.4}),
    "random_geometric": (RandomGeometric, {}),
    "random_regular": (RandomRegular, {}),
    "watts_strogatz": (WattsStrogatz, {"probability": 0.5}),
}


def joined(graph, step=0):
    edges = graph.edges(step)
    off = edges.source != edges.target
    found = nx.empty_graph(graph.num_nodes)
    found.add_edges_from(zip(edges.source[off].tolist(), edges.target[off].tolist(), strict=True))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_once_or_in_every_round(name):
    kind, arguments = KINDS[name]
    once = kind(num_nodes=14, seed=1, **arguments)
    again = kind(num_nodes=14, seed=1, redraw=True, **arguments)
    assert (once.period, again.period) == (1, None)
    assert once.edges(0) is once.edges(7)
    rounds = [again.edges(step).to_matrix(14) for step in range(6)]
    np.testing.assert_array_equal(rounds[0], once.edges(0).to_matrix(14))
    assert len({matrix.tobytes() for matrix in rounds}) == 6
    assert all(nx.is_connected(joined(again, step)) for step in range(6))
    other = kind(num_nodes=14, seed=2, **arguments)
    assert not np.array_equal(other.edges(0).to_matrix(14), rounds[0])


@pytest.mark.parametrize(
    ("num_nodes", "degree"), [(5, 2), (10, 3), (11, 4), (11, 8), (12, 9), (12, 10), (6, 5), (4, 9)]
)
def test_regular(num_nodes, degree):
    for seed in range(5):
        graph = RandomRegular(num_nodes=num_nodes, degree=degree, seed=seed)
        degrees = [count for _, count in joined(graph).degree]
        assert degrees == [min(degree, num_nodes - 1)] * num_nodes
        entries = graph.edges(0).weight
        np.testing.assert_array_equal(entries, 1 / (1 + degrees[0]))


def test_regular_draws_are_uniform():
    """There are 12 cycles through 5 labelled nodes."""
    num_seeds = 1200
    counts = Counter(
        tuple(sorted(map(tuple, map(sorted, joined(RandomRegular(num_nodes=5, degree=2, seed=seed)).edges()))))
        for seed in range(num_seeds)
    )
    assert len(counts) == 12
    assert max(abs(count - 100) for count in counts.values()) < 5 * np.sqrt(100 * 11 / 12)


def test_dense_regular_draws_are_complements_and_quick():
    start = time.perf_counter()
    graph = RandomRegular(num_nodes=60, degree=57, seed=0)
    assert set(dict(joined(graph).degree).values()) == {57}
    assert time.perf_counter() - start < 5  # drawn as it is, it would take hours


def test_small_world_without_rewiring_is_a_ring():
    ring = KHopRing(num_nodes=20, k=2).edges(0)
    found = WattsStrogatz(num_nodes=20, degree=4, probability=0).edges(0)
    for field in ("source", "target", "weight"):
        np.testing.assert_array_equal(getattr(found, field), getattr(ring, field))


def test_small_world_keeps_its_number_of_edges_and_moves_the_stated_share():
    num_nodes, kept = 60, []
    for seed in range(20):
        found = joined(WattsStrogatz(num_nodes=num_nodes, degree=6, probability=0.3, seed=seed))
        assert found.number_of_edges() == 3 * num_nodes
        kept.append(sum((b - a) % num_nodes in (1, 2, 3, 57, 58, 59) for a, b in found.edges()) / (3 * num_nodes))
    # A rewired edge lands within the band again with a probability of a few per cent.
    assert abs(np.mean(kept) - 0.7) < 0.03


@pytest.mark.parametrize("num_edges", [1, 2, 5])
def test_every_new_node_brings_its_edges(num_edges):
    found = joined(BarabasiAlbert(num_nodes=50, num_edges=num_edges, seed=4))
    assert found.number_of_edges() == num_edges * (50 - num_edges)
    assert sorted(other for other in found[0] if other <= num_edges) == list(range(1, num_edges + 1))
    for node in range(num_edges + 1, 50):
        assert sum(other < node for other in found[node]) == num_edges


def test_attachment_is_preferential():
    """Of a path of three nodes the middle has half of all degrees; a uniform choice would take it in 1/3 of draws."""
    num_seeds = 800
    stars = sum(
        max(dict(joined(BarabasiAlbert(num_nodes=4, num_edges=1, seed=seed)).degree).values()) == 3
        for seed in range(num_seeds)
    )
    assert abs(stars / num_seeds - 1 / 2) < 5 * np.sqrt(1 / 4 / num_seeds)


def test_density_of_random_places():
    """Two uniform places of the unit square are within r <= 1 with probability pi r^2 - 8/3 r^3 + r^4/2."""
    num_nodes, radius, num_seeds = 10, 0.8, 300
    pairs = num_nodes * (num_nodes - 1) / 2
    expected = np.pi * radius**2 - 8 / 3 * radius**3 + radius**4 / 2
    shares = [
        joined(RandomGeometric(num_nodes=num_nodes, radius=radius, seed=seed)).number_of_edges() / pairs
        for seed in range(num_seeds)
    ]
    assert abs(np.mean(shares) - expected) < 5 * np.std(shares) / np.sqrt(num_seeds)
    assert joined(RandomGeometric(num_nodes=9, radius=1.5)).number_of_edges() == 36


def test_who_is_near_whom():
    places = generator(3, "graph/random_geometric").random((40, 2))
    near = np.linalg.norm(places[:, None] - places, axis=2) <= 0.4
    graph = RandomGeometric(num_nodes=40, radius=0.4, seed=3)  # the first draw is connected
    np.testing.assert_array_equal(graph.edges(0).to_matrix(40) != 0, near)


def test_nearness_is_a_matter_of_the_radius_only():
    near, far = (joined(RandomGeometric(num_nodes=40, radius=radius, seed=3)) for radius in (0.4, 0.5))
    assert set(near.edges()) < set(far.edges())


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (RandomGeometric, {"radius": 0.01}, r"a radius above sqrt\(ln\(n\)/\(pi n\)\) = 0.113 is needed, not 0.01"),
        (
            ErdosRenyi,
            {"probability": 0.01},
            r"about ln\(n\)/n = 0.0399 or more is needed as edge probability, not 0.01",
        ),
    ],
)
@pytest.mark.parametrize("redraw", [False, True])
def test_drawing_gives_up_with_one_line(kind, arguments, message, redraw):
    graph = kind(num_nodes=120, redraw=redraw, seed=1, **arguments)
    with pytest.raises(ValueError, match=f"^graph of 120 nodes: none of 1000 draws is connected; {message}") as error:
        graph.edges(0)
    assert "\n" not in str(error.value)


def test_erdos_renyi_density_over_seeds():
    num_nodes, probability, num_seeds = 12, 0.5, 300
    counts = np.zeros((num_nodes, num_nodes))
    for seed in range(num_seeds):
        graph = ErdosRenyi(num_nodes=num_nodes, probability=probability, seed=seed)
        counts += graph.edges(0).to_matrix(num_nodes) > 0
    upper = counts[np.triu_indices(num_nodes, 1)] / num_seeds
    # Conditioning on connectedness moves the frequency by less than 1 per cent here.
    assert np.abs(upper - probability).max() < 5 * math.sqrt(0.25 / num_seeds)
    assert abs(upper.mean() - probability) < 0.01 + 5 * math.sqrt(0.25 / num_seeds / len(upper))


def test_erdos_renyi_gives_up_with_one_line():
    graph = ErdosRenyi(num_nodes=200, probability=0.004)
    with pytest.raises(ValueError, match=r"none of 1000 draws is connected; about ln\(n\)/n = 0.0265") as error:
        graph.edges(0)
    assert "\n" not in str(error.value)
