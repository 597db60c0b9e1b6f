"""One round prepared for one process: who sends which rows to whom, and the local part of W_t.

A plan depends only on the edges of the round and on the placement, so every process makes its own without a word
to the others. Shapes: N local nodes, R rows received from other processes.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.graphs.base import Edges
from simulator.ledger import Links
from simulator.placement import Placement

# Above this many entries per row of the product a dense matrix is slower than a sparse one (measured on CPU).
_DENSE_MAX_NODES = 64
_DENSE_MIN_DENSITY = 0.1


@dataclass(frozen=True)
class PeerRows:
    """The rows that cross between this process and one peer in a round.

    Attributes:
        peer: the other process.
        nodes: global indices of the nodes whose rows cross, ascending, int64.
    """

    peer: int
    nodes: npt.NDArray[np.int64]


@dataclass(eq=False)
class WeightMatrix:
    """A block of W_t with N rows, kept sparse or dense, whichever multiplies faster."""

    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    shape: tuple[int, int]
    _matrices: dict[tuple[torch.dtype, torch.device], Tensor] = field(default_factory=dict)

    def _matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (dtype, device)
        if key not in self._matrices:
            num_rows, num_columns = self.shape
            dense = max(num_rows, num_columns) <= _DENSE_MAX_NODES
            dense = dense or self.weight.size >= _DENSE_MIN_DENSITY * num_rows * num_columns
            if dense:
                array = np.zeros(self.shape)
                array[self.row, self.column] = self.weight
                matrix = torch.from_numpy(array).to(dtype).to(device)
            else:
                indices = torch.from_numpy(np.stack([self.row, self.column]))
                values = torch.from_numpy(self.weight.copy()).to(dtype)
                matrix = torch.sparse_coo_tensor(
                    indices, values, self.shape, is_coalesced=True, check_invariants=False
                ).to(device)
            self._matrices[key] = matrix
        return self._matrices[key]

    def multiply(self, rows: Tensor) -> Tensor:
        """Returns this block times ``rows`` [columns, D]; shape [N, D]."""
        matrix = self._matrix(rows.dtype, rows.device)
        return torch.sparse.mm(matrix, rows) if matrix.is_sparse else matrix @ rows

    def add_product_(self, out: Tensor, rows: Tensor) -> None:
        """Adds this block times ``rows`` to ``out`` [N, D], in place."""
        if self.weight.size == 0:
            return
        matrix = self._matrix(rows.dtype, rows.device)
        if matrix.is_sparse:
            out.add_(torch.sparse.mm(matrix, rows))
        else:
            out.addmm_(matrix, rows)


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
        receives = tuple(_by_peer(placement.rank_of(needed), needed))

        leaving = source_is_local & ~target_is_local
        peers = placement.rank_of(edges.target[leaving])
        crossing = np.unique(peers * placement.num_nodes + edges.source[leaving])
        sends = tuple(_by_peer(*np.divmod(crossing, placement.num_nodes)))

        in_row = np.where(from_here, source - nodes.start, len(nodes) + np.searchsorted(needed, source))
        row = target - nodes.start
        local = WeightMatrix(row[from_here], in_row[from_here], weight[from_here], (len(nodes), len(nodes)))
        remote = WeightMatrix(
            row[~from_here], in_row[~from_here] - len(nodes), weight[~from_here], (len(nodes), needed.size)
        )
        return cls(links, sends, receives, local, remote, source, target, weight, in_row)


def _by_peer(peers: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64]) -> list[PeerRows]:
    """Splits rows that are sorted by (peer, node) into one entry per peer."""
    if peers.size == 0:
        return []
    starts = np.flatnonzero(np.r_[True, peers[1:] != peers[:-1]])
    return [PeerRows(int(peers[s]), part) for s, part in zip(starts, np.split(nodes, starts[1:]), strict=True)]
