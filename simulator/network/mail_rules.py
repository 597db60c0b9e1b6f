"""What an asynchronous event makes of the rows in its mailbox: their sum, W times the newest ones, or their mean.

Shapes: as in :mod:`simulator.network.mailboxes`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Edges
from simulator.network.mailboxes import FIRST_STEP, Entries, Letters, Mailboxes
from simulator.network.network import Network
from simulator.timing.messages import TakesIn
from simulator.timing.ranges import concatenate_ranges
from simulator.timing.rounds import Rounds

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class SummedMail(Mailboxes):
    """An event takes in the sum of its node's own share and of what has come, each message once: push-sum."""

    def _begin(self) -> None:
        own = self._parts(np.arange(self._nodes.start, self._nodes.stop))
        self.slots.take(own, np.full(own.size, FIRST_STEP), np.ones(own.size, dtype=np.int64))
        self._own_weight = np.ones(self._network.num_nodes)

    def _take_in(self, nodes: IntArray, own_weight: FloatArray, letters: Letters) -> Entries:
        entries, slots = self._collect(nodes, letters)
        self._own_weight[nodes] = own_weight
        self.slots.release(slots)
        return entries

    def _look(self, nodes: IntArray, letters: Letters) -> Entries:
        return self._collect(nodes, letters)[0]

    def _sent(self, nodes: IntArray, slots: IntArray) -> None:
        """Nothing more: the event has taken in its node's own share."""

    def _collect(self, nodes: IntArray, letters: Letters) -> tuple[Entries, IntArray]:
        """The own rows of ``nodes`` and these messages, by (target, source, step), and the slots of all."""
        own = self._parts(nodes)
        steps, weights = (np.repeat(x[nodes], self.num_fragments) for x in (self.sent_step, self._own_weight))
        target = np.concatenate([np.arange(own.size), letters.target])
        source, step = np.concatenate([own, letters.source]), np.concatenate([steps, letters.step])
        weight = np.concatenate([weights, letters.weight])
        order = np.lexsort((step, source, target))
        target, source, weight = target[order], source[order], weight[order]
        slots = self.slots.find(source, step[order])
        return self._weighted(target, source, slots, weight, own.size), slots

    def _weighted(
        self, target: IntArray, source: IntArray, slots: IntArray, weight: FloatArray, num_parts: int
    ) -> Entries:
        """The sums of these rows, which stand by (target, source, step)."""
        return self._entries(target, slots, weight, num_parts)


class AveragedMail(SummedMail):
    """An event takes in the mean of its node's own row and the newest row of every sender among what has come."""

    def _weighted(
        self, target: IntArray, source: IntArray, slots: IntArray, weight: FloatArray, num_parts: int
    ) -> Entries:
        is_newest = np.ones(target.size, dtype=np.bool_)
        is_newest[:-1] = (target[1:] != target[:-1]) | (source[1:] != source[:-1])
        target, slots = target[is_newest], slots[is_newest]
        return self._entries(target, slots, 1.0 / np.bincount(target, minlength=num_parts)[target], num_parts)


class NewestMail(Mailboxes):
    """An event takes in W times the newest rows of all its neighbours, whether new or not.

    Args:
        network: of the run; its graph is static.
        names, rounds, takes_in: see the base class; rows are not cut.
    """

    def __init__(self, network: Network, names: Sequence[str], rounds: Rounds, *, takes_in: TakesIn) -> None:
        nodes, edges = network.nodes, network.graph.edges(0)
        is_here = (edges.target >= nodes.start) & (edges.target < nodes.stop)
        self._edges = Edges.from_sorted(edges.source[is_here], edges.target[is_here], edges.weight[is_here])
        self._edge_code = self._edges.target * network.num_nodes + self._edges.source
        self._first_edge = np.searchsorted(self._edges.target, np.arange(nodes.start, nodes.stop + 1))
        self._loop_edge = np.full(len(nodes), -1)
        loops = np.flatnonzero(self._edges.source == self._edges.target)
        self._loop_edge[self._edges.source[loops] - nodes.start] = loops
        super().__init__(network, names, rounds, takes_in=takes_in)
        assert self.num_fragments == 1

    def _begin(self) -> None:
        users = np.zeros(self._network.num_nodes, dtype=np.int64)
        np.add.at(users, self._edges.source[self._edges.source != self._edges.target], 1)
        users[self._nodes.start : self._nodes.stop] += 1
        wanted = np.flatnonzero(users)
        slots = self.slots.take(wanted, np.full(wanted.size, FIRST_STEP), users[wanted])
        # The newest row of the source of every edge; that of a loop is the node's own.
        self._newest = slots[np.searchsorted(wanted, self._edges.source)]

    def _take_in(self, nodes: IntArray, own_weight: FloatArray, letters: Letters) -> Entries:
        """W times the newest rows, with what is taken in among them."""
        code = nodes[letters.target] * self._network.num_nodes + letters.source
        order = np.lexsort((letters.step, code))
        edge = np.searchsorted(self._edge_code, code[order])
        slots = self.slots.find(letters.source, letters.step)[order]
        is_newest = np.ones(edge.size, dtype=np.bool_)
        is_newest[:-1] = edge[1:] != edge[:-1]
        outdated = np.concatenate([self._newest[edge[is_newest]], slots[~is_newest]])
        self._newest[edge[is_newest]] = slots[is_newest]
        entries = self._newest_rows(nodes, self._newest)
        self.slots.release(outdated)
        return entries

    def _look(self, nodes: IntArray, letters: Letters) -> Entries:
        code = nodes[letters.target] * self._network.num_nodes + letters.source
        newest = self._newest.copy()
        newest[np.searchsorted(self._edge_code, code)] = self.slots.find(letters.source, letters.step)  # by step
        return self._newest_rows(nodes, newest)

    def _sent(self, nodes: IntArray, slots: IntArray) -> None:
        self.slots.release(self.slots.find(nodes, self.sent_step[nodes]))
        loop = self._loop_edge[nodes - self._nodes.start]
        self._newest[loop[loop >= 0]] = slots[loop >= 0]

    def _newest_rows(self, nodes: IntArray, newest: IntArray) -> Entries:
        """W times these newest rows; nodes that have sent nothing yet and mix when they begin have their own row."""
        first = self._first_edge[nodes - self._nodes.start]
        counts = self._first_edge[nodes - self._nodes.start + 1] - first
        edges, event = concatenate_ranges(first, counts), np.repeat(np.arange(nodes.size), counts)
        slots, weights = newest[edges], self._edges.weight[edges]
        begins = np.flatnonzero(self.sent_step[nodes] == FIRST_STEP)
        if self._takes_in == "start" and begins.size:
            rest = np.flatnonzero(self.sent_step[nodes[event]] != FIRST_STEP)
            own = self.slots.find(nodes[begins], self.sent_step[nodes[begins]])
            event = np.concatenate([event[rest], begins])
            order = np.argsort(event, kind="stable")
            event = event[order]
            slots = np.concatenate([slots[rest], own])[order]
            weights = np.concatenate([weights[rest], np.ones(begins.size)])[order]
        return self._entries(event, slots, weights, nodes.size)
