"""The star: node 0 is the centre.

Definition: node 0 is joined to every other node; Metropolis weights: 1/M on every edge, self-weights 1/M of the hub
and 1 - 1/M of a leaf. Doubly stochastic, undirected, static; spectral gap 1/M.
Sends: M - 1 messages per round from the hub, 1 from a leaf.
Source: Vogels, Hendrikx and Jaggi, NeurIPS 2022.
Departures: none.
"""

import numpy as np

from simulator.graphs.support import Support, undirected_support
from simulator.graphs.undirected import UndirectedGraph


class Star(UndirectedGraph):
    """Node 0 in the middle; see the base class for the arguments."""

    def support(self) -> Support:
        """Makes the 3M - 2 pairs."""
        leaves = np.arange(1, self.num_nodes, dtype=np.int64)
        return undirected_support(np.zeros_like(leaves), leaves, self.num_nodes)
