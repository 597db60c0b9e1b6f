"""Attackers: nodes that send other rows than they should.

Definition: in every round all who hear an attacker j get another row in place of its row x_j:
    sign_flip   -s x_j
    noise       x_j + s n,  n standard normal, drawn anew for every attacker and round
    alie        mu - s sigma, mean and standard deviation of the rows of all honest nodes, by column
Otherwise attackers follow the algorithm: they compute gradients, take in what they hear and keep their own share of x_j
as it is. s is ``strength``; where it is None it is 1, and for alie ("a little is enough")
    s = Phi^-1((n - m - k) / (n - m)),  k = floor(n / 2 + 1) - m,
with n nodes, m of them attackers: so that k honest nodes are likely to be further from the mean than the attackers.
It is positive where m is at least 3 (2 for odd n) and at most n / 2; elsewhere a strength must be given.
Where an algorithm sends several tensors in a round, each is replaced in the same way.
Metrics are of the honest nodes, and so are the means over nodes among them.
Sends: what the schedule sends; what attackers of alie know of honest nodes costs no message.
Source: Baruch, Baruch and Goldberg, NeurIPS 2019 (arXiv 1902.06156) for alie; flipped signs and noise are standard.
Departures: alie is of the rows that are gossiped, not of gradients, and its attackers know all honest nodes.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from statistics import NormalDist

import numpy as np

from simulator.arrays import IntArray
from simulator.checks import require_one_of, require_positive
from simulator.faults.base import FaultyGraph
from simulator.graphs.base import Edges, Graph
from simulator.randomness import uniforms

ATTACKS = ("sign_flip", "noise", "alie")


class Byzantine(FaultyGraph):
    """A schedule some of whose nodes are attackers.

    Args:
        attack: one of ``ATTACKS``.
        num_attackers: how many nodes are drawn to be attackers, at least 0.
        attackers: which nodes they are, instead of drawn ones, or None.
        strength: s, positive, or None.
        graph, seed: see the base class.

    Raises:
        ValueError: when a setting is not allowed, or no node is left that is honest.
    """

    def __init__(
        self,
        *,
        graph: Graph,
        attack: str,
        num_attackers: int,
        attackers: Sequence[int] | None = None,
        strength: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(graph=graph, seed=seed)
        require_one_of("faults.attack", attack, ATTACKS)
        if not 0 <= num_attackers < graph.num_nodes:
            raise ValueError(
                f"faults.num_attackers={num_attackers}: expected at least 0 and fewer than num_nodes={graph.num_nodes}"
            )
        if attackers is not None:
            distinct = {node for node in attackers if isinstance(node, int) and 0 <= node < graph.num_nodes}
            if len(distinct) != len(attackers) or len(distinct) == graph.num_nodes:
                raise ValueError(
                    f"faults.attackers={list(attackers)}: expected some, but not all, of the nodes 0 to "
                    f"{graph.num_nodes - 1}, each once"
                )
        if strength is not None:
            require_positive("faults.strength", strength)
        self.attack = attack
        self._num_attackers = num_attackers
        self._given = attackers
        self._strength = strength
        _ = self.strength

    @property
    def period(self) -> int | None:
        """As the schedule beneath."""
        return self.graph.period

    def edges(self, step: int) -> Edges:
        """Those of the schedule beneath."""
        return self.graph.edges(step)

    @cached_property
    def attackers(self) -> IntArray:
        """The attackers, ascending."""
        if self._given is not None:
            return np.array(sorted(self._given), dtype=np.int64)
        draws = uniforms(self.seed, "fault/attackers", np.arange(self.num_nodes), 0, 1)[:, 0]
        chosen: IntArray = np.sort(np.argsort(draws)[: self._num_attackers])
        return chosen

    @cached_property
    def honest(self) -> IntArray:
        """The other nodes, ascending."""
        return np.setdiff1d(np.arange(self.num_nodes), self.attackers)

    @cached_property
    def strength(self) -> float:
        """The number s of the definition.

        Raises:
            ValueError: when the rule of alie gives no positive number for so many attackers.
        """
        m = self._num_attackers if self._given is None else len(self._given)
        if self._strength is not None or self.attack != "alie" or m == 0:
            return 1.0 if self._strength is None else self._strength
        share = (self.num_nodes - m - (math.floor(self.num_nodes / 2 + 1) - m)) / (self.num_nodes - m)
        if not 0.5 < share < 1:
            raise ValueError(
                f"faults.strength=null: with {m} attackers among {self.num_nodes} nodes the rule of faults.attack=alie "
                "gives no positive number; give one"
            )
        return NormalDist().inv_cdf(share)
