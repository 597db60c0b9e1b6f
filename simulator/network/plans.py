"""One round of :meth:`Network.mix` prepared for one process: which rows go where, and the local part of W_t.

A plan depends only on the edges of the round and on the placement, so every process makes its own without
communication. Shapes: N local nodes, R rows received from other processes, E entries of W_t that end at local nodes.

Where messages may be late, every local node has a slot for each round in which one may arrive: slot d of a node takes
the shares that arrive d rounds after this one, and the blocks of W_t have a row for every node and slot.
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
        local: W_t from local nodes to local nodes, [N, N]; with S slots [N * S, N].
        remote: W_t from received rows to local nodes, [N, R]; column order is that of ``receives``. With S slots
            [N * S, R].
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
    def build(
        cls, edges: Edges, placement: Placement, delay: npt.NDArray[np.int64] | None = None, num_slots: int = 1
    ) -> "Plan":
        """Prepares the round of ``edges`` for the process of ``placement``.

        Args:
            delay: slot of every entry of W_t, below ``num_slots``, int64 [E]; None where there is one slot.
            num_slots: rounds in which a message may arrive, S.
        """
        if delay is None:
            delay = np.zeros(edges.source.size, dtype=np.int64)
        links = Links.build(edges.source, edges.target, placement.num_nodes)
        nodes = placement.nodes
        if placement.world_size == 1:
            source, target, weight = edges.source, edges.target, edges.weight
            local = _block(target * num_slots + delay, source, weight, (len(nodes) * num_slots, len(nodes)))
            nothing = np.zeros(0, dtype=np.int64)
            remote = WeightMatrix(nothing, nothing, np.zeros(0), (len(nodes) * num_slots, 0))
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
        row = (target - nodes.start) * num_slots + delay[target_is_local]
        num_rows = len(nodes) * num_slots
        local = _block(row[from_here], in_row[from_here], weight[from_here], (num_rows, len(nodes)))
        remote = _block(row[~from_here], in_row[~from_here] - len(nodes), weight[~from_here], (num_rows, needed.size))
        return cls(links, sends, receives, local, remote, source, target, weight, in_row)


def _block(
    row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], weight: npt.NDArray[np.float64], shape: tuple[int, int]
) -> WeightMatrix:
    """A block of W_t; entries come sorted by (target, source), which slots put into another order of rows."""
    order = np.argsort(row, kind="stable")
    return WeightMatrix(row[order], column[order], weight[order], shape)
