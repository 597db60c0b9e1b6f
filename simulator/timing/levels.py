"""Waves as levels of the graph of dependencies: one more than the highest level that an event depends on.

Plain loops: the level of an event needs those of all events before it, and waves may be small.
"""

from itertools import islice

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def message_levels(nodes: IntArray, counts: IntArray, senders: IntArray, num_nodes: int) -> IntArray:
    """Levels of events that depend on their node's event before and on the senders of messages.

    Args:
        nodes: node of every event, in the order of time, [n].
        counts: messages that each event takes in, [n].
        senders: the event that sent each of them, all before its taker; negative if it is not among these, [m].
        num_nodes: M.

    Returns:
        Level of every event, from 0, [n].
    """
    is_here = senders >= 0
    if not is_here.all():
        taker = np.repeat(np.arange(counts.size), counts)
        counts = np.bincount(taker[is_here], minlength=counts.size)
        senders = senders[is_here]
    levels: list[int] = []
    next_of_node = [0] * num_nodes
    sent_by = iter(senders.tolist())
    for node, count in zip(nodes.tolist(), counts.tolist(), strict=True):
        level = next_of_node[node]
        for sender in islice(sent_by, count):
            if levels[sender] >= level:
                level = levels[sender] + 1
        levels.append(level)
        next_of_node[node] = level + 1
    return np.array(levels, dtype=np.int64)


def pair_levels(nodes: IntArray, partners: IntArray, num_nodes: int) -> IntArray:
    """Levels of events that depend on the latest event that touched one of their two nodes.

    Args:
        nodes, partners: the two nodes of every event, in the order of time, [n].
        num_nodes: M.

    Returns:
        Level of every event, from 0, [n].
    """
    levels: list[int] = []
    next_of_node = [0] * num_nodes
    for node, partner in zip(nodes.tolist(), partners.tolist(), strict=True):
        level = max(next_of_node[node], next_of_node[partner])
        levels.append(level)
        next_of_node[node] = next_of_node[partner] = level + 1
    return np.array(levels, dtype=np.int64)
