"""The p-peer exponential schedule: p neighbours per round, at distances that grow from round to round.

Definition: with L the smallest integer such that (p + 1)^L >= M, in round t node i sends to the nodes j (p + 1)^(t
mod L) places ahead (mod M), j = 1, ..., p; all weights 1/(p + 1). Distances that coincide modulo M count once, and a
distance of 0 not at all; all weights are then 1 / (1 + their number). Period L, doubly stochastic. The product over a
period is J exactly if M = (p + 1)^L; for other M the schedule mixes geometrically. p = 1 is the one-peer exponential
schedule.
Sends: at most p messages per node and round.
Source: Assran et al., "Stochastic gradient push", ICML 2019, and its published code.
Departures: coinciding distances are merged.
"""

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import circulant_support
from simulator.graphs.weights import in_degree


class PPeerExponential(PeriodicGraph):
    """In round t node i sends to the nodes j (p + 1)^t places ahead.

    Args:
        num_out: p, how many nodes a node sends to in a round, at least 1.

    Raises:
        ValueError: when ``num_out`` is out of range.
    """

    stochasticity = "double"

    def __init__(self, *, num_nodes: int, num_out: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if num_out < 1:
            raise ValueError(f"graph.num_out={num_out}: a node sends to at least one other node")
        self.num_out = num_out

    @property
    def directed(self) -> bool:
        """Whether some round's distances are not those of the opposite direction as well."""
        rounds = [self._distances(phase) for phase in range(self.period)]
        return any(set(ahead.tolist()) != set((-ahead % self.num_nodes).tolist()) for ahead in rounds)

    @property
    def period(self) -> int:
        """L, and 1 for a single node."""
        length, reached = 1, self.num_out + 1
        while reached < self.num_nodes:
            length, reached = length + 1, reached * (self.num_out + 1)
        return length

    def _distances(self, phase: int) -> IntArray:
        most = min(self.num_out, self.num_nodes - 1)  # further ones coincide with these: L = 1
        distances: IntArray = np.arange(1, most + 1, dtype=np.int64) * (self.num_out + 1) ** phase % self.num_nodes
        return distances

    def build(self, phase: int) -> Edges:
        """Makes the M (p + 1) entries of one round."""
        source, target = circulant_support(self.num_nodes, self._distances(phase))
        return Edges.from_sorted(source, target, in_degree(source, target, self.num_nodes))
