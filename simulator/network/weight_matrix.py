"""A block of W_t as a linear map of rows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.graphs.dense_edges import DenseEdges
from simulator.network.device_index import DeviceIndex
from simulator.padding import empty_as, with_padding
from simulator.uploads import upload

# Sums read a row per entry and write a row per node; a dense product multiplies every pair of nodes. A dense product is
# faster up to so many pairs for each row that sums read or write (measured on a CPU; sums of long rows miss the cache).
_PAIRS_PER_ROW = 4
_PAIRS_PER_LONG_ROW = 8
_LONG_ROW_BYTES = 128 * 1024


@dataclass(frozen=True, eq=False)
class WeightMatrix:
    """A block of W_t with N rows. Products are dense or weighted sums of rows, whichever is faster.

    Attributes:
        row, column, weight: the non-zero entries, sorted by (row, column); int64, int64 and float64, each [E].
        shape: numbers of rows and columns of the block.
    """

    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    shape: tuple[int, int]
    _products: dict[tuple[torch.dtype, torch.device, bool], Callable[[Tensor], Tensor]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of entries, E."""
        return self.weight.size

    def is_dense(self, row_bytes: int) -> bool:
        """Whether products with rows of ``row_bytes`` bytes are dense."""
        pairs_per_row = _PAIRS_PER_LONG_ROW if row_bytes > _LONG_ROW_BYTES else _PAIRS_PER_ROW
        return self.shape[0] * self.shape[1] <= pairs_per_row * (self.size + self.shape[0])

    def multiply(self, rows: Tensor) -> Tensor:
        """Returns this block times ``rows`` [columns, D]; shape [N, D]."""
        if self.size == 0 or rows.shape[1] == 0:
            return rows.new_zeros(self.shape[0], rows.shape[1])
        is_dense = self.is_dense(rows.shape[1] * rows.element_size())
        key = (rows.dtype, rows.device, is_dense)
        if key not in self._products:
            self._products[key] = (self._dense if is_dense else self._sparse)(rows.dtype, rows.device)
        return self._products[key](rows)

    def add_product_(self, out: Tensor, rows: Tensor) -> None:
        """Adds this block times ``rows`` [columns, D] to ``out`` [N, D] in place; skips rows without entries."""
        if self.size:
            index, block = self._nonzero_rows
            product = block.multiply(rows)
            if len(product) == len(out):
                out.add_(product)
            else:
                out.index_add_(0, index.on(out.device), product)

    @cached_property
    def _nonzero_rows(self) -> tuple[DeviceIndex, "WeightMatrix"]:
        """The rows that have entries, and the block of these rows alone."""
        index, row = np.unique(self.row, return_inverse=True)
        return DeviceIndex(index), WeightMatrix(row, self.column, self.weight, (index.size, self.shape[1]))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
        matrix = upload(self._array(dtype), device, dtype)

        def product(rows: Tensor) -> Tensor:
            return torch.mm(matrix, rows, out=empty_as(rows, len(matrix)))

        return product

    def _array(self, dtype: torch.dtype) -> npt.NDArray[np.floating]:
        """This block as a matrix, in ``dtype`` or in one that is rounded to it."""
        array = np.zeros(self.shape)
        array[self.row, self.column] = self.weight
        return array

    def _sparse(self, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
        """The product as an embedding bag: one weighted sum of rows per bag, which is a fast sparse product."""
        columns, ends = upload(self.column.copy(), device), upload(self._ends, device)
        weights = upload(self.weight.copy(), device, dtype)

        def product(rows: Tensor) -> Tensor:
            # Neither gradients by frequency nor sparse ones; the mode of sums; the last end is given.
            sums = torch.embedding_bag(with_padding(rows), columns, ends, False, 0, False, weights, True)[0]
            return sums[:, : rows.shape[1]] if sums.shape[1] > rows.shape[1] else sums

        return product

    @property
    def _ends(self) -> npt.NDArray[np.int64]:
        """Where the entries of every row begin, and the number of entries, [N + 1]."""
        return np.searchsorted(self.row, np.arange(self.shape[0] + 1))


class MaskedMatrix(WeightMatrix):
    """A block of a W_t that is a mask; its entries are listed only where somebody asks for them.

    Args:
        edges: W_t.
        rows: the targets of the block.
        columns: the sources, as in :meth:`simulator.graphs.dense_edges.DenseEdges.block`.
    """

    def __init__(self, edges: DenseEdges, rows: slice, columns: slice | npt.NDArray[np.int64]) -> None:
        mask = edges.joined[rows, columns]
        # The class is frozen, and entries are computed when they are asked for.
        self.__dict__.update(shape=mask.shape, _products={}, _mask=mask, _size=int(np.count_nonzero(mask)))
        self.__dict__.update(_edges=edges, _rows=rows, _columns=columns)

    _edges: DenseEdges
    _rows: slice
    _columns: slice | npt.NDArray[np.int64]
    _mask: npt.NDArray[np.bool_]
    _size: int

    @property
    def size(self) -> int:
        """The number of entries, E."""
        return self._size

    @cached_property
    def _entries(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        row, column = np.divmod(np.flatnonzero(self._mask), max(self.shape[1], 1))
        return row, column

    @cached_property
    def row(self) -> npt.NDArray[np.int64]:
        """The row of each entry, [E]."""
        return self._entries[0]

    @cached_property
    def column(self) -> npt.NDArray[np.int64]:
        """The column of each entry, [E]."""
        return self._entries[1]

    @cached_property
    def weight(self) -> npt.NDArray[np.float64]:
        """Each entry, [E]."""
        nodes = np.arange(len(self._edges.joined))
        return self._edges.weights_of(nodes[self._columns][self.column], nodes[self._rows][self.row])

    def _array(self, dtype: torch.dtype) -> npt.NDArray[np.floating]:
        return self._edges.block(self._rows, self._columns, np.float32 if dtype == torch.float32 else np.float64)
