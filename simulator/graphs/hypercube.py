"""The hypercube.

Definition: M = 2^L; node i is joined to the L nodes whose number differs from i in one binary digit. Metropolis
weights, 1/(1 + L) each. Doubly stochastic, undirected, static; spectral gap 2/(1 + L).
Sends: log2 M messages per node and round.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: none.
"""

import numpy as np

from simulator.graphs.support import Support, undirected_support
from simulator.graphs.undirected import UndirectedGraph


class Hypercube(UndirectedGraph):
    """Neighbours differ in one binary digit; see the base class for the arguments.

    Raises:
        ValueError: when ``num_nodes`` is no power of two, or an argument is out of range.
    """

    def __init__(self, *, num_nodes: int, weights: str = "metropolis", gamma: float = 0.95, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        if num_nodes & (num_nodes - 1):
            raise ValueError(f"graph.num_nodes={num_nodes}: a hypercube has 1, 2, 4, 8, ... nodes, a power of two")

    def support(self) -> Support:
        """Makes the M (1 + L) pairs."""
        nodes = np.arange(self.num_nodes, dtype=np.int64)
        flips = 1 << np.arange(self.num_nodes.bit_length() - 1, dtype=np.int64)
        return undirected_support(np.repeat(nodes, len(flips)), (nodes[:, None] ^ flips).ravel(), self.num_nodes)
