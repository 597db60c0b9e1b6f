"""A random matching that is drawn anew in every round.

Definition: a uniformly random perfect matching; both nodes of a pair average, weights 1/2. With an odd number of
nodes one, uniformly random, is left alone. Undirected, doubly stochastic; E W_t = I/2 + (11' - I) / (2 (M - 1)) for
even M, and (M + 1)/(2M) on and 1/(2M) off the diagonal for odd M.
Sends: 1 message per node and round (none for a node that is left alone).
Source: random gossip of Boyd, Ghosh, Prabhakar and Shah, "Randomized gossip algorithms", IEEE TIT 2006.
Departures: there one pair meets at a time; here all nodes do at once.
"""

import numpy as np

from simulator.graphs.base import Edges, Graph
from simulator.graphs.pairs import edges_of_pairs
from simulator.randomness import generator


class RandomMatching(Graph):
    """Disjoint random pairs."""

    directed = False
    stochasticity = "double"

    @property
    def period(self) -> None:
        """Rounds are independent: there is no period."""
        return None

    def edges(self, step: int) -> Edges:
        """Pairs up the nodes in a random order."""
        order = generator(self.seed, "graph/random_matching", step=step).permutation(self.num_nodes)
        first, second = order[: self.num_nodes // 2], order[self.num_nodes // 2 : self.num_nodes // 2 * 2]
        return edges_of_pairs((first, second, np.full(len(first), 0.5)), self.num_nodes)
