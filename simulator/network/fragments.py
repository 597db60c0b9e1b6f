"""Rows cut into fragments: which columns belong together.

The columns are dealt out at random, keyed by the seed, the same for all nodes and all times. Fragments differ in length
by at most one column. Shapes: n rows, D columns, F fragments, L the length of the longest.
"""

import numpy as np
from torch import Tensor

from simulator.arrays import IntArray
from simulator.network.device_index import DeviceIndex
from simulator.randomness import generator


class Fragments:
    """Cuts rows and puts them together again.

    Args:
        num_columns: D.
        num_fragments: F, from 1 to D.
        seed: keys which columns belong together.

    Attributes:
        lengths: columns of every fragment, the longer ones first, [F].
        columns: the columns of every fragment; short ones are filled up with their first column, [F, L].
    """

    def __init__(self, num_columns: int, num_fragments: int, seed: int) -> None:
        assert 1 <= num_fragments <= num_columns
        order = generator(seed, "fragments").permutation(num_columns)
        parts = np.array_split(order, num_fragments)
        self.lengths: IntArray = np.array([part.size for part in parts])
        longest = int(self.lengths.max())
        self.columns: IntArray = np.stack([np.resize(part, longest) for part in parts])
        at = np.empty(num_columns, dtype=np.int64)
        for fragment, part in enumerate(parts):
            at[part] = fragment * longest + np.arange(part.size)
        self._columns, self._at = DeviceIndex(self.columns.ravel()), DeviceIndex(at)

    def cut(self, rows: Tensor) -> Tensor:
        """Rows [n, D] as fragments [n * F, L]; those of a row follow each other."""
        return rows.index_select(1, self._columns.on(rows.device)).view(-1, self.columns.shape[1])

    def join(self, fragments: Tensor) -> Tensor:
        """Fragments [n * F, L] as rows [n, D]."""
        return fragments.view(-1, self.columns.size).index_select(1, self._at.on(fragments.device))
