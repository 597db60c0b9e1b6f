"""The undirected ring.

Definition: node i hears i - 1 and i + 1 (mod M); Metropolis weights, 1/3 each. Two nodes share one edge (weights 1/2),
one node keeps everything. Doubly stochastic, undirected, static; spectral gap 1 - (1 + 2 cos(2 pi / M)) / 3.
Sends: 2 messages per node and round.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: none.
"""

from simulator.graphs.support import Support, circulant_support
from simulator.graphs.undirected import UndirectedGraph


class Ring(UndirectedGraph):
    """Node i hears i - 1 and i + 1; see the base class for the arguments."""

    def support(self) -> Support:
        """Makes the 3M pairs."""
        return circulant_support(self.num_nodes, [-1, 1])
