"""Half precision: every entry is rounded to 16 bits.

Q(v) = v rounded to nearest even in float16 or bfloat16; what is too large for the type becomes its largest number.
Needs: for the bounds below, entries in the type's range: the smallest normal number of float16 is 6.1e-5, of bfloat16
1.2e-38; below it precision goes down, and float16 turns entries under 3e-8 into zeros. The largest numbers are 65504
and 3.39e38.
Sends: 2 D bytes.
Source: IEEE 754 binary16; bfloat16 is the upper half of binary32. Rounding moves an entry by 2^-11 of itself at most in
float16 and 2^-8 in bfloat16, so 1 - delta is 2^-22 and 2^-16.
Departures: what is too large does not become infinite, as it does there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import section

_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Cast(Compressor):
    """Rounds to 16 bits.

    Args:
        dtype: ``float16`` (11 significant bits, small range) or ``bfloat16`` (8 significant bits, range of float32).
    """

    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in _TYPES:
            raise ValueError(f"compressor.dtype={self.dtype!r}: expected {' or '.join(_TYPES)}")

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return 2 * num_columns

    def contraction(self, num_columns: int) -> float:
        unit_roundoff = torch.finfo(_TYPES[self.dtype]).eps / 2
        return 1.0 - unit_roundoff**2

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        wire = _TYPES[self.dtype]
        largest = torch.finfo(wire).max
        short = rows.detach().to(wire).contiguous().clamp_(-largest, largest)  # larger entries would become infinite
        return Coded(packed=short.view(torch.uint8), values=short.to(rows.dtype))

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        return section(packed, 0, packed.shape[1], _TYPES[self.dtype]).to(dtype)
