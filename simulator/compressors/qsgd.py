"""QSGD with s levels: stochastic rounding of a bucket of columns to multiples of the bucket's norm / s.

A row of q columns is cut into buckets of b columns, the last one shorter where b does not divide q. For a bucket v
    U(v) = ||v|| sign(v) floor(s |v| / ||v|| + u) / s, with u uniform in [0, 1) for every entry,
which is unbiased, E U(v) = v, and E||v - U(v)||^2 <= omega ||v||^2 with omega = min(b / s^2, sqrt(b) / s).
unbiased=true:   Q(v) = U(v), delta = 1 - omega. A contraction only for omega < 1, that is for many levels.
unbiased=false:  Q(v) = U(v) / (1 + omega), delta = 1 / (1 + omega). Always a contraction.
Sends: ||v|| of every bucket in the wire type, which both sides round with, then ceil(log2(2 s + 1)) bits per column
that hold the signed level plus s.
Source: Alistarh, Grubic, Li, Tomioka and Vojnovic, NeurIPS 2017 (arXiv 1610.02132), with buckets as in their
experiments; the factor 1 / (1 + omega) after Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340).
Departures: u is a multiple of 2^-16 plus 2^-17, and negative entries take 1 - u in place of u, which has the same
distribution: so floor(s v / ||v|| + u) is the signed level. Entropy coding is left out, so that lengths are known
beforehand.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import pack, packed_bytes, section, unpack
from simulator.compressors.norms import row_norms
from simulator.compressors.wire import check_wire_dtype, wire_type
from simulator.randomness import expand, expand_on_device
from simulator.uploads import upload

# Buckets with a smaller norm count as zeros: levels per unit would overflow float32.
_SMALLEST_NORM = 1e-36


@dataclass(frozen=True, kw_only=True)
class QSGD(Compressor):
    """Rounds at random to few levels.

    Args:
        levels: s, positive levels besides zero, 1 to 127.
        bucket_size: b, columns that share a norm, at least 1; None for one norm per row.
        unbiased: whether E Q(v) = v, instead of a scale that makes Q a contraction.
        wire_dtype: of the norms sent: ``float32``, ``float64``, or None for the type of the rows.
    """

    levels: int
    bucket_size: int | None
    unbiased: bool
    wire_dtype: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.levels <= 127:
            raise ValueError(f"compressor.levels={self.levels}: expected an integer from 1 to 127")
        if self.bucket_size is not None and self.bucket_size < 1:
            raise ValueError(
                f"compressor.bucket_size={self.bucket_size}: expected an integer of at least 1, or null for one norm "
                "per row"
            )
        check_wire_dtype(self.wire_dtype)

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return self._norm_bytes(num_columns, dtype) + packed_bytes(num_columns, self._width)

    def contraction(self, num_columns: int) -> float:
        omega = self._omega(num_columns)
        return 1.0 - omega if self.unbiased else 1.0 / (1.0 + omega)

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        rows = rows.detach()
        q, s = rows.shape[1], self.levels
        norms = norms_used = self._norms(rows).to(wire_type(self.wire_dtype, rows.dtype))
        usable = (norms > _SMALLEST_NORM) & norms.isfinite()
        # Where not, level 0 everywhere; multiplied with an infinite or NaN norm it decodes to NaN. The host of another
        # device would have to wait for the answer.
        if rows.device.type != "cpu" or not usable.all():
            rows = torch.where(self._by_column(usable, q), rows, 0.0)
            norms_used = norms.where(usable, 1.0)
        per_unit = self._by_column(s / norms_used.to(rows.dtype), q)
        codes = _noise(keys, q, rows).add_(s).addcmul_(rows, per_unit).to(torch.uint8)
        codes.clamp_(max=2 * s)  # rounding errors can raise an entry of the norm's size to level s + 1
        packed = torch.cat([norms.view(torch.uint8), pack(codes, self._width)], dim=1)
        return Coded(packed=packed, values=self._values(codes, norms, rows.dtype))

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        num_bytes = self._norm_bytes(num_columns, dtype)
        norms = section(packed, 0, num_bytes, wire_type(self.wire_dtype, dtype))
        return self._values(unpack(packed[:, num_bytes:], num_columns, self._width), norms, dtype)

    @property
    def _width(self) -> int:
        """Bits of a number from 0 to 2 s."""
        return (2 * self.levels).bit_length()

    def _columns_per_bucket(self, num_columns: int) -> int:
        return num_columns if self.bucket_size is None else min(self.bucket_size, num_columns)

    def _num_buckets(self, num_columns: int) -> int:
        return -(-num_columns // self._columns_per_bucket(num_columns))

    def _norm_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return wire_type(self.wire_dtype, dtype).itemsize * self._num_buckets(num_columns)

    def _omega(self, num_columns: int) -> float:
        b = self._columns_per_bucket(num_columns)
        return min(b / self.levels**2, sqrt(b) / self.levels)

    def _norms(self, rows: Tensor) -> Tensor:
        """The 2-norm of every bucket of ``rows`` [N, D], as float64 [N, number of buckets]."""
        num_rows, q = rows.shape
        b, num_buckets = self._columns_per_bucket(q), self._num_buckets(q)
        padded = F.pad(rows, (0, b * num_buckets - q)) if q % b else rows
        return row_norms(padded.reshape(num_rows * num_buckets, b), 2).view(num_rows, num_buckets)

    def _by_column(self, of_buckets: Tensor, num_columns: int) -> Tensor:
        """What is given for every bucket [R, number of buckets], for every column; [R, 1] where there is one bucket."""
        if of_buckets.shape[1] == 1:
            return of_buckets
        return of_buckets.repeat_interleave(self._columns_per_bucket(num_columns), dim=1)[:, :num_columns]

    def _values(self, codes: Tensor, norms: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows [R, D] from signed levels plus s, [R, D] uint8, and norms [R, number of buckets]."""
        q = codes.shape[1]
        scale = 1.0 if self.unbiased else 1.0 + self._omega(q)
        step = norms.to(dtype) / (self.levels * scale)
        return (codes - self.levels).view(torch.int8).to(dtype).mul_(self._by_column(step, q))


def _noise(keys: npt.NDArray[np.uint64], q: int, rows: Tensor) -> Tensor:
    """Noise u for every entry of rows [N, q], of their type and on their device."""
    count = (q + 3) // 4
    if rows.device.type == "cpu":
        words = torch.from_numpy(expand(keys, count).view(np.int16))
    else:  # a key per row crosses, and not a number per entry
        words = expand_on_device(upload(keys.copy().view(np.int64), rows.device), count).view(torch.int16)
    return words[:, :q].to(rows.dtype).mul_(2.0**-16).add_(0.5 + 2.0**-17)
