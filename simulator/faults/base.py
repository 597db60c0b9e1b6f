"""What the faults share: a graph schedule some of whose edges are down in a round, and where their weights go.

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
from functools import cached_property

import numpy as np

from simulator.arrays import BoolArray
from simulator.checks import require_within
from simulator.graphs.base import Edges, Graph, Stochasticity
from simulator.graphs.symmetry import has_symmetric_weights


def beneath_faults(graph: Graph) -> Graph:
    """The schedule when nothing fails."""
    return beneath_faults(graph.graph) if isinstance(graph, FaultyGraph) else graph


class FaultyGraph(Graph):
    """A schedule on top of another one, minus the edges that are down.

    Args:
        graph: the schedule when nothing fails.
        probability: of a fault, in [0, 1).
        seed: keys the faults, with the step.

    Raises:
        ValueError: when ``probability`` is out of range.
    """

    def __init__(self, *, graph: Graph, probability: float, seed: int = 0) -> None:
        super().__init__(num_nodes=graph.num_nodes, seed=seed)
        require_within("faults.probability", probability, "[0, 1)")
        self.graph = graph
        self.parts = (graph,)
        self.probability = probability
        self.mixes = graph.mixes

    @property
    def description(self) -> str:
        """The schedule beneath and the fault."""
        return f"{self.graph.description} with {type(self).__name__}"

    @property
    def period(self) -> None:
        """Rounds fail independently: there is no period."""
        return None

    @property
    def stochasticity(self) -> Stochasticity:
        """That of the schedule beneath, but "column" for doubly stochastic weights that are not symmetric."""
        declared = self.graph.stochasticity
        return "column" if declared == "double" and not self.is_symmetric else declared

    @cached_property
    def is_symmetric(self) -> bool:
        """Whether the weights beneath are the same in both directions."""
        return has_symmetric_weights(self.graph)

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
