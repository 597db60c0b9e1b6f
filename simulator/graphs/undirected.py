"""What undirected graphs share: edges that the graph names, and weights that a rule puts on them."""

from abc import abstractmethod
from functools import cached_property

from simulator.graphs.base import Edges, Graph
from simulator.graphs.support import Support
from simulator.graphs.weight_rules import symmetric_rule


class UndirectedGraph(Graph):
    """A static undirected graph, doubly stochastic.

    Args:
        weights: name of a weight rule, see :func:`simulator.graphs.weight_rules.symmetric_rule`.
        gamma: of the rule nw_optimal, in (0, 1); other rules do not use it.

    Raises:
        ValueError: when an argument is out of range.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, weights: str = "metropolis", gamma: float = 0.95, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        self.weights = weights
        self.gamma = gamma
        self.rule = symmetric_rule(weights, num_nodes, gamma)

    @abstractmethod
    def support(self) -> Support:
        """Makes the pairs that are joined, in the form of :mod:`simulator.graphs.support`."""

    def weigh(self, support: Support) -> Edges:
        """The entries of W on a support, by the rule."""
        source, target = support
        return Edges.from_sorted(source, target, self.rule(source, target, self.num_nodes))

    @cached_property
    def _edges(self) -> Edges:
        return self.weigh(self.support())

    def edges(self, step: int) -> Edges:
        """The entries of W; the same object in every round."""
        return self._edges
