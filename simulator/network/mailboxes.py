"""Messages of asynchronous events: the rows in flight at this process, and the waves that take them in and send more.

Every process follows the same schedule of events (:class:`simulator.timing.messages.MessageSchedule`) and so knows who
needs which row until when. What an event sends is one row of every tensor. It stands in the mail of every process that
has a node that takes it in, and in that of its own node, which keeps a share. It crosses to another process once, in
the round of its wave, however many nodes take it in there; the ledger counts it for every edge.

The mail is part of the state of an algorithm and of its checkpoints, under names that begin with ``mail/``. Which rows
are needed, and by whom, is derived again from the schedule: a run that is resumed follows it from the beginning to the
step of the checkpoint, without rows.

Shapes: M nodes, n local events of a wave, S slots, E entries that are mixed, D columns.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.graphs.base import Edges
from simulator.network.mail_slots import MailSlots
from simulator.network.network import Network
from simulator.network.payload import payload_bytes
from simulator.network.peer_rows import by_peer
from simulator.network.wave_plans import WavePlan
from simulator.network.weight_matrix import WeightMatrix
from simulator.padding import empty_as, zeros_as
from simulator.timing.messages import MessageSchedule, MessageWave, TakesIn
from simulator.timing.ranges import concatenate_ranges

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MAIL_PREFIX = "mail/"
FIRST_STEP = -1
"""The step of the rows that the nodes begin with, as if they had sent them before the first event."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Entries:
    """Weighted sums of rows of the mail, one for every local event.

    Attributes:
        matrix: the weights, for the rows ``distinct``, or for all of the mail where that is None.
        distinct: slots, by (source, step) of what stands there.
        slot: the slot of every entry.
    """

    matrix: WeightMatrix
    distinct: IntArray | None
    slot: IntArray


@dataclass(frozen=True, eq=False)
class LocalEvents:
    """The events of a wave at the nodes of this process.

    Attributes:
        nodes: their nodes, ascending, [n]; positions: the same counted from the first local node, [n].
        steps: their local steps, [n].
        mixed: what they have taken in: for every tensor of the mail the weighted sum of rows, [n, ...].
    """

    nodes: IntArray
    positions: IntArray
    steps: IntArray
    mixed: tuple[Tensor, ...]


