"""A random undirected graph that changes slowly.

Definition: round 0 has a connected draw of G(M, p). From one round to the next k distinct pairs of nodes, uniformly
random, are toggled: joined if they are not, separated if they are; drawn anew, at most 1000 times, until the graph is
connected. Metropolis weights. Doubly stochastic, undirected. In the long run about half of all pairs are joined,
whatever p is.
Sends: about p (M - 1) messages per node and round at first, later (M - 1)/2.
Source: the slowly changing random graph in published code that studies time-varying graphs after Vogels, Hendrikx and
Jaggi, "Beyond spectral gap", NeurIPS 2022, with p = 1/2.
Departures: none. Round t is computed from the nearest earlier round that is kept: every 100th, and the last one
computed.
"""

import numpy as np

from simulator.graphs.base import Edges, Graph
from simulator.graphs.support import (
    Support,
    draw_connected_support,
    draw_until_connected,
    undirected_support,
    unrank_pairs,
)
from simulator.graphs.weights import metropolis

_KEPT_EVERY = 100


class SlowlyChanging(Graph):
    """A connected random graph some of whose edges come and go.

    Args:
        probability: p, of each edge in round 0, in (0, 1].
        num_changes: k, pairs that are toggled from one round to the next, from 1 to M (M - 1)/2.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when no draw is connected.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, num_changes: int, probability: float = 0.5, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if not 0 < probability <= 1:
            raise ValueError(f"graph.probability={probability}: an edge probability lies in (0, 1]")
        self.num_pairs = num_nodes * (num_nodes - 1) // 2
        if not 1 <= num_changes <= self.num_pairs:
            raise ValueError(
                f"graph.num_changes={num_changes}: expected 1 to {self.num_pairs}, the number of pairs of "
                f"num_nodes={num_nodes}"
            )
        self.probability = probability
        self.num_changes = num_changes
        self._kept: dict[int, Support] = {}
        self._last: tuple[int, Support] | None = None

    @property
    def period(self) -> None:
        """Rounds are random: there is no period."""
        return None

    def edges(self, step: int) -> Edges:
        """Walks to round ``step``."""
        source, target = self._walk_to(step)
        return Edges.from_sorted(source, target, metropolis(source, target, self.num_nodes))

    def _walk_to(self, step: int) -> Support:
        if not self._kept:
            self._kept[0] = draw_connected_support(
                self.num_nodes, self.probability, self.seed, "graph/slowly_changing/start"
            )
        start = min(step // _KEPT_EVERY, len(self._kept) - 1) * _KEPT_EVERY
        support = self._kept[start]
        if self._last is not None and start <= self._last[0] <= step:
            start, support = self._last
        for at in range(start, step):
            support = self._toggle(support, at)
            if (at + 1) % _KEPT_EVERY == 0:
                self._kept[at + 1] = support
        self._last = step, support
        return support

    def _toggle(self, support: Support, step: int) -> Support:
        """Round ``step`` + 1 from round ``step``."""
        source, target = support
        upper = source < target
        joined = source[upper] * self.num_nodes + target[upper]

        def draw(rng: np.random.Generator) -> Support:
            ranks = rng.choice(self.num_pairs, size=self.num_changes, replace=False, shuffle=False)
            low, high = unrank_pairs(ranks)
            left = np.setxor1d(joined, low * self.num_nodes + high, assume_unique=True)
            return undirected_support(left // self.num_nodes, left % self.num_nodes, self.num_nodes)

        return draw_until_connected(
            draw,
            self.num_nodes,
            seed=self.seed,
            stream="graph/slowly_changing",
            step=step,
            advice=f"toggle fewer pairs than graph.num_changes={self.num_changes}, or use more nodes",
        )
