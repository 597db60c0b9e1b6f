"""Schedules made of others: periodic averaging, turns, random chords; and what is passed on to the parts."""

import networkx as nx
import numpy as np
import pytest

from simulator import config
from simulator.graphs.cyclic import Cyclic
from simulator.graphs.d_cliques import DCliques
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.epidemic import Epidemic
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.gossip_pga import GossipPGA
from simulator.graphs.hub import Hub
from simulator.graphs.local_steps import LocalSteps
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_chords import RandomChords
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_matching import RandomMatching
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.star import Star


def matrices(graph, num_rounds):
    return [graph.edges(step).to_matrix(graph.num_nodes) for step in range(num_rounds)]


@pytest.mark.parametrize("every", [1, 2, 3, 4])
def test_gossip_pga_is_the_base_with_an_average_in_between(every):
    base = OnePeerExponential(num_nodes=8)
    graph = GossipPGA(base=base, every=every)
    assert graph.period == np.lcm(3, every)
    for step, (matrix, plain) in enumerate(zip(matrices(graph, 14), matrices(base, 14), strict=True)):
        np.testing.assert_array_equal(matrix, np.full((8, 8), 1 / 8) if (step + 1) % every == 0 else plain)
    assert graph.directed == (every > 1)
    assert GossipPGA(base=RandomMatching(num_nodes=8), every=every).period is None


def test_gossip_pga_without_gossip_is_local_steps():
    graph, local = GossipPGA(base=SelfLoop(num_nodes=6), every=4), LocalSteps(num_nodes=6, every=4)
    assert graph.period == local.period == 4
    assert graph.mixes
    np.testing.assert_array_equal(matrices(graph, 9), matrices(local, 9))


