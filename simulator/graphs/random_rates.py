"""What the random schedules share: a base graph whose edges fail independently, each at its own rate, every round."""

from abc import abstractmethod
from functools import cached_property

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.base import Edges, Graph
from simulator.graphs.support import Support, draw_connected_support
from simulator.graphs.weights import WeightRule
from simulator.randomness import generator, uniforms


class RandomRates(Graph):
    """Draws the base graph and the rates once, and which edges are up in every round.

    The draws of a round are keyed by (seed, step), so a round costs the same however far into the run it is.

    Args:
        rate_low, rate_high: the rates are uniform on [rate_low, rate_high], within [0, 1].
        base_probability: of an edge of the base graph G(M, p), redrawn until connected; 1 is the complete graph.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when no draw of the base graph is connected.
    """

    def __init__(
        self, *, num_nodes: int, rate_low: float, rate_high: float, base_probability: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if not 0 <= rate_low <= rate_high <= 1 or rate_high == 0:
            raise ValueError(
                f"graph.rate_low={rate_low}, graph.rate_high={rate_high}: rates lie in [0, 1], low at most high, "
                "and high above 0"
            )
        if not 0 < base_probability <= 1:
            raise ValueError(f"graph.base_probability={base_probability}: an edge probability lies in (0, 1]")
        self.rate_low = rate_low
        self.rate_high = rate_high
        self.base_probability = base_probability
        self._copied: dict[int, tuple[IntArray, IntArray, IntArray]] = {}

    @property
    def period(self) -> None:
        """Rounds are independent: there is no period."""
        return None

    @property
    @abstractmethod
    def weight_rule(self) -> WeightRule:
        """How the edges that are up are weighted."""

    @abstractmethod
    def up_probabilities(self) -> FloatArray:
        """The rate of every entry of the base graph in its order, shape [E]; 1 for self-loops."""

    @abstractmethod
    def draws(self, step: int | IntArray) -> FloatArray:
        """The uniform that every entry of the base graph compares with its rate in round ``step``, shape [E].

        Rounds of shape [K] give [K, E].
        """

    @cached_property
    def base(self) -> Support:
        """The pairs that are ever joined, in the form of :mod:`simulator.graphs.support`."""
        return draw_connected_support(self.num_nodes, self.base_probability, self.seed, "graph/base")

    @cached_property
    def rates(self) -> FloatArray:
        """:meth:`up_probabilities`, drawn once."""
        rates = self.up_probabilities()
        rates[self.base[0] == self.base[1]] = 1.0
        return rates

    def edges(self, step: int) -> Edges:
        """The edges that are up in round ``step``, and all self-loops."""
        source, target = self.base
        up = self.draws(step) <= self.rates
        source, target = source[up], target[up]
        return Edges.from_sorted(source, target, self.weight_rule(source, target, self.num_nodes))

    def side_by_side(self, steps: IntArray) -> Edges:
        """All rounds drawn at once; the weight rules look at neighbours only, so copies do not disturb each other."""
        copies = len(steps)
        if copies not in self._copied:
            source, target = (np.add.outer(nodes * copies, np.arange(copies)).ravel() for nodes in self.base)
            self._copied[copies] = np.lexsort((source, target)), source, target
        order, source, target = self._copied[copies]
        up = order[(self.draws(steps) <= self.rates).T.ravel()[order]]
        source, target = source[up], target[up]
        return Edges.from_sorted(source, target, self.weight_rule(source, target, self.num_nodes * copies))

    def draw_rates(self, count: int) -> FloatArray:
        """Draws ``count`` rates; always the same ones."""
        return generator(self.seed, "graph/rates").uniform(self.rate_low, self.rate_high, count)

    def draw_round(self, step: int | IntArray, count: int) -> FloatArray:
        """Draws ``count`` uniforms of round ``step``, or of each of several rounds."""
        return uniforms(self.seed, "graph/edges", 0, step, count)
