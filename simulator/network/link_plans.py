"""One round of :meth:`Network.deliver` prepared for one process: every edge carries a message of its own.

A plan depends only on the edges of the round and on the placement, so every process makes its own without
communication.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Edges
from simulator.network.device_index import DeviceIndex
from simulator.network.ledger import Links
from simulator.network.peer_rows import PeerRows, by_peer
from simulator.placement import Placement


@dataclass(frozen=True, eq=False)
class LinkPlan:
    """One round of messages that differ by edge, for one process; self-loops carry nothing.

    Attributes:
        links: all edges of the round between different nodes of the whole graph.
        out_source, out_target: the edges that leave local nodes, sorted by (source, target); global indices [E_out].
        in_source, in_target: the edges that enter local nodes, sorted by (target, source); global indices [E_in].
        out_weight, in_weight: W_t[target, source] of the edges that leave [E_out] and that enter [E_in].
        sends, receives: messages by peer, peers ascending, each part sorted by (source, target).
        kept: positions among the leaving messages of those whose target is local.
        arrival: position in [kept messages; received messages] of the message of each entering edge.
    """

    links: Links
    out_source: npt.NDArray[np.int64]
    out_target: npt.NDArray[np.int64]
    in_source: npt.NDArray[np.int64]
    in_target: npt.NDArray[np.int64]
    out_weight: npt.NDArray[np.float64]
    in_weight: npt.NDArray[np.float64]
    sends: tuple[PeerRows, ...]
    receives: tuple[PeerRows, ...]
    kept: npt.NDArray[np.int64]
    arrival: npt.NDArray[np.int64]

    @classmethod
    def build(cls, edges: Edges, placement: Placement) -> "LinkPlan":
        """Prepares the round of ``edges`` for the process of ``placement``."""
        nodes = placement.nodes
        real = edges.source != edges.target
        source, target, weight = edges.source[real], edges.target[real], edges.weight[real]
        source_is_local = (source >= nodes.start) & (source < nodes.stop)
        target_is_local = (target >= nodes.start) & (target < nodes.stop)

        leaving = np.flatnonzero(source_is_local)
        leaving = leaving[np.lexsort((target[leaving], source[leaving]))]
        out_source, out_target = source[leaving], target[leaving]
        ranks = placement.rank_of(out_target)
        kept = np.flatnonzero(ranks == placement.rank)
        crossing = np.flatnonzero(ranks != placement.rank)
        crossing = crossing[np.argsort(ranks[crossing], kind="stable")]
        sends = tuple(by_peer(ranks[crossing], out_source[crossing], crossing))

        in_source, in_target = source[target_is_local], target[target_is_local]
        ranks = placement.rank_of(in_source)
        order = np.lexsort((in_target, in_source, ranks, ranks != placement.rank))
        received = order[kept.size :]
        receives = tuple(by_peer(ranks[received], in_source[received], received))
        arrival = np.empty(order.size, dtype=np.int64)
        arrival[order] = np.arange(order.size)
        return cls(
            Links.of(edges, placement.num_nodes),
            out_source,
            out_target,
            in_source,
            in_target,
            weight[leaving],
            weight[target_is_local],
            sends,
            receives,
            kept,
            arrival,
        )

    @cached_property
    def kept_index(self) -> DeviceIndex:
        """``kept`` as a tensor on the device."""
        return DeviceIndex(self.kept)

    @cached_property
    def arrival_index(self) -> DeviceIndex:
        """``arrival`` as a tensor on the device."""
        return DeviceIndex(self.arrival)

    def widen(self, leaving: npt.NDArray[np.int64], entering: npt.NDArray[np.int64]) -> "LinkPlan":
        """The same round when edges carry any number of rows.

        Args:
            leaving: number of rows that each edge of ``out_source`` carries, [E_out].
            entering: number of rows that each edge of ``in_source`` carries, [E_in].
        """
        in_message_order = np.empty_like(entering)
        in_message_order[self.arrival] = entering
        first = self.kept.size
        sends, receives = [], []
        for part in self.sends:
            sends.append(PeerRows(part.peer, part.nodes.repeat(leaving[part.rows]), _ranges(leaving, part.rows)))
        for part in self.receives:
            counts = in_message_order[first : first + part.nodes.size]
            receives.append(PeerRows(part.peer, part.nodes.repeat(counts), part.rows.repeat(counts)))
            first += part.nodes.size
        return replace(
            self,
            sends=tuple(part for part in sends if part.rows.size),
            receives=tuple(part for part in receives if part.rows.size),
            kept=_ranges(leaving, self.kept),
            arrival=_ranges(in_message_order, self.arrival),
        )


def _ranges(counts: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions of the rows of the chosen groups, where group g has counts[g] rows and groups follow each other."""
    starts = np.cumsum(counts) - counts
    lengths = counts[chosen]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    positions: npt.NDArray[np.int64] = starts[chosen].repeat(lengths) + within
    return positions
