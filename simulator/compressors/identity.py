"""The identity: rows are coded without loss, through the same code as compressed rows.

Q(v) = v, delta = 1.
Sends: D numbers of the rows' own type.
Source: none.
Departures: none.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import section


@dataclass(frozen=True, kw_only=True)
class Identity(Compressor):
    """Sends rows unchanged."""

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return num_columns * dtype.itemsize

    def contraction(self, num_columns: int) -> float:
        return 1.0

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        rows = rows.detach().contiguous()
        return Coded(packed=rows.view(torch.uint8), values=rows)

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        return section(packed, 0, packed.shape[1], dtype)
