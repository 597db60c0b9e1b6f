"""The network within one process: mixing is W_t X, exchanging names the right rows, and all of it is counted."""

import numpy as np
import pytest
import torch

from simulator.graphs.base import Edges, Graph
from simulator.graphs.hub import Hub
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.network.ledger import LinkModel
from simulator.network.network import Network
from simulator.network.payload import sections
from simulator.placement import Placement

CPU = torch.device("cpu")


def random_directed(num_nodes=9):
    return RandomDirected(num_nodes=num_nodes, rate_low=0.3, rate_high=0.7, base_probability=1.0, seed=1)


GRAPHS = {
    "ring": lambda: Ring(num_nodes=9),
    "one_peer_exponential": lambda: OnePeerExponential(num_nodes=9),
    "random_directed": random_directed,
    "large_ring": lambda: Ring(num_nodes=150),
}


def network_of(graph):
    return Network(graph, Placement(graph.num_nodes), CPU, link_model=LinkModel(1.0, 100.0))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("step", [0, 1, 5])
def test_mix_is_the_matrix_product(name, step):
    graph = GRAPHS[name]()
    n = graph.num_nodes
    network = network_of(graph)
    matrix = graph.edges(step).to_matrix(n)
    arrays = [draw(n, 6), draw(n, seed=1), draw(n, 2, 3, seed=2)]
    rows = [torch.from_numpy(array.copy()) for array in arrays]
    rows[0] = rows[0].T.contiguous().T  # strided rows are fine
    mixed = network.mix(rows, step)
    for array, x, out in zip(arrays, rows, mixed, strict=True):
        expected = (matrix @ array.reshape(n, -1)).reshape(array.shape)
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-13, atol=1e-13)
        np.testing.assert_array_equal(x.numpy(), array)  # inputs are left alone
        assert out.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mix_keeps_the_dtype(dtype):
    (out,) = network_of(Ring(num_nodes=9)).mix((torch.ones(9, 2, dtype=dtype),), 0)
    assert out.dtype == dtype


def test_a_random_schedule_is_mixed_with_the_round_that_was_asked_for():
    graph = random_directed()
    network = network_of(graph)
    x = torch.from_numpy(draw(9, 2))
    for step in (3, 0, 3, 17):
        (out,) = network.mix((x,), step)
        np.testing.assert_allclose(out.numpy(), graph.edges(step).to_matrix(9) @ x.numpy(), rtol=1e-13, atol=1e-13)


def test_plans_of_a_periodic_schedule_are_kept():
    network = network_of(OnePeerExponential(num_nodes=9))
    period = network.graph.period
    assert period > 1
    assert network.plan(1) is network.plan(1 + 3 * period)
    assert network.plan(1) is not network.plan(2)


@pytest.mark.parametrize("name", ["ring", "random_directed"])
def test_exchange_delivers_unweighted_rows_along_all_edges(name):
    graph = GRAPHS[name]()
    rows = (torch.from_numpy(draw(9, 3)), torch.arange(9, dtype=torch.uint8), torch.arange(18).view(9, 2))
    inbox = network_of(graph).exchange(rows, 4)
    edges = graph.edges(4)
    expected = set(zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True))
    got = list(zip(inbox.source.tolist(), inbox.target.tolist(), inbox.weight.tolist(), strict=True))
    assert set(got) == expected
    assert len(got) == len(expected)
    for sent, arrived in zip(rows, inbox.rows, strict=True):
        assert arrived.dtype == sent.dtype
        # torch takes these arrays without a warning, which it gives for read-only ones.
        row, source, _ = map(torch.from_numpy, (inbox.row, inbox.source, inbox.target))
        torch.testing.assert_close(arrived[row], sent[source], rtol=0, atol=0)


