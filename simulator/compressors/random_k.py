"""Random-k: k entries drawn uniformly at random, as they are or scaled so that their expectation is the row.

Q(v)_j = v_j for the j of a uniformly drawn set of k columns, else 0; k = max(1, round(fraction q)). The set is fresh in
every message. Over the set delta = k / q.
unbiased=true: Q(v) is (q / k) times that, and E Q(v) = v. Then E||v - Q(v)||^2 = (q / k - 1) ||v||^2, so delta is
2 - q / k: a contraction only when more than half of the columns are kept.
Sends: the 8-byte seed that the set is drawn from, then k entries of the wire type in the order of their columns.
Source: Stich, Cordonnier and Jaggi, NeurIPS 2018 (arXiv 1809.07599); the unbiased form as in Koloskova, Stich and
Jaggi, ICML 2019 (arXiv 1902.00340).
Departures: the set is the columns of the k largest of q random 32-bit numbers; ties go to the lower column.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.compressors.base import Coded, Compressor
from simulator.compressors.bits import section
from simulator.compressors.selection import check_fraction, num_kept, positions_of_largest, spread
from simulator.compressors.wire import check_wire_dtype, wire_type
from simulator.randomness import expand, expand_on_device
from simulator.uploads import upload

_SEED_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class RandomK(Compressor):
    """Keeps random entries.

    Args:
        fraction: of the columns that are kept, in (0, 1].
        unbiased: whether the entries are scaled by q / k.
        wire_dtype: of the entries sent: ``float32``, ``float64``, or None for the type of the rows.
    """

    fraction: float
    unbiased: bool
    wire_dtype: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(self.fraction)
        check_wire_dtype(self.wire_dtype)

    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        return _SEED_BYTES + wire_type(self.wire_dtype, dtype).itemsize * num_kept(self.fraction, num_columns)

    def contraction(self, num_columns: int) -> float:
        kept_share = num_kept(self.fraction, num_columns) / num_columns
        return 2.0 - 1.0 / kept_share if self.unbiased else kept_share

    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        rows = rows.detach().contiguous()
        num_rows, q = rows.shape
        k = num_kept(self.fraction, q)
        seeds = upload(keys.copy().view(np.int64), rows.device)
        positions = _draw(seeds, q, k)
        kept = rows.flatten().index_select(0, positions).to(wire_type(self.wire_dtype, rows.dtype))
        entries = kept.view(torch.uint8).view(num_rows, k * kept.itemsize)
        packed = torch.cat([seeds[:, None].view(torch.uint8), entries], dim=1)
        return Coded(packed=packed, values=self._values(kept, positions, num_rows, q, rows.dtype))

    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        k, wire = num_kept(self.fraction, num_columns), wire_type(self.wire_dtype, dtype)
        positions = _draw(section(packed, 0, _SEED_BYTES, torch.int64).flatten(), num_columns, k)
        kept = section(packed, _SEED_BYTES, wire.itemsize * k, wire).flatten()
        return self._values(kept, positions, len(packed), num_columns, dtype)

    def _values(self, kept: Tensor, positions: Tensor, num_rows: int, num_columns: int, dtype: torch.dtype) -> Tensor:
        """Rows [R, D] from the entries [R k] of a packet and their positions [R k]."""
        entries = kept.to(dtype)
        if self.unbiased:
            entries = entries * (num_columns / num_kept(self.fraction, num_columns))
        return spread(entries, positions, num_rows, num_columns)


def _draw(seeds: Tensor, q: int, k: int) -> Tensor:
    """Positions [R k] of k distinct columns of q for every seed [R], int64, on the device of the seeds."""
    count = (q + 1) // 2
    if seeds.device.type == "cpu":
        words = torch.from_numpy(expand(seeds.numpy().view(np.uint64), count).view(np.int32))
    else:
        words = expand_on_device(seeds, count).view(torch.int32)
    return positions_of_largest(words[:, :q], k)
