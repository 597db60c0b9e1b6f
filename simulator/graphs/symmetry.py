"""Whether the weights of a graph schedule are the same in both directions."""

import numpy as np

from simulator.graphs.base import Edges, Graph
from simulator.graphs.weights import SUM_TOLERANCE

_NUM_ROUNDS_LOOKED_AT = 3


def has_symmetric_weights(graph: Graph) -> bool:
    """Whether W_t equals its transpose in every round of a period, or in the first 3 rounds of an endless schedule."""
    rounds = range(graph.period or _NUM_ROUNDS_LOOKED_AT)
    return not graph.directed and all(is_symmetric(graph.edges(step)) for step in rounds)


def is_symmetric(edges: Edges) -> bool:
    """Whether the entries are those of a symmetric matrix, up to the rounding of weights that users give."""
    # Entries are sorted by (target, source); in the order of (source, target) they must read the same.
    order = np.lexsort((edges.target, edges.source))
    return (
        np.array_equal(edges.source[order], edges.target)
        and np.array_equal(edges.target[order], edges.source)
        and bool(np.allclose(edges.weight[order], edges.weight, rtol=0, atol=SUM_TOLERANCE / len(edges.weight)))
    )
