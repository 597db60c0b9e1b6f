"""Norms of rows, accurate to float32's last digits for every row length and every scale.

Shapes: N rows, D columns.
"""

import torch
from torch import Tensor

# torch adds float32 up without compensation, so long rows are summed in pieces, and the pieces in float64.
_PIECE = 1024
# Squares of float32 entries and their sums stay far from overflow and underflow between these norms.
_SAFE_NORM = (1e-12, 1e12)


def row_norms(rows: Tensor, order: int) -> Tensor:
    """The 1-norm or 2-norm of every row of ``rows`` [N, D], as float64 [N].

    A row's norm does not depend on the rows beside it nor on the number of threads.
    """
    norms: Tensor
    if rows.shape[1] <= _PIECE:
        norms = torch.linalg.vector_norm(rows, order, dim=1, dtype=torch.float64)
        return norms
    num_pieces = rows.shape[1] // _PIECE
    whole = num_pieces * _PIECE
    parts = (rows[:, :whole].unflatten(1, (num_pieces, _PIECE)), rows[:, None, whole:])
    pieces = torch.cat([_piece_norms(part, order) for part in parts], dim=1)
    norms = torch.linalg.vector_norm(pieces, order, dim=1, dtype=torch.float64)
    unsafe = ~((norms > _SAFE_NORM[0]) & (norms < _SAFE_NORM[1]))
    if rows.dtype == torch.float32 and unsafe.any():
        norms[unsafe] = row_norms(rows[unsafe].double(), order)
    return norms


def _piece_norms(pieces: Tensor, order: int) -> Tensor:
    norms: Tensor = pieces.abs().sum(dim=2) if order == 1 else torch.linalg.vector_norm(pieces, order, dim=2)
    return norms
