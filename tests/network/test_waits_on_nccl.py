"""Messages and collectives of a process whose NCCL peers do not answer: a fake backend whose operations never run."""

import gc
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from simulator.errors import LostProcessError, SilentProcessError
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.fully_connected import FullyConnected
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.watchdog import Watchdog

CPU = torch.device("cpu")
TIMEOUT_S, POLL_S, LATE_S = 0.4, 0.02, 5.0


class Nccl:
    """Operations that enter a stream and return; ``blocks`` holds those that block the host at once, by name."""

    def __init__(self):
        self.runs = False
        self.blocks = set()
        self.fails = None
        self.posted = []
        self.aborted = threading.Event()

    def enter(self, name):
        self.posted.append(name)
        if self.fails is not None:
            raise RuntimeError(self.fails)
        if name in self.blocks:
            assert self.aborted.wait(LATE_S)
            raise RuntimeError("NCCL communicator was aborted")
        return Work(self)

    def collective(self, name):
        def call(*_, async_op, **__):
            assert async_op, f"{name} returns before it has run in any case, and would not be watched"
            return self.enter(name)

        return call


class Work:
    """The work of an operation."""

    def __init__(self, nccl):
        self.nccl = nccl

    def wait(self, timeout=None):
        assert timeout is None, "stops the host in every round, and cannot be captured"
        return True

    def is_completed(self):
        return self.nccl.runs


@pytest.fixture
def nccl(monkeypatch):
    fake = Nccl()
    monkeypatch.setattr(dist, "get_backend", lambda *_: "nccl")
    monkeypatch.setattr(dist, "P2POp", lambda op, tensor, peer: SimpleNamespace(op=op, tensor=tensor, peer=peer))
    monkeypatch.setattr(dist, "batch_isend_irecv", lambda operations: [fake.enter("batch")])
    for name in ("all_reduce", "all_gather", "scatter"):
        monkeypatch.setattr(dist, name, fake.collective(name))
    monkeypatch.setattr(dist, "broadcast_object_list", lambda box, src: fake.enter("broadcast"))
    return fake


@pytest.fixture
def connect(nccl):
    """Makes the network of rank 0 of some."""
    watchdogs = []

    def make(graph, world_size, timeout_s=TIMEOUT_S):
        watchdogs.append(Watchdog(timeout_s, abort=nccl.aborted.set, give_up=lambda error: None, poll_s=POLL_S))
        placement = Placement(graph.num_nodes, world_size, 0)
        return Network(graph, placement, CPU, timeout_s=timeout_s, watchdog=watchdogs[-1])

    yield make
    for each in watchdogs:
        each.close()


@pytest.fixture
def network(connect):
    return connect(DirectedRing(num_nodes=4), 2)


def rows(network):
    return torch.zeros(len(network.nodes), 3)


def test_a_round_returns_at_once_and_its_silence_is_told_with_the_edge(network, nccl):
    network.mix([rows(network)], step=7)
    began = time.monotonic()
    assert nccl.aborted.wait(LATE_S)
    assert TIMEOUT_S - POLL_S <= time.monotonic() - began < LATE_S
    expected = r"round 7: rank 0 waited 0.4 s to receive the row of 1 node \(such as edge 3 -> 0\) from rank 1$"
    with pytest.raises(SilentProcessError, match=expected) as caught:
        network.check()
    assert caught.value.peer == 1


def test_a_batch_with_several_ranks_names_them_all(connect, nccl):
    network = connect(FullyConnected(num_nodes=3), 3)
    network.mix([rows(network)], step=2)
    assert nccl.aborted.wait(LATE_S)
    with pytest.raises(
        SilentProcessError, match=r"edge 1 -> 0\) from rank 1, or for its messages with rank 2$"
    ) as caught:
        network.check()
    assert caught.value.peer == -1


def test_the_next_round_and_the_next_collective_raise(network, nccl):
    network.mix([rows(network)], step=0)
    assert nccl.aborted.wait(LATE_S)
    with pytest.raises(SilentProcessError, match="round 0"):
        network.mix([rows(network)], step=1)
    with pytest.raises(SilentProcessError, match="round 0"):
        network.agree([1])


def test_a_round_that_blocks_where_it_is_posted(network, nccl):
    nccl.blocks.add("batch")  # as the first contact of two processes does
    began = time.monotonic()
    with pytest.raises(SilentProcessError, match=r"round 3: .* edge 3 -> 0\) from rank 1"):
        network.post([rows(network)], step=3)
    assert TIMEOUT_S - POLL_S <= time.monotonic() - began < TIMEOUT_S + LATE_S


def test_a_round_that_cannot_be_posted_names_the_process(network, nccl):
    nccl.fails = "NCCL error: remote process has exited"
    with pytest.raises(LostProcessError, match=r"round 3: rank 0 lost rank 1, which hosts nodes 2..3 \(NCCL error"):
        network.post([rows(network)], step=3)


COLLECTIVES = {
    "gather": (lambda network: network.gather(rows(network)), "the metrics of all processes"),
    "scatter": (lambda network: network.scatter(torch.zeros(4, 3)), "the rows that node 0 hands out"),
    "sum": (lambda network: network.sum(rows(network)), "the sum over all processes"),
    "agree": (lambda network: network.agree([1]), "all processes to agree"),
    "barrier": (lambda network: network.barrier(), "all processes to reach this point"),
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_return_at_once_and_are_watched(name, network, nccl):
    call, what = COLLECTIVES[name]
    call(network)
    assert nccl.aborted.wait(LATE_S)
    with pytest.raises(SilentProcessError, match=f"rank 0 waited 0.4 s for {what}, and one of them does not answer"):
        network.check()


def test_sharing_blocks_the_host_and_is_watched(network, nccl):
    nccl.blocks.add("broadcast")
    with pytest.raises(SilentProcessError, match=r"rank 0 waited 0.4 s for rank 0"):
        network.share(1)


def test_what_has_run_is_no_failure(connect, nccl):
    nccl.runs = True
    network = connect(DirectedRing(num_nodes=4), 2, timeout_s=0.1)
    for step in range(3):
        network.mix([rows(network)], step=step)
    network.barrier()
    assert not nccl.aborted.wait(0.5)
    network.check()
    assert nccl.posted == ["batch"] * 3 + ["all_reduce"]


def test_rows_are_not_kept_until_the_device_is_there(connect, nccl):
    # The host may be many rounds ahead of the device.
    network = connect(DirectedRing(num_nodes=4), 2, timeout_s=60.0)
    posted = [torch.zeros(2, 3) for _ in range(5)]
    kept = [weakref.ref(each) for each in posted]
    for step in range(5):
        network.mix([posted.pop()], step=step)
    gc.collect()
    assert not any(each() is not None for each in kept)


def test_nccl_without_a_watchdog_is_refused(nccl):
    with pytest.raises(AssertionError):
        Network(DirectedRing(num_nodes=4), Placement(4, 2, 0), CPU)
