"""D-Cliques: sparsely connected cliques, each with nearly the label distribution of all data.

Definition: with p_i the label distribution of node i and p the mean of all, the skew of a clique C is sum_l |mean_{i
in C} p_i(l) - p(l)|. The nodes are dealt at random into as few cliques of at most `max_clique_size` as possible,
whose sizes differ by at most one; then, `num_swaps` times, two random cliques exchange one node each, a random one of
all exchanges that lower the sum of their skews, if there is any. By default a number of swaps that grows with the
number of cliques K, so that every clique takes part in about as many. Every clique is a complete graph. With the
cliques in the order of the deal, edges between them run between the nodes that have the fewest such edges so far, for

    ring         every clique and the next
    small_world  every clique and those 2^s and 2^s + 1 places before and after it, s = 0, ..., ceil(log2 K) - 1
    fractal      every two of `max_clique_size` consecutive cliques, which then count as one, until one is left
    complete     every two cliques

Metropolis weights. Doubly stochastic, undirected, static.
Needs: a problem whose nodes have labels.
Sends: about max_clique_size - 1 messages per node and round.
Source: Bellet, Kermarrec and Lavoie, "D-Cliques: compensating for data heterogeneity with topology in decentralized
federated learning", SRDS 2022 (greedy swap), and its published code for the edges between cliques.
Departures: clique sizes differ by at most one, there the last clique has the remaining nodes; ties go to the first
node, there to a random one; the default number of swaps, which is 1000 there. Gradients
are averaged within cliques by the algorithm, see :attr:`DCliques.cliques`.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import undirected_support
from simulator.graphs.weights import metropolis
from simulator.randomness import generator

CONNECTIONS = ("ring", "small_world", "fractal", "complete")

_SMALLEST_GAIN = 1e-12
_SWAPS_PER_CLIQUE, _FEWEST_SWAPS = 100, 1000


class DCliques(PeriodicGraph):
    """Cliques with the labels of all data.

    Args:
        max_clique_size: nodes of a clique at most, at least 2.
        connection: how cliques are joined: ring, small_world, fractal or complete.
        num_swaps: how often two cliques try to exchange nodes, at least 0; None: 100 times the number of cliques, and
            at least 1000.

    Raises:
        ValueError: when an argument is out of range; from ``edges``, when :meth:`use_label_counts` has not been called.
    """

    directed = False
    stochasticity = "double"
    needs_label_counts = True

    def __init__(
        self, *, num_nodes: int, max_clique_size: int, connection: str, num_swaps: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if max_clique_size < 2:
            raise ValueError(f"graph.max_clique_size={max_clique_size}: expected an integer of at least 2")
        if connection not in CONNECTIONS:
            raise ValueError(f"graph.connection={connection!r}: cliques are joined by {', '.join(CONNECTIONS)}")
        if num_swaps is not None and num_swaps < 0:
            raise ValueError(f"graph.num_swaps={num_swaps}: expected an integer of at least 0, or null")
        self.max_clique_size = max_clique_size
        self.connection = connection
        self.num_swaps = num_swaps
        self._distributions: FloatArray | None = None

    def use_label_counts(self, label_counts: IntArray) -> None:
        """Keeps the label distribution of every node."""
        assert len(label_counts) == self.num_nodes
        self._distributions = label_counts / np.maximum(1, label_counts.sum(axis=1, keepdims=True))

    @cached_property
    def cliques(self) -> list[IntArray]:
        """The nodes of every clique, ascending; the cliques in the order in which they are joined."""
        if self._distributions is None:
            raise ValueError("graph DCliques depends on the nodes' labels, which it gets from a problem only")
        rng = generator(self.seed, "graph/d_cliques")
        num_cliques = -(-self.num_nodes // self.max_clique_size)
        cliques = np.array_split(rng.permutation(self.num_nodes), num_cliques)
        num_swaps = max(_FEWEST_SWAPS, _SWAPS_PER_CLIQUE * num_cliques) if self.num_swaps is None else self.num_swaps
        for _ in range(num_swaps if num_cliques > 1 else 0):
            one, other = rng.choice(num_cliques, size=2, replace=False)
            swap_once(cliques[one], cliques[other], self._distributions, rng)
        return [np.sort(clique) for clique in cliques]

    def build(self, phase: int) -> Edges:
        """Joins the nodes of every clique, and the cliques."""
        within = [clique[np.array(np.triu_indices(len(clique), 1))] for clique in self.cliques]
        between = links(self.cliques, self.connection, self.max_clique_size, self.num_nodes)
        first, second = np.concatenate([*within, between], axis=1)
        source, target = undirected_support(first, second, self.num_nodes)
        return Edges.from_sorted(source, target, metropolis(source, target, self.num_nodes))


def skew(distribution: FloatArray, overall: FloatArray) -> FloatArray:
    """How far label distributions of shape [..., C] are from the overall one [C], in [0, 2]."""
    distances: FloatArray = np.abs(distribution - overall).sum(axis=-1)
    return distances


def swap_once(one: IntArray, other: IntArray, distributions: FloatArray, rng: np.random.Generator) -> None:
    """Exchanges, in place, a random pair of nodes whose exchange lowers the skew of two cliques, if there is one.

    Args:
        one, other: the nodes of two cliques.
        distributions: of the labels of every node, shape [M, C].
        rng: draws the pair.
    """
    overall = distributions.mean(axis=0)
    # What moves from `other` to `one` when node a of the one and node b of the other change places, [a, b, C].
    moved = distributions[other][None, :, :] - distributions[one][:, None, :]
    means = distributions[one].mean(axis=0), distributions[other].mean(axis=0)
    after = skew(means[0] + moved / len(one), overall) + skew(means[1] - moved / len(other), overall)
    before = skew(means[0], overall) + skew(means[1], overall)
    gains = np.argwhere(after < before - _SMALLEST_GAIN)
    if len(gains):
        a, b = gains[rng.integers(len(gains))]
        one[a], other[b] = other[b], one[a]


def links(cliques: Sequence[IntArray], connection: str, group_size: int, num_nodes: int) -> IntArray:
    """The edges between cliques, shape [2, E]; an edge may be there twice."""
    used = np.zeros(num_nodes, dtype=np.int64)
    edges: list[tuple[int, int]] = []

    def link(one: IntArray, other: IntArray) -> None:
        ends = int(one[np.argmin(used[one])]), int(other[np.argmin(used[other])])
        used[list(ends)] += 1
        edges.append(ends)

    count = len(cliques)
    if connection == "ring":
        for place in range(count if count > 2 else count - 1):
            link(cliques[place], cliques[(place + 1) % count])
    elif connection == "small_world":
        for place in range(count):
            for distance in (2**s + more for s in range((count - 1).bit_length()) for more in (0, 1)):
                for there in ((place - distance) % count, (place + distance) % count):
                    if there != place:
                        link(cliques[place], cliques[there])
    else:
        groups = list(cliques)
        size = count if connection == "complete" else group_size
        while len(groups) > 1:
            merged = [groups[start : start + size] for start in range(0, len(groups), size)]
            for members in merged:
                for place, one in enumerate(members):
                    for other in members[place + 1 :]:
                        link(one, other)
            groups = [np.concatenate(members) for members in merged]
    return np.array(edges, dtype=np.int64).reshape(-1, 2).T
