"""Nodes by the number of others that they hear in a round, so that all nodes with as many are computed at once."""

from collections.abc import Iterator

import numpy as np

from simulator.arrays import IntArray


def neighbourhoods(target: IntArray, nodes: range) -> Iterator[tuple[IntArray, IntArray]]:
    """The messages of every local node, by their number n.

    Args:
        target: the node that hears each message, global indices, ascending, [E].
        nodes: the local nodes.

    Yields:
        The positions [g] among ``nodes`` of those that hear n others, and the positions [g, n] of their messages.
    """
    counts = np.bincount(target - nodes.start, minlength=len(nodes))
    starts = np.cumsum(counts) - counts
    for count in np.unique(counts):
        which = np.flatnonzero(counts == count)
        yield which, starts[which, None] + np.arange(count)
