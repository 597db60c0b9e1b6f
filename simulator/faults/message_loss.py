"""Random loss of single messages.

Definition: in round t the message j -> i is lost if u < probability with a fresh u ~ U[0, 1) for (j, i, t). On a
symmetric doubly stochastic schedule a pair draws one u, and its two messages are lost together. For the weights of
lost messages, and the stochasticity of the schedule, see :mod:`simulator.faults.base`.
Sends: the messages that are not lost; lost ones are not counted.
Source: symmetric link failures of Kar and Moura, "Distributed consensus algorithms in sensor networks with imperfect
communication", IEEE TSP 2009, and packet drops of Hadjicostis, Vaidya and Dominguez-Garcia, "Robust distributed average
consensus via exchange of running sums", IEEE TAC 2016.
Departures: the sender knows of the loss and keeps its share; in the latter, running sums make up for losses that
neither end notices.
"""

import numpy as np

from simulator.arrays import BoolArray
from simulator.faults.base import FaultyGraph
from simulator.graphs.base import Edges
from simulator.randomness import uniforms


class MessageLoss(FaultyGraph):
    """Loses messages; see the base class for the arguments."""

    @property
    def directed(self) -> bool:
        """Losses are mutual only on symmetric doubly stochastic schedules; a single node has no edge."""
        return not self._in_pairs and self.num_nodes > 1

    @property
    def _in_pairs(self) -> bool:
        return self.stochasticity == "double"

    def is_down(self, edges: Edges, step: int) -> BoolArray:
        """One draw for every directed edge, or for every pair."""
        first, second = edges.source, edges.target
        if self._in_pairs:
            first, second = np.minimum(first, second), np.maximum(first, second)
        draws = uniforms(self.seed, "fault/message", first * self.num_nodes + second, step, 1)
        down: BoolArray = draws[:, 0] < self.probability
        return down
