"""Choosing exactly k columns of every row, and rows that are zero elsewhere.

Positions count through the rows one after the other: column c of row n of an [N, D] tensor has position n D + c.
The same choice is made on every device.

Shapes: N rows, D columns, k chosen columns of a row.
"""

import numpy as np
import torch
from torch import Tensor

from simulator.checks import require_within


def check_fraction(fraction: float) -> None:
    """Raises ValueError unless ``fraction`` is one."""
    require_within("compressor.fraction", fraction, "(0, 1]")


def num_kept(fraction: float, num_columns: int) -> int:
    """k, at least 1."""
    return max(1, round(fraction * num_columns))


def positions_of_largest(scores: Tensor, k: int) -> Tensor:
    """Positions [N k], ascending, of the k largest integer scores of every row of ``scores`` [N, D].

    Among equal scores the lower columns come first.
    """
    rows, columns = scores.shape
    if k == columns:
        return torch.arange(rows * columns, device=scores.device)
    smallest_kept = _kth_largest(scores, k)
    if scores.device.type != "cpu":  # without a look at the scores, which the host would have to wait for
        above, equal = scores > smallest_kept, scores == smallest_kept
        return true_positions(above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True))), k)
    chosen = at_least(scores, smallest_kept)
    positions = true_positions(chosen, k)
    if len(positions) > rows * k:  # every row has k at least, so some have several scores equal to the smallest kept
        tied = (chosen.sum(1) > k).nonzero().squeeze(1)
        above = scores[tied] > smallest_kept[tied]
        equal = scores[tied] == smallest_kept[tied]
        chosen[tied] = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
        positions = true_positions(chosen, k)
    return positions


def _kth_largest(scores: Tensor, k: int) -> Tensor:
    """The k-th largest score of every row, [N, 1]."""
    place = scores.shape[1] - k
    if scores.device.type == "cpu":  # NumPy's selection takes 0.6 ns per score, torch's 8
        return torch.from_numpy(np.partition(scores.numpy(), place, axis=1)[:, place : place + 1].copy())
    return scores.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)


def at_least(values: Tensor, bounds: Tensor) -> Tensor:
    """The mask ``values >= bounds``."""
    if values.device.type == "cpu":  # three times as fast as torch's comparison
        return torch.from_numpy(values.numpy() >= bounds.numpy())
    return values >= bounds


def true_positions(mask: Tensor, k: int) -> Tensor:
    """Positions, ascending, of the true entries of ``mask`` [N, D], of which every row has k; more only on the CPU."""
    if mask.device.type == "cpu":  # five times as fast as torch.nonzero
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero_static(mask.flatten(), size=len(mask) * k).squeeze(1)


def columns_of(positions: Tensor, k: int, num_columns: int) -> Tensor:
    """Columns [N, k] of positions [N k]."""
    columns = positions.view(-1, k)
    return columns - torch.arange(len(columns), device=columns.device)[:, None] * num_columns


def spread(entries: Tensor, positions: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """Rows [N, D] that hold ``entries`` [N k] at ``positions`` [N k], and zero elsewhere."""
    return entries.new_zeros(num_rows * num_columns).index_copy_(0, positions, entries).view(num_rows, num_columns)
