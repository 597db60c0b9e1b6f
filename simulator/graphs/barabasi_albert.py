"""The Barabasi-Albert random graph: a few nodes have very many neighbours.

Definition: first node 0 is joined to nodes 1, ..., m. Then nodes m + 1, ..., M - 1 come one after another, and each
is joined to m different nodes that are there already, drawn with probabilities proportional to their degrees. So there
are m (M - m) edges, and the graph is connected. Kept, or drawn anew in every round (redraw=true). Metropolis weights.
Doubly stochastic, undirected, static or random.
Sends: 2m (1 - m/M) messages per node and round on average; of the order m sqrt(M) from the busiest.
Source: Barabasi and Albert, "Emergence of scaling in random networks", Science 1999, by networkx.
Departures: none.
"""

import numpy as np

from simulator.graphs.random_graph import RandomGraph
from simulator.graphs.support import Support, numbered_pairs, undirected_support


class BarabasiAlbert(RandomGraph):
    """A draw of preferential attachment.

    Args:
        num_edges: m, edges that a new node brings, at least 1; M - 1 on M nodes where it is more.
        redraw, weights, gamma: as in the base classes.

    Raises:
        ValueError: when an argument is out of range.
    """

    stream = "graph/barabasi_albert"
    advice = "more edges are needed"

    def __init__(
        self,
        *,
        num_nodes: int,
        num_edges: int = 2,
        redraw: bool = False,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, redraw=redraw, weights=weights, gamma=gamma, seed=seed)
        if num_edges < 1:
            raise ValueError(f"graph.num_edges={num_edges}: a new node brings at least 1 edge")
        self.num_edges = num_edges

    def draw(self, rng: np.random.Generator) -> Support:
        """Draws the edges."""
        if self.num_nodes == 1:
            return undirected_support([], [], 1)
        # Imported here: it takes a third of a second.
        import networkx

        num_edges = min(self.num_edges, self.num_nodes - 1)
        graph = networkx.barabasi_albert_graph(self.num_nodes, num_edges, seed=int(rng.integers(2**32)))
        return undirected_support(*numbered_pairs(graph), self.num_nodes)
