"""QSGD with s levels: stochastic rounding to multiples of ||v|| / s.

Q(v) = ||v|| sign(v) floor(s |v| / ||v|| + U) / (s (1 + omega)), with U uniform in [0, 1) for every entry and
omega = min(q / s^2, sqrt(q) / s). Times 1 + omega it is unbiased; as it is, delta = 1 / (1 + omega) in expectation.
Sends: ||v|| as float32, which both sides round with, then ceil(log2(2 s + 1)) bits per column that hold the signed
level plus s.
Source: Alistarh, Grubic, Li, Tomioka and Vojnovic, NeurIPS 2017 (arXiv 1610.02132); the factor 1 / (1 + omega) after
Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340).
Departures: U is a multiple of 2^-16 plus 2^-17, and negative entries take 1 - U in place of U, which has the same
distribution: so floor(s v / ||v|| + U) is the signed level. Entropy coding is left out, so that lengths are known
beforehand.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import pack, packed_bytes, section, unpack
from simulator.compressors.norms import row_norms
from simulator.randomness import expand

# Rows with a smaller norm count as zeros: levels per unit would overflow float32.
_SMALLEST_NORM = 1e-36


@dataclass(frozen=True, kw_only=True)
class QSGD(Compressor):
    """Rounds at random to few levels.

    Args:
        levels: s, positive levels besides zero, 1 to 127.
    """

    levels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.levels <= 127:
            raise ValueError(f"compressor.levels={self.levels}: expected an integer from 1 to 127")

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return 4 + packed_bytes(num_columns, self._width)

    def contraction(self, num_columns: int) -> float:
        return 1.0 / (1.0 + self._omega(num_columns))

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        rows = rows.detach()
        q, s = rows.shape[1], self.levels
        norms = norms_used = row_norms(rows, 2).float()[:, None]
        usable = (norms > _SMALLEST_NORM) & norms.isfinite()
        if not usable.all():  # levels of zero; times a norm that is infinite or NaN they decode to NaN
            rows = torch.where(usable, rows, 0.0)
            norms_used = norms.where(usable, 1.0)
        codes = _noise(keys, q, rows).add_(s).addcmul_(rows, s / norms_used.to(rows.dtype)).to(torch.uint8)
        codes.clamp_(max=2 * s)  # rounding errors can raise an entry of the norm's size to level s + 1
        packed = torch.cat([norms.view(torch.uint8), pack(codes, self._width)], dim=1)
        return Coded(packed=packed, values=self._values(codes, norms, rows.dtype))

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        norms = section(packed, 0, 4, torch.float32)
        return self._values(unpack(packed[:, 4:], num_columns, self._width), norms, dtype)

    @property
    def _width(self) -> int:
        """Bits of a number from 0 to 2 s."""
        return (2 * self.levels).bit_length()

    def _omega(self, num_columns: int) -> float:
        return min(num_columns / self.levels**2, sqrt(num_columns) / self.levels)

    def _values(self, codes: Tensor, norms: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows [R, D] from signed levels plus s, [R, D] uint8, and norms [R, 1]."""
        step = norms.to(dtype) / (self.levels * (1.0 + self._omega(codes.shape[1])))
        return (codes - self.levels).view(torch.int8).to(dtype).mul_(step)


def _noise(keys: npt.NDArray[np.uint64], q: int, rows: Tensor) -> Tensor:
    """U for every entry of rows [N, q], of their type and on their device."""
    words = torch.from_numpy(expand(keys, (q + 3) // 4).view(np.int16)[:, :q])
    return words.to(rows.device).to(rows.dtype).mul_(2.0**-16).add_(0.5 + 2.0**-17)
