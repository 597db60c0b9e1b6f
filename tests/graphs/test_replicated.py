"""Copies of a schedule side by side: every schedule against its own rounds, and the network that runs on them."""

import numpy as np
import pytest
import torch

from simulator.faults.message_loss import MessageLoss
from simulator.graphs.base import Graph
from simulator.graphs.connectivity import check_mixes, check_stochastic
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_undirected import RandomUndirected
from simulator.graphs.replicated import Replicated
from simulator.network.ledger import LinkModel
from simulator.network.network import Network
from simulator.placement import Placement

NUM_NODES, FIRST = 4, (5, 0, 1000, 5)
RATES = {"num_nodes": NUM_NODES, "rate_low": 0.3, "rate_high": 0.7, "seed": 2}
GRAPHS = {
    "random_directed": RandomDirected(**RATES),
    "sparse_base": RandomDirected(**RATES, base_probability=0.6),
    "random_undirected": RandomUndirected(**RATES),
    "metropolis": RandomUndirected(**RATES, weights="metropolis"),
    "fully_connected": FullyConnected(num_nodes=NUM_NODES),
    "periodic": OnePeerExponential(num_nodes=NUM_NODES),
    "directed_ring": DirectedRing(num_nodes=NUM_NODES),
    "faulty": MessageLoss(graph=RandomDirected(**RATES), probability=0.3, seed=1),
}


@pytest.fixture(params=GRAPHS.values(), ids=list(GRAPHS))
def graph(request) -> Graph:
    return request.param


def test_copies_follow_their_own_rounds_and_never_meet(graph):
    copies = Replicated(graph, FIRST)
    for step in (0, 1, 7):
        edges = copies.edges(step)
        order = edges.target * copies.num_nodes + edges.source
        assert (np.diff(order) > 0).all(), "sorted by (target, source), without duplicates"
        # [target node, target copy, source node, source copy]
        blocks = edges.to_matrix(copies.num_nodes).reshape(NUM_NODES, len(FIRST), NUM_NODES, len(FIRST))
        for k, first in enumerate(FIRST):
            expected = graph.edges(first + step).to_matrix(NUM_NODES)
            np.testing.assert_array_equal(blocks[:, k, :, k], expected)
            others = np.delete(blocks[:, k], k, axis=2)
            assert not others.any()
    check_stochastic(copies)
    check_mixes(copies)
    assert (copies.directed, copies.stochasticity, copies.period) == (
        graph.directed, graph.stochasticity, graph.period
    )  # fmt: skip


def test_a_network_of_copies_mixes_each_as_alone_and_counts_all(graph):
    link_model = LinkModel(latency_s=0.5, bandwidth_bytes_per_s=100.0)
    network = Network(graph, Placement(NUM_NODES), torch.device("cpu"), link_model=link_model)
    network.mix((torch.ones(NUM_NODES, 2),), 0)
    rows = torch.arange(NUM_NODES * len(FIRST) * 2, dtype=torch.float64).reshape(-1, 2) ** 2
    with network.replicate(FIRST) as copies, copies.phase("study"):
        assert copies.num_nodes == len(copies.nodes) == NUM_NODES * len(FIRST)
        (mixed,) = copies.mix((rows,), 0)
        (mixed,) = copies.mix((mixed,), 1)
    alone = [Network(graph, Placement(NUM_NODES), torch.device("cpu"), link_model=link_model) for _ in FIRST]
    for k, (first, single) in enumerate(zip(FIRST, alone, strict=True)):
        (expected,) = single.mix((rows[k :: len(FIRST)],), first)
        (expected,) = single.mix((expected,), first + 1)
        torch.testing.assert_close(mixed[k :: len(FIRST)], expected, rtol=0, atol=1e-9)
    ledger, counted = network.ledger, [single.ledger for single in alone]
    own = Network(graph, Placement(NUM_NODES), torch.device("cpu"), link_model=link_model)
    own.mix((torch.ones(NUM_NODES, 2),), 0)
    counted.append(own.ledger)
    assert ledger.phases["study"].bytes == sum(other.bytes for other in counted[:-1])
    assert ledger.messages == sum(other.messages for other in counted)
    assert ledger.node_sent.tolist() == sum(other.node_sent for other in counted).tolist()
    assert ledger.node_received.tolist() == sum(other.node_received for other in counted).tolist()
    by_edge = np.zeros((NUM_NODES, NUM_NODES), dtype=np.int64)
    for other in counted:
        edges = other.per_edge()
        by_edge[edges["source"], edges["target"]] += edges["bytes"]
    found = ledger.per_edge()
    again = np.zeros_like(by_edge)
    again[found["source"], found["target"]] = found["bytes"]
    np.testing.assert_array_equal(again, by_edge)
    # Side by side: a round lasts as long as its busiest copy.
    slowest = max(other.link_time_s for other in counted[:-1])
    assert own.ledger.link_time_s + slowest <= ledger.link_time_s + 1e-12


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_copies_of_a_node_stay_on_its_process(world_size):
    for num_nodes in (3, 4, 7):
        for rank in range(world_size):
            nodes = Placement(num_nodes, world_size, rank).nodes
            copies = Placement(num_nodes * 10, world_size, rank, 10).nodes
            assert (copies.start, copies.stop) == (nodes.start * 10, nodes.stop * 10)
            assert (Placement(num_nodes * 10, world_size, rank, 10).rank_of(list(copies)) == rank).all()
