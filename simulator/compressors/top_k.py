"""Top-k: the k entries with the largest absolute values.

Q(v)_j = v_j where |v_j| is among the k largest (the lowest j of equal ones), else 0; k = max(1, round(fraction q)).
delta = k / q.
Sends: k entries of the wire type in the order of their columns, then the columns (see
:mod:`simulator.compressors.indices`).
Source: Stich, Cordonnier and Jaggi, NeurIPS 2018 (arXiv 1809.07599).
Departures: none. NaN counts as larger than everything else.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import section
from simulator.compressors.indices import INDEX_CODINGS
from simulator.compressors.selection import check_fraction, columns_of, num_kept, positions_of_largest, spread
from simulator.compressors.wire import check_wire_dtype, wire_type


@dataclass(frozen=True, kw_only=True)
class TopK(Compressor):
    """Keeps the largest entries.

    Args:
        fraction: of the columns that are kept, in (0, 1].
        index_coding: how columns are written: ``smallest``, ``int32``, ``bitmap``, ``golomb`` or ``auto``.
        wire_dtype: of the entries sent: ``float32``, ``float64``, or None for the type of the rows.
    """

    fraction: float
    index_coding: str
    wire_dtype: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(self.fraction)
        check_wire_dtype(self.wire_dtype)
        if self.index_coding not in INDEX_CODINGS:
            raise ValueError(
                f"compressor.index_coding={self.index_coding!r}: expected one of {', '.join(INDEX_CODINGS)}"
            )

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        k = num_kept(self.fraction, num_columns)
        return wire_type(self.wire_dtype, dtype).itemsize * k + INDEX_CODINGS[self.index_coding].num_bytes(
            num_columns, k
        )

    def contraction(self, num_columns: int) -> float:
        return num_kept(self.fraction, num_columns) / num_columns

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        rows = rows.detach().contiguous()
        num_rows, q = rows.shape
        k = num_kept(self.fraction, q)
        # Read as integers, absolute values keep their order, and NaN gets a place in it.
        as_integers = torch.int32 if rows.dtype == torch.float32 else torch.int64
        positions = positions_of_largest(rows.abs().view(as_integers), k)
        kept = rows.flatten().index_select(0, positions).to(wire_type(self.wire_dtype, rows.dtype))
        code = INDEX_CODINGS[self.index_coding].encode(columns_of(positions, k, q), q)
        packed = torch.cat([kept.view(torch.uint8).view(num_rows, k * kept.itemsize), code], dim=1)
        return Coded(packed=packed, values=spread(kept.to(rows.dtype), positions, num_rows, q))

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        k = num_kept(self.fraction, num_columns)
        wire = wire_type(self.wire_dtype, dtype)
        kept = section(packed, 0, wire.itemsize * k, wire).to(dtype)
        columns = INDEX_CODINGS[self.index_coding].decode(packed[:, wire.itemsize * k :], num_columns, k)
        return kept.new_zeros(len(packed), num_columns).scatter_(1, columns, kept)
