"""One hub, node 0, and leaves that hear nobody else.

Definition: node 0 is joined to every other node; Metropolis weights: 1/M on every edge, self-weights 1/M of the hub
and 1 - 1/M of a leaf. Doubly stochastic, undirected, static; spectral gap 1/M.
Sends: M - 1 messages per round from the hub, 1 from a leaf.
Source: Vogels, Hendrikx and Jaggi, NeurIPS 2022.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import undirected_support
from simulator.graphs.weights import metropolis


class Star(PeriodicGraph):
    """Node 0 in the middle."""

    directed = False
    stochasticity = "double"

    def build(self, phase: int) -> Edges:
        """Makes the 3M - 2 entries."""
        leaves = np.arange(1, self.num_nodes, dtype=np.int64)
        source, target = undirected_support(np.zeros_like(leaves), leaves, self.num_nodes)
        return Edges.from_sorted(source, target, metropolis(source, target, self.num_nodes))
