"""What the random schedules share: a base graph whose edges fail independently, each at its own rate, every round."""

from abc import abstractmethod
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.base import Edges, Graph
from simulator.graphs.dense_edges import DENSE_RULES, MIN_DENSITY, MIN_NODES
from simulator.graphs.support import Support, draw_connected_support
from simulator.graphs.weights import WeightRule
from simulator.randomness import are_at_most, generator, random_bits, thresholds

_STREAM = "graph/edges"


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

    @property
    @abstractmethod
    def draw_of(self) -> IntArray | None:
        """Which draw of a round decides about each entry of the base graph, [E]; None where each has its own."""

    @property
    @abstractmethod
    def num_draws(self) -> int:
        """Draws of a round, R."""

    @cached_property
    def base(self) -> Support:
        """The pairs that are ever joined, in the form of :mod:`simulator.graphs.support`."""
        return draw_connected_support(self.num_nodes, self.base_probability, self.seed, "graph/base")

    @cached_property
    def rates(self) -> FloatArray:
        """The probability that each entry of the base graph is up, [E]; 1 for self-loops."""
        return self._rates if self.draw_of is None else self._rates[self.draw_of]

    @cached_property
    def _rates(self) -> FloatArray:
        """The rate of every draw, [R]; always the same ones."""
        rates = generator(self.seed, "graph/rates").uniform(self.rate_low, self.rate_high, self.num_draws)
        loops = np.flatnonzero(self.base[0] == self.base[1])
        rates[loops if self.draw_of is None else self.draw_of[loops]] = 1.0
        return rates

    @cached_property
    def _limits(self) -> npt.NDArray[np.uint64]:
        """The largest word of 64 bits with which each draw lets its edges be up, [R]."""
        return thresholds(self._rates)

    @cached_property
    def _codes(self) -> IntArray:
        """Where the entries of the base graph stand in a matrix [M, M], [E]."""
        source, target = self.base
        return target * self.num_nodes + source

    def edges(self, step: int) -> Edges:
        """The edges that are up in round ``step``, and all self-loops."""
        source, target = self.base
        up = are_at_most(self.seed, _STREAM, step, self._limits)
        if self.draw_of is not None:
            up = up[self.draw_of]
        num_pairs = self.num_nodes**2
        is_dense = self.num_nodes >= MIN_NODES and len(source) >= MIN_DENSITY * num_pairs
        if is_dense and self.weight_rule in DENSE_RULES:
            if len(source) < num_pairs:
                joined = np.zeros(num_pairs, dtype=np.bool_)
                joined[self._codes] = up
                up = joined
            return DENSE_RULES[self.weight_rule](up.reshape(self.num_nodes, -1))
        source, target = source[up], target[up]
        return Edges.from_sorted(source, target, self.weight_rule(source, target, self.num_nodes))

    def side_by_side(self, steps: IntArray) -> Edges:
        """All rounds drawn at once; the weight rules look at neighbours only, so copies do not disturb each other."""
        copies = len(steps)
        if copies not in self._copied:
            source, target = (np.add.outer(nodes * copies, np.arange(copies)).ravel() for nodes in self.base)
            self._copied[copies] = np.lexsort((source, target)), source, target
        order, source, target = self._copied[copies]
        is_up = random_bits(self.seed, _STREAM, 0, steps, self.num_draws) <= self._limits
        if self.draw_of is not None:
            is_up = is_up[:, self.draw_of]
        up = order[is_up.T.ravel()[order]]
        source, target = source[up], target[up]
        return Edges.from_sorted(source, target, self.weight_rule(source, target, self.num_nodes * copies))
