"""Asynchronous events as waves: lists of events none of which depends on another one of the same wave.

The events of a run are totally ordered by (end time, node). That order is what the algorithm means; the waves are an
order that gives the same result and computes many events at once. Events between two barriers are partitioned greedily:
the first wave has every event that depends on no other one, the next wave every event that depends on the first only,
and so on. A run may put barriers where it likes (evaluations, checkpoints, its end): they change the partition, but
neither the events nor what an event depends on.

Windows: the events are made window by window of simulated time, and a window ends with a barrier, so memory is bounded
whatever the length of the run. Windows follow from the configuration and the events before them, so a schedule that is
restored makes the same windows.

Shapes: n events of a wave or a window, sorted by node within a wave.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Wave:
    """Events that are computed at once, at most one of a node.

    Attributes:
        nodes: the node of every event, ascending, [n].
        steps: its local step k, [n].
        starts_s, ends_s: simulated time at which the event begins and ends, seconds, [n].
    """

    nodes: IntArray
    steps: IntArray
    starts_s: FloatArray
    ends_s: FloatArray


WaveT = TypeVar("WaveT", bound=Wave)


class Window(ABC, Generic[WaveT]):
    """The events that end in a window of simulated time, in the order of (end time, node).

    Attributes:
        nodes, steps, starts_s, ends_s: as in :class:`Wave`, [n].
        horizon_s: all events of the window end before this time, all later events do not.
    """

    nodes: IntArray
    steps: IntArray
    starts_s: FloatArray
    ends_s: FloatArray
    horizon_s: float

    @abstractmethod
    def levels(self, begin: int, stop: int) -> IntArray:
        """The wave, from 0, of events ``begin`` to ``stop`` - 1 if a barrier stands before the first; shape [n]."""

    @abstractmethod
    def gather(self, order: IntArray, firsts: IntArray) -> Iterator[WaveT]:
        """The waves that have events order[firsts[w]], ..., order[firsts[w + 1] - 1]."""

    @abstractmethod
    def after(self) -> dict[str, Any]:
        """Where the next window begins: numbers and arrays."""


class WaveSchedule(ABC, Generic[WaveT]):
    """Hands out the waves of a run one after the other.

    Attributes:
        num_done: events that were handed out before the last barrier.
    """

    def __init__(self) -> None:
        self.num_done = 0
        self._position: dict[str, Any] = {}
        self._taken = 0
        self._window: Window[WaveT] | None = None

    @abstractmethod
    def open_window(self, position: dict[str, Any]) -> Window[WaveT]:
        """The window that begins at ``position``, with arrays or lists of their entries; empty for the first one."""

    def waves(self, *, until_events: int | None = None, until_s: float | None = None) -> Iterator[WaveT]:
        """Yields the waves up to a barrier; a further call goes on behind it.

        The barrier stands behind the first ``until_events`` events of the run in the order of (end time, node), or
        behind all that end at or before ``until_s``, whichever comes first. Waves must be taken to the end before
        anything else is asked of the schedule: its position moves to the barrier then.

        Args:
            until_events: events of the whole run, counted from its beginning.
            until_s: simulated seconds from the beginning.
        """
        assert until_events is not None or until_s is not None
        while until_events is None or self.num_done < until_events:
            if self._window is None:
                self._window = self.open_window(self._position)
            window, begin = self._window, self._taken
            stop = window.ends_s.size
            if until_events is not None:
                stop = min(stop, begin + until_events - self.num_done)
            if until_s is not None:
                stop = max(begin, min(stop, int(np.searchsorted(window.ends_s, until_s, side="right"))))
            if stop > begin:
                levels = window.levels(begin, stop)
                # Sorted by node within a wave: rows of a process stand together.
                order = np.lexsort((window.nodes[begin:stop], levels)) + begin
                firsts = np.concatenate([[0], np.cumsum(np.bincount(levels))])
                yield from window.gather(order, firsts)
            self.num_done += stop - begin
            self._taken = stop
            if stop < window.ends_s.size:
                return
            if until_s is not None and window.horizon_s > until_s:
                return
            self._position, self._taken, self._window = window.after(), 0, None

    def state_dict(self) -> dict[str, Any]:
        """The position at the last barrier, as plain numbers and lists for a checkpoint."""
        position = {key: x.tolist() if isinstance(x, np.ndarray) else x for key, x in self._position.items()}
        return {"num_done": self.num_done, "taken": self._taken, "position": position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from :meth:`state_dict` of a schedule of the same configuration."""
        self.num_done = int(state["num_done"])
        self._taken = int(state["taken"])
        self._position = dict(state["position"])
        self._window = None
