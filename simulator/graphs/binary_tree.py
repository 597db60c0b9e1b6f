"""The binary tree in heap order, with one more node above its root.

Definition: node k is joined to floor(k / 2), for k = 1, ..., M - 1. So node 1 is the root, with the children 2 and 3,
and node 0 hangs on the root alone; no node has more than three neighbours. mirrored=true numbers the nodes backwards:
what is said of node k then holds for node M - 1 - k, so that most inner nodes of one tree are leaves of the other.
Metropolis weights. Doubly stochastic, undirected, static.
Sends: 2 (M - 1) messages per round, at most 3 from one node.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, and its published code.
Departures: none. To mix the two halves of the parameters on the two trees takes two graphs in one round; not offered.
"""

import numpy as np

from simulator.graphs.support import Support, undirected_support
from simulator.graphs.undirected import UndirectedGraph


class BinaryTree(UndirectedGraph):
    """Node k is joined to floor(k / 2).

    Args:
        mirrored: whether the nodes are numbered backwards.
        weights, gamma: as in the base class.
    """

    def __init__(
        self,
        *,
        num_nodes: int,
        mirrored: bool = False,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        self.mirrored = mirrored

    def support(self) -> Support:
        """Makes the 3M - 2 pairs."""
        nodes = np.arange(1, self.num_nodes, dtype=np.int64)
        parents = nodes // 2
        if self.mirrored:
            nodes, parents = self.num_nodes - 1 - nodes, self.num_nodes - 1 - parents
        return undirected_support(parents, nodes, self.num_nodes)
