"""One round of :meth:`Network.mix` prepared for one process: which rows go where, and the local part of W_t.

A plan depends only on the edges of the round and on the placement, so every process makes its own without
communication. Shapes: N local nodes, R rows received from other processes, E entries of W_t that end at local nodes.

Where messages may be late, every local node has a slot for each round in which one may arrive: slot d of a node takes
the shares that arrive d rounds after this one, and the blocks of W_t have a row for every node and slot.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.arrays import sorted_unique
from simulator.graphs.base import Edges
from simulator.graphs.dense_edges import DenseEdges
from simulator.network.ledger import Links
from simulator.network.peer_rows import PeerRows, by_peer
from simulator.network.weight_matrix import MaskedMatrix, WeightMatrix
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
        edges: all entries of W_t.
        nodes: the local nodes.
    """

    links: Links
    sends: tuple[PeerRows, ...]
    receives: tuple[PeerRows, ...]
    local: WeightMatrix
    remote: WeightMatrix
    edges: Edges
    nodes: range

    @classmethod
    def build(
        cls, edges: Edges, placement: Placement, delay: npt.NDArray[np.int64] | None = None, num_slots: int = 1
    ) -> "Plan":
        """Prepares the round of ``edges`` for the process of ``placement``.

        Args:
            delay: slot of every entry of W_t, below ``num_slots``, int64 [E]; None where there is one slot.
            num_slots: rounds in which a message may arrive, S.
        """
        links, nodes = Links.of(edges, placement.num_nodes), placement.nodes
        if isinstance(edges, DenseEdges) and delay is None:
            sends, needed = _crossing_of_mask(edges.joined, placement)
            own = slice(nodes.start, nodes.stop)
            local: WeightMatrix = MaskedMatrix(edges, own, own)
            remote: WeightMatrix = MaskedMatrix(edges, own, needed)
        else:
            sends, needed = _crossing_of_list(edges, placement)
            local, remote = _blocks(edges, nodes, needed, delay, num_slots)
        receives = tuple(by_peer(placement.rank_of(needed), needed, needed - nodes.start))
        return cls(links, sends, receives, local, remote, edges, nodes)

    @property
    def in_source(self) -> npt.NDArray[np.int64]:
        """Where the entries of W_t that end at local nodes (self-loops included) come from, global indices [E]."""
        return self._entering[0]

    @property
    def in_target(self) -> npt.NDArray[np.int64]:
        """Where these entries end, global indices [E]."""
        return self._entering[1]

    @property
    def in_weight(self) -> npt.NDArray[np.float64]:
        """W_t[target, source] of these entries, [E]."""
        return self._entering[2]

    @cached_property
    def own_weight(self) -> npt.NDArray[np.float64]:
        """W_t[i, i] of the local nodes, [N]."""
        source, target, weight = self._entering
        loops = source == target
        own: npt.NDArray[np.float64] = np.zeros(len(self.nodes))
        own[target[loops] - self.nodes.start] = weight[loops]
        return own

    @cached_property
    def in_row(self) -> npt.NDArray[np.int64]:
        """The position in [local rows; received rows] of the message of each of these entries, [E]."""
        needed = np.concatenate([part.nodes for part in self.receives] or [np.zeros(0, dtype=np.int64)])
        return _rows_of(self.in_source, self.nodes, needed)

    @cached_property
    def _entering(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        # Copies, because the arrays of an edge list are read-only, and torch.from_numpy warns about those.
        edges, part = self.edges, _ending_at(self.edges, self.nodes)
        return edges.source[part].copy(), edges.target[part].copy(), edges.weight[part].copy()


def _ending_at(edges: Edges, nodes: range) -> slice:
    """The entries that end at ``nodes``, which follow each other."""
    first, last = np.searchsorted(edges.target, [nodes.start, nodes.stop]).tolist()
    return slice(first, last)


def _rows_of(source: npt.NDArray[np.int64], nodes: range, needed: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions in [rows of ``nodes``; rows of ``needed``], [E]."""
    if not needed.size:
        return source - nodes.start
    is_local = (source >= nodes.start) & (source < nodes.stop)
    return np.where(is_local, source - nodes.start, len(nodes) + np.searchsorted(needed, source))


def _crossing_of_list(edges: Edges, placement: Placement) -> tuple[tuple[PeerRows, ...], npt.NDArray[np.int64]]:
    """The rows that leave this process, and the nodes whose rows it needs from others, ascending, [R]."""
    nodes = placement.nodes
    if placement.world_size == 1:
        return (), np.zeros(0, dtype=np.int64)
    entering = edges.source[_ending_at(edges, nodes)]
    needed = sorted_unique(entering[(entering < nodes.start) | (entering >= nodes.stop)])
    source_is_local = (edges.source >= nodes.start) & (edges.source < nodes.stop)
    target_is_local = (edges.target >= nodes.start) & (edges.target < nodes.stop)
    leaving = source_is_local & ~target_is_local
    peers = placement.rank_of(edges.target[leaving])
    crossing = sorted_unique(peers * placement.num_nodes + edges.source[leaving])
    peers, crossing = np.divmod(crossing, placement.num_nodes)
    return tuple(by_peer(peers, crossing, crossing - nodes.start)), needed


def _crossing_of_mask(
    joined: npt.NDArray[np.bool_], placement: Placement
) -> tuple[tuple[PeerRows, ...], npt.NDArray[np.int64]]:
    """As :func:`_crossing_of_list`."""
    nodes, sends = placement.nodes, []
    for rank in range(placement.world_size):
        peer = placement.nodes_of(rank)
        rows = np.flatnonzero(joined[peer.start : peer.stop, nodes.start : nodes.stop].any(axis=0))
        if rank != placement.rank and rows.size:
            sends.append(PeerRows(rank, rows + nodes.start, rows))
    is_heard = np.logical_or.reduce(joined[nodes.start : nodes.stop], axis=0)
    is_heard[nodes.start : nodes.stop] = False
    return tuple(sends), np.flatnonzero(is_heard)


def _blocks(
    edges: Edges,
    nodes: range,
    needed: npt.NDArray[np.int64],
    delay: npt.NDArray[np.int64] | None,
    num_slots: int,
) -> tuple[WeightMatrix, WeightMatrix]:
    """The local and the remote block of W_t, with a row for every node and slot."""
    part = _ending_at(edges, nodes)
    row, weight = edges.target[part] - nodes.start, edges.weight[part]
    column = _rows_of(edges.source[part], nodes, needed)
    if delay is not None:
        row = row * num_slots + delay[part]
        order = np.argsort(row, kind="stable")
        row, column, weight = row[order], column[order], weight[order]
    num_rows = len(nodes) * num_slots
    if not needed.size:
        nothing = np.zeros(0, dtype=np.int64)
        empty = WeightMatrix(nothing, nothing, np.zeros(0), (num_rows, 0))
        return WeightMatrix(row, column, weight, (num_rows, len(nodes))), empty
    is_local = column < len(nodes)
    is_remote = ~is_local
    return (
        WeightMatrix(row[is_local], column[is_local], weight[is_local], (num_rows, len(nodes))),
        WeightMatrix(row[is_remote], column[is_remote] - len(nodes), weight[is_remote], (num_rows, needed.size)),
    )
