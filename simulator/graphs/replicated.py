"""Several independent runs over one schedule, side by side.

Definition: K copies of M nodes. Copy k of the nodes is connected among itself as the schedule says from round r_k on,
so W_t of all is block-diagonal with blocks W_{r_0 + t}, ..., W_{r_{K-1} + t} of the schedule; copies never hear each
other. Node i of copy k has index i * K + k, so that the copies of a node stay together. Stochastic and directed as the
schedule is; it does not mix, on purpose.
Sends: K times what the schedule sends.
Source: ours; a random schedule from rounds far apart gives independent draws of the same graph.
Departures: none.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simulator.arrays import IntArray
from simulator.graphs.base import Edges, Graph, Stochasticity


class Replicated(Graph):
    """Copies of a schedule.

    Args:
        graph: the schedule of the originals.
        first_rounds: r_k, the round that each copy starts from.
    """

    mixes = False

    def __init__(self, graph: Graph, first_rounds: Sequence[int]) -> None:
        super().__init__(num_nodes=graph.num_nodes * len(first_rounds), seed=graph.seed)
        self._graph = graph
        self._first_rounds = np.asarray(first_rounds, dtype=np.int64)
        self.max_delay = graph.max_delay

    @property
    def description(self) -> str:
        """The name of the schedule in messages and figures."""
        return f"{len(self._first_rounds)} copies of {self._graph.description}"

    @property
    def directed(self) -> bool:
        """As the schedule."""
        return self._graph.directed

    @property
    def stochasticity(self) -> Stochasticity:
        """As the schedule."""
        return self._graph.stochasticity

    @property
    def period(self) -> int | None:
        """As the schedule."""
        return self._graph.period

    def edges(self, step: int) -> Edges:
        """The entries of the block-diagonal W_step."""
        return self._graph.side_by_side(self._first_rounds + step)

    def delays(self, source: IntArray, target: IntArray, steps: npt.ArrayLike) -> IntArray:
        """As the schedule, in the round of every copy."""
        copies = len(self._first_rounds)
        rounds = self._first_rounds[source % copies] + np.asarray(steps)
        return self._graph.delays(source // copies, target // copies, rounds)
