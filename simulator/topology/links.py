"""What a schedule asks of the links between nodes: degrees, messages, bytes, and how far apart nodes are."""

from dataclasses import dataclass

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Graph
from simulator.randomness import generator

_MOST_EXACT_DIAMETER = 2048
_NUM_SEARCHES = 8


@dataclass(frozen=True)
class Traffic:
    """Messages of a round, over the rounds that were looked at.

    Attributes:
        messages_per_round: of all nodes together, mean.
        max_degree: most messages that a node sends or receives in a round.
        mean_degree: messages per node and round.
        max_sent_per_round: most messages that a node sends, mean over rounds of the node that sends most in it.
    """

    messages_per_round: float
    max_degree: int
    mean_degree: float
    max_sent_per_round: float


def traffic(graph: Graph, num_rounds: int) -> Traffic:
    """Counts a period, or ``num_rounds`` rounds of a random schedule."""
    messages, most_sent, largest = [], [], 0
    for step in range(graph.period or num_rounds):
        edges = graph.edges(step)
        other = edges.source != edges.target
        sent = np.bincount(edges.source[other], minlength=graph.num_nodes)
        received = np.bincount(edges.target[other], minlength=graph.num_nodes)
        messages.append(int(other.sum()))
        most_sent.append(int(sent.max()))
        largest = max(largest, int(sent.max()), int(received.max()))
    mean = float(np.mean(messages))
    return Traffic(mean, largest, mean / graph.num_nodes, float(np.mean(most_sent)))


def union_of_rounds(graph: Graph, num_rounds: int) -> tuple[IntArray, IntArray]:
    """(source, target) of all pairs that a period, or ``num_rounds`` rounds, joins; without self-loops."""
    keys: IntArray = np.empty(0, dtype=np.int64)
    for step in range(graph.period or num_rounds):
        edges = graph.edges(step)
        used = (edges.weight != 0) & (edges.source != edges.target)
        keys = np.union1d(keys, edges.target[used] * graph.num_nodes + edges.source[used])
    target, source = np.divmod(keys, graph.num_nodes)
    return source, target


def diameter(graph: Graph, num_rounds: int, *, invariant: bool) -> tuple[float, float]:
    """The most hops between two nodes over the edges of all rounds, as a lower and an upper bound.

    The bounds are equal for invariant schedules (one search) and up to 2048 nodes (all searches). Above, eight nodes
    search both ways; the sum of a node's farthest distance from and to others bounds the diameter from above.
    Infinite where some node never hears of some other.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    num_nodes = graph.num_nodes
    source, target = union_of_rounds(graph, num_rounds)
    matrix = csr_array((np.ones(len(source)), (source, target)), shape=(num_nodes, num_nodes))
    if invariant or num_nodes <= _MOST_EXACT_DIAMETER:
        starts = [0] if invariant else None
        farthest = float(shortest_path(matrix, unweighted=True, indices=starts).max())
        return farthest, farthest
    chosen = generator(graph.seed, "topology/diameter").choice(num_nodes, _NUM_SEARCHES, replace=False)
    ahead = shortest_path(matrix, unweighted=True, indices=chosen).max(axis=1)
    back = shortest_path(matrix.T.tocsr(), unweighted=True, indices=chosen).max(axis=1)
    return float(max(ahead.max(), back.max())), float((ahead + back).min())
