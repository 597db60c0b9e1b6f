"""The random regular graph: all nodes have the same number of neighbours.

Definition: drawn from the connected d-regular graphs, (nearly) uniformly, and then kept, or drawn anew in every round
(redraw=true). On d + 1 nodes or fewer it is the complete graph. Metropolis weights, 1/(d + 1) each. Doubly stochastic,
undirected, static or random; an expander for d >= 3 with probability near 1.
Sends: d messages per node and round.
Source: Steger and Wormald, "Generating random regular graphs quickly", 1999, by networkx.
Departures: none.
"""

import numpy as np

from simulator.graphs.random_graph import RandomGraph
from simulator.graphs.support import Support, complete_support, undirected_support


class RandomRegular(RandomGraph):
    """A connected draw of a ``degree``-regular graph.

    Args:
        degree: neighbours of every node, at least 2; degree * num_nodes is even.
        redraw, weights, gamma: as in the base classes.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when no draw is connected.
    """

    stream = "graph/random_regular"

    def __init__(
        self,
        *,
        num_nodes: int,
        degree: int = 4,
        redraw: bool = False,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, redraw=redraw, weights=weights, gamma=gamma, seed=seed)
        if degree < 2:
            raise ValueError(f"graph.degree={degree}: 2 neighbours or more keep a regular graph connected")
        if degree < num_nodes - 1 and degree * num_nodes % 2:
            raise ValueError(
                f"graph.degree={degree}: no graph of {num_nodes} nodes has {degree} neighbours at every node; "
                "one of the two numbers must be even"
            )
        self.degree = degree

    @property
    def advice(self) -> str:
        """A larger degree: 2-regular graphs are mostly several cycles, larger degrees are mostly connected."""
        return f"a degree of 3 or more is needed, not {self.degree}"

    def draw(self, rng: np.random.Generator) -> Support:
        """Draws the edges."""
        if self.degree >= self.num_nodes - 1:
            return complete_support(self.num_nodes)
        # Imported here: it takes a third of a second.
        import networkx

        # Beyond half of all pairs it is quicker to draw the pairs that are not joined.
        missing = self.num_nodes - 1 - self.degree
        drawn = min(self.degree, missing)
        graph = networkx.random_regular_graph(drawn, self.num_nodes, seed=int(rng.integers(2**32)))
        first, second = np.array(graph.edges(), dtype=np.int64).T
        if drawn == self.degree:
            return undirected_support(first, second, self.num_nodes)
        joined = np.ones((self.num_nodes, self.num_nodes), dtype=bool)
        joined[first, second] = joined[second, first] = False
        target, source = np.nonzero(joined)
        return source, target
