"""graph=teleportation: what one round is over the tokens, who is active, and what is refused."""

import numpy as np
import pytest

from simulator.faults.message_loss import MessageLoss
from simulator.graphs.base_k import BaseK
from simulator.graphs.connectivity import check_mixes
from simulator.graphs.hub import Hub
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.teleportation import Teleportation


def over(base, num_nodes=12, seed=1):
    return Teleportation(num_nodes=num_nodes, num_active=base.num_nodes, base=base, seed=seed)


@pytest.mark.parametrize("base", [Ring(num_nodes=5), OnePeerExponential(num_nodes=5), BaseK(num_nodes=5, max_degree=1)])
def test_a_round_is_the_base_over_the_tokens_and_leaves_the_others_alone(base):
    graph = over(base)
    for step in range(8):
        W, B = graph.edges(step).to_matrix(12), base.edges(step).to_matrix(5)
        before, after = graph.active(step), graph.active(step + 1)
        np.testing.assert_array_equal(W[np.ix_(after, before)], B)
        W[np.ix_(after, before)] = 0
        resting = np.setdiff1d(np.arange(12), after)
        assert not W[after].any(), "a token also takes in what a resting node has"
        np.testing.assert_array_equal(W[resting], np.eye(12)[resting])


def test_after_a_period_of_the_base_the_active_nodes_have_the_mean_of_those_at_the_start():
    base = BaseK(num_nodes=6, max_degree=1)
    graph, start = over(base), np.random.RandomState(0).normal(size=12)
    x = start
    for step in range(base.period):
        x = graph.edges(step).to_matrix(12) @ x
    held = x[graph.active(base.period)]
    np.testing.assert_allclose(held, np.full(6, start[graph.active(0)].mean()), rtol=0, atol=1e-14)


def test_nodes_are_active_equally_often_and_tokens_walk_everywhere():
    graph = over(Ring(num_nodes=3), num_nodes=10)
    draws = np.array([graph.active(step) for step in range(4000)])
    assert all(len(set(row)) == 3 for row in draws.tolist())
    for token in range(3):
        shares = np.bincount(draws[:, token], minlength=10) / 4000
        np.testing.assert_allclose(shares, 0.1, rtol=0, atol=5 * np.sqrt(0.09 / 4000))
    assert (draws != [over(Ring(num_nodes=3), 10, seed=2).active(step) for step in range(4000)]).any()


def test_messages_do_not_depend_on_the_number_of_nodes():
    counts = []
    for num_nodes in (200, 2000):
        graph = over(Ring(num_nodes=6), num_nodes)
        edges = [graph.edges(step) for step in range(50)]
        counts.append([np.count_nonzero(each.source != each.target) for each in edges])
    assert max(map(max, counts)) == 18
    assert min(map(np.mean, counts)) > 17


def test_doubly_stochastic_where_all_are_active():
    graph = over(Ring(num_nodes=7), num_nodes=7)
    assert graph.stochasticity == "double"
    for step in range(4):
        np.testing.assert_allclose(graph.edges(step).to_matrix(7).sum(axis=0), 1.0, rtol=0, atol=1e-14)
    assert over(Ring(num_nodes=6), num_nodes=7).stochasticity == "row"


def test_whether_all_are_connected_depends_on_the_base_alone():
    """In a hundred rounds most of these nodes are never active."""
    graph = over(Ring(num_nodes=2), num_nodes=5000)
    check_mixes(graph)
    check_mixes(MessageLoss(graph=graph, probability=0.3, seed=1))
    apart = Ring(num_nodes=4)
    apart.edges = SelfLoop(num_nodes=4).edges
    with pytest.raises(ValueError, match="graph Ring cannot mix"):
        check_mixes(over(apart))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_active": 0}, r"graph\.num_active=0: expected an integer in \[1, num_nodes\] = \[1, 6\]"),
        ({"num_active": 7}, r"graph\.num_active=7: expected"),
        ({"num_active": 3}, r"graph\.base\.num_nodes=4: expected graph\.num_active=3"),
        ({"base": Hub(num_nodes=4)}, r"graph\.base: Hub is row-stochastic, and the active nodes need doubly"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        Teleportation(**{"num_nodes": 6, "num_active": 4, "base": Ring(num_nodes=4), **changes})
