"""What downlinks do to messages: each takes one after the other, in the order in which they would be complete.

The model stands in :mod:`simulator.timing.links`. Shapes: M nodes, E messages.
"""

import numpy as np
import numpy.typing as npt

from simulator.timing.turns import take_turns

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_MAX_INT16 = 2**15 - 1


def order_by_node(nodes: IntArray) -> IntArray:
    """A stable order by node, [E]. NumPy sorts short integers in linear time."""
    short = nodes.astype(np.int16) if nodes.size and nodes.max() <= _MAX_INT16 else nodes
    return np.argsort(short, kind="stable")


def downlink_order(source: IntArray, target: IntArray, complete_s: FloatArray) -> IntArray:
    """The order by (target, time at which a message would be complete, source), [E]."""
    # Messages mostly come in the order of time already, which a stable sort makes use of.
    order = np.argsort(complete_s, kind="stable")
    order = order[order_by_node(target[order])]
    sources, targets, times = source[order], target[order], complete_s[order]
    is_tie = (targets[1:] == targets[:-1]) & (times[1:] == times[:-1])
    if (is_tie & (sources[1:] < sources[:-1])).any():
        return np.lexsort((source, complete_s, target))
    return order


def downlink_times(target: IntArray, complete_s: FloatArray, downlink_s: FloatArray, free_s: FloatArray) -> FloatArray:
    """When messages arrive.

    Args:
        target: of every message, in the order of :func:`downlink_order`, [E].
        complete_s: when each would be complete with the downlink to itself, [E].
        downlink_s: how long each occupies it, [E].
        free_s: when the downlink of every node is through with earlier messages, [M].

    Returns:
        Arrival times, ascending for every target, [E].
    """
    is_first = np.ones(target.shape, dtype=np.bool_)
    is_first[1:] = target[1:] != target[:-1]
    earliest = np.where(is_first, np.maximum(complete_s, free_s[target] + downlink_s), complete_s)
    return take_turns(earliest, downlink_s, is_first)
