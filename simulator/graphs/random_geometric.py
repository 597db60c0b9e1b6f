"""The random geometric graph: nodes that are close to each other are joined.

Definition: every node has a place, uniform in the unit square; two are joined if they are at most ``radius`` apart.
Drawn anew, at most 1000 times, until the graph is connected, and then kept, or drawn anew in every round (redraw=true).
The default radius is sqrt(2 ln(M) / (pi M)), at which a node has about 2 ln(M) neighbours. Metropolis weights. Doubly
stochastic, undirected, static or random.
Sends: about pi radius^2 M messages per node and round, fewer at the border.
Source: Gilbert, "Random plane networks", 1961; Penrose, "Random geometric graphs", 2003.
Departures: none.
"""

import math

import numpy as np

from simulator.graphs.random_graph import RandomGraph
from simulator.graphs.support import Support, undirected_support


class RandomGeometric(RandomGraph):
    """A connected draw of places in the unit square.

    Args:
        radius: largest distance of two that are joined, above 0; None: sqrt(2 ln(M) / (pi M)).
        redraw, weights, gamma: as in the base classes.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when no draw is connected.
    """

    stream = "graph/random_geometric"

    def __init__(
        self,
        *,
        num_nodes: int,
        radius: float | None = None,
        redraw: bool = False,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, redraw=redraw, weights=weights, gamma=gamma, seed=seed)
        if radius is not None and radius <= 0:
            raise ValueError(f"graph.radius={radius}: a distance above 0 is needed")
        self.radius = math.sqrt(2 * math.log(num_nodes) / (math.pi * num_nodes)) if radius is None else radius

    @property
    def advice(self) -> str:
        """A larger radius, above the one at which roughly half of the draws are connected."""
        threshold = math.sqrt(math.log(self.num_nodes) / (math.pi * self.num_nodes))
        return f"a radius above sqrt(ln(n)/(pi n)) = {threshold:.3g} is needed, not {self.radius:.3g}"

    def draw(self, rng: np.random.Generator) -> Support:
        """Draws the places."""
        # Imported here because most runs never need it.
        from scipy.spatial import KDTree

        places = rng.random((self.num_nodes, 2))
        pairs = KDTree(places).query_pairs(self.radius, output_type="ndarray")
        return undirected_support(pairs[:, 0], pairs[:, 1], self.num_nodes)
