"""One round prepared for one process: who sends which rows to whom, and the local part of W_t.

A plan depends only on the edges of the round and on the placement, so every process makes its own without a word
to the others. Shapes: N local nodes, R rows received from other processes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from simulator.graphs.base import Edges
from simulator.network.ledger import Links
from simulator.placement import Placement

# From this share of non-zero entries on a dense product is faster than summing the rows one by one (measured on CPU).
_DENSE_MIN_DENSITY = 0.1


@dataclass(frozen=True)
class PeerRows:
    """The rows that cross between this process and one peer in a round.

    Attributes:
        peer: the other process.
        nodes: global index of the node that each row comes from, ascending, int64.
        rows: for rows that leave, where each stands in the tensors that are sent, ascending, int64.
    """

    peer: int
    nodes: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


@dataclass(eq=False)
class WeightMatrix:
    """A block of W_t with N rows, multiplied densely or as weighted sums of rows, whichever is faster.

    The entries are sorted by (row, column).
    """

    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    shape: tuple[int, int]
    _products: dict[tuple[torch.dtype, torch.device], Callable[[Tensor], Tensor]] = field(default_factory=dict)

    @property
    def is_dense(self) -> bool:
        """Whether products are dense."""
        return self.weight.size >= _DENSE_MIN_DENSITY * self.shape[0] * self.shape[1]

    def multiply(self, rows: Tensor) -> Tensor:
        """Returns this block times ``rows`` [columns, D]; shape [N, D]."""
        if self.weight.size == 0 or rows.shape[1] == 0:
            return rows.new_zeros(self.shape[0], rows.shape[1])
        key = (rows.dtype, rows.device)
        if key not in self._products:
            self._products[key] = (self._dense if self.is_dense else self._sparse)(*key)
        return self._products[key](rows)

    def add_product_(self, out: Tensor, rows: Tensor) -> None:
        """Adds this block times ``rows`` to ``out`` [N, D], in place; touches only rows of ``out`` with entries."""
        if self.weight.size:
            index, block = self._nonzero_rows
            product = block.multiply(rows)
            if len(product) == len(out):
                out.add_(product)
            else:
                out.index_add_(0, torch.from_numpy(index).to(out.device), product)

    @cached_property
    def _nonzero_rows(self) -> tuple[npt.NDArray[np.int64], "WeightMatrix"]:
        """The rows that have entries, and the block of these rows alone."""
        index, row = np.unique(self.row, return_inverse=True)
        return index, WeightMatrix(row, self.column, self.weight, (index.size, self.shape[1]))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
        array = np.zeros(self.shape)
        array[self.row, self.column] = self.weight
        return torch.from_numpy(array).to(device, dtype).matmul

    def _sparse(self, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
        """An embedding bag is what a sparse product is called where it is fast: one weighted sum of rows per bag."""
        ends = np.searchsorted(self.row, np.arange(self.shape[0] + 1))
        return partial(
            F.embedding_bag,
            torch.from_numpy(self.column.copy()).to(device),
            offsets=torch.from_numpy(ends).to(device),
            per_sample_weights=torch.from_numpy(self.weight.copy()).to(device, dtype),
            mode="sum",
            include_last_offset=True,
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """One round for one process.

    Attributes:
        links: all edges of the round between different nodes of the whole graph.
        sends, receives: rows by peer, peers ascending; a row that several nodes of one process need crosses once.
        local: W_t from local nodes to local nodes, [N, N].
        remote: W_t from received rows to local nodes, [N, R]; column order is that of ``receives``.
        in_source, in_target: the entries of W_t that end at local nodes (self-loops included), global indices.
        in_row: where the message of each of these entries stands in [local rows; received rows].
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
            # Copies, because the arrays of an edge list are read-only and torch.from_numpy wants to write.
            return cls(links, (), (), local, remote, source.copy(), target.copy(), weight.copy(), source.copy())

        source_is_local = (edges.source >= nodes.start) & (edges.source < nodes.stop)
        target_is_local = (edges.target >= nodes.start) & (edges.target < nodes.stop)
        source, target = edges.source[target_is_local], edges.target[target_is_local]
        weight = edges.weight[target_is_local]
        from_here = source_is_local[target_is_local]

        needed = np.unique(source[~from_here])
        receives = tuple(_by_peer(placement.rank_of(needed), needed, needed - nodes.start))

        leaving = source_is_local & ~target_is_local
        peers = placement.rank_of(edges.target[leaving])
        crossing = np.unique(peers * placement.num_nodes + edges.source[leaving])
        peers, crossing = np.divmod(crossing, placement.num_nodes)
        sends = tuple(_by_peer(peers, crossing, crossing - nodes.start))

        in_row = np.where(from_here, source - nodes.start, len(nodes) + np.searchsorted(needed, source))
        row = target - nodes.start
        local = WeightMatrix(row[from_here], in_row[from_here], weight[from_here], (len(nodes), len(nodes)))
        remote = WeightMatrix(
            row[~from_here], in_row[~from_here] - len(nodes), weight[~from_here], (len(nodes), needed.size)
        )
        return cls(links, sends, receives, local, remote, source, target, weight, in_row)


@dataclass(frozen=True, eq=False)
class LinkPlan:
    """One round of messages that differ by edge, for one process; self-loops carry nothing.

    Attributes:
        links: all edges of the round between different nodes of the whole graph.
        out_source, out_target: the edges that leave local nodes, sorted by (source, target), global indices.
        in_source, in_target: the edges that enter local nodes, sorted by (target, source), global indices.
        out_weight, in_weight: W_t[target, source] of the edges that leave and that enter.
        sends, receives: messages by peer, peers ascending, each part sorted by (source, target).
        kept: rows among the leaving messages whose target is local.
        arrival: where the message of each entering edge stands in [kept messages; received messages].
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
        sends = tuple(_by_peer(ranks[crossing], out_source[crossing], crossing))

        in_source, in_target = source[target_is_local], target[target_is_local]
        ranks = placement.rank_of(in_source)
        order = np.lexsort((in_target, in_source, ranks, ranks != placement.rank))
        received = order[kept.size :]
        receives = tuple(_by_peer(ranks[received], in_source[received], received))
        arrival = np.empty(order.size, dtype=np.int64)
        arrival[order] = np.arange(order.size)
        return cls(
            Links.build(edges.source, edges.target, placement.num_nodes),
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

    def widen(self, leaving: npt.NDArray[np.int64], entering: npt.NDArray[np.int64]) -> "LinkPlan":
        """The same round when edges carry several rows each.

        Args:
            leaving: rows of every edge of ``out_source``; entering: rows of every edge of ``in_source``.
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
    """Where the rows of the chosen groups stand, when group g has counts[g] rows and groups follow each other."""
    starts = np.cumsum(counts) - counts
    lengths = counts[chosen]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    positions: npt.NDArray[np.int64] = starts[chosen].repeat(lengths) + within
    return positions


def _by_peer(peers: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> list[PeerRows]:
    """Splits rows whose peers ascend into one entry per peer."""
    if peers.size == 0:
        return []
    starts = np.flatnonzero(np.r_[True, peers[1:] != peers[:-1]])
    parts = zip(starts, np.split(nodes, starts[1:]), np.split(rows, starts[1:]), strict=True)
    return [PeerRows(int(peers[s]), from_nodes, at) for s, from_nodes, at in parts]
