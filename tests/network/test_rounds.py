"""Rounds in flight within one process, and the buffers that rounds of several processes share."""

import gc

import pytest
import torch

from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.network.buffers import BufferPool
from simulator.network.network import Network
from simulator.placement import Placement

CPU = torch.device("cpu")


def network_of(graph):
    return Network(graph, Placement(graph.num_nodes), CPU)


def random_directed():
    return RandomDirected(num_nodes=9, rate_low=0.3, rate_high=0.7, base_probability=1.0, seed=1)


def rows_of(index):
    generator = torch.Generator().manual_seed(index)
    return (torch.randn(9, 4, generator=generator), torch.randn(9, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_rounds_may_be_finished_in_any_order(order):
    network, one_by_one = network_of(random_directed()), network_of(random_directed())
    expected = [one_by_one.mix(rows_of(step), step) for step in range(3)]
    rounds = [network.post(rows_of(step), step) for step in range(3)]
    for step in order:
        for mixed, x in zip(rounds[step].mixed(), expected[step], strict=True):
            assert torch.equal(mixed, x)
    assert network.ledger.state_dict() == one_by_one.ledger.state_dict()


def test_a_round_is_counted_when_it_is_posted():
    network = network_of(Ring(num_nodes=9))
    with network.phase("outer"):
        posted = network.post((torch.zeros(9, 3),), 0)
    assert network.ledger.phases["outer"].bytes == network.ledger.bytes == 18 * 12
    with network.phase("inner"):
        posted.mixed()
    assert network.ledger.bytes == 18 * 12
    assert set(network.ledger.phases) == {"outer"}


def finishings():
    """Every way to finish a round of one tensor uint8 [9, 2]."""
    return [
        lambda posted: posted.mixed_coded(torch.zeros(9, 2), lambda packed: packed.float()),
        lambda posted: posted.inbox(),
        lambda posted: posted.mixed(),
    ]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("second", [0, 1, 2])
def test_a_round_cannot_be_finished_twice(first, second):
    posted = network_of(Ring(num_nodes=9)).post((torch.zeros(9, 2, dtype=torch.uint8),), 4)
    finishings()[first](posted)
    with pytest.raises(RuntimeError, match=r"^round 4 was finished before: a round can be finished only once$"):
        finishings()[second](posted)


def test_mixed_twice_is_an_error():
    network = network_of(Ring(num_nodes=9))
    posted = network.post(rows_of(0), 2)
    posted.mixed()
    with pytest.raises(RuntimeError, match=r"^round 2 was finished before"):
        posted.mixed()
    network.mix(rows_of(0), 3)  # the network goes on


@pytest.mark.parametrize("call", [lambda network: network.mix(rows_of(1), 1), lambda network: network.barrier()])
def test_a_round_that_nobody_finishes_is_an_error(call):
    network = network_of(Ring(num_nodes=9))
    posted = network.post(rows_of(0), 0)
    call(network)  # still in flight
    del posted
    gc.collect()
    with pytest.raises(RuntimeError, match=r"^round 0 was posted and never finished"):
        call(network)


def test_buffers_are_reused_and_replaced_by_larger_ones():
    pool = BufferPool(CPU, pinned=False)
    small, large = pool.take(10), pool.take(1000)
    assert (small.numel(), large.numel(), pool.free) == (10, 1000, [])
    pool.give_back([large, small])
    assert pool.take(5) is small
    assert pool.take(11) is large
    pool.give_back([small])
    larger = pool.take(11)  # replaces the small one
    assert larger.numel() == 11
    pool.give_back([larger, large])
    assert [buffer.numel() for buffer in pool.free] == [11, 1000]
    assert pool.take(0) is larger
    assert pool.take(1000) is large


def test_there_are_no_more_buffers_than_were_held_at_once():
    pool = BufferPool(CPU, pinned=False)
    sizes = torch.randint(0, 500, (200, 3), generator=torch.Generator().manual_seed(0)).tolist()
    for wanted in sizes:
        pool.give_back([pool.take(size) for size in wanted])
        assert len(pool.free) <= 3
    assert sum(buffer.numel() for buffer in pool.free) <= 3 * 500
