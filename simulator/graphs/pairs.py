"""Rounds in which pairs of nodes meet: symmetric weights on a list of unordered pairs, the rest stays with the node."""

import numpy as np

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.base import Edges

Pairs = tuple[IntArray, IntArray, FloatArray]
"""Both nodes of every pair and the weight that each gives to the other, shapes [P]; distinct, without self-loops."""


def edges_of_pairs(pairs: Pairs, num_nodes: int) -> Edges:
    """The symmetric, doubly stochastic W with these weights off the diagonal and 1 minus their sums on it."""
    first, second, weight = pairs
    own = 1.0 - np.bincount(first, weight, num_nodes) - np.bincount(second, weight, num_nodes)
    nodes = np.arange(num_nodes, dtype=np.int64)
    return Edges.build(
        np.concatenate([first, second, nodes]),
        np.concatenate([second, first, nodes]),
        np.concatenate([weight, weight, own]),
    )


def within_groups(groups: IntArray) -> Pairs:
    """All pairs within each group with the weight 1 / size: every group averages exactly.

    Args:
        groups: disjoint groups of one size, shape [G, size].
    """
    size = groups.shape[1]
    low, high = np.triu_indices(size, 1)
    first, second = groups[:, low].ravel(), groups[:, high].ravel()
    return first, second, np.full(len(first), 1.0 / size)


def joined(parts: list[Pairs]) -> Pairs:
    """Several lists of pairs, of disjoint nodes or not, as one."""
    if not parts:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    first, second, weight = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return first, second, weight


def renamed(pairs: Pairs, nodes: IntArray) -> Pairs:
    """The same pairs of other nodes: node i becomes ``nodes[i]``."""
    first, second, weight = pairs
    return nodes[first], nodes[second], weight
