"""The contract of a compressor: rows to bytes, and the same bytes to the same rows on every holder.

Shapes: N rows, D columns (q in the papers), B bytes of a packed row, R rows to decode.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.checks import require_within


@dataclass(frozen=True)
class Coded:
    """Rows as they cross the network, and as everybody who receives them sees them.

    Both may share memory with the rows that were encoded: do not write into any of the three.

    Attributes:
        packed: exactly what crosses the network, [N, B] uint8, contiguous.
        values: what every holder decodes from ``packed``, bit for bit, [N, D]; dtype and device of the rows.
    """

    packed: Tensor
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Compressor(ABC):
    """Maps v to Q(v) with E||v - Q(v)||^2 <= (1 - delta) ||v||^2, and Q(v) to bytes of a length known beforehand.

    Q is a contraction when delta is positive. Unbiased compressors, E Q(v) = v, are often not contractions: their error
    may be larger than v itself. For the algorithms that need a contraction see algorithms/compressed/requirements.py.

    Rows are coded one by one: neither bytes nor values of a row depend on the rows beside it. Rows of zeros decode to
    zeros. Rows with NaN or infinite entries are coded without an error; the run's check for finite values
    (``metrics.require_finite``) reports them.

    Args:
        consensus_lr: consensus step size (gamma) that works with this compressor, in (0, 1].
    """

    consensus_lr: float

    def __post_init__(self) -> None:
        require_within("compressor.consensus_lr", self.consensus_lr, "(0, 1]")

    @abstractmethod
    def payload_bytes(self, num_columns: int, dtype: torch.dtype) -> int:
        """Bytes B of one packed row of ``num_columns`` >= 1 columns."""

    @abstractmethod
    def contraction(self, num_columns: int) -> float:
        """A lower bound of delta over all rows of ``num_columns`` columns; not positive when Q is no contraction."""

    @abstractmethod
    def encode(self, rows: Tensor, keys: npt.NDArray[np.uint64]) -> Coded:
        """Codes rows.

        Args:
            rows: [N, D], float32 or float64, on any device.
            keys: one random 64-bit number per row, [N], for compressors that draw; from ``simulator.randomness``.
        """

    @abstractmethod
    def decode(self, packed: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
        """Rows [R, D] of type ``dtype`` from packets [R, B] alone; the result shares no memory with them."""
