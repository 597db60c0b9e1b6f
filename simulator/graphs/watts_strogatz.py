"""The Watts-Strogatz small-world graph.

Definition: every node is joined to the d nearest of a ring, d/2 on each side; then every edge is rewired with
probability p: one of its ends moves to a node drawn uniformly from those that are not joined yet. Drawn anew, at most
1000 times, until the graph is connected, and then kept, or drawn anew in every round (redraw=true). On d + 1 nodes or
fewer it is the complete graph. Metropolis weights. Doubly stochastic, undirected, static or random.
Sends: d messages per node and round on average.
Source: Watts and Strogatz, "Collective dynamics of small-world networks", Nature 1998, by networkx.
Departures: none.
"""

import numpy as np

from simulator.graphs.random_graph import RandomGraph
from simulator.graphs.support import Support, complete_support, numbered_pairs, undirected_support


class WattsStrogatz(RandomGraph):
    """A connected draw of a small world.

    Args:
        degree: neighbours of every node before rewiring, even, at least 2.
        probability: that an edge is rewired, in [0, 1].
        redraw, weights, gamma: as in the base classes.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when no draw is connected.
    """

    stream = "graph/watts_strogatz"

    def __init__(
        self,
        *,
        num_nodes: int,
        degree: int = 4,
        probability: float = 0.1,
        redraw: bool = False,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, redraw=redraw, weights=weights, gamma=gamma, seed=seed)
        if degree < 2 or degree % 2:
            raise ValueError(f"graph.degree={degree}: an even number of neighbours, 2 or more, is needed")
        if not 0 <= probability <= 1:
            raise ValueError(f"graph.probability={probability}: a probability lies in [0, 1]")
        self.degree = degree
        self.probability = probability

    @property
    def advice(self) -> str:
        """More edges, or fewer rewired ones."""
        return f"a degree above {self.degree} or a probability below {self.probability} is needed"

    def draw(self, rng: np.random.Generator) -> Support:
        """Draws the edges."""
        if self.degree >= self.num_nodes - 1:
            return complete_support(self.num_nodes)
        # Imported here: it takes a third of a second.
        import networkx

        seed = int(rng.integers(2**32))
        graph = networkx.watts_strogatz_graph(self.num_nodes, self.degree, self.probability, seed=seed)
        return undirected_support(*numbered_pairs(graph), self.num_nodes)
