"""Random-k: k entries drawn uniformly at random, without rescaling.

Q(v)_j = v_j for the j of a uniformly drawn set of k columns, else 0; k = max(1, round(fraction q)). The set is fresh in
every message. delta = k / q in expectation over the set.
Sends: the 8-byte seed that the set is drawn from, then k float32 entries in the order of their columns.
Source: Stich, Cordonnier and Jaggi, NeurIPS 2018 (arXiv 1809.07599).
Departures: none. The set is that of the k largest of q words of 32 random bits.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import section
from simulator.compressors.selection import check_fraction, num_kept, positions_of_largest, spread
from simulator.randomness import expand

_SEED_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class RandomK(Compressor):
    """Keeps random entries.

    Args:
        fraction: of the columns that are kept, in (0, 1].
    """

    fraction: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(self.fraction)

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return _SEED_BYTES + 4 * num_kept(self.fraction, num_columns)

    def contraction(self, num_columns: int) -> float:
        return num_kept(self.fraction, num_columns) / num_columns

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        rows = rows.detach().contiguous()
        num_rows, q = rows.shape
        k = num_kept(self.fraction, q)
        positions = _draw(keys, q, k).to(rows.device)
        kept = rows.flatten().index_select(0, positions).float()
        seeds = torch.from_numpy(keys.copy().view(np.uint8).reshape(num_rows, _SEED_BYTES)).to(rows.device)
        packed = torch.cat([seeds, kept.view(torch.uint8).view(num_rows, 4 * k)], dim=1)
        return Coded(packed=packed, values=spread(kept.to(rows.dtype), positions, num_rows, q))

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        k = num_kept(self.fraction, num_columns)
        seeds = section(packed, 0, _SEED_BYTES, torch.int64).flatten()
        positions = _draw(seeds.cpu().numpy().view(np.uint64), num_columns, k).to(packed.device)
        kept = section(packed, _SEED_BYTES, 4 * k, torch.float32).flatten().to(dtype)
        return spread(kept, positions, len(packed), num_columns)


def _draw(seeds: npt.NDArray[np.uint64], q: int, k: int) -> Tensor:
    """Positions [R k] of k distinct columns of q for every seed [R]."""
    words = expand(seeds, (q + 1) // 2).view(np.int32)[:, :q]
    return positions_of_largest(torch.from_numpy(words), k)
