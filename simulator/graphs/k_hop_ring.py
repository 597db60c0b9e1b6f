"""The ring with further neighbours, up to k places away.

Definition: node i hears i - k, ..., i + k (mod M), weights 1/(2k + 1); neighbours that coincide on a small ring count
once, so that it becomes the complete graph. Doubly stochastic, undirected, static.
Sends: min(2k, M - 1) messages per node and round.
Source: a standard circulant graph; Metropolis weights, which are uniform on a regular graph.
Departures: none.
"""

import numpy as np

from simulator.graphs.support import Support, circulant_support
from simulator.graphs.undirected import UndirectedGraph


class KHopRing(UndirectedGraph):
    """Node i hears all nodes at most ``k`` places away.

    Args:
        k: neighbours on each side, at least 1.
        weights, gamma: as in the base class.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(
        self, *, num_nodes: int, k: int, weights: str = "metropolis", gamma: float = 0.95, seed: int = 0
    ) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        if k < 1:
            raise ValueError(f"graph.k={k}: a node hears at least 1 neighbour on each side")
        self.k = k

    def support(self) -> Support:
        """Makes the M (2k + 1) pairs."""
        reach = min(self.k, self.num_nodes // 2)
        return circulant_support(self.num_nodes, np.arange(-reach, reach + 1))
