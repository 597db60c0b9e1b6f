"""Codes for which k of q columns were kept; their length depends on k and q alone, so that receivers know it.

    smallest   k numbers of the narrowest of 8, 16 and 32 bits that fits q
    int32      k numbers of 32 bits
    bitmap     q bits, k of them ones
    golomb     the columns' l low bits, k l bits in all; the rest c >> l of column number i as a one at bit
               (c >> l) + i of k + ((q - 1) >> l) further bits; l is the one that makes the code shortest

The last is the Elias-Fano representation of an ascending sequence, in the family of Golomb's and Rice's codes. The two
streams begin with a byte each, as in :mod:`simulator.compressors.bits`.

Source: Elias, Journal of the ACM 1974; Fano, MIT memorandum 61, 1971; Golomb, IEEE Transactions on Information Theory
1966.

Shapes: N rows, q columns, k kept columns of a row, C bytes of a row's code.
"""

from abc import ABC, abstractmethod
from functools import cache

import torch
from torch import Tensor

from simulator.compressors.bits import pack, packed_bytes, section, unpack
from simulator.compressors.selection import columns_of, true_positions


class IndexCoding(ABC):
    """Ascending columns [N, k] of rows of q columns, to bytes [N, C] and back."""

    @abstractmethod
    def num_bytes(self, q: int, k: int) -> int:
        """Bytes C of a row's code."""

    @abstractmethod
    def encode(self, columns: Tensor, q: int) -> Tensor:
        """Bytes [N, C] of ``columns`` [N, k], int64, ascending in every row."""

    @abstractmethod
    def decode(self, code: Tensor, q: int, k: int) -> Tensor:
        """The columns [N, k], int64, of ``code`` [N, C]."""


class Int32(IndexCoding):
    """Each column in 32 bits."""

    def dtype(self, q: int) -> torch.dtype:
        """The type of a column's number."""
        return torch.int32

    def num_bytes(self, q: int, k: int) -> int:
        return k * self.dtype(q).itemsize

    def encode(self, columns: Tensor, q: int) -> Tensor:
        return columns.to(self.dtype(q)).view(torch.uint8)

    def decode(self, code: Tensor, q: int, k: int) -> Tensor:
        return section(code, 0, code.shape[1], self.dtype(q)).to(torch.int64)


class Smallest(Int32):
    """Each column in 8, 16 or 32 bits."""

    def dtype(self, q: int) -> torch.dtype:
        return torch.uint8 if q <= 2**8 else torch.uint16 if q <= 2**16 else torch.int32


class Bitmap(IndexCoding):
    """One bit per column."""

    def num_bytes(self, q: int, k: int) -> int:
        return packed_bytes(q, 1)

    def encode(self, columns: Tensor, q: int) -> Tensor:
        return pack(_ones_at(columns, q), 1)

    def decode(self, code: Tensor, q: int, k: int) -> Tensor:
        return _columns_of_ones(unpack(code, q, 1), k)


class Golomb(IndexCoding):
    """Low bits as they are, high parts in unary."""

    def num_bytes(self, q: int, k: int) -> int:
        return _golomb_bytes(q, k, _num_low_bits(q, k))

    def encode(self, columns: Tensor, q: int) -> Tensor:
        k = columns.shape[1]
        low_bits = _num_low_bits(q, k)
        parts = [(columns >> shift).to(torch.uint8) for shift in range(0, low_bits - 7, 8)]
        if low_bits % 8:
            rest = (columns >> (low_bits // 8 * 8)) & (2 ** (low_bits % 8) - 1)
            parts.append(pack(rest.to(torch.uint8), low_bits % 8))
        ones = (columns >> low_bits) + torch.arange(k, device=columns.device)
        return torch.cat([*parts, pack(_ones_at(ones, k + ((q - 1) >> low_bits)), 1)], dim=1)

    def decode(self, code: Tensor, q: int, k: int) -> Tensor:
        low_bits = _num_low_bits(q, k)
        start = packed_bytes(k, low_bits)
        ones = _columns_of_ones(unpack(code[:, start:], k + ((q - 1) >> low_bits), 1), k)
        columns = (ones - torch.arange(k, device=code.device)) << low_bits
        for shift in range(0, low_bits - 7, 8):
            columns |= code[:, shift // 8 * k : (shift // 8 + 1) * k].to(torch.int64) << shift
        if low_bits % 8:
            whole = low_bits // 8
            columns |= unpack(code[:, whole * k : start], k, low_bits % 8).to(torch.int64) << (8 * whole)
        return columns


class Auto(IndexCoding):
    """The shortest of all codes for the q and k at hand."""

    def num_bytes(self, q: int, k: int) -> int:
        return _shortest(q, k).num_bytes(q, k)

    def encode(self, columns: Tensor, q: int) -> Tensor:
        return _shortest(q, columns.shape[1]).encode(columns, q)

    def decode(self, code: Tensor, q: int, k: int) -> Tensor:
        return _shortest(q, k).decode(code, q, k)


def _shortest(q: int, k: int) -> IndexCoding:
    """The shortest code; among equally short ones the one that is fastest to read."""
    return min((Smallest(), Bitmap(), Golomb()), key=lambda coding: coding.num_bytes(q, k))


def _golomb_bytes(q: int, k: int, low_bits: int) -> int:
    return packed_bytes(k, low_bits) + packed_bytes(k + ((q - 1) >> low_bits), 1)


@cache
def _num_low_bits(q: int, k: int) -> int:
    """The l of the shortest Golomb code, the lowest if there are several."""
    return min(range(32), key=lambda low_bits: _golomb_bytes(q, k, low_bits))


def _ones_at(columns: Tensor, width: int) -> Tensor:
    """Rows [N, width] of bytes that are 1 in the given columns [N, k] and 0 elsewhere."""
    return torch.zeros(len(columns), width, dtype=torch.uint8, device=columns.device).scatter_(1, columns, 1)


def _columns_of_ones(ones: Tensor, k: int) -> Tensor:
    """Columns [N, k] of the ones in rows [N, width] of bytes that are 0 or 1, k of them in each row."""
    return columns_of(true_positions(ones.view(torch.bool), k), k, ones.shape[1])


INDEX_CODINGS: dict[str, IndexCoding] = {
    "smallest": Smallest(),
    "int32": Int32(),
    "bitmap": Bitmap(),
    "golomb": Golomb(),
    "auto": Auto(),
}
