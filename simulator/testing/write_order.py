"""Which operations give results that depend on the order in which a GPU writes.

With several entries for one place, a GPU adds or writes them in any order.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_ATEN = torch.ops.aten
# Their arguments are (target, dimension, index, ...).
_OF_ROWS = {
    *(_ATEN.index_add.default, _ATEN.index_add_.default, _ATEN.index_copy.default, _ATEN.index_copy_.default),
}
_OF_ENTRIES = {
    *(_ATEN.scatter_add.default, _ATEN.scatter_add_.default, _ATEN.scatter.src, _ATEN.scatter_.src),
}
# (target, indices by dimension, ...).
_PUTTING = {_ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default}


def has_several_for_one_place(operation: Any, args: Sequence[Any]) -> bool:
    """Whether an operation with these arguments, tensors of the CPU, writes several entries to one place."""
    if operation in _OF_ROWS or operation in _OF_ENTRIES:
        return _repeats(args[2], args[1] if operation in _OF_ENTRIES else 0)
    return operation in _PUTTING and _places_repeat(args[1], args[0].shape)


def _repeats(index: Tensor, dim: int) -> bool:
    """Whether an index has equal entries along a dimension."""
    ordered = index.sort(dim).values if index.dim() else index[None]
    return bool((ordered.diff(dim=dim) == 0).any())


def _places_repeat(indices: Sequence[Tensor | None], shape: torch.Size) -> bool:
    """Whether indices of the dimensions of a tensor name one place several times; masks never do."""
    places = torch.zeros((), dtype=torch.int64)
    for index, size in zip(indices, shape, strict=False):
        if index is None:
            continue
        if index.dtype in (torch.bool, torch.uint8):
            return False
        places = places * size + index % size
    return _repeats(places.flatten(), 0)
