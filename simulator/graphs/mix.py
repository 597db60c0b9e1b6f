"""A complete graph with heavy self-loops.

Definition: W = rho J + (1 - rho) I with J = 11'/M, on the complete graph. All eigenvalues but one equal 1 - rho. Doubly
stochastic, undirected, static; spectral gap rho.
Sends: M - 1 messages per node and round.
Source: the artificial adversarial topologies of Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import complete_support


class Mix(PeriodicGraph):
    """The complete graph, slowed down.

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
        """Makes all M * M entries."""
        source, target = complete_support(self.num_nodes)
        weight = np.full(len(source), self.gap / self.num_nodes)
        weight[source == target] += 1.0 - self.gap
        return Edges.from_sorted(source, target, weight)
