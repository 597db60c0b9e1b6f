"""The de Bruijn graph.

Definition: node i sends to k i + r (mod M) for r = 0, ..., k - 1, weights 1/k; messages from i to the same node are
merged and their weights added up. A message to the node itself is its self-loop; most nodes have none. Doubly
stochastic, directed (except for the smallest M), static. W^m = J as soon as M divides k^m; otherwise W^m goes to J
geometrically.
Sends: at most k messages per node and round.
Source: Imase and Itoh, 1981, for any M; Delvenne, Carli and Zampieri, "Optimal strategies in the average consensus
problem", 2009, for averaging.
Departures: none.
"""

from functools import cached_property

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.symmetry import is_symmetric


class DeBruijn(PeriodicGraph):
    """Node i sends to the ``degree`` nodes from degree * i on.

    Args:
        degree: k, at least 2.

    Raises:
        ValueError: when an argument is out of range.
    """

    stochasticity = "double"

    def __init__(self, *, num_nodes: int, degree: int = 2, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if degree < 2:
            raise ValueError(f"graph.degree={degree}: a node sends to at least 2")
        self.degree = degree

    @cached_property
    def _is_directed(self) -> bool:
        return not is_symmetric(self.edges(0))

    @property
    def directed(self) -> bool:
        """False only for very small M, where all nodes hear the nodes that they send to."""
        return self._is_directed

    def build(self, phase: int) -> Edges:
        """Makes the at most k M entries."""
        nodes = np.arange(self.num_nodes, dtype=np.int64)
        targets = (self.degree * nodes[:, None] + np.arange(self.degree, dtype=np.int64)) % self.num_nodes
        keys, counts = np.unique(targets * self.num_nodes + nodes[:, None], return_counts=True)
        target, source = np.divmod(keys, self.num_nodes)
        return Edges.from_sorted(source, target, counts / self.degree)
