"""Rows of variable length that stand one after the other in one array."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def concatenate_ranges(starts: IntArray, counts: IntArray) -> IntArray:
    """The integers starts[0], ..., starts[0] + counts[0] - 1, starts[1], ..., as one array."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if ends.size else 0
    return np.repeat(starts - ends + counts, counts) + np.arange(total, dtype=np.int64)


def firsts_of(counts: IntArray) -> IntArray:
    """Where each row begins, and the length of all at the end, for rows of these lengths; shape [n + 1]."""
    firsts = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=firsts[1:])
    return firsts
