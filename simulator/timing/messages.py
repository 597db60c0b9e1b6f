"""The schedule of asynchronous algorithms that send messages: who finishes when, and what has arrived by then.

Nodes never wait. Event (i, k) is local step k of node i; it begins when (i, k - 1) ends and ends at
E_i(k) = E_i(k - 1) + compute_s(i, k). At its end node i sends a message along every edge of W_k that leaves it; when
each arrives is the model of :mod:`simulator.timing.links`. Every message is taken in by one event of its target, the
first one that can, or by none before the run ends. Two rules (``takes_in``):

* ``end``: event (i, k) takes in what has arrived before its end. A message that arrives at E_i(k) exactly is not there
  yet. So what was sent by an event that ends at the same time is not there either, also with zero latency.
* ``start``: event (i, k) takes in what has arrived when it begins, at E_i(k - 1) or before. A message that arrives at
  this time exactly is there. So what was sent by an event that ends when (i, k) begins is there, with zero latency and
  no limits.

With equal constant durations, zero latency and no limits both rules give event (i, k) the messages of all (j, k - 1)
and no other: the synchronous rounds. ``start`` suits algorithms that compute with what they have taken in; ``end``
those that compute with what they had and mix afterwards. No rule refers to the order of two events that end at the same
time; where events must be put in order, as at barriers, the smaller node comes first.

Event (i, k) depends on (i, k - 1) and on the senders of what it takes in; all of them end before it.

Events may cut what they send into fragments and send each to targets of its own (:mod:`simulator.timing.fragments`):
then several messages go along an edge, and those that have not begun to leave when the next event of their node ends
may be dropped.

A node whose messages take its uplink, or its neighbours' downlinks, longer than its steps gets further behind with
every step: messages in flight and their age grow without limit then, as they would on such a network.

Shapes: M nodes, n events, m messages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from simulator.timing.base import Timing
from simulator.timing.downlink import order_by_node
from simulator.timing.letters import Letters, land, load_letters, search_in_rows, send, take_in
from simulator.timing.levels import message_levels
from simulator.timing.local_steps import LocalClocks, LocalSteps, window_size
from simulator.timing.ranges import concatenate_ranges, firsts_of
from simulator.timing.rounds import Rounds
from simulator.timing.waves import Wave, WaveSchedule, Window

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TakesIn = Literal["start", "end"]

_MAX_EVENTS = 32_768
_MAX_MESSAGES = 262_144


@dataclass(frozen=True, eq=False, slots=True)
class TakenMessages:
    """Messages that the events of a wave take in, in the order of (event, arrival, source).

    Attributes:
        event: row of the event in the wave, [m].
        source, step: the event (j, k) that sent the message, [m].
        fragment: which part of the row of its event the message carries, [m].
        weight: W_k[i, j] of its round, [m].
        sent_s, arrived_s: when it was sent and arrived, seconds, [m].
        age_steps: how many later events of j end before the event that takes the message in ends, [m].
    """

    event: IntArray
    source: IntArray
    step: IntArray
    fragment: IntArray
    weight: FloatArray
    sent_s: FloatArray
    arrived_s: FloatArray
    age_steps: IntArray


@dataclass(frozen=True, eq=False, slots=True)
class SentMessages:
    """Messages that the events of a wave send, in the order in which they leave.

    A message is known everywhere by (source, step of its event, fragment, target).

    Attributes:
        event: row of the event in the wave, [m].
        target: shape [m].
        fragment: which part of the row of its event the message carries, [m].
        weight: W_k[target, source], [m].
    """

    event: IntArray
    target: IntArray
    fragment: IntArray
    weight: FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class MessageWave(Wave):
    """Events with their messages.

    Attributes:
        own_weight: W_k[i, i] of every event, [n].
        taken: what the events take in.
        sent: what they send at their end.
    """

    own_weight: FloatArray
    taken: TakenMessages
    sent: SentMessages

    @property
    def age_s(self) -> FloatArray:
        """Age of what is taken in, from when it was sent to the end of the event, seconds, [m]."""
        ages: FloatArray = self.ends_s[self.taken.event] - self.taken.sent_s
        return ages


class MessageSchedule(WaveSchedule[MessageWave]):
    """The waves of an asynchronous algorithm whose events send messages.

    Args:
        timing: durations of steps and messages.
        rounds: event (i, k) sends along the edges of round k that leave i.
        takes_in: which messages an event takes in, see the module.
        window_events: most events that are made at once, about; default: as many as take some ten megabytes.

    Raises:
        ValueError: when a step takes no time; from the first wave, for later steps.
    """

    def __init__(
        self,
        timing: Timing,
        rounds: Rounds,
        *,
        takes_in: TakesIn = "end",
        window_events: int | None = None,
    ) -> None:
        super().__init__()
        self.takes_in = takes_in
        self.num_nodes = timing.num_nodes
        self.rounds = rounds
        self._clocks = LocalClocks(timing.compute_s, needs_starts=timing.needs_starts)
        self._max_events = window_events or max(self.num_nodes, min(_MAX_EVENTS, int(_MAX_MESSAGES / rounds.degree)))
        start = _Position.load({}, self.num_nodes)
        self._clocks.rates(start.done, start.last_end_s)

    def open_window(self, position: dict[str, Any]) -> "Window[MessageWave]":
        """Makes the events of a window and follows all messages until its end."""
        before = _Position.load(position, self.num_nodes)
        rates = self._clocks.rates(before.done, before.last_end_s)
        horizon = before.now_s + window_size(before.done, self._max_events) / float(rates.sum())
        steps = self._clocks.until(horizon, before.done, before.last_end_s, rates)
        done, last_end = before.after(steps)
        next_end = None
        if self.rounds.discards_unsent:
            next_end = np.append(steps.ends_s[1:], np.inf)
            ended = np.flatnonzero(np.diff(steps.first))
            next_end[steps.first[ended + 1] - 1] = self._clocks.next_ends(done, last_end)[ended]
        return _MessageWindow(self, before, horizon, steps, next_end)

    def at_hand(self) -> Letters:
        """Messages that were sent before the last barrier, that no event before it takes in, and that are there.

        A message is there when it has arrived by the end of its target's last event before the barrier: with
        ``takes_in=start``, the event in progress computes with it. Sorted by (target, source, step, fragment).
        """
        if self._window is None:
            now = _Position.load(self._position, self.num_nodes)
            letters = now.waiting[now.waiting["at_s"] <= now.last_end_s[now.waiting["target"]]]
        else:
            assert isinstance(self._window, _MessageWindow)
            letters = self._window.at_hand(self._taken)
        there: Letters = letters[
            np.lexsort((letters["fragment"], letters["step"], letters["source"], letters["target"]))
        ]
        return there

    def overload(self) -> str:
        """Says which node's messages take its uplink or downlink longer than its steps; empty if none."""
        nodes = np.arange(self.num_nodes)
        first = np.zeros(self.num_nodes, dtype=np.int64)
        table, row = self.rounds.stack(nodes, first)
        step_s = 1.0 / self._clocks.rates(first, np.zeros(self.num_nodes))
        incoming_s = np.bincount(
            table.target, self.rounds.downlink_s[table.fragment, table.target], minlength=self.num_nodes
        )
        uplink = () if self.rounds.discards_unsent else (("uplink", table.busy_s[row]),)
        for name, busy_s in (*uplink, ("downlink", incoming_s)):
            worst = int(np.argmax(busy_s / step_s))
            if busy_s[worst] > step_s[worst]:
                return (
                    f"the messages of a step occupy the {name} of node {worst} for {busy_s[worst]:.3g} s, longer than "
                    f"its steps of {step_s[worst]:.3g} s: they will come later and later"
                )
        return ""