def test_one_message_per_edge_carries_a_row_of_every_tensor():
    network = network_of(Ring(num_nodes=9))
    rows = (torch.zeros(9, 6), torch.zeros(9, dtype=torch.float64), torch.zeros(9, 5, dtype=torch.uint8))
    payload = 6 * 4 + 8 + 5
    network.exchange(rows, 0)
    with network.phase("hypergradient"):
        network.exchange(rows, 1)
        with network.phase("other"):
            network.mix(rows[:1], 2)
        network.exchange(rows, 3)
    network.mix(rows[:2], 4)
    counts = {name: (traffic.bytes, traffic.messages) for name, traffic in network.ledger.phases.items()}
    assert counts == {
        "inner": (18 * (payload + 32), 36),
        "hypergradient": (2 * 18 * payload, 36),
        "other": (18 * 24, 18),
    }
    assert network.ledger.wire_bytes == network.ledger.evaluation_bytes == 0
    seconds = sum(1.0 + 2 * size / 100.0 for size in (payload, payload, 24, payload, 32))
    assert network.ledger.link_time_s == pytest.approx(seconds, rel=1e-12)


def test_the_phase_ends_with_its_block_even_after_an_error():
    network = network_of(Ring(num_nodes=9))
    with pytest.raises(ZeroDivisionError), network.phase("hypergradient"):
        _ = 1 // 0
    network.mix((torch.zeros(9),), 0)
    assert set(network.ledger.phases) == {"inner"}


