"""Signs and one norm: every entry becomes plus or minus the mean absolute value of the row.

Q(v) = (||v||_1 / q) sign(v), with sign(0) = +1, so ||v - Q(v)||^2 = ||v||^2 - ||v||_1^2 / q and delta is
||v||_1^2 / (q ||v||^2): 0.64 for normally distributed entries, and 1 / q at least. One mean serves the whole row, so
where the entries of some layers are much smaller than those of others, their signs come out far too large.
Sends: the mean absolute value in the wire type, then one bit per column, 0 for negative entries.
Source: Karimireddy, Rebjock, Stich and Jaggi, ICML 2019 (arXiv 1901.09847), section 4.
Departures: sign(0) is +1, since one bit has no third value.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import pack, packed_bytes, section, unpack_signs
from simulator.compressors.norms import row_norms
from simulator.compressors.selection import at_least
from simulator.compressors.wire import check_wire_dtype, wire_type


@dataclass(frozen=True, kw_only=True)
class Sign(Compressor):
    """Sends signs and the mean absolute value.

    Args:
        wire_dtype: of the mean absolute value: ``float32``, ``float64``, or None for the type of the rows.
    """

    wire_dtype: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_wire_dtype(self.wire_dtype)

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return wire_type(self.wire_dtype, dtype).itemsize + packed_bytes(num_columns, 1)

    def contraction(self, num_columns: int) -> float:
        return 1.0 / num_columns

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        rows = rows.detach()
        size = (row_norms(rows, 1) / rows.shape[1]).to(wire_type(self.wire_dtype, rows.dtype))
        positive = pack(at_least(rows, rows.new_zeros(1)).view(torch.uint8), 1)
        packed = torch.cat([size[:, None].view(torch.uint8), positive], dim=1)
        return Coded(packed=packed, values=self.decode(packed, rows.shape[1], rows.dtype))

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        wire = wire_type(self.wire_dtype, dtype)
        size = section(packed, 0, wire.itemsize, wire).to(dtype)
        return unpack_signs(packed[:, wire.itemsize :], num_columns, dtype) * size
