"""A block of W_t as a linear map of rows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.network.device_index import DeviceIndex
from simulator.padding import empty_as, with_padding
from simulator.uploads import upload

# From this share of non-zero entries on a dense product is faster than summing the rows one by one (measured on CPU).
_DENSE_MIN_DENSITY = 0.35


@dataclass(eq=False)
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
        """Adds this block times ``rows`` [columns, D] to ``out`` [N, D] in place; skips rows without entries."""
        if self.weight.size:
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
        array = np.zeros(self.shape)
        array[self.row, self.column] = self.weight
        matrix = upload(array, device, dtype)

        def product(rows: Tensor) -> Tensor:
            return torch.mm(matrix, rows, out=empty_as(rows, len(matrix)))

        return product

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
