"""The mixing matrices of a schedule as operators, and the push-sum weights that go with them.

Shapes: M nodes, T rounds of a period.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.arrays import FloatArray
from simulator.graphs.base import Edges, Graph

Matrix = Any
"""A square matrix of SciPy's sparse kind or a NumPy array, whichever multiplies faster."""

_DENSEST_SPARSE = 0.1


def as_matrix(edges: Edges, num_nodes: int) -> Matrix:
    """W of one round, sparse where at most a tenth of its entries are non-zero."""
    if len(edges.weight) > _DENSEST_SPARSE * num_nodes**2:
        return edges.to_matrix(num_nodes)
    from scipy.sparse import csr_array

    return csr_array((edges.weight, (edges.target, edges.source)), shape=(num_nodes, num_nodes))


def congruence(matrix: Matrix, inner: FloatArray) -> FloatArray:
    """W C W' for a dense C [M, M]."""
    product: FloatArray = (matrix @ (matrix @ inner).T).T
    return product


@dataclass(frozen=True)
class Period:
    """The rounds of a schedule that repeats.

    Attributes:
        matrices: W_0 .. W_{T-1}.
        weights: push-sum weights before each round once they repeat as well, mean 1, shape [T, M]. All 1 unless the
            schedule is column-stochastic; then x_i / weights_i is node i's estimate of the average.
        stochasticity: as declared by the schedule.
    """

    matrices: tuple[Matrix, ...]
    weights: FloatArray
    stochasticity: str

    @property
    def num_nodes(self) -> int:
        """M."""
        return int(self.weights.shape[1])

    def weights_after(self, phase: int) -> FloatArray:
        """Push-sum weights after round ``phase``, shape [M]."""
        after: FloatArray = self.weights[(phase + 1) % len(self.matrices)]
        return after

    def averaging(self, phase: int) -> Matrix:
        """The round as it acts on x / weights: its rows sum to 1."""
        matrix, before, after = self.matrices[phase], self.weights[phase], self.weights_after(phase)
        if isinstance(matrix, np.ndarray):
            return matrix * before / after[:, None]
        scaled = matrix.copy()
        scaled.data = matrix.data * before[matrix.indices] / np.repeat(after, np.diff(matrix.indptr))
        return scaled


def period_of(graph: Graph) -> Period:
    """All rounds of a periodic schedule.

    Raises:
        ValueError: for a schedule without a period.
    """
    if graph.period is None:
        raise ValueError(f"{graph.description} is random and has no period")
    num_nodes = graph.num_nodes
    matrices = tuple(as_matrix(graph.edges(step), num_nodes) for step in range(graph.period))
    weights = np.ones((len(matrices), num_nodes))
    if graph.stochasticity == "column":
        product = np.eye(num_nodes)
        for matrix in matrices:
            product = matrix @ product
        # With columns that sum to 1 the solution w sums to M, and product w = w.
        start = np.linalg.lstsq(product - np.eye(num_nodes) + 1.0 / num_nodes, np.ones(num_nodes), rcond=None)[0]
        for phase, matrix in enumerate(matrices):
            weights[phase] = start
            start = matrix @ start
    return Period(matrices, weights, graph.stochasticity)