def test_cyclic_takes_turns_and_counts_time_in_rounds_of_each():
    parts = [Star(num_nodes=8), OnePeerExponential(num_nodes=8)]
    graph = Cyclic(graphs={"one": parts[0], "other": parts[1]})
    assert graph.period == 2 * 3
    for step in range(14):
        assert graph.edges(step) is parts[step % 2].edges(step // 2)
    assert (graph.directed, graph.stochasticity) == (True, "double")
    assert Cyclic(graphs={"one": parts[0], "other": RandomMatching(num_nodes=8)}).period is None


@pytest.mark.parametrize(
    ("parts", "stochasticity", "mixes"),
    [
        ([Ring(num_nodes=4), Star(num_nodes=4)], "double", True),
        ([Ring(num_nodes=4), RandomDirected(num_nodes=4, rate_low=0.4, rate_high=0.8)], "column", True),
        ([Hub(num_nodes=4), SelfLoop(num_nodes=4)], "row", True),
        ([SelfLoop(num_nodes=4)], "double", False),
    ],
)
def test_cyclic_declares_what_its_parts_have_in_common(parts, stochasticity, mixes):
    graph = Cyclic(graphs={str(number): part for number, part in enumerate(parts)})
    assert (graph.stochasticity, graph.mixes) == (stochasticity, mixes)


@pytest.mark.parametrize("base", [Ring(num_nodes=9), Star(num_nodes=9)])
def test_random_chords_are_uniform_and_the_weights_metropolis(base):
    num_chords, num_rounds = 3, 3000
    graph = RandomChords(base=base, num_chords=num_chords, seed=1)
    plain = base.edges(0).to_matrix(9) > 0
    counts = np.zeros((9, 9))
    for step in range(num_rounds):
        joined = graph.edges(step).to_matrix(9) > 0
        assert joined[plain].all()
        assert joined.sum() == plain.sum() + 2 * num_chords
        counts += joined
        if step < 20:
            degree = joined.sum(axis=1) - 1
            expected = np.where(joined, 1 / (1 + np.maximum.outer(degree, degree)), 0)
            np.fill_diagonal(expected, 0)
            expected += np.diag(1 - expected.sum(axis=1))
            np.testing.assert_allclose(graph.edges(step).to_matrix(9), expected, atol=1e-15)
    chance = num_chords / ((~plain).sum() / 2)
    assert np.abs(counts[~plain] / num_rounds - chance).max() < 5 * np.sqrt(chance * (1 - chance) / num_rounds)


def test_random_chords_can_fill_a_graph_up():
    graph = RandomChords(base=Ring(num_nodes=6), num_chords=9)
    np.testing.assert_allclose(graph.edges(3).to_matrix(6), 1 / 6, atol=1e-15)
    assert nx.is_empty(nx.complement(nx.from_numpy_array(graph.edges(4).to_matrix(6))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GossipPGA(base=Ring(num_nodes=4), every=0), "graph.every=0"),
        (lambda: Cyclic(graphs={}), "graph.graphs: expected at least one graph"),
        (
            lambda: Cyclic(graphs={"one": Ring(num_nodes=4), "other": Ring(num_nodes=5)}),
            "graph.graphs: expected .* of one number of nodes; they have one: 4, other: 5",
        ),
        (
            lambda: (
                Cyclic(
                    graphs={
                        "one": Epidemic(num_nodes=4, num_out=2, variant="local"),
                        "other": RandomDirected(num_nodes=4, rate_low=0.4, rate_high=0.8),
                    }
                ).stochasticity
            ),
            r"graph.graphs: Cyclic\(Epidemic, RandomDirected\) mixes column- and row-stochastic graphs",
        ),
        (lambda: RandomChords(base=Ring(num_nodes=4), num_chords=0), "graph.num_chords=0"),
        (
            lambda: RandomChords(base=Ring(num_nodes=5), num_chords=6).edges(0),
            "graph.num_chords=6: Ring leaves only 5 pairs of its 5 nodes unjoined",
        ),
        (
            lambda: RandomChords(base=DirectedRing(num_nodes=5), num_chords=1).edges(0),
            "graph.base: random chords need an undirected graph, and DirectedRing is not",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_label_counts_reach_parts_of_parts():
    assert not GossipPGA(base=Ring(num_nodes=6), every=2).needs_label_counts
    inner = DCliques(num_nodes=6, max_clique_size=3, connection="ring")
    graph = GossipPGA(base=Cyclic(graphs={"one": FullyConnected(num_nodes=6), "other": inner}), every=7)
    assert graph.needs_label_counts
    graph.use_label_counts(np.eye(3, dtype=np.int64)[[0, 0, 1, 1, 2, 2]])
    assert [set(np.arange(6)[clique] // 2) for clique in inner.cliques] == [{0, 1, 2}, {0, 1, 2}]
    np.testing.assert_array_equal(graph.edges(1).to_matrix(6), inner.edges(0).to_matrix(6))


def test_a_base_is_chosen_and_set_from_the_command_line(composed):
    common = ("problem=quadratic", "num_nodes=6")
    graph = config.build(composed(*common, "graph=gossip_pga", "graph@graph.base=k_hop_ring", "graph.base.k=2")).graph
    assert (type(graph.base).__name__, graph.base.k, graph.base.num_nodes) == ("KHopRing", 2, 6)
    deep = config.build(
        composed(*common, "graph=gossip_pga", "graph@graph.base=random_chords", "graph@graph.base.base=star")
    ).graph
    assert deep.description == "GossipPGA over RandomChords over Star"
    more = config.build(composed(*common, "graph=cyclic", "+graph@graph.graphs.fourth=exponential")).graph
    assert more.description == "Cyclic(Star, TwoCliques, Ring, Exponential)"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+graph.base.degree=2", "graph.base.degree is no setting of Ring; it has: gamma, num_nodes"),
        ("graph.base.num_nodes=many", "graph.base.num_nodes=many: expected an integer"),
    ],
)
def test_settings_of_a_base_are_checked(override, message, composed):
    settings = composed("problem=quadratic", "graph=random_chords", override)
    with pytest.raises(ValueError, match=message):
        config.build(settings)
