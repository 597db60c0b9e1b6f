"""The rounds of a graph schedule that the events of a window send along, side by side.

An event (i, k) sends along the edges of W_k that leave node i: every node goes through the schedule in its own time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Graph
from simulator.timing.links import Links
from simulator.timing.ranges import firsts_of
from simulator.timing.routes import Routes, Transfer

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RoundTable:
    """Several rounds: the edges of node i in round r are entries first[r * M + i], ..., first[r * M + i + 1] - 1.

    Attributes: as in :class:`Routes` and :class:`Transfer`; ``own_weight`` and ``busy_s`` have shape [R * M].
        fragment: which part of the sender's row the message carries, 0 where rows are not cut.
    """

    first: IntArray
    target: IntArray
    fragment: IntArray
    weight: FloatArray
    out_s: FloatArray
    travel_s: FloatArray
    own_weight: FloatArray
    busy_s: FloatArray


@dataclass(frozen=True, eq=False)
class Round:
    """One round; ``fragment`` as in :class:`RoundTable`, [E]."""

    routes: Routes
    transfer: Transfer
    fragment: IntArray


class Rounds:
    """Prepares rounds; keeps those of schedules that repeat, and the last ones of others.

    Args:
        graph: the schedule.
        links: between the nodes.
        payload_bytes: length of every message.

    Attributes:
        period: rounds after which they repeat; None for never.
        degree: edges of the mean node, loops included.
        payload_bytes: length of a message by fragment, F of them; one where rows are not cut, [F].
        downlink_s: how long a message occupies the downlink of every node, [F, M].
        discards_unsent: whether messages that have not begun to leave are dropped when their node's next event ends.
    """

    discards_unsent = False

    def __init__(self, graph: Graph, links: Links, payload_bytes: int) -> None:
        assert graph.num_nodes == links.num_nodes
        self.period = graph.period
        self.degree = graph.edges(0).source.size / graph.num_nodes
        self.payload_bytes = np.array([payload_bytes])
        self.downlink_s = self.payload_bytes[:, None] / links.downlink
        self._graph = graph
        self._links = links
        self._kept: dict[int, Round] = {}
        self._stacked: tuple[list[int], RoundTable] = ([], _stack([]))

    def stack(self, nodes: IntArray, steps: IntArray) -> tuple[RoundTable, IntArray]:
        """The rounds of these events, and for every event the row of ``first`` where its edges begin, [n]."""
        period = self.period
        if period == 1:
            distinct, position = [0], np.zeros(steps.shape, dtype=np.int64)
        else:
            found, position = np.unique(steps if period is None else steps % period, return_inverse=True)
            distinct = found.tolist()
        if distinct != self._stacked[0]:
            built = {step: self._kept[step] if step in self._kept else self._prepare(step) for step in distinct}
            self._kept = built if period is None else {**self._kept, **built}
            self._stacked = (distinct, _stack([built[step] for step in distinct]))
        return self._stacked[1], position * self._graph.num_nodes + nodes

    def _prepare(self, step: int) -> Round:
        routes = Routes.build(self._graph.edges(step), self._links)
        return Round(routes, routes.transfer(int(self.payload_bytes[0])), np.zeros(routes.target.size, dtype=np.int64))


def _stack(parts: list[Round]) -> RoundTable:
    routes_of, transfers = [part.routes for part in parts], [part.transfer for part in parts]
    counts = [np.diff(routes.first) for routes in routes_of]
    empty_int, empty = np.zeros(0, dtype=np.int64), np.zeros(0)
    return RoundTable(
        firsts_of(np.concatenate([empty_int, *counts])),
        np.concatenate([empty_int, *(routes.target for routes in routes_of)]),
        np.concatenate([empty_int, *(part.fragment for part in parts)]),
        np.concatenate([empty, *(routes.weight for routes in routes_of)]),
        np.concatenate([empty, *(transfer.out_s for transfer in transfers)]),
        np.concatenate([empty, *(transfer.travel_s for transfer in transfers)]),
        np.concatenate([empty, *(routes.own_weight for routes in routes_of)]),
        np.concatenate([empty, *(transfer.busy_s for transfer in transfers)]),
    )
