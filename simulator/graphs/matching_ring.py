"""The ring, one of its two perfect matchings per round.

Definition: M even; in even rounds the pairs (0, 1), (2, 3), ... meet, in odd rounds (1, 2), ..., (M - 1, 0); both
nodes of a pair take 2/3 of the other and keep 1/3. Period 2, undirected, doubly stochastic.
Sends: 1 message per node and round.
Source: the time-varying ring in the published code of Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: none.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.pairs import edges_of_pairs

_TAKEN = 2.0 / 3.0


class MatchingRing(PeriodicGraph):
    """Every node meets its successor and its predecessor in turn.

    Raises:
        ValueError: when the number of nodes is odd.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if num_nodes % 2:
            raise ValueError(f"graph.num_nodes={num_nodes}: a ring of matchings has an even number of nodes")

    @property
    def period(self) -> int:
        """Two matchings."""
        return 2

    def build(self, phase: int) -> Edges:
        """Makes the 2M entries of one round."""
        first = np.arange(phase, self.num_nodes, 2, dtype=np.int64)
        return edges_of_pairs((first, (first + 1) % self.num_nodes, np.full(len(first), _TAKEN)), self.num_nodes)
