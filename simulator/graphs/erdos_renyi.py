"""A static random graph G(n, p).

Definition: each unordered pair is an edge with probability p, independently; drawn anew, at most 1000 times, until the
graph is connected, and then kept. The weights are Metropolis's or another symmetric rule's. Doubly stochastic,
undirected, static.
Sends: p (M - 1) messages per node and round on average.
Source: Erdos and Renyi, 1959; with weights=fmmc the static undirected network of Terashita and Hara, arXiv 2210.02129.
Departures: there a draw is also rejected when a fastest-mixing weight lies below 0.01/M, which happens to every draw
at M = 100; here such weights are raised to that value (see :func:`simulator.graphs.weights.fastest_mixing`).
"""

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import draw_connected_support
from simulator.graphs.weights import SYMMETRIC_RULES


class ErdosRenyi(PeriodicGraph):
    """A connected draw of G(num_nodes, probability).

    Args:
        probability: of each edge, in (0, 1].
        weights: name of a symmetric weight rule: metropolis, lazy_metropolis, max_degree or fmmc.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when no draw is connected.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, probability: float, weights: str = "metropolis", seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if not 0 < probability <= 1:
            raise ValueError(f"graph.probability={probability}: an edge probability lies in (0, 1]")
        if weights not in SYMMETRIC_RULES:
            raise ValueError(f"graph.weights={weights!r}: the rules are {', '.join(SYMMETRIC_RULES)}")
        self.probability = probability
        self.weights = weights

    def build(self, phase: int) -> Edges:
        """Draws the graph."""
        source, target = draw_connected_support(self.num_nodes, self.probability, self.seed, "graph/erdos_renyi")
        return Edges.from_sorted(source, target, SYMMETRIC_RULES[self.weights](source, target, self.num_nodes))
