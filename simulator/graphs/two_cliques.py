"""Two cliques that are joined by one edge.

Definition: nodes 0, ..., h - 1 with h = floor(M / 2) are all joined to each other, nodes h, ..., M - 1 as well, and
node 0 is joined to node h. Metropolis weights. Doubly stochastic, undirected, static; the spectral gap is of the order
1/M^2.
Sends: about M/2 messages per node and round.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022: a tiny gap and yet good training.
Departures: none.
"""

import numpy as np

from simulator.graphs.support import Support, complete_support, undirected_support
from simulator.graphs.undirected import UndirectedGraph


class TwoCliques(UndirectedGraph):
    """Each half complete, and the bridge 0 - floor(M / 2); see the base class for the arguments."""

    def support(self) -> Support:
        """Makes the about M * M / 2 pairs."""
        half = self.num_nodes // 2
        first, second = complete_support(half), complete_support(self.num_nodes - half)
        bridge = np.array([[0], [half]])
        source, target = np.concatenate([np.array(first), np.array(second) + half, bridge], axis=1)
        return undirected_support(source, target, self.num_nodes)
