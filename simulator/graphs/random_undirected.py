"""A random undirected graph that is drawn anew in every round.

Definition: a rate R ~ U(rate_low, rate_high) is drawn once for every unordered pair of the base graph G(M, p); in
every round the pair is joined, in both directions, if u <= R with a fresh u ~ U[0, 1), independently; every node keeps
its self-loop. weights=out_degree: W_t[i, j] = 1 / (number of nodes that hear j, itself included), column-stochastic
(push-sum); weights=metropolis: doubly stochastic. Undirected.
Sends: mean rate * M messages per node and round on average.
Source: the random undirected network of Terashita and Hara, arXiv 2210.02129, and its published code
(github.com/hitachi-rd-cv/pdbo-hgp), with weights=out_degree.
Departures: draws are keyed by (seed, step) instead of taken from a global generator; rates are float64, there float32;
weights=metropolis is added.
"""

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Stochasticity
from simulator.graphs.random_rates import RandomRates
from simulator.graphs.weights import WeightRule, metropolis, out_degree


class RandomUndirected(RandomRates):
    """Every unordered pair is up or down on its own; see the base class for the other arguments.

    Args:
        weights: out_degree (column-stochastic) or metropolis (doubly stochastic).

    Raises:
        ValueError: when an argument is out of range.
    """

    directed = False
    rules: ClassVar[Mapping[str, tuple[WeightRule, Stochasticity]]] = MappingProxyType(
        {"out_degree": (out_degree, "column"), "metropolis": (metropolis, "double")}
    )

    def __init__(
        self,
        *,
        num_nodes: int,
        rate_low: float,
        rate_high: float,
        base_probability: float = 1.0,
        weights: str = "out_degree",
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_nodes=num_nodes, rate_low=rate_low, rate_high=rate_high, base_probability=base_probability, seed=seed
        )
        if weights not in self.rules:
            raise ValueError(f"graph.weights={weights!r}: the rules are {', '.join(self.rules)}")
        self.weights = weights

    @property
    def stochasticity(self) -> Stochasticity:
        """Depends on the weights."""
        return self.rules[self.weights][1]

    @property
    def weight_rule(self) -> WeightRule:
        """The rule that ``weights`` names."""
        return self.rules[self.weights][0]

    @cached_property
    def _pairs(self) -> tuple[int, IntArray]:
        """How many unordered pairs there are, and the one that each entry of the base graph belongs to, shape [E]."""
        source, target = self.base
        keys = np.maximum(source, target) * self.num_nodes + np.minimum(source, target)
        distinct, pair = np.unique(keys, return_inverse=True)
        return len(distinct), pair

    @property
    def draw_of(self) -> IntArray:
        """Both directions of a pair share a draw."""
        return self._pairs[1]

    @property
    def num_draws(self) -> int:
        """One per unordered pair."""
        return self._pairs[0]
