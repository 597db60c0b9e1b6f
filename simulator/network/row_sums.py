"""Sums of rows by the node that they are for, in the same order on every device.

``index_add_`` with repeated indices adds in any order on a GPU, so that two runs may have different bits.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simulator.arrays import IntArray
from simulator.uploads import upload


def add_rows(start: Tensor, *parts: tuple[IntArray, Tensor]) -> Tensor:
    """Returns ``start`` plus rows, added one by one in the order in which they are given.

    Args:
        start: [N, D].
        parts: pairs of the position in ``start`` of every row [E], which may repeat, and the rows [E, D].
    """
    index = np.concatenate([np.arange(len(start)), *(positions for positions, _ in parts)])
    rows = torch.cat([start, *(rows for _, rows in parts)])
    order = np.argsort(index, kind="stable")
    ends = np.searchsorted(index[order], np.arange(len(start) + 1))
    if not rows.numel():
        return start.clone()
    return F.embedding_bag(
        upload(order, rows.device), rows, offsets=upload(ends, rows.device), mode="sum", include_last_offset=True
    )
