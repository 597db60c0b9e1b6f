"""The d-regular tree: every inner node has d neighbours.

Definition: nodes are numbered layer by layer from the root, node 0, which has d children; every other inner node has
d - 1. The last layer ends with node M - 1, so that the last inner node may have fewer. Metropolis weights. Doubly
stochastic, undirected, static.
Sends: 2 (M - 1) messages per round, at most d from one node.
Source: the "3-tree" (d = 3) of Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, published code.
Departures: none.
"""

import numpy as np

from simulator.graphs.support import Support, undirected_support
from simulator.graphs.undirected import UndirectedGraph


class DRegularTree(UndirectedGraph):
    """A tree of inner degree ``degree``.

    Args:
        degree: neighbours of an inner node, at least 2 (a chain with node 0 in its middle).
        weights, gamma: as in the base class.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(
        self, *, num_nodes: int, degree: int = 3, weights: str = "metropolis", gamma: float = 0.95, seed: int = 0
    ) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        if degree < 2:
            raise ValueError(f"graph.degree={degree}: an inner node of a tree has at least 2 neighbours")
        self.degree = degree

    def support(self) -> Support:
        """Makes the 3M - 2 pairs."""
        nodes = np.arange(1, self.num_nodes, dtype=np.int64)
        parents = np.where(nodes <= self.degree, 0, 1 + (nodes - self.degree - 1) // (self.degree - 1))
        return undirected_support(parents, nodes, self.num_nodes)