def test_sums_and_means_over_nodes_of_one_process():
    network = network_of(Ring(num_nodes=9))
    x = torch.from_numpy(draw(9, 4))
    assert network.gather(x) is x
    np.testing.assert_allclose(network.sum(x).numpy(), x.numpy().sum(0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(network.mean(x).numpy(), x.numpy().mean(0), rtol=1e-13, atol=1e-13)
    assert network.agree([3, -1]) == [3, -1]
    assert network.share({"a": 1}) == {"a": 1}
    assert network.wire_totals() == (0, 0)
    assert network.ledger.evaluation_bytes == 0


class OneWay(Graph):
    """Node 0 sends to node 1 and keeps nothing; an asymmetric W_t with a node that nothing reaches."""

    directed = True
    stochasticity = "row"

    def edges(self, step):
        return Edges.build([0], [1], [2.0])


def test_weights_scale_the_message_from_source_to_target():
    (out,) = network_of(OneWay(num_nodes=3)).mix((torch.tensor([1.0, 10.0, 100.0]),), 0)
    assert out.tolist() == [0.0, 2.0, 0.0]


def test_packed_sections_are_aligned_disjoint_and_fill_the_buffer():
    rows = (torch.zeros(4, 3, dtype=torch.uint8), torch.zeros(4, dtype=torch.float64), torch.zeros(4, 2, 5))
    num_bytes = 3 * (3 + 8 + 40)
    buffer = torch.zeros(num_bytes, dtype=torch.uint8)
    for index, section in enumerate(sections(buffer, rows, 3)):
        assert section.shape == (3, *rows[index].shape[1:])
        assert section.dtype == rows[index].dtype
        section.view(torch.uint8).fill_(index + 1)
    assert torch.bincount(buffer.long()).tolist() == [0, 9, 24, 120]


def test_coded_rows_are_mixed_as_decoded_and_counted_as_packed():
    network = network_of(Ring(num_nodes=9))
    packed = torch.arange(18, dtype=torch.uint8).view(9, 2)
    values = packed.double() * 0.5
    mixed = network.mix_coded(values, packed, lambda rows: rows.double() * 0.5, 0)
    np.testing.assert_allclose(mixed.numpy(), network.graph.edges(0).to_matrix(9) @ values.numpy(), rtol=1e-13)
    assert network.ledger.bytes == 18 * 2


@pytest.mark.parametrize("name", GRAPHS)
def test_every_edge_delivers_a_message_of_its_own(name):
    network = network_of(GRAPHS[name]())
    for step in (0, 3):
        plan, edges = network.link_plan(step), network.graph.edges(step)
        real = edges.source != edges.target
        np.testing.assert_array_equal(plan.in_source, edges.source[real])
        np.testing.assert_array_equal(plan.in_target, edges.target[real])
        np.testing.assert_array_equal(plan.in_weight, edges.weight[real])
        assert sorted(zip(plan.out_source, plan.out_target, strict=True)) == list(
            zip(plan.out_source, plan.out_target, strict=True)
        )
        messages = torch.from_numpy(np.stack([plan.out_source, plan.out_target], axis=1))
        arrived = network.deliver(messages, step)
        np.testing.assert_array_equal(arrived.numpy(), np.stack([plan.in_source, plan.in_target], axis=1))
    assert network.ledger.bytes == 16 * network.ledger.messages


def test_nodes_without_edges_deliver_nothing():
    network = network_of(OneWay(num_nodes=3))
    assert network.deliver(torch.tensor([[7.0, 8.0]]), 0).tolist() == [[7.0, 8.0]]
    assert network.deliver(torch.zeros(1, 0), 1).shape == (1, 0)
    assert network.ledger.bytes == 8


def test_edges_deliver_as_many_rows_as_they_like():
    network = network_of(Ring(num_nodes=9))
    plan = network.links_among(2, lambda edges: (edges.source + edges.target) % 3 > 0)
    counts = plan.out_source % 3
    edge = np.repeat(np.arange(counts.size), counts)
    rows = torch.from_numpy(np.stack([plan.out_source[edge], plan.out_target[edge], np.arange(edge.size)], axis=1))
    arrived, arriving = network.deliver_many(rows, counts, 2, plan)
    np.testing.assert_array_equal(arriving, plan.in_source % 3)
    expected = [
        rows[(rows[:, 0] == s) & (rows[:, 1] == t)] for s, t in zip(plan.in_source, plan.in_target, strict=True)
    ]
    assert torch.equal(arrived, torch.cat(expected))
    chosen = [(s, t) for s in range(9) for t in ((s - 1) % 9, (s + 1) % 9) if (s + t) % 3]
    assert sorted(zip(plan.out_source, plan.out_target, strict=True)) == sorted(chosen)
    by_hand = {(s, t): 8 + 24 * (s % 3) for s, t in chosen}
    edges = network.ledger.per_edge()
    assert dict(zip(zip(edges["source"], edges["target"], strict=True), edges["bytes"], strict=True)) == by_hand
    assert network.ledger.bytes == sum(by_hand.values()) == network.ledger.node_sent.sum()
    assert network.ledger.messages == len(chosen) + sum(s % 3 > 0 for s, _ in chosen)
    sent, received = np.zeros((2, 9)), np.zeros((2, 9))
    for s, t in chosen:
        sent[:, s] += (8, 24 * (s % 3))
        received[:, t] += (8, 24 * (s % 3))
    seconds = 2.0 + np.maximum(sent.max(axis=1), received.max(axis=1)).sum() / 100
    assert network.ledger.link_time_s == pytest.approx(seconds, rel=1e-12)


def test_how_many_rows_come_is_not_told_when_all_know_it():
    told, known = network_of(Ring(num_nodes=9)), network_of(Ring(num_nodes=9))
    per_node = np.arange(9) % 3
    plan = told.link_plan(0)
    counts = per_node[plan.out_source]
    rows = torch.arange(int(counts.sum()), dtype=torch.int16)
    arrived, arriving = known.deliver_many(rows, counts, 0, known=per_node)
    expected, _ = told.deliver_many(rows, counts, 0)
    assert torch.equal(arrived, expected)
    np.testing.assert_array_equal(arriving, per_node[plan.in_source])
    assert known.ledger.bytes == told.ledger.bytes - 8 * 18 == 2 * counts.sum()
    assert known.ledger.messages == (counts > 0).sum()


def test_other_schedules_count_here_and_what_is_told_again_does_not():
    network = network_of(Ring(num_nodes=9))
    with network.phase("hub"):
        network.over(Hub(num_nodes=9)).exchange((torch.zeros(9, 3),), 0)
    assert network.ledger.phases["hub"].bytes == network.ledger.bytes == 8 * 12
    with network.uncounted():
        network.exchange((torch.zeros(9, 3),), 0)
    assert network.ledger.bytes == 8 * 12
    network.exchange((torch.zeros(9, 3),), 0)
    assert network.ledger.bytes == 8 * 12 + 18 * 12
