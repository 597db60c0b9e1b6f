"""A dense mixing matrix with a single eigenvalue besides 0 and 1.

Definition: W = J + (1 - rho) v v' with J = 11'/M and v a random unit vector with entries that sum to 0. One eigenvalue
is 1 - rho, and all others but that of J are 0. Weights may be negative. Doubly stochastic, undirected, static; spectral
gap rho. A single node has no v.
Sends: M - 1 messages per node and round.
Source: the artificial nice topologies of Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: v depends on the seed; there it is always the same.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import complete_support
from simulator.graphs.weights import with_remainders
from simulator.randomness import generator


class Nice(PeriodicGraph):
    """The complete graph, slowed down in one direction.

    Args:
        gap: rho, the spectral gap, in (0, 1].

    Raises:
        ValueError: when an argument is out of range.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, gap: float = 0.5, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if not 0 < gap <= 1:
            raise ValueError(f"graph.gap={gap}: the spectral gap lies in (0, 1]")
        self.gap = gap

    def build(self, phase: int) -> Edges:
        """Draws v and makes all M * M entries."""
        source, target = complete_support(self.num_nodes)
        if self.num_nodes == 1:
            return Edges.from_sorted(source, target, np.ones(1))
        vector = generator(self.seed, "graph/nice").standard_normal(self.num_nodes)
        vector -= vector.mean()
        vector /= np.linalg.norm(vector)
        weight = 1.0 / self.num_nodes + (1.0 - self.gap) * vector[source] * vector[target]
        return Edges.from_sorted(source, target, with_remainders(source, target, weight, self.num_nodes))
