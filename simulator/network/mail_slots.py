"""Where the rows of asynchronous messages stand, and how many still need them.

A row is what one event (source, step) sends; it stands once in a process, however many of its nodes take it in.

Shapes: M nodes, S slots, n entries of a call.
"""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_FREE = -1
_STEPS_APART = 8


class MailSlots:
    """Slots for rows, by (source, step).

    Args:
        num_nodes: M.

    Attributes:
        source, step: whose row stands in a slot, [S]; -1 in ``source`` for a free one.
        users: how many still need it, [S].
    """

    def __init__(self, num_nodes: int) -> None:
        self.source = np.zeros(0, dtype=np.int64)
        self.step = np.zeros(0, dtype=np.int64)
        self.users = np.zeros(0, dtype=np.int64)
        self._free: list[int] = []
        # The slot of (source, step) stands at [source, step mod columns].
        self._slot_of = np.full((num_nodes, _STEPS_APART), _FREE, dtype=np.int64)

    @property
    def capacity(self) -> int:
        """All slots, S."""
        return self.source.size

    def take(self, source: IntArray, step: IntArray, users: IntArray) -> IntArray:
        """New slots for these rows, [n]; there may be more slots afterwards."""
        missing = source.size - len(self._free)
        if missing > 0:
            self._grow(max(missing, self.capacity // 4))
        count = source.size
        slots = np.array(self._free[len(self._free) - count :], dtype=np.int64)
        del self._free[len(self._free) - count :]
        self.source[slots], self.step[slots], self.users[slots] = source, step, users
        while (self._slot_of[source, step % self._slot_of.shape[1]] != _FREE).any():
            self._widen()
        self._slot_of[source, step % self._slot_of.shape[1]] = slots
        return slots

    def find(self, source: IntArray, step: IntArray) -> IntArray:
        """The slots of rows, [n]; -1 for rows that are not there."""
        slots = self._slot_of[source, step % self._slot_of.shape[1]]
        if slots.size and self.capacity:
            slots = np.where((slots != _FREE) & (self.step[slots] == step), slots, _FREE)
        return slots

    def release(self, slots: IntArray) -> None:
        """One user of each of these rows less, [n]; a row that nobody needs frees its slot."""
        np.subtract.at(self.users, slots, 1)
        done = np.unique(slots[self.users[slots] == 0])
        self._slot_of[self.source[done], self.step[done] % self._slot_of.shape[1]] = _FREE
        self.source[done] = _FREE
        self._free += done.tolist()

    def _grow(self, further: int) -> None:
        first = self.capacity
        self.source = np.concatenate([self.source, np.full(further, _FREE)])
        self.step = np.concatenate([self.step, np.zeros(further, dtype=np.int64)])
        self.users = np.concatenate([self.users, np.zeros(further, dtype=np.int64)])
        self._free[:0] = range(first + further - 1, first - 1, -1)

    def _widen(self) -> None:
        """Twice as many columns, for rows of a source that are further apart in steps."""
        slots = self._slot_of[self._slot_of != _FREE]
        self._slot_of = np.full((self._slot_of.shape[0], 2 * self._slot_of.shape[1]), _FREE, dtype=np.int64)
        self._slot_of[self.source[slots], self.step[slots] % self._slot_of.shape[1]] = slots
