"""Supports: which (source, target) pairs of a mixing matrix may be non-zero.

A support is a pair of int64 arrays (source, target) of shape [E], distinct, sorted by (target, source), with the
self-loop of every node; the weight rules and :meth:`Edges.from_sorted` expect this form.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.arrays import IntArray, sorted_unique
from simulator.randomness import generator

Support = tuple[IntArray, IntArray]

MAX_DRAWS = 1000
"""How often a random graph is drawn until it is connected."""


def directed_support(source: npt.ArrayLike, target: npt.ArrayLike, num_nodes: int) -> Support:
    """Sorts the pairs source -> target, merges duplicates and adds every self-loop."""
    sources, targets = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
    loops = np.arange(num_nodes, dtype=np.int64) * (num_nodes + 1)
    rows, columns = np.divmod(sorted_unique(np.concatenate([targets * num_nodes + sources, loops])), num_nodes)
    return columns, rows


def undirected_support(source: npt.ArrayLike, target: npt.ArrayLike, num_nodes: int) -> Support:
    """As :func:`directed_support`, with every pair in both directions."""
    sources, targets = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
    return directed_support(np.concatenate([sources, targets]), np.concatenate([targets, sources]), num_nodes)


def complete_support(num_nodes: int) -> Support:
    """All M * M pairs."""
    nodes = np.arange(num_nodes, dtype=np.int64)
    return np.tile(nodes, num_nodes), np.repeat(nodes, num_nodes)


def circulant_support(num_nodes: int, offsets: npt.ArrayLike) -> Support:
    """Every node i sends to i + offset (mod num_nodes) for each offset, and keeps a share of its own.

    Args:
        num_nodes: number of nodes M.
        offsets: integers of any sign; those equal modulo M count once.
    """
    distinct = np.unique(np.append(np.asarray(offsets, dtype=np.int64), 0) % num_nodes)
    nodes = np.arange(num_nodes, dtype=np.int64)
    sources = np.sort((nodes[:, None] - distinct) % num_nodes, axis=1)
    return sources.ravel(), np.repeat(nodes, len(distinct))


def numbered_pairs(graph: Any) -> Support:
    """The edges of a networkx graph, once each and in its order; nodes are numbered in the order of the graph."""
    number = {node: index for index, node in enumerate(graph)}
    pairs = np.array([(number[a], number[b]) for a, b in graph.edges()], dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def count_components(support: Support, num_nodes: int) -> tuple[int, IntArray]:
    """Returns the number of strongly connected components and the component of every node, shape [M]."""
    # Imported here because most runs never need it: it costs a quarter of a second.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    source, target = support
    matrix = csr_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(num_nodes, num_nodes))
    count, labels = connected_components(matrix, directed=True, connection="strong")
    return int(count), np.asarray(labels, dtype=np.int64)


def draw_until_connected(
    draw: Callable[[np.random.Generator], Support],
    num_nodes: int,
    *,
    seed: int,
    stream: str,
    step: int = 0,
    advice: str,
) -> Support:
    """Draws supports until one is connected, at most 1000 times.

    Args:
        draw: makes an undirected support from a generator; number k gets one keyed by (seed, stream, step, k).
        num_nodes: number of nodes M.
        seed, stream, step: the keys of the draws of one round.
        advice: the end of the error message.

    Raises:
        ValueError: when none of 1000 draws is connected.
    """
    for attempt in range(MAX_DRAWS):
        support = draw(generator(seed, stream, node=step, step=attempt))
        if count_components(support, num_nodes)[0] == 1:
            return support
    raise not_connected(num_nodes, advice)


def not_connected(num_nodes: int, advice: str) -> ValueError:
    """The error of a random graph of which no draw is connected."""
    return ValueError(f"graph of {num_nodes} nodes: none of {MAX_DRAWS} draws is connected; {advice}")


def draw_connected_support(num_nodes: int, probability: float, seed: int, stream: str) -> Support:
    """A connected draw of G(n, p), see :func:`draw_gnp`.

    Raises:
        ValueError: when none of 1000 draws is connected.
    """
    draw = partial(draw_gnp, num_nodes=num_nodes, probability=probability)
    return draw_until_connected(draw, num_nodes, seed=seed, stream=stream, advice=advice_on_gnp(num_nodes, probability))


def draw_gnp(rng: np.random.Generator, num_nodes: int, probability: float) -> Support:
    """Draws G(n, p): each unordered pair is an edge with ``probability``, independently.

    The number of edges is binomial and, given that number, all edge sets are equally likely; so a draw takes memory
    for the edges, not for all pairs.
    """
    num_pairs = num_nodes * (num_nodes - 1) // 2
    count = int(rng.binomial(num_pairs, probability))
    if count == num_pairs:
        pairs = np.arange(num_pairs, dtype=np.int64)
    else:
        pairs = rng.choice(num_pairs, size=count, replace=False, shuffle=False)
    return undirected_support(*unrank_pairs(pairs), num_nodes)


def advice_on_gnp(num_nodes: int, probability: float) -> str:
    """The advice when no draw of G(n, p) is connected: the edge probability that is needed."""
    return (
        f"about ln(n)/n = {np.log(num_nodes) / num_nodes:.3g} or more is needed as edge probability, not {probability}"
    )


def unrank_pairs(ranks: IntArray) -> tuple[IntArray, IntArray]:
    """The pairs (low, high), low < high, at positions ``ranks`` of the list (0,1), (0,2), (1,2), (0,3), ..."""
    high = ((1.0 + np.sqrt(1.0 + 8.0 * ranks)) / 2.0).astype(np.int64)
    high -= high * (high - 1) // 2 > ranks  # the square root may round up to the next integer
    return ranks - high * (high - 1) // 2, high
