"""Memory of rows: every row of a matrix begins at a multiple of 64 bytes, a line of the cache.

Products read and write whole lines. A row of 101,770 numbers of 4 bytes is no multiple of a line, and without padding
most rows would begin within one, which makes a training step a quarter slower. So the stride of rows is rounded up.
What stands between the end of a row and the beginning of the next is no part of the tensor: shapes, values, messages,
checkpoints, counts of bytes and norms are those of rows without padding. Products have the same bits.

``Tensor.clone`` and ``torch.zeros_like`` give tensors without padding. The functions here keep it.

Shapes: N rows, D columns, S the stride.
"""

import torch
from torch import Tensor

_LINE_BYTES = 64
_MIN_ROW_BYTES = 2048
"""Shorter rows stay without padding, which would take more than a thirtieth of their memory."""


def padded_width(width: int, dtype: torch.dtype) -> int:
    """The stride of rows of ``width`` numbers."""
    if width * dtype.itemsize < _MIN_ROW_BYTES:
        return width
    per_line = _LINE_BYTES // dtype.itemsize
    return -(-width // per_line) * per_line


def padded_copy(rows: Tensor) -> Tensor:
    """The same numbers [N, D] in new memory, with padding."""
    num_rows, width = rows.shape
    return rows.new_empty(num_rows, padded_width(width, rows.dtype))[:, :width].copy_(rows)


def empty_as(rows: Tensor, num_rows: int | None = None) -> Tensor:
    """New memory of the shape and padding of ``rows`` [N, ...], not initialised; with another N if one is given."""
    num_rows = len(rows) if num_rows is None else num_rows
    if not is_padded(rows):
        return rows.new_empty(num_rows, *rows.shape[1:])
    return rows.new_empty(num_rows, rows.stride(0))[:, : rows.shape[1]]


def zeros_as(rows: Tensor, num_rows: int | None = None) -> Tensor:
    """Zeros of the shape and padding of ``rows`` [N, ...]; with another N if one is given."""
    return empty_as(rows, num_rows).zero_()


def copy_as(rows: Tensor, values: Tensor | None = None) -> Tensor:
    """``values``, or else ``rows`` themselves, in new memory of the shape, padding, type and device of ``rows``."""
    return empty_as(rows).copy_(rows if values is None else values)


def with_padding(rows: Tensor) -> Tensor:
    """``rows`` [N, D] with what stands behind each of them, [N, S]; the same memory. Without padding S is D."""
    return rows.as_strided((len(rows), rows.stride(0)), (rows.stride(0), 1)) if is_padded(rows) else rows


def is_padded(rows: Tensor) -> bool:
    """Whether rows have padding behind them, and own it."""
    if rows.is_contiguous() or rows.dim() != 2:
        return False
    (num_rows, width), (stride, step) = rows.shape, rows.stride()
    if step != 1 or stride == width or stride != padded_width(width, rows.dtype):
        return False
    behind = rows.storage_offset() + num_rows * stride
    return bool(behind * rows.element_size() <= rows.untyped_storage().nbytes())
