"""Supports: which (source, target) pairs of a mixing matrix may be non-zero.

A support is a pair of int64 arrays (source, target) of shape [E], distinct, sorted by (target, source), with the
self-loop of every node; the weight rules and :meth:`Edges.from_sorted` expect this form.
"""

import numpy as np
import numpy.typing as npt

from simulator.randomness import generator

IntArray = npt.NDArray[np.int64]
Support = tuple[IntArray, IntArray]

_MAX_DRAWS = 1000


def directed_support(source: npt.ArrayLike, target: npt.ArrayLike, num_nodes: int) -> Support:
    """Sorts the pairs source -> target, merges duplicates and adds every self-loop."""
    sources, targets = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
    loops = np.arange(num_nodes, dtype=np.int64) * (num_nodes + 1)
    rows, columns = np.divmod(np.unique(np.concatenate([targets * num_nodes + sources, loops])), num_nodes)
    return columns, rows


def undirected_support(source: npt.ArrayLike, target: npt.ArrayLike, num_nodes: int) -> Support:
    """As :func:`directed_support`, with every pair in both directions."""
    sources, targets = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
    return directed_support(np.concatenate([sources, targets]), np.concatenate([targets, sources]), num_nodes)


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


def count_components(support: Support, num_nodes: int) -> tuple[int, IntArray]:
    """Returns the number of strongly connected components and the component of every node, shape [M]."""
    # Imported here because most runs never need it: it costs a quarter of a second.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    source, target = support
    matrix = csr_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(num_nodes, num_nodes))
    count, labels = connected_components(matrix, directed=True, connection="strong")
    return int(count), np.asarray(labels, dtype=np.int64)


def draw_connected_support(num_nodes: int, probability: float, seed: int, stream: str) -> Support:
    """Draws G(n, p) until it is connected: each unordered pair is an edge with ``probability``, independently.

    The number of edges is binomial and, given that number, all edge sets are equally likely; so a draw takes memory
    for the edges, not for all pairs. Draw number k has a generator of its own, keyed by (seed, stream, k).

    Raises:
        ValueError: when none of 1000 draws is connected.
    """
    num_pairs = num_nodes * (num_nodes - 1) // 2
    for attempt in range(_MAX_DRAWS):
        rng = generator(seed, stream, step=attempt)
        count = int(rng.binomial(num_pairs, probability))
        if count < num_nodes - 1:
            continue
        if count == num_pairs:
            pairs = np.arange(num_pairs, dtype=np.int64)
        else:
            pairs = rng.choice(num_pairs, size=count, replace=False, shuffle=False)
        support = undirected_support(*_unrank_pairs(pairs), num_nodes)
        if count_components(support, num_nodes)[0] == 1:
            return support
    raise ValueError(
        f"G(n, p) with {num_nodes} nodes and edge probability {probability}: none of {_MAX_DRAWS} draws is connected; "
        f"about ln(n)/n = {np.log(num_nodes) / num_nodes:.3g} or more is needed"
    )


def _unrank_pairs(ranks: IntArray) -> tuple[IntArray, IntArray]:
    """The pairs (low, high), low < high, at positions ``ranks`` of the list (0,1), (0,2), (1,2), (0,3), ..."""
    high = ((1.0 + np.sqrt(1.0 + 8.0 * ranks)) / 2.0).astype(np.int64)
    high -= high * (high - 1) // 2 > ranks  # the square root may round up to the next integer
    return ranks - high * (high - 1) // 2, high