class Mailboxes:
    """The mail of this process along a schedule of events.

    Args:
        network: of the run; its graph says along which edges events send.
        names: of the tensors of which every message carries a row.
        payload: bytes of a message.
        takes_in: which messages an event takes in, see :mod:`simulator.timing.messages`.
        keeps_newest: False: an event takes in the sum of its node's own share and of what has come, each message once
            (push-sum). True: an event takes in W times the newest rows of all its neighbours, whether new or not; the
            graph must be static.

    Attributes:
        slots: which rows there are.
        rows: the rows by name, [S, ...].

    Raises:
        ValueError: when a step takes no time.
    """

    def __init__(
        self, network: Network, names: Sequence[str], payload: int, *, takes_in: TakesIn, keeps_newest: bool
    ) -> None:
        assert network.timing is not None
        self._network = network
        self._names = tuple(names)
        self._takes_in = takes_in
        self._keeps_newest = keeps_newest
        self._payload = payload
        self._nodes = network.nodes
        edges = network.graph.edges(0)
        is_here = (edges.target >= self._nodes.start) & (edges.target < self._nodes.stop)
        self._edges = Edges.from_sorted(edges.source[is_here], edges.target[is_here], edges.weight[is_here])
        self._edge_code = self._edges.target * network.num_nodes + self._edges.source
        self._first_edge = np.searchsorted(self._edges.target, np.arange(self._nodes.start, self._nodes.stop + 1))
        self._loop_edge = np.full(len(self._nodes), -1)
        loops = np.flatnonzero(self._edges.source == self._edges.target)
        self._loop_edge[self._edges.source[loops] - self._nodes.start] = loops
        self.rows: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        self._like: dict[str, Tensor] = {}  # two rows of every tensor, which have the padding of the mail
        self._wave: MessageWave | None = None
        self._reset()
        overload = self.schedule.overload()
        if overload and network.placement.rank == 0:
            log.warning("timing: %s", overload)

    # ----- the state

    def first(self, start: Sequence[Tensor]) -> dict[str, Tensor]:
        """Begins anew: the mail before the first event.

        Args:
            start: for every tensor the rows of the local nodes, [N, ...]; all nodes begin with the same row.

        Returns:
            Its entries for the state.
        """
        self._reset()
        self._like = {name: empty_as(rows, 2) for name, rows in zip(self._names, start, strict=True)}
        self.rows = {
            name: empty_as(rows, self.slots.capacity).copy_(rows[:1].expand(self.slots.capacity, *rows.shape[1:]))
            for name, rows in zip(self._names, start, strict=True)
        }
        return self.entries()

    def entries(self) -> dict[str, Tensor]:
        """The mail's entries for the state: ``mail/<name>`` of every tensor, and whose rows they are."""
        self._kept = {MAIL_PREFIX + name: rows for name, rows in self.rows.items()}
        return {
            **self._kept,
            MAIL_PREFIX + "source": torch.from_numpy(self.slots.source.copy()),
            MAIL_PREFIX + "step": torch.from_numpy(self.slots.step.copy()),
        }

    def follow(self, state: Mapping[str, Tensor], step: int) -> None:
        """Makes ready for ``step`` of the run: goes on, or goes to a state that comes from elsewhere.

        Raises:
            ValueError: when the state lacks a message that is in flight after ``step`` steps.
        """
        first, last = step * self._network.num_nodes, (step + 1) * self._network.num_nodes
        if self.owns(state) and first <= self.schedule.num_done < last:
            return
        self._reset()
        for wave in self.schedule.waves(until_events=first):
            self._note(wave)
            self._take(wave)
            self._give(wave)
        self._load(state)

    def owns(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the state's mail is the one of which this object knows who needs it."""
        return bool(self._kept) and all(state[key] is rows for key, rows in self._kept.items())

    def _reset(self) -> None:
        network = self._network
        assert network.timing is not None
        assert network.events is not None
        self.schedule = MessageSchedule(network.timing, network.graph, self._payload, takes_in=self._takes_in)
        self.slots = MailSlots(network.num_nodes)
        self.rows = {}
        self._kept = {}
        network.begin_events()
        self._own_weight = np.ones(network.num_nodes)
        self._sent_step = np.full(network.num_nodes, FIRST_STEP)
        users = np.zeros(network.num_nodes, dtype=np.int64)
        if self._keeps_newest:
            np.add.at(users, self._edges.source[self._edges.source != self._edges.target], 1)
        users[self._nodes.start : self._nodes.stop] += 1
        wanted = np.flatnonzero(users)
        slots = self.slots.take(wanted, np.full(wanted.size, FIRST_STEP), users[wanted])
        if self._keeps_newest:
            # The newest row of the source of every edge; that of a loop is the node's own.
            self._newest = slots[np.searchsorted(wanted, self._edges.source)]

    def _load(self, state: Mapping[str, Tensor]) -> None:
        """Takes the rows that are needed from a state."""
        source, step = (state[MAIL_PREFIX + name].cpu().numpy() for name in ("source", "step"))
        saved = np.flatnonzero(source >= 0)
        slots = self.slots.find(source[saved], step[saved])
        saved, slots = saved[slots >= 0], slots[slots >= 0]
        needed = np.flatnonzero(self.slots.source >= 0)
        missing = np.setdiff1d(needed, slots)
        if missing.size:
            one = int(missing[0])
            raise ValueError(
                f"state: the message of node {self.slots.source[one]} after its local step {self.slots.step[one]} is "
                "in flight, and is not there"
            )
        for name in self._names:
            rows = state[MAIL_PREFIX + name].to(self._network.device)
            self.rows[name] = zeros_as(self._like.get(name, rows), self.slots.capacity)
            self.rows[name][self._index(slots)] = rows[self._index(saved)]

    # ----- the waves

    def waves(self, step: int, until_s: float | None = None) -> Iterator[LocalEvents]:
        """The events of ``step`` that are still to be done, up to simulated time ``until_s``.

        :meth:`send` must be called for every wave before the next one is asked for, also for one without local events.
        """
        network = self._network
        assert network.events is not None
        last, links = (step + 1) * network.num_nodes, []
        for wave in self.schedule.waves(until_events=last, until_s=until_s):
            self._note(wave)
            links.append((wave.nodes[wave.sent.event], wave.sent.target))
            entries = self._take(wave)
            self._wave = wave
            here = self._here(wave.nodes)
            nodes = wave.nodes[here]
            mixed = tuple(self._mix(entries, self.rows[name]) for name in self._names)
            yield LocalEvents(nodes, nodes - self._nodes.start, wave.steps[here], mixed)
        if links:
            source, target = (np.concatenate(part) for part in zip(*links, strict=True))
            network.count_messages(source, target, self._payload)
        if self.schedule.num_done < last:
            assert until_s is not None
            network.events.reach(until_s)

    def send(self, rows: Sequence[Tensor]) -> None:
        """Sends what the local events of the wave send: a row of every tensor for every event, [n, ...]."""
        assert self._wave is not None
        assert payload_bytes(rows) == self._payload
        slots, plan, arriving = self._give(self._wave)
        for name, own in zip(self._names, rows, strict=True):
            self.rows[name] = _grown(self.rows[name], self.slots.capacity)
            self.rows[name].index_copy_(0, self._index(slots), own)
        if self._network.placement.world_size == 1:
            return
        edges = Edges.build(self._wave.nodes[self._wave.sent.event], self._wave.sent.target, 0.0)
        with self._network.post_events(rows, plan, edges) as received:
            for name, others in zip(self._names, received, strict=False):
                self.rows[name].index_copy_(0, self._index(arriving), others)

    def settled(self) -> tuple[Tensor, ...]:
        """For every tensor what the local nodes have now, [N, ...]: their own share and all messages that are there.

        For push-sum with ``takes_in=start``: what the events in progress compute with.
        """
        letters = self.schedule.at_hand()
        letters = letters[(letters["target"] >= self._nodes.start) & (letters["target"] < self._nodes.stop)]
        nodes = np.arange(self._nodes.start, self._nodes.stop)
        if self._keeps_newest:
            newest, edge = (
                self._newest.copy(),
                np.searchsorted(self._edge_code, letters["target"] * self._network.num_nodes + letters["source"]),
            )
            newest[edge] = self.slots.find(letters["source"], letters["step"])  # by ascending step
            entries = self._newest_rows(nodes, newest)
            return tuple(self._mix(entries, self.rows[name]) for name in self._names)
        entries = self._sum(nodes, letters["target"] - nodes[0], letters["source"], letters["step"], letters["weight"])
        return tuple(self._mix(entries, self.rows[name]) for name in self._names)

    def _here(self, nodes: IntArray) -> slice:
        """The events of a wave at local nodes; the nodes ascend."""
        first, last = np.searchsorted(nodes, [self._nodes.start, self._nodes.stop])
        return slice(int(first), int(last))

    def _note(self, wave: MessageWave) -> None:
        assert self._network.events is not None
        self._network.events.add(wave.nodes, wave.starts_s, wave.ends_s, wave.taken.age_steps, 0.0)

    def _take(self, wave: MessageWave) -> Entries:
        """What the local events mix. Rows that nobody needs afterwards are free, but stay until others are sent."""
        here, taken = self._here(wave.nodes), wave.taken
        is_here = slice(*np.searchsorted(taken.event, [here.start, here.stop]).tolist())
        event, nodes = taken.event[is_here] - here.start, wave.nodes[here]
        source, step = taken.source[is_here], taken.step[is_here]
        if self._keeps_newest:
            return self._take_newest(nodes, event, source, step)
        entries = self._sum(nodes, event, source, step, taken.weight[is_here])
        self._own_weight[nodes] = wave.own_weight[here]
        self.slots.release(entries.slot)
        return entries

    def _sum(self, nodes: IntArray, event: IntArray, source: IntArray, step: IntArray, weight: FloatArray) -> Entries:
        """The own share of ``nodes`` [n] and these messages, by (event, source, step)."""
        event = np.concatenate([np.arange(nodes.size), event])
        source, step = np.concatenate([nodes, source]), np.concatenate([self._sent_step[nodes], step])
        weight = np.concatenate([self._own_weight[nodes], weight])
        order = np.lexsort((step, source, event))
        return self._entries(event[order], self.slots.find(source[order], step[order]), weight[order], nodes.size)

    def _take_newest(self, nodes: IntArray, event: IntArray, source: IntArray, step: IntArray) -> Entries:
        """W times the newest rows, with what is taken in among them."""
        code = nodes[event] * self._network.num_nodes + source
        order = np.lexsort((step, code))
        edge = np.searchsorted(self._edge_code, code[order])
        slots = self.slots.find(source, step)[order]
        is_newest = np.ones(edge.size, dtype=np.bool_)
        is_newest[:-1] = edge[1:] != edge[:-1]
        outdated = np.concatenate([self._newest[edge[is_newest]], slots[~is_newest]])
        self._newest[edge[is_newest]] = slots[is_newest]
        entries = self._newest_rows(nodes, self._newest)
        self.slots.release(outdated)
        return entries

    def _newest_rows(self, nodes: IntArray, newest: IntArray) -> Entries:
        """W times these newest rows; nodes that have sent nothing yet and mix when they begin have their own row."""
        first = self._first_edge[nodes - self._nodes.start]
        counts = self._first_edge[nodes - self._nodes.start + 1] - first
        edges, event = concatenate_ranges(first, counts), np.repeat(np.arange(nodes.size), counts)
        slots, weights = newest[edges], self._edges.weight[edges]
        begins = np.flatnonzero(self._sent_step[nodes] == FIRST_STEP)
        if self._takes_in == "start" and begins.size:
            rest = np.flatnonzero(self._sent_step[nodes[event]] != FIRST_STEP)
            own = self.slots.find(nodes[begins], self._sent_step[nodes[begins]])
            event = np.concatenate([event[rest], begins])
            order = np.argsort(event, kind="stable")
            event = event[order]
            slots = np.concatenate([slots[rest], own])[order]
            weights = np.concatenate([weights[rest], np.ones(begins.size)])[order]
        return self._entries(event, slots, weights, nodes.size)

    def _entries(self, event: IntArray, slot: IntArray, weight: FloatArray, num_events: int) -> Entries:
        """Made while the rows are still known by (source, step)."""
        assert slot.size == 0 or slot.min() >= 0
        code = self.slots.source[slot] * 2**32 + self.slots.step[slot]
        _, first, column = np.unique(code, return_index=True, return_inverse=True)
        compact = WeightMatrix(event, column, weight, (num_events, first.size))
        if compact.is_dense:
            return Entries(compact, slot[first], slot)
        return Entries(WeightMatrix(event, slot, weight, (num_events, self.slots.capacity)), None, slot)

    def _mix(self, entries: Entries, rows: Tensor) -> Tensor:
        flat = rows.reshape(len(rows), -1)
        if entries.distinct is not None:
            distinct = self._index(entries.distinct)
            flat = torch.index_select(flat, 0, distinct, out=empty_as(flat, len(distinct)))
        mixed = entries.matrix.multiply(flat)
        return mixed if rows.dim() == 2 else mixed.reshape(len(mixed), *rows.shape[1:])

    def _give(self, wave: MessageWave) -> tuple[IntArray, WavePlan, IntArray]:
        """Makes room for what the events send: slots of the local ones, what crosses, slots of what arrives."""
        here, sent = self._here(wave.nodes), wave.sent
        nodes = wave.nodes[here]
        if self._keeps_newest:  # otherwise the node has taken in its own share
            self.slots.release(self.slots.find(nodes, self._sent_step[nodes]))
        self._sent_step[nodes] = wave.steps[here]
        is_here = (sent.target >= self._nodes.start) & (sent.target < self._nodes.stop)
        users = np.bincount(sent.event[is_here], minlength=wave.nodes.size)
        slots = self.slots.take(nodes, wave.steps[here], users[here] + 1)
        if self._keeps_newest:
            loop = self._loop_edge[nodes - self._nodes.start]
            self._newest[loop[loop >= 0]] = slots[loop >= 0]
        if self._network.placement.world_size == 1:
            return slots, WavePlan((), ()), slots[:0]
        users[here] = 0
        others = np.flatnonzero(users)
        arriving = self.slots.take(wave.nodes[others], wave.steps[others], users[others])
        placement = self._network.placement
        receives = by_peer(placement.rank_of(wave.nodes[others]), wave.nodes[others], others)
        leaves = (sent.event >= here.start) & (sent.event < here.stop) & ~is_here
        peers = placement.rank_of(sent.target[leaves])
        crossing = np.unique(peers * wave.nodes.size + sent.event[leaves])
        peers, events = np.divmod(crossing, max(wave.nodes.size, 1))
        sends = by_peer(peers, wave.nodes[events], events - here.start)
        return slots, WavePlan(tuple(sends), tuple(receives)), arriving

    def _index(self, slots: IntArray) -> Tensor:
        return torch.from_numpy(slots).to(self._network.device)


def _grown(rows: Tensor, capacity: int) -> Tensor:
    """The rows with room for ``capacity`` of them; the new ones are 0."""
    if len(rows) == capacity:
        return rows
    grown = zeros_as(rows, capacity)
    grown[: len(rows)] = rows
    return grown
