"""Schedules some of whose edges are down in a round, and where their weights go.

A share that cannot be delivered stays where the sums of W_t need it:
    column-stochastic W       with the sender (W[j, j] grows), so the columns still sum to 1: push-sum mass is conserved
    row-stochastic W          with the receiver (W[i, i] grows), so the rows still sum to 1
    symmetric doubly stoch.   both directions of a pair are down together, so W stays symmetric and doubly stochastic
    other doubly stoch.       with the sender: what is left is column-stochastic, and is declared so

Both ends of an edge know that it is down before anything is sent: the sender keeps its share instead of sending it. So
``comm/bytes`` counts only messages that arrive. In a system where senders transmit first and learn of the loss from a
missing acknowledgement, the bytes of every edge of the graph beneath would be sent.
"""

from abc import abstractmethod

import numpy as np

from simulator.arrays import BoolArray, IntArray
from simulator.checks import require_within
from simulator.faults.base import FaultyGraph
from simulator.graphs.base import Edges, Graph, Stochasticity


class LossyGraph(FaultyGraph):
    """A schedule minus the edges that are down; see the base class for the arguments."""

    @property
    def stochasticity(self) -> Stochasticity:
        """That of the schedule beneath, but "column" for doubly stochastic weights that are not symmetric."""
        declared = self.graph.stochasticity
        return "column" if declared == "double" and not self.is_symmetric else declared

    @abstractmethod
    def is_down(self, edges: Edges, step: int) -> BoolArray:
        """Which entries of W_step fail, shape [E]; the values at self-loops are ignored."""

    def edges(self, step: int) -> Edges:
        """The entries of the schedule beneath that are not down, with the shares of the others returned."""
        whole = self.graph.edges(step)
        loops = whole.source == whole.target
        down = self.is_down(whole, step) & ~loops
        if not down.any():
            return whole
        keeper = whole.target if self.stochasticity == "row" else whole.source
        returned = loops | down
        own = np.bincount(keeper[returned], whole.weight[returned], self.num_nodes)
        nodes = np.flatnonzero(own)
        kept = ~returned
        return Edges.build(
            np.concatenate([whole.source[kept], nodes]),
            np.concatenate([whole.target[kept], nodes]),
            np.concatenate([whole.weight[kept], own[nodes]]),
        )


class LossesAtRandom(LossyGraph):
    """A schedule with one probability of a loss.

    Args:
        probability: of a loss or an outage in a round, in [0, 1).
        graph, seed: see the base class.

    Raises:
        ValueError: when ``probability`` is out of range.
    """

    def __init__(self, *, graph: Graph, probability: float, seed: int = 0) -> None:
        super().__init__(graph=graph, seed=seed)
        require_within("faults.probability", probability, "[0, 1)")
        self.probability = probability


class LossyLinks(LossyGraph):
    """A schedule that loses single messages; on a symmetric doubly stochastic one both directions of a pair together.

    The arguments are those of the base class.
    """

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
        return self.is_lost(first * self.num_nodes + second, step)

    @abstractmethod
    def is_lost(self, links: IntArray, step: int) -> BoolArray:
        """Whether the messages of ``links``, source * num_nodes + target, are lost in round ``step``; shape [E]."""
