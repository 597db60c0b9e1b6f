"""The schedule of asynchronous algorithms whose events are meetings of two nodes, as those of AD-PSGD.

Event (i, k) is local step k of node i. It begins when (i, k - 1) ends. Node i computes for compute_s(i, k) seconds,
picks a neighbour j in W_k, uniformly and keyed by (seed, i, k), and exchanges a message with it in both directions. The
exchange lasts as long as the slower direction (latency and transfer with links to itself, see
:mod:`simulator.timing.links`; no queues), and the meeting happens at its end, E_i(k). Node j is not interrupted. A node
without neighbours in W_k meets itself, in no time.

Meetings happen one after the other in the order of (end time, node): those at the same time in ascending order of the
node whose event it is. Event (i, k) depends on all earlier events that touched i or j, which are the two nodes'
latest ones.

Shapes: M nodes, n events.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Graph
from simulator.randomness import uniforms
from simulator.timing.base import Timing
from simulator.timing.levels import pair_levels
from simulator.timing.local_steps import LocalClocks, LocalSteps, window_size
from simulator.timing.rounds import Rounds
from simulator.timing.waves import Wave, WaveSchedule, Window

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_MAX_EVENTS = 65_536


@dataclass(frozen=True, eq=False, slots=True)
class PairWave(Wave):
    """Meetings of disjoint pairs of nodes.

    Attributes:
        partners: whom the node of every event meets, [n]; the node itself where it has no neighbour.
        age_steps: how many events of other nodes have touched the node since its event began, which is since it took
            the snapshot that it computes with, [n].
    """

    partners: IntArray
    age_steps: IntArray

    @property
    def age_s(self) -> FloatArray:
        """Age of the snapshot when the event ends, seconds, [n]."""
        ages: FloatArray = self.ends_s - self.starts_s
        return ages


class PairSchedule(WaveSchedule[PairWave]):
    """The waves of an asynchronous algorithm whose nodes meet in pairs.

    Args:
        timing: durations of steps and messages; its seed keys the choice of partners.
        graph: event (i, k) chooses among the edges of W_k that leave i.
        payload_bytes: length of a message, the same in both directions.
        window_events: most events that are made at once, about.

    Raises:
        ValueError: when a step takes no time; from the first wave, for later steps.
    """

    def __init__(self, timing: Timing, graph: Graph, payload_bytes: int, *, window_events: int = _MAX_EVENTS) -> None:
        super().__init__()
        self.timing = timing
        self.num_nodes = timing.num_nodes
        self.payload_bytes = payload_bytes
        self._rounds = Rounds(graph, timing.links, payload_bytes)
        self._clocks = LocalClocks(self._durations, needs_starts=timing.needs_starts)
        self._max_events = max(self.num_nodes, window_events)
        self._clocks.rates(np.zeros(self.num_nodes, dtype=np.int64), np.zeros(self.num_nodes))

    def partners(self, nodes: IntArray, steps: IntArray) -> IntArray:
        """Whom the node of every event (nodes, steps) meets, [n]."""
        table, row = self._rounds.stack(nodes, steps)
        degree = table.first[row + 1] - table.first[row]
        drawn = uniforms(self.timing.seed, "timing/partner", nodes, steps, 1)[:, 0]
        partners = nodes.copy()
        joined = degree > 0
        chosen = table.first[row] + (drawn * degree).astype(np.int64)
        partners[joined] = table.target[chosen[joined]]
        return partners

    def _durations(self, nodes: IntArray, steps: IntArray, starts_s: FloatArray) -> FloatArray:
        exchange = self.exchange_s(nodes, self.partners(nodes, steps))
        durations: FloatArray = self.timing.compute_s(nodes, steps, starts_s) + exchange
        return durations

    def exchange_s(self, nodes: IntArray, partners: IntArray) -> FloatArray:
        """How long nodes and their partners exchange messages, seconds, [n]; 0 for a node with itself."""
        there, back = self._message_s(nodes, partners), self._message_s(partners, nodes)
        exchange: FloatArray = np.where(nodes == partners, 0.0, np.maximum(there, back))
        return exchange

    def _message_s(self, source: IntArray, target: IntArray) -> FloatArray:
        """Duration of one message with links to itself."""
        links = self.timing.links
        transfer = np.maximum(
            self.payload_bytes / links.rate(source, target), self.payload_bytes / links.downlink[target]
        )
        duration: FloatArray = links.latency_s(source, target) + transfer
        return duration

    def open_window(self, position: dict[str, Any]) -> "Window[PairWave]":
        """Makes the events of a window."""
        zeros = np.zeros(self.num_nodes)
        done = np.asarray(position.get("done", zeros), dtype=np.int64)
        last_end = np.asarray(position.get("last_end_s", zeros), dtype=np.float64)
        touched = np.asarray(position.get("touched", zeros), dtype=np.int64)
        rates = self._clocks.rates(done, last_end)
        horizon = float(position.get("now_s", 0.0)) + window_size(done, self._max_events) / float(rates.sum())
        events = self._clocks.until(horizon, done, last_end, rates)
        return _PairWindow(self, horizon, done, last_end, touched, events)


class _PairWindow(Window[PairWave]):
    """A window of a :class:`PairSchedule`.

    Args:
        touched: events of others that have touched every node since its event in progress began, [M].
    """

    def __init__(
        self,
        schedule: PairSchedule,
        horizon_s: float,
        done: IntArray,
        last_end_s: FloatArray,
        touched: IntArray,
        events: LocalSteps,
    ) -> None:
        self.horizon_s = horizon_s
        by_time = np.lexsort((events.nodes, events.ends_s))
        self.nodes, self.steps = events.nodes[by_time], events.steps[by_time]
        self.starts_s, self.ends_s = events.starts_s[by_time], events.ends_s[by_time]
        self._num_nodes = schedule.num_nodes
        self._partners = schedule.partners(self.nodes, self.steps)
        ages, counts = [], touched.tolist()
        for node, partner in zip(self.nodes.tolist(), self._partners.tolist(), strict=True):
            ages.append(counts[node])
            counts[partner] += 1
            counts[node] = 0
        self._age = np.array(ages, dtype=np.int64)
        last_end = last_end_s.copy()
        last_end[self.nodes] = self.ends_s
        self._after = {
            "now_s": horizon_s,
            "done": done + np.diff(events.first),
            "last_end_s": last_end,
            "touched": np.array(counts, dtype=np.int64),
        }

    def levels(self, begin: int, stop: int) -> IntArray:
        """See the base class."""
        return pair_levels(self.nodes[begin:stop], self._partners[begin:stop], self._num_nodes)

    def gather(self, order: IntArray, firsts: IntArray) -> Iterator[PairWave]:
        """See the base class."""
        nodes, steps, partners = self.nodes[order], self.steps[order], self._partners[order]
        starts, ends, age = self.starts_s[order], self.ends_s[order], self._age[order]
        for begin, stop in pairwise(firsts.tolist()):
            e = slice(begin, stop)
            yield PairWave(nodes[e], steps[e], starts[e], ends[e], partners[e], age[e])

    def after(self) -> dict[str, Any]:
        """See the base class."""
        return self._after
