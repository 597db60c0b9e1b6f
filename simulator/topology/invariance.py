"""Schedules that look the same from every node: their spectra by the fast Fourier transform.

A schedule is invariant when the nodes can be read as the elements of an abelian group Z_a x Z_b x ..., numbered row by
row, such that W_t[i, j] depends on j - i alone: rings and circulants (one factor), true tori (two or three), hypercubes
(factors of 2). All W_t then have the same eigenvectors, the characters of the group, and everything that is computed
from the spectrum costs M log M. Groups with up to three factors, and with all factors equal, are tried.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.arrays import FloatArray, IntArray
from simulator.graphs.base import Edges, Graph

ComplexArray = npt.NDArray[np.complex128]

_TOLERANCE = 1e-12


@dataclass(frozen=True)
class InvariantSpectra:
    """What remains of an invariant schedule.

    Attributes:
        factors: orders of the cyclic groups; their product is M.
        eigenvalues: of W_t at every character, the trivial one first; complex [T, M].
    """

    factors: tuple[int, ...]
    eigenvalues: ComplexArray

    @property
    def num_nodes(self) -> int:
        """M."""
        return int(self.eigenvalues.shape[1])


def invariant_spectra(graph: Graph) -> InvariantSpectra | None:
    """The spectra of a periodic schedule that is invariant, and None for any other."""
    if graph.period is None or graph.stochasticity != "double":
        return None
    rounds = [graph.edges(step) for step in range(graph.period)]
    if any(len(edges.source) % graph.num_nodes for edges in rounds):
        return None
    for factors in _groups(graph.num_nodes):
        rows = [_first_row(edges, graph.num_nodes, factors) for edges in rounds]
        if all(row is not None for row in rows):
            spectra = [np.fft.fftn(row.reshape(factors)).ravel().conj() for row in rows if row is not None]
            return InvariantSpectra(factors, np.array(spectra))
    return None


def _groups(order: int) -> Iterator[tuple[int, ...]]:
    """Factorisations to try, the cyclic group first."""
    yield (order,)
    for base in range(2, math.isqrt(order) + 1):
        count = round(math.log(order, base))
        if base**count == order:
            yield (base,) * count
    divisors = [divisor for divisor in range(2, order) if order % divisor == 0]
    for first in divisors:
        yield (first, order // first)
        for second in divisors:
            if order // first % second == 0 and first * second < order:
                yield (first, second, order // first // second)


def _first_row(edges: Edges, num_nodes: int, factors: tuple[int, ...]) -> FloatArray | None:
    """Row 0 of an invariant W, dense [M]; None where W is not invariant under the group."""
    degree = len(edges.source) // num_nodes
    if not np.array_equal(edges.target, np.repeat(np.arange(num_nodes), degree)):
        return None
    # A few nodes tell most groups that do not fit from one another at little cost.
    few = np.unique([0, 1 % num_nodes, num_nodes // 3, num_nodes - 1])
    for nodes in (few, np.arange(num_nodes)):
        entries = (nodes[:, None] * degree + np.arange(degree)).ravel()
        offsets = _differences(edges.source[entries], edges.target[entries], factors).reshape(-1, degree)
        order = np.argsort(offsets, axis=1)
        offsets = np.take_along_axis(offsets, order, axis=1)
        weights = np.take_along_axis(edges.weight[entries].reshape(-1, degree), order, axis=1)
        if np.any(offsets != offsets[0]) or np.abs(weights - weights[0]).max() > _TOLERANCE:
            return None
    row = np.zeros(num_nodes)
    row[offsets[0]] = weights[0]
    return row


def _differences(source: IntArray, target: IntArray, factors: tuple[int, ...]) -> IntArray:
    """What takes target to source in the group, as node numbers."""
    if len(factors) == 1:
        return (source - target) % factors[0]
    ends = zip(np.unravel_index(source, factors), np.unravel_index(target, factors), factors, strict=True)
    number: IntArray = np.ravel_multi_index(tuple((s - t) % factor for s, t, factor in ends), factors)
    return number
