"""All nodes average exactly in every round.

Definition: every ordered pair is an edge; W = J = 11'/M. Doubly stochastic, undirected, static.
Sends: M - 1 messages per node and round.
Source: the usual reference topology; Metropolis weights on the complete graph.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph


class FullyConnected(PeriodicGraph):
    """The complete graph, W = 11'/M."""

    directed = False
    stochasticity = "double"

    def build(self, phase: int) -> Edges:
        """Makes all M * M entries."""
        nodes = np.arange(self.num_nodes, dtype=np.int64)
        count = self.num_nodes**2
        return Edges.from_sorted(
            np.tile(nodes, self.num_nodes), np.repeat(nodes, self.num_nodes), np.full(count, 1.0 / self.num_nodes)
        )
