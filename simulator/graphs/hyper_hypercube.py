"""The hyper-hypercube: an exact average over a period, for numbers of nodes with small prime factors only.

Definition: M = f_1 f_2 ... f_L with as few factors as possible, none above k + 1; the nodes' indices are read as L
digits, digit l below f_l. In round l the nodes that agree in all digits but the l-th average exactly, weights 1/f_l.
Period L, undirected, doubly stochastic; the product over a period is J exactly.
Needs: M without a prime factor above k + 1.
Sends: f_l - 1, at most k, messages per node and round.
Source: Takezawa, Sato, Bao, Niwa and Yamada, "Beyond exponential graph", NeurIPS 2023, Algorithm 1.
Departures: none.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.pairs import Pairs, edges_of_pairs, within_groups


def fewest_factors(number: int, largest: int) -> list[int] | None:
    """The shortest list of factors between 2 and ``largest`` with this product, descending; None when there is none."""
    shortest: dict[int, list[int] | None] = {1: []}

    def search(rest: int) -> list[int] | None:
        if rest not in shortest:
            found: list[int] | None = None
            for factor in range(min(largest, rest), 1, -1):
                if rest % factor == 0:
                    others = search(rest // factor)
                    if others is not None and (found is None or len(others) + 1 < len(found)):
                        found = [factor, *others]
            shortest[rest] = None if found is None else sorted(found, reverse=True)
        return shortest[rest]

    return search(number)


def averaging_rounds(factors: Sequence[int]) -> list[Pairs]:
    """The pairs that meet in every round, of nodes 0 to the product of the factors, exclusively."""
    nodes: IntArray = np.arange(int(np.prod(factors, dtype=np.int64)), dtype=np.int64)
    rounds = []
    stride = 1
    for factor in factors:
        groups = nodes.reshape(-1, factor, stride).swapaxes(1, 2).reshape(-1, factor)
        rounds.append(within_groups(groups))
        stride *= factor
    return rounds


class HyperHypercube(PeriodicGraph):
    """Groups of nodes that differ in one digit average exactly.

    Args:
        max_degree: k, the most nodes that a node meets in a round, at least 1.

    Raises:
        ValueError: when ``max_degree`` is out of range, or the number of nodes has a prime factor above k + 1.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, max_degree: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if max_degree < 1:
            raise ValueError(f"graph.max_degree={max_degree}: expected an integer of at least 1")
        factors = fewest_factors(num_nodes, max_degree + 1)
        if factors is None:
            raise ValueError(
                f"graph.max_degree={max_degree}: num_nodes={num_nodes} has a prime factor above {max_degree + 1}; "
                "graph=base_k averages exactly for any number of nodes"
            )
        self.factors = factors

    @property
    def period(self) -> int:
        """L, and 1 for a single node."""
        return max(1, len(self.factors))

    @cached_property
    def _rounds(self) -> list[Pairs]:
        return averaging_rounds(self.factors or [1])

    def build(self, phase: int) -> Edges:
        """Makes the M f entries of one round."""
        return edges_of_pairs(self._rounds[phase], self.num_nodes)
