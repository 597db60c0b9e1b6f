"""Messages of asynchronous events: the rows in flight at this process, and the waves that take them in and send more.

Every process follows the same schedule of events (:class:`simulator.timing.messages.MessageSchedule`) and so knows who
needs which row until when. What an event sends is one row of every tensor, or F of them where rows are cut into
fragments. A row stands in the mail of every process that has a node that takes it in, and in that of its own node,
which keeps a share. It crosses to another process once, in the round of its wave, however many nodes take it in there;
the ledger counts it for every edge.

What an event makes of the rows that have come is the rule of a subclass (:mod:`simulator.network.mail_rules`).

The mail is part of the state of an algorithm and of its checkpoints, under names that begin with ``mail/``. Which rows
are needed, and by whom, is derived again from the schedule: a run that is resumed follows it from the beginning to the
step of the checkpoint, without rows.

Shapes: M nodes, N local nodes, F fragments (1 where rows are not cut), n local events of a wave, S slots, E entries
that are mixed. Part p = i * F + f is fragment f of node i: parts have rows as nodes have where F is 1.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

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
from simulator.timing.rounds import Rounds
from simulator.uploads import upload

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MAIL_PREFIX = "mail/"
FIRST_STEP = -1
"""The step of the rows that the nodes begin with, as if they had sent them before the first event."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Letters:
    """Messages for some local nodes, in any order.

    Attributes:
        target: the part that takes each in, as a position among those of the nodes, [m].
        source: the part that has sent it, [m].
        step: of the event that has sent it, [m].
        weight: W[target, source], [m].
    """

    target: IntArray
    source: IntArray
    step: IntArray
    weight: FloatArray


@dataclass(frozen=True, eq=False)
class Entries:
    """Weighted sums of rows of the mail, one for every part of every local event.

    Attributes:
        matrix: the weights of the rows in ``slots``.
        slots: by (source, step) of what stands there.
        capacity: how many slots there are.
    """

    matrix: WeightMatrix
    slots: IntArray
    capacity: int

    @cached_property
    def of_all_slots(self) -> WeightMatrix:
        """The weights of all rows of the mail."""
        compact = self.matrix
        return WeightMatrix(compact.row, self.slots[compact.column], compact.weight, (compact.shape[0], self.capacity))


@dataclass(frozen=True, eq=False)
class LocalEvents:
    """The events of a wave at the nodes of this process.

    Attributes:
        nodes: their nodes, ascending, [n]; positions: the same counted from the first local node, [n].
        steps: their local steps, [n].
        mixed: what they have taken in: for every tensor of the mail the weighted sum of rows, [n * F, ...].
    """

    nodes: IntArray
    positions: IntArray
    steps: IntArray
    mixed: tuple[Tensor, ...]


