"""Counters that can be told not to count for a while."""

from collections.abc import Iterator
from contextlib import contextmanager


class Pausable:
    """Something that counts.

    Attributes:
        is_paused: whether nothing is counted at the moment.
    """

    is_paused: bool = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Counts nothing inside the block."""
        previous, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = previous
