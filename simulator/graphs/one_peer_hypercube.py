"""The one-peer hypercube: one dimension of the hypercube per round.

Definition: M = 2^L; in round t node i and node i XOR 2^(t mod L) meet, weights 1/2. Period L, undirected, doubly
stochastic; the product over a period is J exactly.
Sends: 1 message per node and round.
Source: Shi, Li, Johansson and Johansson, "Finite-time convergent gossiping", IEEE/ACM ToN 2016.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.pairs import edges_of_pairs


class OnePeerHypercube(PeriodicGraph):
    """In round t the nodes meet that differ in bit t mod L.

    Raises:
        ValueError: when the number of nodes is no power of two.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if num_nodes & (num_nodes - 1):
            raise ValueError(
                f"graph.num_nodes={num_nodes}: a hypercube has a power of two of nodes; graph=base_k averages exactly "
                "for any number"
            )

    @property
    def period(self) -> int:
        """L, and 1 for a single node."""
        return max(1, self.num_nodes.bit_length() - 1)

    def build(self, phase: int) -> Edges:
        """Makes the 2M entries of one round."""
        nodes = np.arange(self.num_nodes, dtype=np.int64)
        lower = nodes[(nodes ^ (1 << phase) > nodes) & (nodes ^ (1 << phase) < self.num_nodes)]
        return edges_of_pairs((lower, lower ^ (1 << phase), np.full(len(lower), 0.5)), self.num_nodes)
