"""The network between nodes: mixing and exchanging rows, and the collectives of metrics.

A round follows the edges of W_t. Rows that stay in this process are multiplied where they are; rows that cross go as
one contiguous byte buffer per pair of processes, all receives posted before the first send, and are weighted where
they arrive. With one process nothing is sent, and the same code runs with empty plans.

Shapes: N local nodes, M all nodes, D columns, E entries of W_t that end here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from simulator.graphs.base import Edges, Graph
from simulator.graphs.replicated import Replicated
from simulator.network.ledger import Ledger, LinkModel
from simulator.network.plans import LinkPlan, Plan
from simulator.network.transport import (
    LostProcessError,
    RoundTrip,
    SilentProcessError,
    Transport,
    first_line,
    is_timeout,
    payload_bytes,
)
from simulator.placement import Placement


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
        self._link_plans: dict[int, LinkPlan] = {}
        self._transport = Transport(placement, device, timeout_s)

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

    def over(self, graph: Graph) -> "Network":
        """The same nodes joined by another schedule; what they send there is counted here, in the same phase."""
        other = Network(graph, self.placement, self.device, timeout_s=self.timeout_s, link_model=self.ledger.link_model)
        other.ledger, other._phase = self.ledger, self._phase
        return other

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is sent inside the block is not counted: a resumed run is told again what it had been told before."""
        kept, self.ledger = self.ledger, Ledger(self.num_nodes, self.ledger.link_model)
        try:
            yield
        finally:
            self.ledger = kept

    def plan(self, step: int) -> Plan:
        """The prepared round ``step``; kept for schedules that repeat."""
        period = self.graph.period
        if period is None:
            return Plan.build(self.graph.edges(step), self.placement)
        key = step % period
        if key not in self._plans:
            self._plans[key] = Plan.build(self.graph.edges(step), self.placement)
        return self._plans[key]

    def link_plan(self, step: int) -> LinkPlan:
        """The prepared round ``step`` for messages that differ by edge; kept for schedules that repeat."""
        period = self.graph.period
        if period is None:
            return LinkPlan.build(self.graph.edges(step), self.placement)
        key = step % period
        if key not in self._link_plans:
            self._link_plans[key] = LinkPlan.build(self.graph.edges(step), self.placement)
        return self._link_plans[key]

    def links_among(self, step: int, chosen: Callable[[Edges], npt.NDArray[np.bool_]]) -> LinkPlan:
        """The round ``step`` with only the edges that ``chosen`` marks, which every process must mark alike."""
        edges = self.graph.edges(step)
        mark = chosen(edges)
        return LinkPlan.build(Edges(edges.source[mark], edges.target[mark], edges.weight[mark]), self.placement)

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
        round_trip = self._start(plan, rows, step)
        flat = [x if x.dim() == 2 else x.reshape(len(x), -1) for x in rows]
        mixed = [plan.local.multiply(x) for x in flat]
        if plan.sends or plan.receives:
            for out, received in zip(mixed, round_trip.finish(), strict=True):
                plan.remote.add_product_(out, received.reshape(len(received), out.shape[1]))
        round_trip.release()
        return tuple(out.reshape(x.shape) for out, x in zip(mixed, rows, strict=True))

    def mix_coded(self, values: Tensor, packed: Tensor, decode: Callable[[Tensor], Tensor], step: int) -> Tensor:
        """Returns W_step @ X, where the packed form of X's rows is what crosses the edges.

        Args:
            values: X [N, D], exactly what ``decode`` makes of ``packed``.
            packed: the messages, uint8 [N, B].
            decode: maps received messages [R, B] to their rows [R, D].
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        plan = self.plan(step)
        round_trip = self._start(plan, (packed,), step)
        mixed = plan.local.multiply(values)
        if plan.sends or plan.receives:
            (received,) = round_trip.finish()
            plan.remote.add_product_(mixed, decode(received))
        round_trip.release()
        return mixed

    def deliver(self, messages: Tensor, step: int, plan: LinkPlan | None = None) -> Tensor:
        """Sends a message of its own along edges of round ``step`` between different nodes.

        Args:
            messages: one row per edge that leaves a local node, in the order of the plan's ``out_source`` and
                ``out_target``; any dtype, [E_out, ...].
            step: index of the round in the graph schedule.
            plan: of the edges that carry a message, if not all of :meth:`link_plan`; from :meth:`links_among`.

        Returns:
            One row per edge that enters a local node, in the order of ``in_source`` and ``in_target``, [E_in, ...].

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        plan = plan or self.link_plan(step)
        assert len(messages) == plan.out_source.size
        self.ledger.record(self._phase, plan.links, payload_bytes((messages,)))
        return self._deliver(messages, step, plan)

    def deliver_many(
        self,
        rows: Tensor,
        counts: npt.NDArray[np.int64],
        step: int,
        plan: LinkPlan | None = None,
        *,
        known: npt.NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """As :meth:`deliver`, with any number of rows per edge; how many they are is told first, in 8 bytes.

        Args:
            rows: the rows of all edges one after the other, [sum of counts, ...].
            counts: rows of every edge that leaves a local node, [E_out].
            step, plan: as in :meth:`deliver`.
            known: rows that every node sends along each of its edges, [M], where all know it: nothing is told then.

        Returns:
            The rows of all edges that enter local nodes, one edge after the other, and their counts [E_in].

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        plan = plan or self.link_plan(step)
        if known is not None:
            assert (counts == known[plan.out_source]).all()
            per_edge = known[plan.links.codes // self.num_nodes] * payload_bytes((rows,))
            self.ledger.record_each(self._phase, plan.links, per_edge)
            arriving = known[plan.in_source]
            return self._deliver(rows, step, plan.widen(counts, arriving)), arriving
        arriving = self.deliver(torch.from_numpy(counts).to(self.device), step, plan).cpu().numpy()
        edge_counts = np.zeros(plan.links.codes.size, dtype=np.int64)
        order = np.argsort(plan.links.codes)
        codes = plan.out_source * self.num_nodes + plan.out_target
        edge_counts[order[np.searchsorted(plan.links.codes, codes, sorter=order)]] = counts
        # Only for the books: every process keeps the ledger of all edges.
        edge_counts = self._sum_over_processes(torch.from_numpy(edge_counts)).numpy()
        self.ledger.record_each(self._phase, plan.links, edge_counts * payload_bytes((rows,)))
        return self._deliver(rows, step, plan.widen(counts, arriving)), arriving

    def _deliver(self, messages: Tensor, step: int, plan: LinkPlan) -> Tensor:
        round_trip = RoundTrip(self._transport, self.graph, plan, (messages,), step)
        self.ledger.wire_bytes += round_trip.sent_bytes
        (received,) = round_trip.finish()
        kept = messages[torch.from_numpy(plan.kept).to(messages.device)]
        arrived = torch.cat([kept, received]) if len(received) else kept
        round_trip.release()
        return arrived[torch.from_numpy(plan.arrival).to(messages.device)]

    def exchange(self, rows: Sequence[Tensor], step: int) -> Inbox:
        """Sends row i of every tensor along all edges of round ``step`` that leave node i, unweighted.

        Args:
            rows: tensors of any dtype whose first axis is the local node; together one payload per node.
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        plan = self.plan(step)
        round_trip = self._start(plan, rows, step)
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

    def scatter(self, rows: Tensor) -> Tensor:
        """Hands every node its row of what node 0's process has; for evaluations, counted apart, whatever the graph.

        Args:
            rows: [M, ...] on the process of node 0, [0, ...] on others.

        Returns:
            The rows of the local nodes, [N, ...].
        """
        if self.placement.world_size == 1:
            return rows
        sizes = np.diff(self.placement.starts)
        own = self._to_collective(torch.empty((int(sizes.max()), *rows.shape[1:]), dtype=rows.dtype))
        parts = None
        if self.placement.rank == 0:
            parts = [torch.zeros_like(own) for _ in sizes]
            for part, block in zip(parts, rows.detach().split(sizes.tolist()), strict=True):
                part[: len(block)] = block
            self.ledger.evaluation_bytes += own.nbytes * (len(sizes) - 1)
        self._guard(lambda: dist.scatter(own, parts, src=0), "the rows that node 0 hands out")
        return own[: len(self.nodes)].to(self.device)

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
        return tensor.to(self.device) if self._transport.uses_nccl else tensor

    def _start(self, plan: Plan, rows: Sequence[Tensor], step: int) -> RoundTrip:
        """Counts a round and posts its messages."""
        assert all(x.shape[0] == len(self.nodes) for x in rows)
        self.ledger.record(self._phase, plan.links, payload_bytes(rows))
        round_trip = RoundTrip(self._transport, self.graph, plan, rows, step)
        self.ledger.wire_bytes += round_trip.sent_bytes
        return round_trip

    def _guard(self, collective: object, what: str) -> None:
        assert callable(collective)
        try:
            collective()
        except RuntimeError as error:
            rank = self.placement.rank
            if is_timeout(error):
                raise SilentProcessError(
                    f"rank {rank} waited {self.timeout_s:g} s for {what}, and one of them does not answer", -1
                ) from error
            raise LostProcessError(
                f"rank {rank} waited for {what}, and one of them went away ({first_line(error)})", -1
            ) from error
