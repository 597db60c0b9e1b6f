"""Meetings of two nodes at a time: waves of disjoint pairs that exchange rows, as AD-PSGD does.

Every process follows the same schedule (:class:`simulator.timing.pairs.PairSchedule`). Nothing is in flight between two
meetings: a state has no mail. A run that is resumed follows the schedule from the beginning to the step of the
checkpoint.

Shapes: M nodes, N local nodes, n events of a wave, p local nodes that the wave touches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from simulator.graphs.base import Edges
from simulator.network.network import Network
from simulator.network.payload import payload_bytes
from simulator.network.peer_rows import by_peer
from simulator.network.wave_plans import WavePlan
from simulator.timing.pairs import PairSchedule, PairWave
from simulator.uploads import upload

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LocalMeetings:
    """The part of a wave that touches nodes of this process.

    Attributes:
        touched: positions of the local nodes that meet, ascending, [p].
        partners: whom each meets, global, [p]; itself where it has no neighbour.
        active: which of ``touched`` have ended a local step, bool [p]; the others are met.
        steps: the local step that has ended, [p]; -1 for the others.
    """

    touched: IntArray
    partners: IntArray
    active: npt.NDArray[np.bool_]
    steps: IntArray


class Meetings:
    """The meetings of a run at this process.

    Args:
        network: of the run; nodes meet along the edges of its graph.
        payload: bytes of a message.

    Raises:
        ValueError: when a step takes no time.
    """

    def __init__(self, network: Network, payload: int) -> None:
        self._network = network
        self._payload = payload
        self._wave: PairWave | None = None
        self.begin()

    def begin(self) -> None:
        """Goes back to the first event."""
        assert self._network.timing is not None
        self.schedule = PairSchedule(self._network.timing, self._network.graph, self._payload)
        self._network.begin_events()

    def follow(self, step: int) -> None:
        """Makes ready for ``step`` of the run."""
        first, last = step * self._network.num_nodes, (step + 1) * self._network.num_nodes
        if first <= self.schedule.num_done < last:
            return
        self.begin()
        for wave in self.schedule.waves(until_events=first):
            self._note(wave)

    def waves(self, step: int, until_s: float | None = None) -> Iterator[LocalMeetings]:
        """The events of ``step`` that are still to be done, up to simulated time ``until_s``.

        :meth:`exchange` must be called for every wave, on every process, before the next one is asked for.
        """
        network, links = self._network, []
        assert network.events is not None
        last = (step + 1) * network.num_nodes
        for wave in self.schedule.waves(until_events=last, until_s=until_s):
            links.append((wave.nodes, wave.partners))
            self._wave = wave
            yield self._local(wave)
            self._note(wave)
        if links:
            nodes, partners = (np.concatenate(part) for part in zip(*links, strict=True))
            network.count_messages(np.concatenate([nodes, partners]), np.concatenate([partners, nodes]), self._payload)
        if self.schedule.num_done < last:
            assert until_s is not None
            network.events.reach(until_s)

    def exchange(self, meetings: LocalMeetings, rows: Tensor) -> Tensor:
        """The rows of the partners, [p, ...].

        Args:
            rows: of the local nodes, [N, ...].
        """
        assert payload_bytes((rows,)) == self._payload
        nodes, placement = self._network.nodes, self._network.placement
        is_here = (meetings.partners >= nodes.start) & (meetings.partners < nodes.stop)
        index = np.where(is_here, meetings.partners - nodes.start, 0)
        found = rows.index_select(0, upload(index, rows.device))
        if placement.world_size == 1:
            return found
        away = np.flatnonzero(~is_here)
        peers = placement.rank_of(meetings.partners[away])
        leaving = away[np.lexsort((meetings.touched[away], peers))]
        entering = away[np.lexsort((meetings.partners[away], peers))]
        own = meetings.touched[leaving]
        sends = by_peer(placement.rank_of(meetings.partners[leaving]), own + nodes.start, own)
        receives = by_peer(placement.rank_of(meetings.partners[entering]), meetings.partners[entering], entering)
        wave = self._wave
        assert wave is not None
        edges = Edges.build(np.append(wave.nodes, wave.partners), np.append(wave.partners, wave.nodes), 0.0)
        plan = WavePlan(tuple(sends), tuple(receives))
        with self._network.post_events((rows,), plan, edges) as received:
            for others in received:
                found.index_copy_(0, upload(entering, rows.device), others)
        return found

    def _local(self, wave: PairWave) -> LocalMeetings:
        nodes = self._network.nodes
        meets_other = wave.partners != wave.nodes
        touched = np.concatenate([wave.nodes, wave.partners[meets_other]])
        partners = np.concatenate([wave.partners, wave.nodes[meets_other]])
        steps = np.concatenate([wave.steps, np.full(int(meets_other.sum()), -1)])
        order = np.argsort(touched)
        order = order[(touched[order] >= nodes.start) & (touched[order] < nodes.stop)]
        return LocalMeetings(touched[order] - nodes.start, partners[order], steps[order] >= 0, steps[order])

    def _note(self, wave: PairWave) -> None:
        assert self._network.events is not None
        exchange_s = self.schedule.exchange_s(wave.nodes, wave.partners)
        self._network.events.add(wave.nodes, wave.starts_s, wave.ends_s, wave.age_steps, exchange_s)
