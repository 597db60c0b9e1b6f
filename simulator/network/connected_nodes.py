"""The nodes of a network and what all messages between them share: prepared rounds, counting and sending.

Shapes: N local nodes, M all nodes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.graphs.base import Edges, Graph
from simulator.network.collectives import Collectives
from simulator.network.ledger import Ledger, LinkModel, Links
from simulator.network.link_plans import LinkPlan
from simulator.network.local_clocks import LocalClocks
from simulator.network.plans import Plan
from simulator.network.transport import InFlight, Transport
from simulator.network.waits import Waits
from simulator.placement import Placement
from simulator.timing.base import Timing
from simulator.timing.clocks import Clocks
from simulator.timing.event_times import EventTimes
from simulator.watchdog import Watchdog

_Prepared = TypeVar("_Prepared", Plan, LinkPlan)
_Kept = TypeVar("_Kept")


class ConnectedNodes:
    """The nodes of all processes, connected by a graph schedule.

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

    def _require_punctual(self) -> None:
        if self.graph.max_delay:
            raise RuntimeError(f"graph {self.graph.description} has messages that are late, which only push takes")

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
