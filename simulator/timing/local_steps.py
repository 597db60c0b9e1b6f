"""When the local steps of nodes that never wait end: E_i(k) = E_i(k - 1) + duration of (i, k), with E_i(-1) = 0.

Steps are made window by window of simulated time, so that any number of them takes bounded memory. Sums are taken in
the order of the steps, so the times do not depend on the windows.

Shapes: M nodes, n events of a window.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.timing.ranges import concatenate_ranges, firsts_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Durations = Callable[[IntArray, IntArray, FloatArray], FloatArray]
"""Seconds of events (nodes, steps, starts_s), shape [n] each; starts are zeros where durations do not need them."""

_NUM_PROBED = 4
_FIRST_EVENTS = 1024


def window_size(done: IntArray, most: int) -> int:
    """Events of the next window, about: as many as there were before, so that a short run makes few in vain.

    Args:
        done: finished events of every node, [M].
        most: an upper bound.
    """
    return min(most, max(_FIRST_EVENTS, 2 * done.size, int(done.sum())))


@dataclass(frozen=True, eq=False)
class LocalSteps:
    """The events that end in one window, sorted by (node, step).

    Attributes:
        nodes, steps: shape [n].
        starts_s, ends_s: when the event begins and ends, shape [n].
        first: where the events of every node begin, and n at the end, shape [M + 1].
    """

    nodes: IntArray
    steps: IntArray
    starts_s: FloatArray
    ends_s: FloatArray
    first: IntArray


class LocalClocks:
    """Makes the events of windows of simulated time.

    Args:
        durations: of events.
        needs_starts: whether durations depend on when an event begins.

    Raises:
        ValueError: from the first window with a duration that is not positive.
    """

    def __init__(self, durations: Durations, *, needs_starts: bool) -> None:
        self._durations = durations
        self._needs_starts = needs_starts

    def rates(self, done: IntArray, last_end_s: FloatArray) -> FloatArray:
        """Events per second of every node over its next few events, [M]: an estimate of how many a window has.

        Args:
            done: finished events of every node, [M].
            last_end_s: when the last of them ended, 0 if there is none, [M].
        """
        nodes = np.arange(done.size)
        _, ends = self._generate(nodes, done, last_end_s, np.full(done.size, _NUM_PROBED))
        rates: FloatArray = _NUM_PROBED / (ends[_NUM_PROBED - 1 :: _NUM_PROBED] - last_end_s)
        return rates

    def next_ends(self, done: IntArray, last_end_s: FloatArray) -> FloatArray:
        """When the next event of every node ends, [M]; arguments as in :meth:`rates`."""
        return self._generate(np.arange(done.size), done, last_end_s, np.ones(done.size, dtype=np.int64))[1]

    def until(self, horizon_s: float, done: IntArray, last_end_s: FloatArray, rates: FloatArray) -> LocalSteps:
        """All further events that end before ``horizon_s``; arguments as in :meth:`rates`."""
        parts: list[tuple[IntArray, IntArray, FloatArray]] = []
        nodes, next_step, end = np.arange(done.size), done, last_end_s
        while nodes.size:
            counts = np.ceil(np.maximum(horizon_s - end, 0.0) * rates[nodes] * 1.05).astype(np.int64) + 2
            steps, ends = self._generate(nodes, next_step, end, counts)
            inside = ends < horizon_s
            parts.append((np.repeat(nodes, counts)[inside], steps[inside], ends[inside]))
            last = firsts_of(counts)[1:] - 1
            short = inside[last]
            nodes, next_step, end = nodes[short], steps[last[short]] + 1, ends[last[short]]
        of_nodes, steps, ends = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(of_nodes, kind="stable")
        of_nodes, steps, ends = of_nodes[order], steps[order], ends[order]
        first = firsts_of(np.bincount(of_nodes, minlength=done.size))
        starts = np.empty_like(ends)
        starts[1:] = ends[:-1]
        begins = first[:-1][np.diff(first) > 0]
        starts[begins] = last_end_s[of_nodes[begins]]
        return LocalSteps(of_nodes, steps, starts, ends, first)

    def _generate(
        self, nodes: IntArray, next_step: IntArray, end: FloatArray, counts: IntArray
    ) -> tuple[IntArray, FloatArray]:
        """Steps and end times of the next ``counts`` events of every node, node after node."""
        steps = concatenate_ranges(next_step, counts)
        first = firsts_of(counts)
        if not self._needs_starts:
            ends = self._checked(np.repeat(nodes, counts), steps, np.zeros(steps.size))
            ends[first[:-1]] += end
            for begin, stop in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
                np.add.accumulate(ends[begin:stop], out=ends[begin:stop])
            return steps, ends
        ends = np.empty(steps.size)
        now = end.copy()
        for turn in range(int(counts.max())):
            active = np.flatnonzero(counts > turn)
            at = first[active] + turn
            now[active] += self._checked(nodes[active], steps[at], now[active])
            ends[at] = now[active]
        return steps, ends

    def _checked(self, nodes: IntArray, steps: IntArray, starts: FloatArray) -> FloatArray:
        durations = self._durations(nodes, steps, starts)
        if not durations.min() > 0:
            worst = int(np.argmin(durations))
            raise ValueError(
                f"timing: local step {steps[worst]} of node {nodes[worst]} takes {durations[worst]:g} s; asynchronous "
                "algorithms need steps that take some time"
            )
        return durations
