"""Local clocks of synchronous rounds.

Every node has its own time T_i. A step of an algorithm first computes, T_i <- T_i + c_i(k). Each of its rounds of
messages then takes T_i <- max(T_i, arrival of the messages to i): nobody waits for nodes that it does not hear. What a
message's arrival is stands in :mod:`simulator.timing.links`. A node sends in a round as soon as it is there; what its
uplink has not sent yet goes first. A downlink takes the messages of a round after those of earlier rounds.

How this relates to :class:`simulator.network.ledger.LinkModel`, which has one clock for all and counts
``latency + max_degree * bytes / bandwidth`` for a round: with equal clocks and equal links a round from equal local
times takes at least that long, because no node can send or receive all its messages faster. Both agree on R rounds,
that is max T = R * (c + latency + max_degree * bytes / bandwidth), where

* bandwidths have no limit and every round continues a path of messages from the first one: any fixed graph with a
  directed cycle (with an edge, if undirected);
* every node sends and receives one message in every round: ``directed_ring``, ``one_peer_exponential``,
  ``random_matching`` with an even number of nodes;
* one round only, and no downlink has to wait while messages are still to come for it: ``star``, ``hub``.

On other graphs with finite bandwidths the local clocks differ from it in both directions. Ascending order of target
lets messages for high node indices come late and all at once (fully connected: up to 2M - 3 instead of M - 1 transfer
times for the first round), and nodes that are done early begin the next round earlier.

Shapes: M nodes, E edges of a round.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.timing.base import Timing
from simulator.timing.downlink import downlink_order, downlink_times
from simulator.timing.node_times import NodeTimes
from simulator.timing.routes import Routes
from simulator.timing.timeline import COMPUTING, SENDING, WAITING, Timeline

FloatArray = npt.NDArray[np.float64]


class Clocks(NodeTimes):
    """The local times of all nodes, the same on every process.

    Args:
        timing: durations of steps and messages.

    Attributes:
        now_s: local time of every node, seconds, [M].
        idle_s: how much of it the node has waited for messages, seconds, [M].
        timeline: what the first nodes did in the first rounds.
    """

    def __init__(self, timing: Timing) -> None:
        super().__init__(timing.num_nodes)
        self.timing = timing
        self.timeline = Timeline()
        self._uplink_free_s = np.zeros(timing.num_nodes)
        self._downlink_free_s = np.zeros(timing.num_nodes)
        self._takes_part = np.ones(timing.num_nodes, dtype=np.bool_)

    @property
    def sim_s(self) -> float:
        """The time of the node that is latest, seconds."""
        return float(self.now_s.max())

    @property
    def spans(self) -> list[tuple[str, int, float, float]]:
        """Those of the timeline."""
        return self.timeline.spans

    def compute(self, step: int, nodes: npt.NDArray[np.bool_] | None = None) -> None:
        """Charges the computation of one step of the algorithm, before the rounds of the step.

        The clock of a node that does not take part stands still. A node that takes part again goes on when the first
        of those begins that took part in the step before.

        Args:
            step: index of the step.
            nodes: which nodes take part, [M]; None for all.
        """
        index = np.arange(self.timing.num_nodes) if nodes is None else np.flatnonzero(nodes)
        steps = np.full(index.shape, step, dtype=np.int64)
        before = self.now_s = self.now_s.copy()
        if nodes is not None:
            stays = nodes & self._takes_part
            if stays.any():
                back = nodes & ~self._takes_part
                before[back] = np.maximum(before[back], before[stays].min())
            self._takes_part = nodes
        self.now_s = before.copy()
        self.now_s[index] += self.timing.compute_s(index, steps, before[index])
        if not self.timeline.is_full:
            self.timeline.add(COMPUTING, before, self.now_s)

    def round(self, routes: Routes, payload_bytes: int | npt.NDArray[np.int64]) -> None:
        """One round of messages along all edges of ``routes``.

        Args:
            routes: the edges; see :meth:`Routes.build`.
            payload_bytes: bytes of every message, or of each one, shape [E]; 0 bytes are no message then.
        """
        transfer = routes.transfer(payload_bytes)
        speaks = np.ones(routes.source.shape, dtype=np.bool_)
        if isinstance(payload_bytes, np.ndarray):
            speaks = payload_bytes > 0
        begin = np.maximum(self.now_s, self._uplink_free_s)
        source, target = routes.source[speaks], routes.target[speaks]
        sends = np.bincount(source, minlength=self.now_s.size) > 0
        self._uplink_free_s = np.where(sends, begin + transfer.busy_s, self._uplink_free_s)
        complete = begin[source] + transfer.out_s[speaks] + transfer.travel_s[speaks]
        arrival, downlink_s = complete, transfer.downlink_s[speaks]
        if downlink_s.any():
            order = downlink_order(source, target, complete)
            target = target[order]
            arrival = downlink_times(target, complete[order], downlink_s[order], self._downlink_free_s)
        after = self.now_s.copy()
        np.maximum.at(after, target, arrival)
        np.maximum.at(self._downlink_free_s, target, arrival)
        self.idle_s += after - self.now_s
        if not self.timeline.is_full:
            self.timeline.add(SENDING, begin, begin + transfer.busy_s)
            self.timeline.add(WAITING, self.now_s, after)
            self.timeline.end_round()
        self.now_s = after

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain lists for a checkpoint; floats survive JSON exactly."""
        return {
            "now_s": self.now_s.tolist(),
            "idle_s": self.idle_s.tolist(),
            "uplink_free_s": self._uplink_free_s.tolist(),
            "downlink_free_s": self._downlink_free_s.tolist(),
            "takes_part": self._takes_part.tolist(),
            "timeline": self.timeline.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from :meth:`state_dict`."""
        self.now_s = np.asarray(state["now_s"], dtype=np.float64)
        self.idle_s = np.asarray(state["idle_s"], dtype=np.float64)
        self._uplink_free_s = np.asarray(state["uplink_free_s"], dtype=np.float64)
        self._downlink_free_s = np.asarray(state["downlink_free_s"], dtype=np.float64)
        self._takes_part = np.asarray(state["takes_part"], dtype=np.bool_)
        self.timeline.load_state_dict(state["timeline"])
