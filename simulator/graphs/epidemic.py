"""Epidemic learning: random directed messages.

Definition: variant=oracle: a random digraph in which every node sends to s others and hears s others; all weights
1/(s + 1); doubly stochastic, E W_t = I/(s + 1) + s/((s + 1)(M - 1)) (11' - I). variant=local: every node draws s
others, uniformly and on its own; a receiver takes the plain mean of what arrived and of what it has. Row-stochastic;
the column sums are 1 only in expectation, so the mean of all nodes wanders.
Sends: s messages per node and round.
Source: de Vos, Farhadkhani, Guerraoui, Kermarrec, Pires and Sharma, "Epidemic learning: boosting decentralized learning
with randomized communication", NeurIPS 2023.
Departures: the random regular digraph is a sum of s random permutations, repaired where they coincide: all
nodes are treated alike, but not all such digraphs are exactly equally likely.
"""

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Edges, Graph, Stochasticity
from simulator.graphs.support import complete_support, directed_support
from simulator.graphs.weights import in_degree
from simulator.randomness import generator

VARIANTS = ("oracle", "local")


class Epidemic(Graph):
    """Every node sends to ``num_out`` others, drawn anew in every round.

    Args:
        num_out: s, from 1 to M - 1 (for a single node it is not used).
        variant: oracle, in which every node also hears ``num_out`` others, or local.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, *, num_nodes: int, num_out: int, variant: str = "oracle", seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if not 1 <= num_out <= max(1, num_nodes - 1):
            raise ValueError(
                f"graph.num_out={num_out}: a node sends to at least 1 and at most num_nodes - 1 = {num_nodes - 1} nodes"
            )
        if variant not in VARIANTS:
            raise ValueError(f"graph.variant={variant!r}: the variants are {', '.join(VARIANTS)}")
        self.num_out = num_out
        self.variant = variant

    @property
    def directed(self) -> bool:
        """False when ``num_out`` is M - 1: then all nodes hear all others."""
        return self.num_out < self.num_nodes - 1

    @property
    def stochasticity(self) -> Stochasticity:
        """Depends on the variant."""
        return "double" if self.variant == "oracle" else "row"

    @property
    def period(self) -> None:
        """Rounds are independent: there is no period."""
        return None

    def edges(self, step: int) -> Edges:
        """Draws who sends to whom, and takes plain means."""
        if self.num_out >= self.num_nodes - 1:
            source, target = complete_support(self.num_nodes)
        else:
            rng = generator(self.seed, "graph/epidemic", step=step)
            draw = draw_regular if self.variant == "oracle" else draw_subsets
            receivers = draw(self.num_nodes, self.num_out, rng)
            nodes = np.repeat(np.arange(self.num_nodes), self.num_out)
            source, target = directed_support(nodes, receivers.ravel(), self.num_nodes)
        return Edges.from_sorted(source, target, in_degree(source, target, self.num_nodes))


def draw_subsets(num_nodes: int, size: int, rng: np.random.Generator) -> IntArray:
    """Draws for every node a uniformly random set of ``size`` others, shape [M, size].

    Floyd's algorithm for all nodes at once: draw number j is uniform on 0, ..., j, and j itself where that is taken.
    """
    chosen = np.full((num_nodes, size), -1, dtype=np.int64)
    for column, last in enumerate(range(num_nodes - 1 - size, num_nodes - 1)):
        drawn = rng.integers(0, last + 1, num_nodes)
        taken = (chosen[:, :column] == drawn[:, None]).any(axis=1)
        chosen[:, column] = np.where(taken, last, drawn)
    return chosen + (chosen >= np.arange(num_nodes)[:, None])  # skips the node itself


def draw_regular(num_nodes: int, degree: int, rng: np.random.Generator) -> IntArray:
    """Draws for every node ``degree`` others so that every node is drawn by ``degree`` others, shape [M, degree].

    One random permutation after the other. Where one sends a node to itself or to somebody whom it has already, its
    value is swapped with that of a random node for which both then fit; there always is one while M >= 2 degree. Larger
    degrees are the complement of smaller ones.
    """
    if 2 * degree >= num_nodes:
        others = draw_regular(num_nodes, num_nodes - 1 - degree, rng)
        left = np.ones((num_nodes, num_nodes), dtype=np.bool_)
        np.put_along_axis(left, np.column_stack([np.arange(num_nodes), others]), False, axis=1)
        return np.nonzero(left)[1].reshape(num_nodes, degree)
    taken = np.arange(num_nodes)[:, None]  # column 0: the node itself
    for _ in range(degree):
        drawn = rng.permutation(num_nodes)
        for node in rng.permutation(np.flatnonzero((taken == drawn[:, None]).any(axis=1))):
            if drawn[node] not in taken[node]:
                continue  # an earlier swap has resolved it
            fits = ~np.isin(drawn, taken[node]) & ~(taken == drawn[node]).any(axis=1)
            other = rng.choice(np.flatnonzero(fits))
            drawn[[node, other]] = drawn[[other, node]]
        taken = np.column_stack([taken, drawn])
    return taken[:, 1:]
