"""The Erdos-Renyi random graph: every pair of nodes is joined with the same probability.

Definition: each unordered pair is an edge with probability p, independently; drawn anew, at most 1000 times, until the
graph is connected, and then kept, or drawn anew in every round (redraw=true). The weights are Metropolis's or another
symmetric rule's. Doubly stochastic, undirected, static or random.
Sends: p (M - 1) messages per node and round on average.
Source: Erdos and Renyi, 1959; with weights=fmmc the static undirected network of Terashita and Hara, arXiv 2210.02129.
Departures: there a draw is also rejected when a fastest-mixing weight lies below 0.01/M, which happens to every draw
at M = 100; here such weights are raised to that value (see :func:`simulator.graphs.weights.fastest_mixing`).
"""

import numpy as np

from simulator.graphs.random_graph import RandomGraph
from simulator.graphs.support import Support, advice_on_gnp, draw_gnp


class ErdosRenyi(RandomGraph):
    """A connected draw of G(num_nodes, probability).

    Args:
        probability: of each edge, in (0, 1].
        redraw, weights, gamma: as in the base classes.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when no draw is connected.
    """

    stream = "graph/erdos_renyi"

    def __init__(
        self,
        *,
        num_nodes: int,
        probability: float,
        redraw: bool = False,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, redraw=redraw, weights=weights, gamma=gamma, seed=seed)
        if not 0 < probability <= 1:
            raise ValueError(f"graph.probability={probability}: an edge probability lies in (0, 1]")
        self.probability = probability

    @property
    def advice(self) -> str:
        """The edge probability that is needed."""
        return advice_on_gnp(self.num_nodes, self.probability)

    def draw(self, rng: np.random.Generator) -> Support:
        """Draws the edges."""
        return draw_gnp(rng, self.num_nodes, self.probability)
