"""The network between nodes: the only file that sends or receives what algorithms exchange.

A round follows the edges of W_t. Rows that stay in this process are multiplied where they are; rows that cross go as
one contiguous byte buffer per pair of processes, all receives posted before the first send, and are weighted where
they arrive. With one process nothing is sent, and the same code runs with empty plans.

Shapes: N local nodes, M all nodes, D columns, E entries of W_t that end here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from simulator.graphs.base import Graph
from simulator.graphs.replicated import Replicated
from simulator.ledger import Ledger, LinkModel
from simulator.mixing import PeerRows, Plan
from simulator.placement import Placement


class LostProcessError(RuntimeError):
    """Another process went away; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


class SilentProcessError(TimeoutError):
    """Another process did not answer within the timeout; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


@dataclass(frozen=True)
class Inbox:
    """What arrived at the local nodes in one :meth:`Network.exchange`.

    Attributes:
        source, target: global nodes of every entry of W_t that ends here (self-loops included), int64 [E].
        weight: W_t[target, source], float64 [E].
        row: for every entry the row of its message in each tensor of ``rows``, int64 [E].
        rows: for every tensor that was sent, the local rows followed by the received ones.
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    row: npt.NDArray[np.int64]
    rows: tuple[Tensor, ...]


class Network:
    """Mixes and exchanges rows along a graph schedule.

    Args:
        graph: the schedule W_t.
        placement: which process hosts which nodes; a process group must exist when it has several processes.
        device: where the rows live.
        timeout_s: how long one message may take before the run is given up.
        link_model: what ``time/sim_s`` is counted with.

    Attributes:
        ledger: what has been sent so far.
    """

    def __init__(
        self,
        graph: Graph,
        placement: Placement,
        device: torch.device,
        *,
        timeout_s: float = 300.0,
        link_model: LinkModel | None = None,
    ) -> None:
        assert graph.num_nodes == placement.num_nodes
        self.graph = graph
        self.placement = placement
        self.device = device
        self.timeout_s = timeout_s
        self.ledger = Ledger(placement.num_nodes, link_model or LinkModel())
        self._phase = "inner"
        self._plans: dict[int, Plan] = {}
        self._pool: dict[tuple[str, int], Tensor] = {}
        self._uses_nccl = placement.world_size > 1 and dist.get_backend() == "nccl"

    @property
    def nodes(self) -> range:
        """The nodes that this process hosts."""
        return self.placement.nodes

    @property
    def num_nodes(self) -> int:
        """All nodes, M."""
        return self.placement.num_nodes

    @contextmanager
    def replicate(self, first_rounds: Sequence[int]) -> Iterator["Network"]:
        """A network on which every node stands K times, copies of a node side by side on its process.

        Copies k of all nodes are connected as the nodes are, from round ``first_rounds[k]`` of the schedule on. What
        they send is counted here when the block ends.
        """
        placement = self.placement
        copies = len(first_rounds)
        replicas = Network(
            Replicated(self.graph, first_rounds),
            Placement(placement.num_nodes * copies, placement.world_size, placement.rank, copies),
            self.device,
            timeout_s=self.timeout_s,
            link_model=self.ledger.link_model,
        )
        yield replicas
        self.ledger.absorb(replicas.ledger)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the rounds inside the block under ``name`` in the ledger."""
        previous, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = previous

    def plan(self, step: int) -> Plan:
        """The prepared round ``step``; kept for schedules that repeat."""
        period = self.graph.period
        if period is None:
            return Plan.build(self.graph.edges(step), self.placement)
        key = step % period
        if key not in self._plans:
            self._plans[key] = Plan.build(self.graph.edges(step), self.placement)
        return self._plans[key]

    def mix(self, rows: Sequence[Tensor], step: int) -> tuple[Tensor, ...]:
        """Returns W_step @ X for each X of ``rows``; one message per edge carries a row of every X.

        Args:
            rows: tensors of shape [N] or [N, D].
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError: when a process died.
            SilentProcessError: when a message did not come within the timeout; names the edge.
        """
        plan = self.plan(step)
        self._record(plan, rows)
        round_trip = _RoundTrip(self, plan, rows, step)
        flat = [x if x.dim() == 2 else x.reshape(len(x), -1) for x in rows]
        mixed = [plan.local.multiply(x) for x in flat]
        for out, received in zip(mixed, round_trip.finish(), strict=True):
            plan.remote.add_product_(out, received.reshape(len(received), out.shape[1]))
        round_trip.release()
        return tuple(out.reshape(x.shape) for out, x in zip(mixed, rows, strict=True))

    def exchange(self, rows: Sequence[Tensor], step: int) -> Inbox:
        """Sends row i of every tensor along all edges of round ``step`` that leave node i, unweighted.

        Args:
            rows: tensors of any dtype whose first axis is the local node; together one payload per node.
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        plan = self.plan(step)
        self._record(plan, rows)
        round_trip = _RoundTrip(self, plan, rows, step)
        arrived = round_trip.finish()
        stacked = tuple(torch.cat([x, r]) if len(r) else x for x, r in zip(rows, arrived, strict=True))
        round_trip.release()
        return Inbox(plan.in_source, plan.in_target, plan.in_weight, plan.in_row, stacked)

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows [M, ...] of all nodes on every process; for metrics, counted apart."""
        if self.placement.world_size == 1:
            return rows
        sizes = np.diff(self.placement.starts)
        block = torch.zeros((int(sizes.max()), *rows.shape[1:]), dtype=rows.dtype)
        block[: len(rows)] = rows.detach().cpu()
        block = self._to_collective(block)
        blocks = [torch.empty_like(block) for _ in sizes]
        self.ledger.evaluation_bytes += block.nbytes
        self._guard(lambda: dist.all_gather(blocks, block), "the metrics of all processes")
        return torch.cat([b[:size] for b, size in zip(blocks, sizes, strict=True)]).to(rows.device)

    def sum(self, rows: Tensor) -> Tensor:
        """Returns the sum over all nodes of ``rows`` [N, ...], on every process; for metrics, counted apart."""
        total = rows.sum(dim=0)
        if self.placement.world_size > 1:
            self.ledger.evaluation_bytes += total.nbytes
        return self._sum_over_processes(total)

    def mean(self, rows: Tensor) -> Tensor:
        """Returns the mean over all nodes of ``rows`` [N, ...]; for metrics, counted apart."""
        return self.sum(rows) / self.num_nodes

    def agree(self, values: Sequence[int]) -> list[int]:
        """Returns the maximum of each value over all processes, which meet here; not counted."""
        if self.placement.world_size == 1:
            return list(values)
        reduced = self._to_collective(torch.tensor(values))
        self._guard(lambda: dist.all_reduce(reduced, op=dist.ReduceOp.MAX), "all processes to agree")
        return [int(value) for value in reduced.tolist()]

    def share(self, value: object) -> object:
        """Returns rank 0's ``value`` on every process; for set-up, not counted."""
        if self.placement.world_size == 1:
            return value
        box = [value]
        self._guard(lambda: dist.broadcast_object_list(box, src=0), "rank 0")
        return box[0]

    def wire_totals(self) -> tuple[int, int]:
        """Returns (algorithm, evaluation) bytes handed to torch.distributed by all processes so far; not counted."""
        counts = torch.tensor([self.ledger.wire_bytes, self.ledger.evaluation_bytes])
        wire, evaluation = self._sum_over_processes(counts).tolist()
        return wire, evaluation

    def _sum_over_processes(self, total: Tensor) -> Tensor:
        if self.placement.world_size == 1:
            return total
        reduced = self._to_collective(total.detach().cpu().clone())
        self._guard(lambda: dist.all_reduce(reduced), "the sum over all processes")
        return reduced.to(total.device)

    def _to_collective(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device) if self._uses_nccl else tensor

    def _record(self, plan: Plan, rows: Sequence[Tensor]) -> None:
        assert all(len(x) == len(self.nodes) for x in rows)
        payload = sum(x.nbytes // len(x) for x in rows)
        self.ledger.record(self._phase, plan.links, payload)

    def _guard(self, collective: object, what: str) -> None:
        assert callable(collective)
        try:
            collective()
        except RuntimeError as error:
            rank = self.placement.rank
            if _is_timeout(error):
                raise SilentProcessError(
                    f"rank {rank} waited {self.timeout_s:g} s for {what}, and one of them does not answer", -1
                ) from error
            raise LostProcessError(
                f"rank {rank} waited for {what}, and one of them went away ({_first_line(error)})", -1
            ) from error

    def sends_from(self, rows: Tensor) -> bool:
        """Whether ``rows`` can be sent from where they are, without a copy into a buffer."""
        return rows.is_contiguous() and (self._uses_nccl or rows.device.type == "cpu")

    def buffer(self, direction: str, peer: int, num_bytes: int) -> Tensor:
        """A byte buffer on the transport's device, reused from round to round."""
        key = (direction, peer)
        if key not in self._pool or self._pool[key].numel() < num_bytes:
            device = self.device if self._uses_nccl else torch.device("cpu")
            pinned = self.device.type == "cuda" and not self._uses_nccl
            self._pool[key] = torch.empty(num_bytes, dtype=torch.uint8, device=device, pin_memory=pinned)
        return self._pool[key][:num_bytes]


class _RoundTrip:
    """The messages of one round in flight, between their posting and :meth:`release`."""

    def __init__(self, network: Network, plan: Plan, rows: Sequence[Tensor], step: int) -> None:
        self._network = network
        self._plan = plan
        self._rows = rows
        self._step = step
        self._incoming = [
            (part, network.buffer("receive", part.peer, _payload_bytes(rows) * part.nodes.size))
            for part in plan.receives
        ]
        outgoing = [(part, self._pack(part)) for part in plan.sends]
        network.ledger.wire_bytes += sum(buffer.numel() for _, buffer in outgoing)
        self._receives: list[dist.Work]
        self._sends: list[dist.Work]
        if not self._incoming and not outgoing:
            self._receives, self._sends = [], []
        elif network._uses_nccl:
            operations = [dist.P2POp(dist.irecv, buffer, part.peer) for part, buffer in self._incoming]
            operations += [dist.P2POp(dist.isend, buffer, part.peer) for part, buffer in outgoing]
            works = dist.batch_isend_irecv(operations)
            self._receives, self._sends = works, []
        else:
            self._receives = [self._post(dist.irecv, part, buffer) for part, buffer in self._incoming]
            self._sends = [self._post(dist.isend, part, buffer) for part, buffer in outgoing]

    def finish(self) -> list[Tensor]:
        """Waits for the receives; returns for each tensor the received rows, in the plan's order."""
        for work, (part, _) in zip(self._receives, self._incoming, strict=False):
            self._wait(work, part, "receive")
        for work in self._receives[len(self._incoming) :]:
            work.wait()
        num_received = sum(part.nodes.size for part, _ in self._incoming)
        columns: list[list[Tensor]] = [[] for _ in self._rows]
        for part, buffer in self._incoming:
            for column, section in zip(columns, _sections(buffer, self._rows, part.nodes.size), strict=True):
                column.append(section.to(self._network.device))
        if num_received == 0:
            return [x[:0] for x in self._rows]
        return [torch.cat(column) if len(column) > 1 else column[0] for column in columns]

    def release(self) -> None:
        """Waits until the sent buffers may be used again."""
        for work, part in zip(self._sends, self._plan.sends, strict=False):
            self._wait(work, part, "send")

    def _pack(self, part: PeerRows) -> Tensor:
        local = part.nodes - self._network.nodes.start
        contiguous = local[-1] - local[0] + 1 == local.size
        if contiguous and len(self._rows) == 1 and self._network.sends_from(self._rows[0]):
            return self._rows[0].detach()[int(local[0]) : int(local[-1]) + 1].view(-1).view(torch.uint8)
        buffer = self._network.buffer("send", part.peer, _payload_bytes(self._rows) * part.nodes.size)
        index = None if contiguous else torch.from_numpy(local).to(self._network.device)
        for x, section in zip(self._rows, _sections(buffer, self._rows, local.size), strict=True):
            if index is None:
                section.copy_(x[int(local[0]) : int(local[-1]) + 1])
            elif section.device == x.device and not x.requires_grad:
                torch.index_select(x, 0, index, out=section)
            else:
                section.copy_(x.index_select(0, index))
        return buffer

    def _post(self, operation: object, part: PeerRows, buffer: Tensor) -> dist.Work:
        assert callable(operation)
        try:
            work = operation(buffer, part.peer)
        except RuntimeError as error:
            raise self._lost(part, error) from error
        assert isinstance(work, dist.Work)
        return work

    def _wait(self, work: dist.Work, part: PeerRows, direction: str) -> None:
        try:
            work.wait(timedelta(seconds=self._network.timeout_s))
        except RuntimeError as error:
            if _is_timeout(error):
                raise SilentProcessError(
                    f"round {self._step}: rank {self._network.placement.rank} waited {self._network.timeout_s:g} s to "
                    f"{direction} {self._describe(part)} {'from' if direction == 'receive' else 'to'} rank {part.peer}",
                    part.peer,
                ) from error
            raise self._lost(part, error) from error

    def _lost(self, part: PeerRows, error: RuntimeError) -> LostProcessError:
        nodes = self._network.placement.nodes_of(part.peer)
        return LostProcessError(
            f"round {self._step}: rank {self._network.placement.rank} lost rank {part.peer}, which hosts nodes "
            f"{nodes.start}..{nodes.stop - 1} ({_first_line(error)})",
            part.peer,
        )

    def _describe(self, part: PeerRows) -> str:
        """Names the rows and one edge among them."""
        edges = self._network.graph.edges(self._step)
        other = self._network.nodes if part.nodes[0] not in self._network.nodes else range(0)
        if not other:
            other = self._network.placement.nodes_of(part.peer)
        chosen = np.isin(edges.source, part.nodes) & (edges.target >= other.start) & (edges.target < other.stop)
        edge = int(np.flatnonzero(chosen)[0])
        plural = "s" if part.nodes.size > 1 else ""
        return (
            f"the row{plural} of {part.nodes.size} node{plural} (such as edge {edges.source[edge]} -> "
            f"{edges.target[edge]})"
        )


def _payload_bytes(rows: Sequence[Tensor]) -> int:
    return sum(x.nbytes // max(len(x), 1) for x in rows)


def _sections(buffer: Tensor, rows: Sequence[Tensor], num_rows: int) -> list[Tensor]:
    """Views of a byte buffer, one per tensor, each [num_rows, ...]; wide element types first keeps them aligned."""
    sections: dict[int, Tensor] = {}
    offset = 0
    for index in sorted(range(len(rows)), key=lambda i: -rows[i].element_size()):
        x = rows[index]
        length = x.nbytes // max(len(x), 1) * num_rows
        sections[index] = buffer[offset : offset + length].view(x.dtype).view(num_rows, *x.shape[1:])
        offset += length
    return [sections[i] for i in range(len(rows))]


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _is_timeout(error: BaseException) -> bool:
    text = str(error).lower()
    return "timed out" in text or "timeout" in text
