"""Events that cut their row into fragments and send each to random neighbours of its own.

Event (i, k) sends fragment f to J different nodes, drawn uniformly among the nodes that W_k has an edge to from i, by
(seed, i, k, f); to all of them where there are fewer. Its messages leave in a random order, drawn by (seed, i, k).

Shapes: M nodes, F fragments, J targets of a fragment.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Graph
from simulator.randomness import uniforms
from simulator.timing.links import Links
from simulator.timing.rounds import Round, Rounds
from simulator.timing.routes import Routes

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cut:
    """How rows are cut and sent.

    Attributes:
        payload_bytes: length of every fragment, [F].
        out_degree: J, at least 1.
        discards_unsent: whether messages that have not begun to leave are dropped when their node's next event ends.
        seed: keys the draws.
    """

    payload_bytes: IntArray
    out_degree: int
    discards_unsent: bool
    seed: int


class FragmentRounds(Rounds):
    """Rounds of fragments: no two are equal, whatever the period of the graph.

    Args:
        graph: event (i, k) chooses among the edges of W_k that leave i; their weights are not used.
        links: between the nodes.
        cut: of the rows.
    """

    def __init__(self, graph: Graph, links: Links, cut: Cut) -> None:
        super().__init__(graph, links, 0)
        self.period = None
        self.degree = 1.0 + cut.payload_bytes.size * cut.out_degree
        self.payload_bytes = cut.payload_bytes
        self.downlink_s = cut.payload_bytes[:, None] / links.downlink
        self.discards_unsent = cut.discards_unsent
        self._cut = cut
        self._neighbours: Routes | None = None

    def _prepare(self, step: int) -> Round:
        cut, num_nodes = self._cut, self._graph.num_nodes
        if self._neighbours is None or self._graph.period != 1:
            self._neighbours = Routes.build(self._graph.edges(step), self._links)
        neighbours = self._neighbours
        degree = np.diff(neighbours.first)
        rank = draw_subsets(degree, cut, step)
        order = np.argsort(
            uniforms(cut.seed, "timing/fragment_order", np.arange(num_nodes), step, rank[0].size), axis=1
        )
        fragment = order // cut.out_degree
        rank = np.take_along_axis(rank.reshape(num_nodes, -1), order, axis=1)
        source, at = np.nonzero(rank >= 0)
        edge = neighbours.first[source] + rank[source, at]
        counts = np.bincount(source, minlength=num_nodes)
        routes = Routes(
            source,
            neighbours.target[edge],
            np.ones(edge.size),
            np.ones(num_nodes),
            np.concatenate([[0], np.cumsum(counts)]),
            neighbours.latency_s[edge],
            neighbours.rate[edge],
            neighbours.downlink[edge],
        )
        fragment = fragment[source, at]
        return Round(routes, routes.transfer(cut.payload_bytes[fragment]), fragment)


def draw_subsets(degree: IntArray, cut: Cut, step: int) -> IntArray:
    """Uniform subsets of the neighbours of every node, one for each fragment.

    Args:
        degree: neighbours of every node, [M].

    Returns:
        Which neighbours, counted from 0, [M, F, J]; -1 for the entries that nodes with fewer than J have too many.
    """
    num_nodes, most = degree.size, cut.out_degree
    shape = (num_nodes, cut.payload_bytes.size, most)
    drawn = uniforms(cut.seed, "timing/fragment_targets", np.arange(num_nodes), step, shape[1] * most).reshape(shape)
    chosen = np.full(shape, -1, dtype=np.int64)
    # Floyd's method: the n-th draw is among the first D - J + n + 1; a neighbour that was drawn before gives way to the
    # last of these.
    for turn in range(most):
        last = np.broadcast_to((degree - most + turn)[:, None], shape[:2])
        picked = (drawn[:, :, turn] * (last + 1)).astype(np.int64)
        is_taken = (chosen[:, :, :turn] == picked[:, :, None]).any(axis=2)
        chosen[:, :, turn] = np.where(last < 0, -1, np.where(is_taken, last, picked))
    return chosen
