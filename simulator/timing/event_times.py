"""What a run of asynchronous events takes in simulated time, and how old what they take in is.

Staleness of a message that an event of node i takes in: how many later local steps its sender has ended by the end of
the event. Staleness of a meeting: how often others have touched the node since it took the snapshot that it computes
with. 0 is what synchronous rounds have.

Shapes: M nodes, n events of a wave.
"""

import numpy as np
import numpy.typing as npt

from simulator.timing.node_times import NodeTimes
from simulator.timing.timeline import COMPUTING, NUM_NODES, NUM_ROUNDS, SENDING

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class EventTimes(NodeTimes):
    """The times of all nodes, the same on every process; the counterpart of :class:`simulator.timing.clocks.Clocks`.

    Args:
        num_nodes: M.

    Attributes:
        now_s: when every node's last event ended, seconds, [M].
        idle_s: how much of it the node has spent on messages instead of computing, seconds, [M].
        num_steps: local steps that every node has ended, [M].
        staleness_counts: how many messages or meetings had staleness 0, 1, 2, ...
    """

    def __init__(self, num_nodes: int) -> None:
        super().__init__(num_nodes)
        self.num_steps = np.zeros(num_nodes, dtype=np.int64)
        self.staleness_counts = np.zeros(1, dtype=np.int64)
        self._spans: list[tuple[str, int, float, float]] = []
        self._shown_s = np.inf
        self._barrier_s = 0.0

    @property
    def sim_s(self) -> float:
        """The time of the last barrier: what ended by then is done, and nothing later, seconds."""
        return self._barrier_s

    @property
    def spans(self) -> list[tuple[str, int, float, float]]:
        """What the first 16 nodes did until one had ended 24 local steps, as in :mod:`simulator.timing.timeline`."""
        shown_s = self._shown_s
        return [(what, i, begin, min(end, shown_s)) for what, i, begin, end in self._spans if begin < shown_s]

    @property
    def staleness_mean(self) -> float:
        """Mean staleness so far; 0 before anything was taken in."""
        total = int(self.staleness_counts.sum())
        return float(self.staleness_counts @ np.arange(self.staleness_counts.size)) / total if total else 0.0

    @property
    def staleness_max(self) -> int:
        """Largest staleness so far."""
        found = np.flatnonzero(self.staleness_counts)
        return int(found[-1]) if found.size else 0

    def summary(self) -> dict[str, list[float]]:
        """All counts as plain lists."""
        return {name: getattr(self, name).tolist() for name in ("now_s", "idle_s", "num_steps", "staleness_counts")}

    def add(
        self,
        nodes: IntArray,
        starts_s: FloatArray,
        ends_s: FloatArray,
        staleness: IntArray,
        exchange_s: FloatArray | float,
    ) -> None:
        """Adds the events of a wave.

        Args:
            nodes, starts_s, ends_s: as in :class:`simulator.timing.waves.Wave`, [n].
            staleness: of the messages that they take in, [m], or of the meetings, [n].
            exchange_s: the part of every event that is not computing, at its end, [n].
        """
        if nodes.size == 0:
            return
        self.now_s[nodes] = ends_s
        self.idle_s[nodes] += exchange_s
        self._barrier_s = max(self._barrier_s, float(ends_s.max()))
        counts = np.bincount(staleness, minlength=self.staleness_counts.size)
        counts[: self.staleness_counts.size] += self.staleness_counts
        self.staleness_counts = counts
        shown = np.flatnonzero((nodes < NUM_NODES) & (self.num_steps[nodes] < NUM_ROUNDS))
        self.num_steps[nodes] += 1
        full = ends_s[(nodes < NUM_NODES) & (self.num_steps[nodes] == NUM_ROUNDS)]
        self._shown_s = min(self._shown_s, float(full.min(initial=np.inf)))
        exchange = np.broadcast_to(exchange_s, nodes.shape)
        for event in shown.tolist():
            node, end = int(nodes[event]), float(ends_s[event])
            computed = end - float(exchange[event])
            self._spans.append((COMPUTING, node, float(starts_s[event]), computed))
            if computed < end:
                self._spans.append((SENDING, node, computed, end))

    def reach(self, barrier_s: float) -> None:
        """Says that all events until ``barrier_s`` are done, seconds."""
        self._barrier_s = max(self._barrier_s, barrier_s)
