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
from numpy.typing import NDArray

from simulator.arrays import IntArray, sorted_unique
from simulator.graphs.base import Edges, Graph
from simulator.graphs.dense_edges import SmallerShares
from simulator.graphs.support import MAX_DRAWS, draw_connected_support, not_connected, unrank_pairs
from simulator.randomness import generator

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
        self._kept: list[NDArray[np.uint8]] = []
        self._last: tuple[int, NDArray[np.bool_]] | None = None
        self._weights = _Weights(num_nodes)

    @property
    def period(self) -> None:
        """Rounds are random: there is no period."""
        return None

    def edges(self, step: int) -> Edges:
        """Walks to round ``step``."""
        joined = self._walk_to(step)
        return self._weights.edges(joined)

    def _walk_to(self, step: int) -> NDArray[np.bool_]:
        """Which pairs are joined in round ``step``, [M, M], with the self-loops. The next call overwrites it."""
        if not self._kept:
            joined = np.eye(self.num_nodes, dtype=bool)
            stream = "graph/slowly_changing/start"
            joined[draw_connected_support(self.num_nodes, self.probability, self.seed, stream)] = True
            self._kept.append(np.packbits(joined))
        start = min(step // _KEPT_EVERY, len(self._kept) - 1) * _KEPT_EVERY
        if self._last is not None and start <= self._last[0] <= step:
            start, joined = self._last
        else:
            bits = np.unpackbits(self._kept[start // _KEPT_EVERY], count=self.num_nodes**2)
            joined = bits.view(bool).reshape(self.num_nodes, self.num_nodes)
            self._weights.forget()
        self._last = None  # what it refers to changes now
        for at in range(start, step):
            self._toggle(joined, at)
            if (at + 1) % _KEPT_EVERY == 0 and (at + 1) // _KEPT_EVERY == len(self._kept):
                self._kept.append(np.packbits(joined))
        self._last = step, joined
        return joined

    def _toggle(self, joined: NDArray[np.bool_], step: int) -> None:
        """Turns round ``step`` into round ``step`` + 1, in place."""
        for attempt in range(MAX_DRAWS):
            rng = generator(self.seed, "graph/slowly_changing", node=step, step=attempt)
            ranks = rng.choice(self.num_pairs, size=self.num_changes, replace=False, shuffle=False)
            low, high = unrank_pairs(ranks)
            joined[low, high] ^= True
            joined[high, low] ^= True
            separated = ~joined[low, high]
            if _are_connected(joined, low[separated], high[separated]):
                self._weights.changed(low, high)
                return
            joined[low, high] ^= True
            joined[high, low] ^= True
        raise not_connected(
            self.num_nodes, f"toggle fewer pairs than graph.num_changes={self.num_changes}, or use more nodes"
        )


class _Weights:
    """Metropolis weights of a graph a few pairs of which change: only rows and columns of their nodes are computed."""

    def __init__(self, num_nodes: int) -> None:
        self._num_nodes = num_nodes
        self._stale: list[IntArray] = []
        self._degrees = np.empty(0, dtype=np.int64)
        self._given = np.empty((0, 0))

    def forget(self) -> None:
        """Hears that the graph is another one."""
        self._degrees = np.empty(0, dtype=np.int64)
        self._stale.clear()

    def changed(self, low: IntArray, high: IntArray) -> None:
        """Hears that pairs of these nodes were toggled."""
        self._stale += [low, high]

    def edges(self, joined: NDArray[np.bool_]) -> SmallerShares:
        """The round of a graph [M, M], which may change afterwards."""
        nodes = sorted_unique(np.concatenate([np.empty(0, np.int64), *self._stale]))
        if self._degrees.size and 4 * len(nodes) < self._num_nodes:
            self._degrees[nodes] = np.count_nonzero(joined[nodes], axis=1)
            shares = 1.0 / self._degrees
            rows = np.minimum.outer(shares[nodes], shares) * joined[nodes]
            rows[np.arange(len(nodes)), nodes] = 0.0
            self._given[nodes], self._given[:, nodes] = rows, rows.T
        else:
            self._degrees = np.count_nonzero(joined, axis=0)
            shares = 1.0 / self._degrees
            self._given = np.minimum.outer(shares, shares)
            self._given *= joined
            np.fill_diagonal(self._given, 0.0)
        self._stale.clear()
        # One row after the other, so that the sum of a column has the bits of a sum over the edge list.
        own = 1.0 - np.add.reduce(self._given, axis=0)
        return SmallerShares(joined.copy(), degrees=self._degrees.copy(), own=own)


def _are_connected(joined: NDArray[np.bool_], first: IntArray, second: IntArray) -> bool:
    """Whether a path joins each pair of nodes, [K] and [K]; ``joined`` [M, M] is symmetric.

    A connected graph stays connected when the ends of every edge that was removed are.
    """
    for a, b in zip(first, second, strict=True):
        if (joined[a] & joined[b]).any():  # a common neighbour, which is the rule in a dense graph
            continue
        reached = joined[a]
        while not reached[b]:
            wider = joined[reached].any(axis=0)
            if np.array_equal(wider, reached):
                return False
            reached = wider
    return True
