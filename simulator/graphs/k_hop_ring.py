"""A ring on which every node also hears the nodes up to k places away.

Definition: node i hears i - k, ..., i + k (mod M), weights 1/(2k + 1); neighbours that coincide on a small ring count
once, so that it becomes the complete graph. Doubly stochastic, undirected, static.
Sends: min(2k, M - 1) messages per node and round.
Source: a standard circulant graph; Metropolis weights, which are uniform on a regular graph.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import circulant_support
from simulator.graphs.weights import in_degree


class KHopRing(PeriodicGraph):
    """Node i hears all nodes at most ``k`` places away.

    Args:
        k: neighbours on each side, at least 1.

    Raises:
        ValueError: when k < 1.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, k: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if k < 1:
            raise ValueError(f"graph.k={k}: a node hears at least 1 neighbour on each side")
        self.k = k

    def build(self, phase: int) -> Edges:
        """Makes the M (2k + 1) entries."""
        reach = min(self.k, self.num_nodes // 2)
        source, target = circulant_support(self.num_nodes, np.arange(-reach, reach + 1))
        return Edges.from_sorted(source, target, in_degree(source, target, self.num_nodes))
