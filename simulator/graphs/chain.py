"""The chain: nodes in a row.

Definition: node i is joined to i + 1, without wrapping round. Metropolis weights: 1/3 on every edge, self-weights 1/3
inside and 2/3 at the two ends (two nodes: 1/2 everywhere). Doubly stochastic, undirected, static; spectral gap
(2/3) (1 - cos(pi / M)).
Sends: 2 messages per node and round, 1 at an end.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: none.
"""

import numpy as np

from simulator.graphs.support import Support, undirected_support
from simulator.graphs.undirected import UndirectedGraph


class Chain(UndirectedGraph):
    """Node i is joined to i + 1; see the base class for the arguments."""

    def support(self) -> Support:
        """Makes the 3M - 2 pairs."""
        nodes = np.arange(self.num_nodes - 1, dtype=np.int64)
        return undirected_support(nodes, nodes + 1, self.num_nodes)
