"""The undirected ring.

Definition: node i hears i - 1 and i + 1 (mod M); Metropolis weights, 1/3 each. Two nodes share one edge (weights 1/2),
one node keeps everything. Doubly stochastic, undirected, static; spectral gap 1 - (1 + 2 cos(2 pi / M)) / 3.
Sends: 2 messages per node and round.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: none.
"""

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import circulant_support
from simulator.graphs.weights import in_degree


class Ring(PeriodicGraph):
    """Node i hears i - 1 and i + 1."""

    directed = False
    stochasticity = "double"

    def build(self, phase: int) -> Edges:
        """Makes the 3M entries."""
        source, target = circulant_support(self.num_nodes, [-1, 1])
        return Edges.from_sorted(source, target, in_degree(source, target, self.num_nodes))
