"""What the first nodes did in the first rounds: spans of computing, waiting and sending, for a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

NUM_NODES = 16
NUM_ROUNDS = 24
COMPUTING, WAITING, SENDING = "computing", "waiting", "sending"


class Timeline:
    """Spans of the first 16 nodes in the first 24 rounds, and of what is computed before the next one.

    Attributes:
        spans: (what, node, begin, end) with times in seconds, in the order in which they were added. A node sends while
            it waits or computes already.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[str, int, float, float]] = []
        self._num_rounds = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing is added any more."""
        return self._num_rounds >= NUM_ROUNDS

    def add(self, what: str, begin_s: FloatArray, end_s: FloatArray) -> None:
        """Adds a span of every node, from ``begin_s`` to ``end_s`` [M]; one without a length is left out."""
        pairs = zip(begin_s[:NUM_NODES].tolist(), end_s[:NUM_NODES].tolist(), strict=True)
        self.spans += [(what, node, begin, end) for node, (begin, end) in enumerate(pairs) if end > begin]

    def end_round(self) -> None:
        """Counts a round."""
        self._num_rounds += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain lists for a checkpoint."""
        return {"spans": [list(span) for span in self.spans], "num_rounds": self._num_rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from :meth:`state_dict`."""
        spans: Sequence[tuple[str, int, float, float]] = state["spans"]
        self.spans = [(what, node, begin, end) for what, node, begin, end in spans]
        self._num_rounds = state["num_rounds"]
