"""MATCHA: random matchings of a base graph, the important ones more often.

Definition: the base's edges are decomposed into m matchings with Laplacians L_1, ..., L_m, m at most its largest
degree + 1. In round t matching j is on if u < p_j with a fresh u ~ U[0, 1), independently: B_j = 1, else 0;
W_t = I - alpha sum_j B_j L_j.

    p      maximises lambda_2(sum_j p_j L_j) over 0 <= p_j <= 1, sum_j p_j <= budget * m
    alpha  minimises rho(E W_t'W_t - J),  E W_t'W_t = I - 2 alpha S + alpha^2 (S^2 + 2 sum_j p_j (1 - p_j) L_j),
           S = sum_j p_j L_j

Undirected, doubly stochastic. A node's own weight may be negative where several of its matchings are on.
Sends: sum_j p_j messages per node and round on average (fewer where a matching leaves the node out).
Source: Wang, Sahu, Yang, Joshi and Kar, "MATCHA: speeding up decentralized SGD via matching decomposition sampling",
ICC 2019 (arXiv 1905.09435).
Departures: p is found by an interior-point method of its own instead of a general convex solver.
"""

from functools import cached_property

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.checks import require_within
from simulator.graphs.base import Edges, Graph
from simulator.graphs.edge_colouring import matchings
from simulator.graphs.matching_probabilities import Laplacians, best_alpha, best_probabilities
from simulator.graphs.pairs import edges_of_pairs, joined
from simulator.graphs.support import count_components
from simulator.randomness import uniforms


class Matcha(Graph):
    """Matchings of a base graph that are on at random.

    Args:
        base: a connected, static and undirected graph; its weights are not used.
        budget: of the matchings that are on at once, the expected share, in (0, 1].

    Raises:
        ValueError: when ``budget`` is out of range; from ``edges``, when the base is not static, undirected
            and connected.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, base: Graph, budget: float, seed: int = 0) -> None:
        super().__init__(num_nodes=base.num_nodes, seed=seed)
        require_within("graph.budget", budget, "(0, 1]")
        self.base = base
        self.budget = budget
        self.parts = (base,)

    @property
    def description(self) -> str:
        """The schedule and its base."""
        return f"Matcha over {self.base.description}"

    @property
    def period(self) -> None:
        """Rounds are independent: there is no period."""
        return None

    @cached_property
    def matchings(self) -> list[tuple[IntArray, IntArray]]:
        """The decomposition: both nodes of every pair of every matching."""
        if self.base.directed or self.base.period != 1:
            raise ValueError(f"graph.base: MATCHA needs a static undirected graph, and {self.base.description} is not")
        edges = self.base.edges(0)
        if count_components((edges.source, edges.target), self.num_nodes)[0] > 1:
            raise ValueError(f"graph.base: MATCHA needs a connected graph, and {self.base.description} is not")
        upper = edges.source < edges.target
        return matchings(edges.source[upper], edges.target[upper], self.num_nodes)

    @cached_property
    def probabilities(self) -> FloatArray:
        """p, shape [m]."""
        return best_probabilities(Laplacians(self.matchings, self.num_nodes), self.budget)

    @cached_property
    def alpha(self) -> float:
        """The weight of an edge that is on."""
        return best_alpha(self.probabilities, Laplacians(self.matchings, self.num_nodes))

    def edges(self, step: int) -> Edges:
        """The matchings that are on in round ``step``."""
        if self.num_nodes == 1:
            return edges_of_pairs(joined([]), 1)
        draws = uniforms(self.seed, "graph/matcha", np.arange(len(self.matchings)), step, 1)[:, 0]
        active = [pairs for pairs, on in zip(self.matchings, draws < self.probabilities, strict=True) if on]
        pairs = joined([(first, second, np.full(len(first), self.alpha)) for first, second in active])
        return edges_of_pairs(pairs, self.num_nodes)
