"""Rounds in which a large share of all pairs is joined, as a mask [M, M] instead of an edge list.

A list has three numbers of 8 bytes for every edge, a mask has one byte for every pair. Whoever needs the list gets it
from the mask, at its first use; a round that is only mixed never does. Weights are those of the rules in
:mod:`simulator.graphs.weights`, bit for bit.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.arrays import BoolArray, FloatArray, IntArray
from simulator.graphs.base import Edges
from simulator.graphs.weights import WeightRule, metropolis, out_degree

Matrix = npt.NDArray[np.floating]

MIN_DENSITY = 0.1
"""From this share of all pairs on a schedule draws its rounds as masks."""

MIN_NODES = 64
"""With fewer nodes lists take less time."""

_BLOCK_ENTRIES = 2**15


class DenseEdges(Edges):
    """The entries of one W_t as a mask, and a way to compute them.

    Attributes:
        joined: whether W_t[target, source] is an entry, [M, M]; becomes read-only.
    """

    joined: BoolArray

    def __init__(self, joined: BoolArray) -> None:
        joined.setflags(write=False)
        object.__setattr__(self, "joined", joined)  # edges are frozen

    @cached_property
    def out_degrees(self) -> IntArray:
        """Entries of every column, the self-loop included, [M]."""
        counts: IntArray = np.count_nonzero(self.joined, axis=0)
        return counts

    @cached_property
    def in_degrees(self) -> IntArray:
        """Entries of every row, the self-loop included, [M]."""
        counts: IntArray = np.count_nonzero(self.joined, axis=1)
        return counts

    @abstractmethod
    def weights_of(self, source: IntArray, target: IntArray) -> FloatArray:
        """W_t[target, source] of entries, [E]."""

    @abstractmethod
    def block(self, rows: slice, columns: slice | IntArray, dtype: npt.DTypeLike) -> Matrix:
        """W_t from some sources to some targets as a dense matrix, in new memory.

        Args:
            rows: the targets.
            columns: the sources: the same nodes, or a selection without any of them.
        """

    @cached_property
    def _ends(self) -> tuple[IntArray, IntArray]:
        target, source = np.divmod(np.flatnonzero(self.joined), len(self.joined))
        for array in (source, target):
            array.setflags(write=False)
        return source, target

    @cached_property
    def source(self) -> IntArray:
        """Sending node of each entry, [E]."""
        return self._ends[0]

    @cached_property
    def target(self) -> IntArray:
        """Receiving node of each entry, [E]."""
        return self._ends[1]

    @cached_property
    def weight(self) -> FloatArray:
        """W_t[target, source], [E]."""
        weight = self.weights_of(self.source, self.target)
        weight.setflags(write=False)
        return weight


class SenderShares(DenseEdges):
    """Every sender gives all that hear it, itself included, the same share: the rule ``out_degree``."""

    @cached_property
    def _shares(self) -> FloatArray:
        shares: FloatArray = 1.0 / self.out_degrees
        return shares

    def weights_of(self, source: IntArray, target: IntArray) -> FloatArray:
        return self._shares[source]

    def block(self, rows: slice, columns: slice | IntArray, dtype: npt.DTypeLike) -> Matrix:
        matrix: Matrix = self.joined[rows, columns] * self._shares[columns].astype(dtype)
        return matrix


class SmallerShares(DenseEdges):
    """Metropolis weights, of a symmetric mask: 1 / (1 + max(d_i, d_j)) is the smaller of both 1 / (1 + d).

    Args:
        joined: the mask.
        degrees: entries of every row, [M]; counted where not given.
        own: what every node keeps, [M]; computed where not given.
    """

    def __init__(self, joined: BoolArray, *, degrees: IntArray | None = None, own: FloatArray | None = None) -> None:
        super().__init__(joined)
        degrees = np.count_nonzero(joined, axis=0) if degrees is None else degrees
        shares = 1.0 / degrees
        own = _remainders(joined, shares) if own is None else own
        # The degrees of rows and columns are the same.
        self.__dict__.update(out_degrees=degrees, in_degrees=degrees, _shares=shares, _own=own)

    _shares: FloatArray
    _own: FloatArray

    def weights_of(self, source: IntArray, target: IntArray) -> FloatArray:
        shares = np.minimum(self._shares[source], self._shares[target])
        return np.where(source == target, self._own[target], shares)

    def block(self, rows: slice, columns: slice | IntArray, dtype: npt.DTypeLike) -> Matrix:
        shares = self._shares.astype(dtype)
        matrix: Matrix = np.minimum.outer(shares[rows], shares[columns])
        matrix *= self.joined[rows, columns]
        if isinstance(columns, slice):
            np.fill_diagonal(matrix, self._own[rows].astype(dtype))
        return matrix


def _remainders(joined: BoolArray, shares: FloatArray) -> FloatArray:
    """1 minus what a node gets from others, [M]; summed one source after the other, as over an edge list."""
    given = np.zeros(len(shares))
    height = max(1, _BLOCK_ENTRIES // len(shares))
    for first in range(0, len(shares), height):
        part = np.minimum.outer(shares[first : first + height], shares)
        part *= joined[first : first + height]
        np.fill_diagonal(part[:, first:], 0.0)
        part[0] += given
        np.add.reduce(part, axis=0, out=given)
    return 1.0 - given


DENSE_RULES: Mapping[WeightRule, Callable[[BoolArray], DenseEdges]] = {
    out_degree: SenderShares,
    metropolis: SmallerShares,
}
"""The weight rules of which there is a form for masks."""