class Mailboxes(ABC):
    """The mail of this process along a schedule of events.

    Args:
        network: of the run.
        names: of the tensors of which every message carries a row.
        rounds: along which edges events send, and how many bytes.
        takes_in: which messages an event takes in, see :mod:`simulator.timing.messages`.

    Attributes:
        num_fragments: F.
        slots: which rows there are, by (part, step).
        rows: the rows by name, [S, ...].
        sent_step: the step of every node's last event, [M].

    Raises:
        ValueError: when a step takes no time.
    """

    def __init__(self, network: Network, names: Sequence[str], rounds: Rounds, *, takes_in: TakesIn) -> None:
        self._network = network
        self._names = tuple(names)
        self._takes_in = takes_in
        self._rounds = rounds
        self._nodes = network.nodes
        self.num_fragments = rounds.payload_bytes.size
        self.rows: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        self._like: dict[str, Tensor] = {}  # two rows of every tensor, which have the padding of the mail
        self._wave: MessageWave | None = None
        self._reset()
        overload = self.schedule.overload()
        if overload and network.placement.rank == 0:
            log.warning("timing: %s", overload)

    # ----- the rule

    @abstractmethod
    def _begin(self) -> None:
        """Puts the rows that the nodes begin with into slots."""

    @abstractmethod
    def _take_in(self, nodes: IntArray, own_weight: FloatArray, letters: Letters) -> Entries:
        """What events of ``nodes`` [n] mix, whose rounds have these weights of loops [n].

        Rows that nobody needs afterwards are free, but stay until others are sent.
        """

    @abstractmethod
    def _look(self, nodes: IntArray, letters: Letters) -> Entries:
        """What ``nodes`` [n] would mix now, without taking it in."""

    @abstractmethod
    def _sent(self, nodes: IntArray, slots: IntArray) -> None:
        """Hears that events of ``nodes`` [n] have put their rows into these slots, [n * F]."""

    # ----- the state

    def first(self, start: Sequence[Tensor]) -> dict[str, Tensor]:
        """Begins anew: the mail before the first event.

        Args:
            start: for every tensor the rows of the local nodes, [N * F, ...]; all nodes begin with the same.

        Returns:
            Its entries for the state.
        """
        self._reset()
        self._like = {name: empty_as(rows, 2) for name, rows in zip(self._names, start, strict=True)}
        fragment = self._index(self.slots.source % self.num_fragments)
        self.rows = {
            name: torch.index_select(rows, 0, fragment, out=empty_as(rows, self.slots.capacity))
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
        self.schedule = MessageSchedule(network.timing, self._rounds, takes_in=self._takes_in)
        self.slots = MailSlots(network.num_nodes * self.num_fragments)
        self.rows = {}
        self._kept = {}
        network.begin_events()
        self.sent_step = np.full(network.num_nodes, FIRST_STEP)
        self._begin()

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
                f"state: the message of node {self.slots.source[one] // self.num_fragments} after its local step "
                f"{self.slots.step[one]} is in flight, and is not there"
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
            links.append((wave.nodes[wave.sent.event], wave.sent.target, wave.sent.fragment))
            entries = self._take(wave)
            self._wave = wave
            here = self._here(wave.nodes)
            nodes = wave.nodes[here]
            mixed = tuple(self._mix(entries, self.rows[name]) for name in self._names)
            yield LocalEvents(nodes, nodes - self._nodes.start, wave.steps[here], mixed)
        if links:
            source, target, fragment = (np.concatenate(part) for part in zip(*links, strict=True))
            payloads = self._rounds.payload_bytes[fragment]
            for payload in np.unique(payloads).tolist():
                network.count_messages(source[payloads == payload], target[payloads == payload], payload)
        if self.schedule.num_done < last:
            assert until_s is not None
            network.events.reach(until_s)

    def send(self, rows: Sequence[Tensor]) -> None:
        """Sends what the local events of the wave send: rows of every tensor for every event, [n * F, ...].

        Shorter fragments are filled up to the length of the longest; what fills them is not counted.
        """
        assert self._wave is not None
        assert payload_bytes(rows) == self._rounds.payload_bytes.max()
        slots, plan, arriving = self._give(self._wave)
        index = self._index(slots)
        for name, own in zip(self._names, rows, strict=True):
            self.rows[name] = _grown(self.rows[name], self.slots.capacity)
            self.rows[name].index_copy_(0, index, own)
        if self._network.placement.world_size == 1:
            return
        edges = Edges.build(self._wave.nodes[self._wave.sent.event], self._wave.sent.target, 0.0)
        index = self._index(arriving)
        with self._network.post_events(rows, plan, edges) as received:
            for name, others in zip(self._names, received, strict=False):
                self.rows[name].index_copy_(0, index, others)

    def settled(self) -> tuple[Tensor, ...]:
        """For every tensor what the local nodes have now, [N * F, ...]: their own share and messages that are there.

        For ``takes_in=start``: what the events in progress compute with.
        """
        letters, num_fragments = self.schedule.at_hand(), self.num_fragments
        letters = letters[(letters["target"] >= self._nodes.start) & (letters["target"] < self._nodes.stop)]
        fragment = letters["fragment"]
        there = Letters(
            (letters["target"] - self._nodes.start) * num_fragments + fragment,
            letters["source"] * num_fragments + fragment,
            letters["step"],
            letters["weight"],
        )
        entries = self._look(np.arange(self._nodes.start, self._nodes.stop), there)
        return tuple(self._mix(entries, self.rows[name]) for name in self._names)

    def _here(self, nodes: IntArray) -> slice:
        """The events of a wave at local nodes; the nodes ascend."""
        first, last = np.searchsorted(nodes, [self._nodes.start, self._nodes.stop])
        return slice(int(first), int(last))

    def _note(self, wave: MessageWave) -> None:
        assert self._network.events is not None
        self._network.events.add(wave.nodes, wave.starts_s, wave.ends_s, wave.taken.age_steps, 0.0)

    def _take(self, wave: MessageWave) -> Entries:
        """What the local events mix."""
        here, taken, num_fragments = self._here(wave.nodes), wave.taken, self.num_fragments
        is_here = slice(*np.searchsorted(taken.event, [here.start, here.stop]).tolist())
        fragment = taken.fragment[is_here]
        letters = Letters(
            (taken.event[is_here] - here.start) * num_fragments + fragment,
            taken.source[is_here] * num_fragments + fragment,
            taken.step[is_here],
            taken.weight[is_here],
        )
        return self._take_in(wave.nodes[here], wave.own_weight[here], letters)

    def _parts(self, nodes: IntArray) -> IntArray:
        """The parts of nodes [n], [n * F]."""
        return (nodes[:, None] * self.num_fragments + np.arange(self.num_fragments)).ravel()

    def _entries(self, part: IntArray, slot: IntArray, weight: FloatArray, num_parts: int) -> Entries:
        """Row ``part`` of the product gets weight times the row in ``slot``, by part; [E] each.

        Made while the rows are still known by (source, step).
        """
        assert slot.size == 0 or slot.min() >= 0
        code = self.slots.source[slot] * 2**32 + self.slots.step[slot]
        _, first, column = np.unique(code, return_index=True, return_inverse=True)
        return Entries(WeightMatrix(part, column, weight, (num_parts, first.size)), slot[first], self.slots.capacity)

    def _mix(self, entries: Entries, rows: Tensor) -> Tensor:
        flat = rows.reshape(len(rows), -1)
        if entries.matrix.is_dense(flat.shape[1] * flat.element_size()):
            index = self._index(entries.slots)
            mixed = entries.matrix.multiply(torch.index_select(flat, 0, index, out=empty_as(flat, len(index))))
        else:
            mixed = entries.of_all_slots.multiply(flat)
        return mixed if rows.dim() == 2 else mixed.reshape(len(mixed), *rows.shape[1:])

    def _give(self, wave: MessageWave) -> tuple[IntArray, WavePlan, IntArray]:
        """Makes room for what the events send: slots of the local ones, what crosses, slots of what arrives."""
        here, sent, placement = self._here(wave.nodes), wave.sent, self._network.placement
        nodes, parts = wave.nodes[here], self._parts(wave.nodes)
        steps, part = np.repeat(wave.steps, self.num_fragments), sent.event * self.num_fragments + sent.fragment
        parts_here = slice(here.start * self.num_fragments, here.stop * self.num_fragments)
        is_here = (sent.target >= self._nodes.start) & (sent.target < self._nodes.stop)
        users = np.bincount(part[is_here], minlength=parts.size)
        slots = self.slots.take(parts[parts_here], steps[parts_here], users[parts_here] + 1)
        self._sent(nodes, slots)
        self.sent_step[nodes] = wave.steps[here]
        if placement.world_size == 1:
            return slots, WavePlan((), ()), slots[:0]
        users[parts_here] = 0
        others = np.flatnonzero(users)
        arriving = self.slots.take(parts[others], steps[others], users[others])
        senders = parts[others] // self.num_fragments
        receives = by_peer(placement.rank_of(senders), senders, others)
        leaves = (part >= parts_here.start) & (part < parts_here.stop) & ~is_here
        peers = placement.rank_of(sent.target[leaves])
        crossing = np.unique(peers * parts.size + part[leaves])
        peers, rows = np.divmod(crossing, max(parts.size, 1))
        sends = by_peer(peers, parts[rows] // self.num_fragments, rows - parts_here.start)
        return slots, WavePlan(tuple(sends), tuple(receives)), arriving

    def _index(self, slots: IntArray) -> Tensor:
        return upload(slots, self._network.device)


def _grown(rows: Tensor, capacity: int) -> Tensor:
    """The rows with room for ``capacity`` of them; the new ones are 0."""
    if len(rows) == capacity:
        return rows
    grown = zeros_as(rows, capacity)
    grown[: len(rows)] = rows
    return grown
