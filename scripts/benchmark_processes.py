"""Groups of processes that do steps or exchanges on command, so that groups can be measured in turn."""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist

from scripts.benchmark_contenders import MODELS, Ours
from simulator.devices import Compute
from simulator.graphs.base import Graph
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.process_group import process_group
from simulator.world import World

_TIMEOUT_S = 60.0

GRAPHS: dict[str, type[Graph]] = {"ring": Ring, "fully connected": FullyConnected}


class NodeSteps:
    """D-SGD on the nodes of one rank."""

    def __init__(self, world: World, *, model: str, num_nodes: int, compute: str) -> None:
        self._ours = Ours(MODELS[model], num_nodes, world, compute=compute)

    def step(self, steps: int) -> None:
        self._ours.step_and_mix(steps)


class Exchanges:
    """Rounds of :meth:`Network.mix`, and the bare exchange of as many bytes between the same two processes."""

    def __init__(self, world: World, *, graph: str, num_nodes: int, num_columns: int) -> None:
        placement = Placement(num_nodes, world.world_size, world.rank)
        self._network = Network(GRAPHS[graph](num_nodes=num_nodes), placement, torch.device("cpu"))
        self._rows = torch.randn(len(placement.nodes), num_columns)
        (received,) = self._network.plan(0).receives
        (sent,) = self._network.plan(0).sends
        assert received.peer == sent.peer == 1 - world.rank
        self._peer = received.peer
        self._incoming = torch.zeros(received.nodes.size * num_columns)
        self._outgoing = torch.zeros(sent.nodes.size * num_columns)

    def mix(self, rounds: int) -> None:
        for step in range(rounds):
            self._network.mix((self._rows,), step)

    def bare(self, rounds: int) -> None:
        """The exchange alone."""
        for _ in range(rounds):
            self._exchange()

    def by_hand(self, rounds: int) -> None:
        """The exchange, with the products of a round while it is under way and after it."""
        for _ in range(rounds):
            self._exchange(multiplies=True)

    def _exchange(self, multiplies: bool = False) -> None:
        plan = self._network.plan(0)
        receive = dist.irecv(self._incoming, self._peer)
        send = dist.isend(self._outgoing, self._peer)
        assert receive is not None
        assert send is not None
        product = plan.local.multiply(self._rows) if multiplies else None
        receive.wait()
        if product is not None:
            plan.remote.add_product_(product, self._incoming.view(-1, product.shape[1]))
        send.wait()

    def received_bytes(self, rounds: int) -> int:
        """The bytes that this rank receives in that number of rounds."""
        return rounds * self._incoming.nbytes


class RankGroup:
    """Processes that each build ``make(world)`` and call its methods on command.

    Args:
        num_processes: ranks; a group of one has no process group.
        threads: of each.
        make: picklable.
    """

    def __init__(self, num_processes: int, threads: int, make: Callable[[World], object]) -> None:
        context = multiprocessing.get_context("spawn")
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._pipes = []
        self._processes = []
        for rank in range(num_processes):
            pipe, other = context.Pipe()
            world = World(rank, num_processes, rank, num_processes)
            process = context.Process(target=_serve, args=(other, world, self._store.port, threads, make), daemon=True)
            process.start()
            other.close()
            self._pipes.append(pipe)
            self._processes.append(process)
        self._call("peak_bytes", 0)

    def __enter__(self) -> "RankGroup":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(_TIMEOUT_S)
            if process.is_alive():
                process.kill()

    def method(self, name: str) -> Callable[[int], float]:
        """All ranks call method ``name`` with a number of steps; returns the largest processor time, seconds."""
        return lambda steps: max(cpu_s for cpu_s, _ in self._call(name, steps))

    def call(self, name: str, steps: int) -> list[object]:
        """The result of method ``name`` on every rank."""
        return [result for _, result in self._call(name, steps)]

    def peak_bytes(self) -> list[int]:
        """Largest resident memory that each rank has had."""
        return [peak for peak in self.call("peak_bytes", 0) if isinstance(peak, int)]

    def _call(self, name: str, steps: int) -> list[tuple[float, object]]:
        for pipe in self._pipes:
            pipe.send((name, steps))
        deadline = time.monotonic() + 5 * _TIMEOUT_S
        results = []
        for pipe in self._pipes:
            if not pipe.poll(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"a rank did not answer to {name}")
            results.append(pipe.recv())
        return results


def _serve(pipe: Connection, world: World, port: int, threads: int, make: Callable[[World], object]) -> None:
    """Runs one rank until it is told to end."""
    torch.set_num_threads(threads)
    store = None
    if world.world_size > 1:
        store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    with process_group(world, store, Compute(torch.device("cpu"), "gloo", ""), _TIMEOUT_S):
        served = make(world)
        while (order := pipe.recv()) is not None:
            name, steps = order
            start = time.process_time()
            result = peak_bytes() if name == "peak_bytes" else getattr(served, name)(steps)
            pipe.send((time.process_time() - start, result))


def peak_bytes() -> int:
    """Largest resident memory of this process; unlike ru_maxrss it does not start at that of the parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")
