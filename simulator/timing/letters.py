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
        ("weight", np.float64),
        ("sent_s", np.float64),
        ("at_s", np.float64),
        ("downlink_s", np.float64),
    ]
)
"""A message. ``step`` is the local step of its source after which it was sent. ``at_s`` is when it would be complete
with the downlink to itself, and once it has had its turn there, when it has arrived."""
Letters = npt.NDArray[np.void]


def load_letters(rows: Any) -> Letters:
    """Letters from an array of them or from lists of their entries, as a checkpoint has them."""
    if isinstance(rows, np.ndarray):
        return rows
    return np.array([tuple(row) for row in rows], dtype=LETTER)


def send(
    events: LocalSteps, by_time: IntArray, table: RoundTable, row: IntArray, uplink_free_s: FloatArray
) -> tuple[Letters, FloatArray]:
    """What the events of a window send: each begins when it has ended and its node's uplink has sent what came before.

    Args:
        events: of the window.
        by_time: their order by (end time, node), [n].
        table, row: edges of every event, see :meth:`Rounds.stack`.
        uplink_free_s: when the uplink of every node is through with earlier messages, [M].

    Returns:
        The messages in the order of (event by time, target), and ``uplink_free_s`` after them.
    """
    is_first = np.zeros(events.nodes.shape, dtype=np.bool_)
    active = np.flatnonzero(np.diff(events.first))
    is_first[events.first[active]] = True
    busy = table.busy_s[row]
    ready = np.where(is_first, np.maximum(events.ends_s, uplink_free_s[events.nodes]), events.ends_s)
    begins = take_turns(ready, np.concatenate([[0.0], busy[:-1]]), is_first)
    free = uplink_free_s.copy()
    last = events.first[active + 1] - 1
    free[active] = begins[last] + busy[last]

    first = table.first[row[by_time]]
    counts = table.first[row[by_time] + 1] - first
    edge, event = concatenate_ranges(first, counts), np.repeat(by_time, counts)
    letters = np.empty(edge.size, dtype=LETTER)
    letters["source"], letters["target"] = events.nodes[event], table.target[edge]
    letters["step"], letters["sent_s"] = events.steps[event], events.ends_s[event]
    letters["weight"], letters["downlink_s"] = table.weight[edge], table.downlink_s[edge]
    letters["at_s"] = begins[event] + table.out_s[edge] + table.travel_s[edge]
    return letters, free


def land(letters: Letters, horizon_s: float, downlink_free_s: FloatArray) -> tuple[Letters, Letters, FloatArray]:
    """Messages at the downlinks: what is complete before the horizon cannot be overtaken by what is sent after it.

    Args:
        letters: those that have not been at the downlink, in any order, [m].
        horizon_s: all events that end before it have sent.
        downlink_free_s: when the downlink of every node is through with earlier messages, [M].

    Returns:
        The ones that have arrived or will after their turn, in the order of (target, arrival), with their arrival; the
        others; and ``downlink_free_s`` after them.
    """
    complete = letters["at_s"]
    is_complete = complete < horizon_s
    index = np.flatnonzero(is_complete)
    index = index[downlink_order(letters["source"][index], letters["target"][index], complete[index])]
    landed = letters[index]
    target = landed["target"]
    landed["at_s"] = downlink_times(target, landed["at_s"], landed["downlink_s"], downlink_free_s)
    free = downlink_free_s.copy()
    is_last = np.ones(target.shape, dtype=np.bool_)
    is_last[:-1] = target[1:] != target[:-1]
    free[target[is_last]] = landed["at_s"][is_last]
    return landed, letters[~is_complete], free


def take_in(
    events: LocalSteps, waiting: Letters, landed: Letters, takes_in: Literal["start", "end"]
) -> tuple[Letters, IntArray, Letters]:
    """Which event takes in a message: the first one that ends after its arrival, or that begins then or later.

    Args:
        events: of the window.
        waiting: messages from earlier windows that have arrived or will after their turn, by (target, arrival).
        landed: the new ones, in the same order. They come after those of their target that wait.
        takes_in: the rule.

    Returns:
        The messages that are taken in by events of the window, in the order of (target, arrival), the index of their
        event in ``events``, ascending, and the other messages, in the same order.
    """
    both = np.concatenate([waiting, landed])
    both = both[order_by_node(both["target"])]
    target, arrival = both["target"].copy(), both["at_s"].copy()
    limits, side = (events.ends_s, "right") if takes_in == "end" else (events.starts_s, "left")
    taker = search_in_rows(limits, events.first, target, arrival, right=side == "right")
    is_taken = taker < events.first[target + 1]
    return both[is_taken], taker[is_taken], both[~is_taken]


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
