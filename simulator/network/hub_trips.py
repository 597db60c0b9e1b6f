"""Round trips of clients to a hub, node 0: one answer after the other goes up, and a model comes down.

A client gets the model that the hub has when all answers of that time are taken in.

Every process follows the same schedule (:class:`simulator.timing.hub_events.HubSchedule`). Between two trips nothing is
in flight but what clients compute with, which is in the state. Shapes: M nodes, D columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from simulator.graphs.base import Edges
from simulator.network.network import Network
from simulator.network.peer_rows import by_peer
from simulator.network.wave_plans import WavePlan
from simulator.timing.hub_events import HubSchedule


@dataclass(frozen=True, eq=False)
class Trip:
    """The end of one round trip.

    Attributes:
        node: the client; step: its trip k.
        staleness: how many versions of the hub's model came after the one that the client computed with.
        handed: the clients that get the hub's model before this answer is taken in: those that answered before.
    """

    node: int
    step: int
    staleness: int
    handed: tuple[int, ...]


class HubTrips:
    """The round trips of a run at this process.

    Args:
        network: of the run.
        payload: bytes of a message, up and down.
        answers_per_version: how many answers make a new version of the hub's model.

    Raises:
        ValueError: when a step takes no time.
    """

    def __init__(self, network: Network, payload: int, answers_per_version: int) -> None:
        self._network = network
        self._payload = payload
        self._answers_per_version = answers_per_version
        self.begin()

    def begin(self) -> None:
        """Goes back to the first event."""
        network = self._network
        assert network.timing is not None
        self.schedule = HubSchedule(network.timing, network.graph, self._payload)
        self.num_answers = 0
        self._version_at = np.zeros(network.num_nodes, dtype=np.int64)
        self._waiting: list[int] = []
        self._answered_s = 0.0
        network.begin_events()

    def follow(self, step: int) -> None:
        """Makes ready for ``step`` of the run."""
        first, last = step * self._network.num_nodes, (step + 1) * self._network.num_nodes
        if first <= self.schedule.num_done < last:
            return
        self.begin()
        for _ in self._trips(first, None):
            pass

    def trips(self, step: int, until_s: float | None = None) -> Iterator[Trip]:
        """The trips of ``step`` that are still to end, up to simulated time ``until_s``."""
        network, nodes = self._network, []
        last = (step + 1) * network.num_nodes
        for trip in self._trips(last, until_s):
            nodes.append(trip.node)
            yield trip
        clients = np.array(nodes, dtype=np.int64)
        if clients.size:
            hub = np.zeros_like(clients)
            network.count_messages(np.append(clients, hub), np.append(hub, clients), self._payload)
        if self.schedule.num_done < last:
            assert until_s is not None
            assert network.events is not None
            network.events.reach(until_s)

    def carry(self, row: Tensor, source: int, target: int) -> Tensor:
        """Brings a row from one node to another; every process calls it.

        Args:
            row: [1, D], at the process of ``source``; of this shape elsewhere, too.

        Returns:
            The row at the process of ``target``; elsewhere what was given.
        """
        placement = self._network.placement
        if placement.world_size == 1:
            return row
        here, there = (int(rank) for rank in placement.rank_of([source, target]))
        sends, receives = [], []
        if here != there:
            node, first = np.array([source]), np.zeros(1, dtype=np.int64)
            if placement.rank == here:
                sends = by_peer(np.array([there]), node, first)
            if placement.rank == there:
                receives = by_peer(np.array([here]), node, first)
        plan = WavePlan(tuple(sends), tuple(receives))
        with self._network.post_events((row,), plan, Edges.build([source], [target], 0.0)) as received:
            return torch.clone(received[0]) if received else row

    def _trips(self, until_events: int, until_s: float | None) -> Iterator[Trip]:
        events = self._network.events
        assert events is not None
        for wave in self.schedule.waves(until_events=until_events, until_s=until_s):
            node, version = int(wave.nodes[0]), self.num_answers // self._answers_per_version
            handed: tuple[int, ...] = ()
            if wave.ends_s[0] > self._answered_s:
                handed, self._waiting, self._answered_s = tuple(self._waiting), [], float(wave.ends_s[0])
                self._version_at[list(handed)] = version
            staleness = version - self._version_at[node]
            yield Trip(node, int(wave.steps[0]), int(staleness), handed)
            self.num_answers += 1
            self._waiting.append(node)
            exchange_s = self.schedule.exchange_s(wave.nodes, wave.partners)
            events.add(wave.nodes, wave.starts_s, wave.ends_s, np.array([staleness]), exchange_s)
