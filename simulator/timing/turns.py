"""Waiting for one's turn: what an uplink and a downlink have in common."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_MAX_PASSES = 16


def take_turns(earliest: FloatArray, gap: FloatArray, is_first: npt.NDArray[np.bool_]) -> FloatArray:
    """Solves t_n = max(earliest_n, t_(n-1) + gap_n) within every queue; entries of a queue stand one after the other.

    Args:
        earliest: the time of every entry if nothing came before it, shape [E].
        gap: the least distance to the entry before, shape [E].
        is_first: where a queue begins, shape [E]; there t_n = earliest_n.

    Returns:
        t, shape [E]: exactly what the recursion gives entry by entry, whatever else stands in the arrays.
    """
    times = earliest.copy()
    late = np.flatnonzero((times[1:] < times[:-1] + gap[1:]) & ~is_first[1:]) + 1
    # Few wait for one that waits itself: a pass moves all that are late, and only those behind them may be late then.
    for _ in range(_MAX_PASSES):
        if late.size == 0:
            return times
        times[late] = times[late - 1] + gap[late]
        behind = late + 1
        behind = behind[behind < times.size]
        behind = behind[~is_first[behind]]
        late = behind[times[behind] < times[behind - 1] + gap[behind]]
    return _one_by_one(earliest, gap, is_first)


def _one_by_one(earliest: FloatArray, gap: FloatArray, is_first: npt.NDArray[np.bool_]) -> FloatArray:
    """The recursion as it stands, for long queues."""
    times = []
    time = 0.0
    for ready, least, first in zip(earliest.tolist(), gap.tolist(), is_first.tolist(), strict=True):
        turn = time + least
        time = ready if first or ready > turn else turn
        times.append(time)
    return np.array(times)
