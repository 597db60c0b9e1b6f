"""Waiting for one's turn: what an uplink and a downlink have in common."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def take_turns(earliest: FloatArray, gap: FloatArray, is_first: npt.NDArray[np.bool_]) -> FloatArray:
    """Solves t_n = max(earliest_n, t_(n-1) + gap_n) within every queue; entries of a queue stand one after the other.

    Args:
        earliest: the time of every entry if nothing came before it, shape [E].
        gap: the least distance to the entry before, shape [E].
        is_first: where a queue begins, shape [E]; there t_n = earliest_n.

    Returns:
        t, shape [E]. Sums are taken in the order of the entries, so an entry depends only on those before it.
    """
    waits = earliest[1:] < earliest[:-1] + gap[1:]
    if not (waits & ~is_first[1:]).any():
        return earliest
    times = []
    time = 0.0
    # A plain loop: queues are long where they are few, and a loop over positions would then be slower.
    for ready, least, first in zip(earliest.tolist(), gap.tolist(), is_first.tolist(), strict=True):
        turn = time + least
        time = ready if first or ready > turn else turn
        times.append(time)
    return np.array(times)
