"""The bytes of a message: one row of each of several tensors, packed into one buffer."""

import math
from collections.abc import Sequence

from torch import Tensor


def payload_bytes(rows: Sequence[Tensor]) -> int:
    """Bytes of one row of every tensor."""
    return sum(_row_bytes(x) for x in rows)


def sections(buffer: Tensor, rows: Sequence[Tensor], num_rows: int) -> list[Tensor]:
    """Views of a byte buffer, one per tensor of ``rows``, each of shape [num_rows, ...] and of the tensor's dtype.

    Sections of wide dtypes come first in the buffer, which keeps every section aligned.
    """
    views: dict[int, Tensor] = {}
    offset = 0
    for index in sorted(range(len(rows)), key=lambda i: -rows[i].element_size()):
        x = rows[index]
        length = _row_bytes(x) * num_rows
        views[index] = buffer[offset : offset + length].view(x.dtype).view(num_rows, *x.shape[1:])
        offset += length
    return [views[i] for i in range(len(rows))]


def _row_bytes(x: Tensor) -> int:
    return x.element_size() * math.prod(x.shape[1:])
