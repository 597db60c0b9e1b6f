"""Messages on their way from the end of one asynchronous event to the one that takes them in.

Shapes: M nodes, n events of a window, m messages.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from simulator.timing.downlink import downlink_order, downlink_times, order_by_node
from simulator.timing.local_steps import LocalSteps
from simulator.timing.ranges import concatenate_ranges
from simulator.timing.rounds import RoundTable
from simulator.timing.turns import take_turns

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LETTER = np.dtype(
    [
        ("source", np.int64),
        ("target", np.int64),
        ("step", np.int64),
        ("fragment", np.int64),
        ("weight", np.float64),
        ("sent_s", np.float64),
        ("at_s", np.float64),
    ]
)
"""A message. ``step`` is the local step of its source after which it was sent. ``fragment`` is the part of the source's
row that it carries. ``at_s`` is when it would be complete with the downlink to itself, and once it has had its turn
there, when it has arrived."""
Letters = npt.NDArray[np.void]


def load_letters(rows: Any) -> Letters:
    """Letters from an array of them or from lists of their entries, as a checkpoint has them."""
    if isinstance(rows, np.ndarray):
        return rows
    return np.array([tuple(row) for row in rows], dtype=LETTER)


def send(
    events: LocalSteps,
    by_time: IntArray,
    table: RoundTable,
    row: IntArray,
    uplink_free_s: FloatArray,
    next_end_s: FloatArray | None,
) -> tuple[Letters, IntArray, FloatArray]:
    """What the events of a window send: each begins when it has ended and its node's uplink has sent what came before.

    Args:
        events: of the window.
        by_time: their order by (end time, node), [n].
        table, row: edges of every event, see :meth:`Rounds.stack`.
        uplink_free_s: when the uplink of every node is through with earlier messages, [M].
        next_end_s: when the next event of every event's node ends, [n]: messages that have not begun to leave by then
            are dropped. None: nothing is dropped.

    Returns:
        The messages in the order of (event by time, edge); how many every event sends, in the order of ``by_time``,
        [n]; and ``uplink_free_s`` after them.
    """
    begins, sent, free = _turns(events, table, row, uplink_free_s)
    if next_end_s is not None:
        last = np.maximum(table.first[row + 1] - 1, 0)
        if sent.any() and (begins + table.out_s[last] >= next_end_s)[sent > 0].any():
            begins, sent, free = _turns_with_drops(events, table, row, uplink_free_s, next_end_s)
    counts = sent[by_time]
    edge, event = concatenate_ranges(table.first[row[by_time]], counts), np.repeat(by_time, counts)
    letters = np.empty(edge.size, dtype=LETTER)
    letters["source"], letters["target"] = events.nodes[event], table.target[edge]
    letters["step"], letters["sent_s"] = events.steps[event], events.ends_s[event]
    letters["fragment"], letters["weight"] = table.fragment[edge], table.weight[edge]
    letters["at_s"] = begins[event] + table.out_s[edge] + table.travel_s[edge]
    return letters, counts, free


def _turns(
    events: LocalSteps, table: RoundTable, row: IntArray, uplink_free_s: FloatArray
) -> tuple[FloatArray, IntArray, FloatArray]:
    """When the uplink begins with what every event sends, how many messages that is, and when uplinks are free then."""
    is_first = np.zeros(events.nodes.shape, dtype=np.bool_)
    active = np.flatnonzero(np.diff(events.first))
    is_first[events.first[active]] = True
    busy = table.busy_s[row]
    ready = np.where(is_first, np.maximum(events.ends_s, uplink_free_s[events.nodes]), events.ends_s)
    begins = take_turns(ready, np.concatenate([[0.0], busy[:-1]]), is_first)
    free = uplink_free_s.copy()
    last = events.first[active + 1] - 1
    free[active] = begins[last] + busy[last]
    return begins, table.first[row + 1] - table.first[row], free


def _turns_with_drops(
    events: LocalSteps, table: RoundTable, row: IntArray, uplink_free_s: FloatArray, next_end_s: FloatArray
) -> tuple[FloatArray, IntArray, FloatArray]:
    """As :func:`_turns`, without the messages whose turn would come when the node's next event has ended."""
    begins, sent, free = np.empty(row.size), np.empty(row.size, dtype=np.int64), uplink_free_s.copy()
    for event, (node, end, next_end) in enumerate(
        zip(events.nodes.tolist(), events.ends_s.tolist(), next_end_s.tolist(), strict=True)
    ):
        begin = max(end, float(free[node]))
        out = table.out_s[table.first[row[event]] : table.first[row[event] + 1]]
        turns = begin + np.concatenate([[0.0], out[:-1]])
        count = min(out.size, int(np.searchsorted(turns, next_end)))
        begins[event], sent[event] = begin, count
        if count:
            free[node] = begin + out[count - 1]
    return begins, sent, free


