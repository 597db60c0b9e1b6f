"""One round of :meth:`Network.mix` prepared for one process: which rows go where, and the local part of W_t.

A plan depends only on the edges of the round and on the placement, so every process makes its own without
communication. Shapes: N local nodes, R rows received from other processes, E entries of W_t that end at local nodes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.graphs.base import Edges
from simulator.network.ledger import Links
from simulator.network.peer_rows import PeerRows, by_peer
from simulator.network.weight_matrix import WeightMatrix
from simulator.placement import Placement


@dataclass(frozen=True, eq=False)
class Plan:
    """One round for one process.

    Attributes:
        links: all edges of the round between different nodes of the whole graph.
        sends, receives: rows by peer, peers ascending; a row that several nodes of one process need crosses once.
        local: W_t from local nodes to local nodes, [N, N].
        remote: W_t from received rows to local nodes, [N, R]; column order is that of ``receives``.
        in_source, in_target: the entries of W_t that end at local nodes (self-loops included), global indices [E].
        in_weight: W_t[target, source] of these entries, [E].
        in_row: position in [local rows; received rows] of the message of each of these entries, [E].
    """

    links: Links
    sends: tuple[PeerRows, ...]
    receives: tuple[PeerRows, ...]
    local: WeightMatrix
    remote: WeightMatrix
    in_source: npt.NDArray[np.int64]
    in_target: npt.NDArray[np.int64]
    in_weight: npt.NDArray[np.float64]
    in_row: npt.NDArray[np.int64]

    @classmethod
    def build(cls, edges: Edges, placement: Placement) -> "Plan":
        """Prepares the round of ``edges`` for the process of ``placement``."""
        links = Links.build(edges.source, edges.target, placement.num_nodes)
        nodes = placement.nodes
        if placement.world_size == 1:
            source, target, weight = edges.source, edges.target, edges.weight
            local = WeightMatrix(target, source, weight, (len(nodes), len(nodes)))
            nothing = np.zeros(0, dtype=np.int64)
            remote = WeightMatrix(nothing, nothing, np.zeros(0), (len(nodes), 0))
            # Copies, because the arrays of an edge list are read-only, and torch.from_numpy warns about those.
            return cls(links, (), (), local, remote, source.copy(), target.copy(), weight.copy(), source.copy())

        source_is_local = (edges.source >= nodes.start) & (edges.source < nodes.stop)
        target_is_local = (edges.target >= nodes.start) & (edges.target < nodes.stop)
        source, target = edges.source[target_is_local], edges.target[target_is_local]
        weight = edges.weight[target_is_local]
        from_here = source_is_local[target_is_local]

        needed = np.unique(source[~from_here])
        receives = tuple(by_peer(placement.rank_of(needed), needed, needed - nodes.start))

        leaving = source_is_local & ~target_is_local
        peers = placement.rank_of(edges.target[leaving])
        crossing = np.unique(peers * placement.num_nodes + edges.source[leaving])
        peers, crossing = np.divmod(crossing, placement.num_nodes)
        sends = tuple(by_peer(peers, crossing, crossing - nodes.start))

        in_row = np.where(from_here, source - nodes.start, len(nodes) + np.searchsorted(needed, source))
        row = target - nodes.start
        local = WeightMatrix(row[from_here], in_row[from_here], weight[from_here], (len(nodes), len(nodes)))
        remote = WeightMatrix(
            row[~from_here], in_row[~from_here] - len(nodes), weight[~from_here], (len(nodes), needed.size)
        )
        return cls(links, sends, receives, local, remote, source, target, weight, in_row)
