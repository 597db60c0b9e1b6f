"""The network between nodes: rounds of messages over a graph schedule, and collectives.

A round follows the edges of W_t. Rows that stay in this process are multiplied where they are. Rows that cross go as
one contiguous byte buffer per pair of processes, and are weighted where they arrive. With one process nothing is sent,
and the same code runs with plans that send and receive nothing.

Every process makes the same calls in the same order.

Shapes: N local nodes, M all nodes, D columns.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.faults.byzantine import Byzantine
from simulator.graphs.base import Edges, Graph
from simulator.graphs.replicated import Replicated
from simulator.network.attack import Attack
from simulator.network.collectives import Collectives
from simulator.network.ledger import Ledger, LinkModel, Links
from simulator.network.link_plans import LinkPlan
from simulator.network.local_clocks import LocalClocks
from simulator.network.payload import payload_bytes
from simulator.network.plans import Plan
from simulator.network.rounds import Inbox, OwnRows, Round
from simulator.network.transport import InFlight, Transport
from simulator.network.waits import Waits
from simulator.network.wave_plans import WavePlan
from simulator.placement import Placement
from simulator.timing.base import Timing
from simulator.timing.clocks import Clocks
from simulator.timing.event_times import EventTimes
from simulator.uploads import upload
from simulator.watchdog import Watchdog

_Prepared = TypeVar("_Prepared", Plan, LinkPlan)
_Kept = TypeVar("_Kept")


class Network:
    """Sends rows along a graph schedule, and gives access to collectives over the processes.

    Args:
        graph: the schedule W_t.
        placement: which process hosts which nodes; a process group must exist when it has several processes.
        device: where the rows live.
        timeout_s: how long one message may take before the run is given up.
        watchdog: what :func:`simulator.process_group.process_group` yields: needed on NCCL, None elsewhere.
        link_model: of the links that ``ledger.link_time_s`` is counted with.
        timing: durations of steps and messages, for nodes with clocks of their own; None for no clocks.
        asynchronous: whether the nodes' events follow a schedule of their own instead of rounds.

    Attributes:
        ledger: what has been sent so far.
        timing: as given.
        clocks: the local times of the nodes in rounds, or None.
        events: the times of asynchronous events, or None.
    """

    def __init__(
        self,
        graph: Graph,
        placement: Placement,
        device: torch.device,
        *,
        timeout_s: float = 300.0,
        watchdog: Watchdog | None = None,
        link_model: LinkModel | None = None,
        timing: Timing | None = None,
        asynchronous: bool = False,
    ) -> None:
        assert graph.num_nodes == placement.num_nodes
        self.graph = graph
        self.placement = placement
        self.device = device
        self._waits = Waits(timeout_s, watchdog)
        self.ledger = Ledger(placement.num_nodes, link_model or LinkModel())
        self.timing = timing
        self.clocks = None if timing is None or asynchronous else LocalClocks(timing)
        self.events = EventTimes(placement.num_nodes) if asynchronous else None
        self._kept: dict[type, object] = {}
        self._phase = "inner"
        self._plans: dict[int, Plan] = {}
        self._link_plans: dict[int, LinkPlan] = {}
        self._transport = Transport(placement, device, self._waits)
        self._collectives = Collectives(placement, device, self._waits, self.ledger)

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
        """A network with K copies of every node, side by side on the process of the node.

        Copies k of all nodes are connected as the nodes are, from round ``first_rounds[k]`` of the schedule on. What
        they send is added to this network's ledger when the block ends. It takes no time on the local clocks, because
        copies are runs beside each other, not parts of one run.
        """
        placement = self.placement
        copies = len(first_rounds)
        replicas = Network(
            Replicated(self.graph, first_rounds),
            Placement(placement.num_nodes * copies, placement.world_size, placement.rank, copies),
            self.device,
            timeout_s=self._waits.timeout_s,
            watchdog=self._waits.watchdog,
            link_model=self.ledger.link_model,
        )
        yield replicas
        self.ledger.absorb(replicas.ledger)

    @property
    def times(self) -> Clocks | EventTimes | None:
        """The simulated times of the nodes; None where all have one."""
        return self.events if self.clocks is None else self.clocks.times

    def kept(self, kind: type[_Kept], build: Callable[[], _Kept]) -> _Kept:
        """The object of this kind that goes with the network: built at the first call, the same at every other."""
        if kind not in self._kept:
            self._kept[kind] = build()
        found = self._kept[kind]
        assert isinstance(found, kind)
        return found

    def begin_events(self) -> None:
        """Sets the times of asynchronous events back to the beginning."""
        self.events = EventTimes(self.num_nodes)

    def begin_step(self, step: int, nodes: npt.NDArray[np.bool_] | None = None) -> None:
        """Hears that a step of the algorithm begins, and charges its computation to the local clocks.

        Within a step nothing but rounds takes further time, so it is the same as computing right before the first one.

        Args:
            nodes: which nodes take part in the step, [M]; None for all.
        """
        if self.clocks is not None:
            self.clocks.compute(step, nodes)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the rounds inside the block under ``name`` in the ledger."""
        previous, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = previous

    def over(self, graph: Graph) -> "Network":
        """The same nodes joined by another schedule, with the same ledger, clocks, phase, transport and collectives."""
        other = copy.copy(self)
        other.graph = graph
        other._plans, other._link_plans, other._kept = {}, {}, {}
        return other

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Does not count what is sent inside the block: messages that a resumed run repeats."""
        with self.ledger.paused():
            yield

    def plan(self, step: int) -> Plan:
        """The prepared round ``step``; kept for schedules that repeat."""
        return self._prepare(Plan.build, self._plans, step)

    def link_plan(self, step: int) -> LinkPlan:
        """The prepared round ``step`` for messages that differ by edge; kept for schedules that repeat."""
        return self._prepare(LinkPlan.build, self._link_plans, step)

    def links_among(self, step: int, chosen: Callable[[Edges], npt.NDArray[np.bool_]]) -> LinkPlan:
        """The round ``step`` with only the edges that ``chosen`` marks; it must mark the same ones on every process."""
        edges = self.graph.edges(step)
        mark = chosen(edges)
        return LinkPlan.build(Edges(edges.source[mark], edges.target[mark], edges.weight[mark]), self.placement)

    def post(self, rows: Sequence[Tensor], step: int) -> Round:
        """Posts the messages of a round and returns at once; one message per edge carries a row of every tensor.

        Any number of rounds may be in flight. All processes post them in the same order, and each process may finish
        them in any order. The rows must not be changed until the round is finished, because they may be sent from
        where they are. The ledger counts the round here.

        Args:
            rows: tensors whose first axis is the local node: [N], [N, D] or [N, ...].
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError: when a process died.
            RuntimeError: when an earlier round was garbage collected without having been finished.
        """
        self._require_punctual()
        return self._post(self.plan(step), rows, step)

    def mix(self, rows: Sequence[Tensor], step: int) -> tuple[Tensor, ...]:
        """Returns W_step @ X for each X of ``rows``; see :meth:`post` and :meth:`Round.mixed`.

        Args:
            rows: tensors of shape [N] or [N, D].
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError: when a process died.
            SilentProcessError: when a message did not come within the timeout; names the edge.
        """
        return self.post(rows, step).mixed()

    def nothing_in_flight(self, rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What is on its way before the first :meth:`push` of ``rows``: zeros [N, L, ...] for each of [N, ...].

        L is the largest delay of the schedule; without delays there are no tensors at all.
        """
        late = self.graph.max_delay
        return tuple(x.new_zeros(len(x), late, *x.shape[1:]) for x in rows) if late else ()

    def push(
        self, rows: Sequence[Tensor], step: int, in_flight: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Mixes rows whose messages may be late, as push-sum does: x_i <- P_t[i, i] x_i + all shares that arrive now.

        A message that is d rounds late crosses in this round and waits in the mailbox of its receiver, so that the
        ledger counts it now. What nodes and mailboxes hold together is kept by a column-stochastic W_t.
        Without delays this is :meth:`mix`.

        Args:
            rows: tensors of shape [N] or [N, ...].
            step: index of the round in the graph schedule.
            in_flight: the mailboxes: for every tensor [N, L, ...], where entry [:, d] arrives d rounds after this one;
                from the last call, or from :meth:`nothing_in_flight`.

        Returns:
            The mixed rows, and the mailboxes after this round, in new tensors.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        if not self.graph.max_delay:
            return self.mix(rows, step), ()
        arriving = self._post(self._late_plan(step), rows, step).by_arrival()
        mixed, left = [], []
        for shares, waiting in zip(arriving, in_flight, strict=True):
            mixed.append(shares[:, 0] + waiting[:, 0])
            later = shares[:, 1:].clone()
            later[:, :-1] += waiting[:, 1:]
            left.append(later)
        return tuple(mixed), tuple(left)

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
        return self.post((packed,), step).mixed_coded(values, decode)

    def exchange(self, rows: Sequence[Tensor], step: int) -> Inbox:
        """Sends row i of every tensor along all edges of round ``step`` that leave node i, unweighted.

        Args:
            rows: tensors of any dtype whose first axis is the local node; together one payload per node.
            step: index of the round in the graph schedule.

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        return self.post(rows, step).inbox()

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
        self._require_punctual()
        plan = plan or self.link_plan(step)
        assert len(messages) == plan.out_source.size
        self._count(plan.links, payload_bytes((messages,)))
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
        """As :meth:`deliver`, with any number of rows per edge; their number is sent first, in 8 bytes.

        Args:
            rows: the rows of all edges one after the other, [sum of counts, ...].
            counts: rows of every edge that leaves a local node, [E_out].
            step, plan: as in :meth:`deliver`.
            known: number of rows that every node sends along each of its edges, [M], where every process knows it.
                Then the numbers are not sent.

        Returns:
            The rows of all edges that enter local nodes, one edge after the other, and their counts [E_in].

        Raises:
            LostProcessError, SilentProcessError: as :meth:`mix`.
        """
        self._require_punctual()
        plan = plan or self.link_plan(step)
        if known is not None:
            assert (counts == known[plan.out_source]).all()
            per_edge = known[plan.links.codes // self.num_nodes] * payload_bytes((rows,))
            self._count_each(plan.links, per_edge)
            arriving = known[plan.in_source]
            return self._deliver(rows, step, plan.widen(counts, arriving)), arriving
        arriving = self.deliver(torch.from_numpy(counts).to(self.device), step, plan).cpu().numpy()
        edge_counts = np.zeros(plan.links.size, dtype=np.int64)
        order = np.argsort(plan.links.codes)
        codes = plan.out_source * self.num_nodes + plan.out_target
        edge_counts[order[np.searchsorted(plan.links.codes, codes, sorter=order)]] = counts
        # The ledger of every process covers all edges, so it needs the counts of all processes.
        edge_counts = self._collectives.sum_over_processes(torch.from_numpy(edge_counts)).numpy()
        self._count_each(plan.links, edge_counts * payload_bytes((rows,)))
        return self._deliver(rows, step, plan.widen(counts, arriving)), arriving

    def post_events(self, rows: Sequence[Tensor], plan: WavePlan, edges: Edges) -> InFlight:
        """Posts what a wave of asynchronous events sends; as :meth:`post`, but only bytes on the wire are counted.

        Args:
            rows: tensors with a row per local event.
            plan: what crosses.
            edges: all edges that carry a message, named in errors.
        """
        in_flight = self._transport.post(plan, rows, lambda: edges, 0)
        self.ledger.record_wire(in_flight.sent_bytes)
        return in_flight

    def count_messages(self, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64], payload_bytes: int) -> None:
        """Counts messages of asynchronous events in the ledger; an edge may come several times, [E]."""
        self.ledger.record(self._phase, Links.build(source, target, self.num_nodes), payload_bytes)

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows [M, ...] of all nodes on every process; for metrics, counted apart."""
        return self._collectives.gather(rows)

    def scatter(self, rows: Tensor) -> Tensor:
        """Gives every node its row of ``rows``, whatever the graph; for evaluations, counted apart.

        Args:
            rows: [M, ...] on the process of node 0, [0, ...] on others.

        Returns:
            The rows of the local nodes, [N, ...].
        """
        return self._collectives.scatter(rows)

    def sum(self, rows: Tensor) -> Tensor:
        """Returns the sum over all nodes of ``rows`` [N, ...], on every process; for metrics, counted apart."""
        return self._collectives.sum(rows)

    def mean(self, rows: Tensor) -> Tensor:
        """Returns the mean over all honest nodes of ``rows`` [N, ...], on every process; for metrics, counted apart.

        All nodes are honest but for those that ``faults=byzantine`` makes attackers.
        """
        if not isinstance(self.graph, Byzantine):
            return self.sum(rows) / self.num_nodes
        honest = self.graph.honest
        local = honest[(honest >= self.nodes.start) & (honest < self.nodes.stop)] - self.nodes.start
        return self.sum(rows[upload(local, rows.device)]) / len(honest)

    def agree(self, values: Sequence[int]) -> list[int]:
        """Returns the maximum of each value over all processes; not counted."""
        return self._collectives.agree(values)

    def barrier(self) -> None:
        """Returns when all processes have called it; not counted.

        Raises:
            RuntimeError: when a round was garbage collected without having been finished.
        """
        self._transport.check_dropped()
        self._collectives.barrier()

    def check(self) -> None:
        """Raises the error of a process group that has failed; what was read from the device since then is worthless.

        Raises:
            LostProcessError, SilentProcessError: as a round or a collective.
        """
        self._waits.check()

    def share(self, value: object) -> object:
        """Returns rank 0's ``value`` on every process; for set-up, not counted."""
        return self._collectives.share(value)

    def wire_totals(self) -> tuple[int, int]:
        """Returns (algorithm, evaluation) bytes handed to torch.distributed by all processes so far; not counted."""
        wire, evaluation = self.totals([self.ledger.wire_bytes, self.ledger.evaluation_bytes])
        return wire, evaluation

    def totals(self, counts: Sequence[int]) -> list[int]:
        """Returns the sum of each count over all processes; not counted."""
        return [int(total) for total in self._collectives.sum_over_processes(torch.tensor(counts)).tolist()]

    def _prepare(
        self, build: Callable[[Edges, Placement], _Prepared], kept: dict[int, _Prepared], step: int
    ) -> _Prepared:
        """The round ``step`` built, or taken from ``kept`` where the schedule repeats."""
        period = self.graph.period
        if period is None:
            return build(self.graph.edges(step), self.placement)
        key = step % period
        if key not in kept:
            kept[key] = build(self.graph.edges(step), self.placement)
        return kept[key]

    def _late_plan(self, step: int) -> Plan:
        """The prepared round ``step`` with a slot for every round in which a message may arrive."""
        edges = self.graph.edges(step)
        delay = np.where(edges.source == edges.target, 0, self.graph.delays(edges.source, edges.target, step))
        return Plan.build(edges, self.placement, delay, 1 + self.graph.max_delay)

    def _require_punctual(self) -> None:
        if self.graph.max_delay:
            raise RuntimeError(f"graph {self.graph.description} has messages that are late, which only push takes")

    def _post(self, plan: Plan, rows: Sequence[Tensor], step: int) -> Round:
        assert all(x.shape[0] == len(self.nodes) for x in rows)
        self._count(plan.links, payload_bytes(rows))
        if not isinstance(self.graph, Byzantine) or not self.graph.attackers.size:
            return Round(plan, tuple(rows), self._send(plan, rows, step))
        attack = Attack(self.graph, self.nodes, self._collectives)
        sent = [attack.sent(x, number, step) for number, x in enumerate(rows)]
        return Round(plan, tuple(sent), self._send(plan, sent, step), OwnRows(attack.rows, tuple(rows)))

    def _count(self, links: Links, payload_bytes: int) -> None:
        """Counts one round in the ledger and on the local clocks, with ``payload_bytes`` on every edge."""
        self.ledger.record(self._phase, links, payload_bytes)
        if self.clocks is not None and not self.ledger.is_paused:
            self.clocks.round(links, payload_bytes)

    def _count_each(self, links: Links, payload_bytes: npt.NDArray[np.int64]) -> None:
        """As :meth:`_count`, with ``payload_bytes[e]`` on edge e of ``links``; no message where that is 0."""
        self.ledger.record_each(self._phase, links, payload_bytes)
        if self.clocks is not None and not self.ledger.is_paused:
            self.clocks.round_each(links, payload_bytes)

    def _send(self, plan: Plan | LinkPlan, rows: Sequence[Tensor], step: int) -> InFlight:
        """Posts the messages of a round that the ledger has counted."""
        in_flight = self._transport.post(plan, rows, lambda: self.graph.edges(step), step)
        self.ledger.record_wire(in_flight.sent_bytes)
        return in_flight

    def _deliver(self, messages: Tensor, step: int, plan: LinkPlan) -> Tensor:
        """The messages [E_out, ...] of a round that the ledger has counted; returns those that arrive, [E_in, ...]."""
        with self._send(plan, (messages,), step) as received:
            kept = messages[plan.kept_index.on(messages.device)]
            arrived = torch.cat([kept, *received]) if received else kept
        return arrived[plan.arrival_index.on(messages.device)]