@dataclass(frozen=True, eq=False)
class _Position:
    """Between two windows.

    Attributes:
        now_s: all events that end before this have been made.
        done, last_end_s: finished events of every node and when the last ended, [M].
        uplink_free_s, downlink_free_s: when the links of every node are through with what they have, [M].
        travelling: messages that would be complete at now_s or later.
        waiting: messages that have had their turn at the downlink, and that no event has taken in.
    """

    now_s: float
    done: IntArray
    last_end_s: FloatArray
    uplink_free_s: FloatArray
    downlink_free_s: FloatArray
    travelling: Letters
    waiting: Letters

    @classmethod
    def load(cls, position: dict[str, Any], num_nodes: int) -> "_Position":
        """From what :meth:`dump` made, or the beginning if it is empty."""

        def numbers(key: str, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
            return np.asarray(position[key], dtype=dtype) if key in position else np.zeros(num_nodes, dtype=dtype)

        return cls(
            float(position.get("now_s", 0.0)),
            numbers("done", np.int64),
            numbers("last_end_s"),
            numbers("uplink_free_s"),
            numbers("downlink_free_s"),
            load_letters(position.get("travelling", [])),
            load_letters(position.get("waiting", [])),
        )

    def after(self, events: LocalSteps) -> tuple[IntArray, FloatArray]:
        """``done`` and ``last_end_s`` after these events."""
        counts, last_end = np.diff(events.first), self.last_end_s.copy()
        ended = np.flatnonzero(counts)
        last_end[ended] = events.ends_s[events.first[ended + 1] - 1]
        return self.done + counts, last_end

    def dump(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class _MessageWindow(Window[MessageWave]):
    """A window of a :class:`MessageSchedule`."""

    def __init__(
        self,
        schedule: MessageSchedule,
        before: _Position,
        horizon_s: float,
        events: LocalSteps,
        next_end_s: FloatArray | None,
    ) -> None:
        self.horizon_s = horizon_s
        table, row = schedule.rounds.stack(events.nodes, events.steps)
        by_time = np.lexsort((events.nodes, events.ends_s))
        self.nodes, self.steps = events.nodes[by_time], events.steps[by_time]
        self.starts_s, self.ends_s = events.starts_s[by_time], events.ends_s[by_time]
        self._num_nodes = schedule.num_nodes
        self._table, self._row = table, row[by_time]

        sent, self._num_sent, uplink_free = send(events, by_time, table, row, before.uplink_free_s, next_end_s)
        # Messages stay where they are, and indices are sorted.
        letters = np.concatenate([before.waiting, before.travelling, sent])
        waiting, travelling = np.split(np.arange(letters.size), [before.waiting.size])
        landed, travelling, downlink_free = land(
            letters, travelling, horizon_s, schedule.rounds.downlink_s, before.downlink_free_s
        )
        taken, taker, waiting = take_in(events, letters, np.concatenate([waiting, landed]), schedule.takes_in)
        self._after = _Position(
            horizon_s,
            *before.after(events),
            uplink_free,
            downlink_free,
            letters[travelling],
            letters[waiting],
        )
        self._letters = letters
        self._last_end_s = before.last_end_s
        earlier = np.full(letters.size - sent.size, -1)
        position = np.arange(by_time.size)
        self._sent_by = np.concatenate([earlier, np.repeat(position, self._num_sent)])
        self._put_in_order(events, by_time, before.done, taken, taker)

    def _put_in_order(
        self, events: LocalSteps, by_time: IntArray, done: IntArray, taken: IntArray, taker: IntArray
    ) -> None:
        """Puts what is taken in into the order of time: event e has the entries first[e], ..., first[e + 1] - 1."""
        source = self._letters["source"][taken]
        first_step = self._letters["step"][taken] - done[source]
        by_source = order_by_node(source)
        ended = search_in_rows(
            events.ends_s, events.first, source[by_source], events.ends_s[taker[by_source]], right=False
        )
        sender = events.first[source] + first_step
        age = np.empty_like(sender)
        age[by_source] = ended - 1
        age -= sender
        position = np.empty_like(by_time)
        position[by_time] = np.arange(by_time.size)
        # An event of an earlier window has a negative step when steps are counted from those of this window.
        sender = np.where(first_step >= 0, position[np.where(first_step >= 0, sender, 0)], -1)
        counts = np.bincount(taker, minlength=events.nodes.size)
        order = concatenate_ranges(firsts_of(counts)[by_time], counts[by_time])
        self._taken_first = firsts_of(counts[by_time])
        self._taken_by = np.full(self._letters.size, by_time.size)
        self._taken_by[taken] = position[taker]
        self._taken, self._age, self._sender = taken[order], age[order], sender[order]

    def at_hand(self, stop: int) -> Letters:
        """See :meth:`MessageSchedule.at_hand`, with a barrier before event ``stop``."""
        last_end = self._last_end_s.copy()
        last_end[self.nodes[:stop]] = self.ends_s[:stop]
        # Messages that have not had their turn at the downlink are complete at the horizon or later.
        is_there = self._letters["at_s"] <= last_end[self._letters["target"]]
        letters: Letters = self._letters[is_there & (self._sent_by < stop) & (self._taken_by >= stop)]
        return letters

    def levels(self, begin: int, stop: int) -> IntArray:
        """See the base class."""
        first = self._taken_first[begin : stop + 1]
        sender = self._sender[first[0] : first[-1]] - begin
        return message_levels(self.nodes[begin:stop], np.diff(first), sender, self._num_nodes)

    def gather(self, order: IntArray, firsts: IntArray) -> Iterator[MessageWave]:
        """See the base class."""
        table, row = self._table, self._row[order]
        nodes, steps, starts, ends = self.nodes[order], self.steps[order], self.starts_s[order], self.ends_s[order]
        own_weight = table.own_weight[row]
        events = np.arange(order.size)
        wave_of = np.repeat(np.arange(firsts.size - 1), np.diff(firsts))
        local = events - firsts[wave_of]

        counts = self._taken_first[order + 1] - self._taken_first[order]
        taken_at = firsts_of(counts)[firsts].tolist()
        index = concatenate_ranges(self._taken_first[order], counts)
        taken, age, taken_event = self._letters[self._taken[index]], self._age[index], np.repeat(local, counts)
        source, step, fragment = (np.ascontiguousarray(taken[name]) for name in ("source", "step", "fragment"))
        weight = np.ascontiguousarray(taken["weight"])
        sent_s, arrived_s = np.ascontiguousarray(taken["sent_s"]), np.ascontiguousarray(taken["at_s"])

        counts = self._num_sent[order]
        sent_at = firsts_of(counts)[firsts].tolist()
        edge = concatenate_ranges(table.first[row], counts)
        target, part, sent_event = table.target[edge], table.fragment[edge], np.repeat(local, counts)
        sent_weight = table.weight[edge]

        at = firsts.tolist()
        for wave in range(len(at) - 1):
            e, t, s = (slice(x[wave], x[wave + 1]) for x in (at, taken_at, sent_at))
            yield MessageWave(
                nodes[e],
                steps[e],
                starts[e],
                ends[e],
                own_weight[e],
                TakenMessages(
                    taken_event[t], source[t], step[t], fragment[t], weight[t], sent_s[t], arrived_s[t], age[t]
                ),
                SentMessages(sent_event[s], target[s], part[s], sent_weight[s]),
            )

    def after(self) -> dict[str, Any]:
        """See the base class."""
        return self._after.dump()