def land(
    letters: Letters, travelling: IntArray, horizon_s: float, downlink_s: FloatArray, downlink_free_s: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Messages at the downlinks: what is complete before the horizon cannot be overtaken by what is sent after it.

    Args:
        letters: messages; the times of those that land are set to their arrival, [m].
        travelling: indices of those that have not been at the downlink.
        horizon_s: all events that end before it have sent.
        downlink_s: how long a message occupies the downlink of every node, by fragment, [F, M].
        downlink_free_s: when the downlink of every node is through with earlier messages, [M].

    Returns:
        Indices of the messages that have arrived or will after their turn, in the order of (target, arrival); of the
        others; and ``downlink_free_s`` after them.
    """
    complete = letters["at_s"][travelling]
    is_complete = complete < horizon_s
    landed, complete = travelling[is_complete], complete[is_complete]
    source, target = letters["source"][landed], letters["target"][landed]
    order = downlink_order(source, target, complete)
    landed, target = landed[order], target[order]
    occupied = downlink_s[letters["fragment"][landed], target]
    arrival = downlink_times(target, complete[order], occupied, downlink_free_s)
    letters["at_s"][landed] = arrival
    free = downlink_free_s.copy()
    is_last = np.ones(target.shape, dtype=np.bool_)
    is_last[:-1] = target[1:] != target[:-1]
    free[target[is_last]] = arrival[is_last]
    return landed, travelling[~is_complete], free


def take_in(
    events: LocalSteps, letters: Letters, landed: IntArray, takes_in: Literal["start", "end"]
) -> tuple[IntArray, IntArray, IntArray]:
    """Which event takes in a message: the first one that ends after its arrival, or that begins then or later.

    Args:
        events: of the window.
        letters: messages, [m].
        landed: indices of those that have arrived or will after their turn; those of a target in the order of arrival.
        takes_in: the rule.

    Returns:
        Indices of the messages that are taken in by events of the window, in the order of (target, arrival); the index
        of the event of each in ``events``, ascending; and indices of the other messages, in the same order.
    """
    target = letters["target"][landed]
    order = order_by_node(target)
    landed, target = landed[order], target[order]
    limits, right = (events.ends_s, True) if takes_in == "end" else (events.starts_s, False)
    taker = search_in_rows(limits, events.first, target, letters["at_s"][landed], right=right)
    is_taken = taker < events.first[target + 1]
    return landed[is_taken], taker[is_taken], landed[~is_taken]


def search_in_rows(values: FloatArray, first: IntArray, rows: IntArray, wanted: FloatArray, *, right: bool) -> IntArray:
    """As ``searchsorted`` within rows: row r has the ascending values first[r], ..., first[r + 1] - 1.

    Args:
        rows: the row in which each is looked for, ascending, [m].
        wanted: what is looked for, [m].
        right: whether values equal to it are passed over.

    Returns:
        Index into ``values``, first[r + 1] where all of the row are smaller, [m].
    """
    found = np.empty(rows.size, dtype=np.int64)
    at = np.searchsorted(rows, np.arange(first.size)).tolist()
    bounds = first.tolist()
    side: Literal["left", "right"] = "right" if right else "left"
    for row in range(first.size - 1):
        own = slice(at[row], at[row + 1])
        if own.start < own.stop:
            found[own] = bounds[row] + values[bounds[row] : bounds[row + 1]].searchsorted(wanted[own], side)
    return found
