"""No communication: every node trains alone.

Definition: only self-loops; W = I. Doubly stochastic, undirected, static; declared not to mix.
Sends: nothing.
Source: the "local" baseline of Terashita and Hara, arXiv 2210.02129.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph


class SelfLoop(PeriodicGraph):
    """Isolated nodes, W = I."""

    directed = False
    stochasticity = "double"
    mixes = False

    def build(self, phase: int) -> Edges:
        """Makes the M self-loops."""
        nodes = np.arange(self.num_nodes, dtype=np.int64)
        return Edges.from_sorted(nodes, nodes.copy(), np.ones(self.num_nodes))
