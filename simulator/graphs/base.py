"""The contract of a graph schedule: a sparse, weighted, directed edge list for every round.

``weight[e]`` is W_t[target, source]: what node ``target`` multiplies the message of node ``source`` with, so one
gossip round is x_i <- sum_j W_t[i, j] x_j. Self-loops are part of the list, with source equal to target; they
carry the node's own share and send nothing.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

Stochasticity = Literal["double", "column", "row"]


@dataclass(frozen=True)
class Edges:
    """The non-zero entries of one W_t, sorted by (target, source).

    Attributes:
        source: sending node of each entry, shape [E], int64.
        target: receiving node of each entry, shape [E], int64.
        weight: W_t[target, source], shape [E], float64.
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]

    @classmethod
    def build(cls, source: npt.ArrayLike, target: npt.ArrayLike, weight: npt.ArrayLike) -> "Edges":
        """Sorts the entries and makes the arrays read-only. Entries must be distinct (source, target) pairs."""
        sources = np.asarray(source, dtype=np.int64)
        targets = np.asarray(target, dtype=np.int64)
        weights = np.broadcast_to(np.asarray(weight, dtype=np.float64), sources.shape)
        order = np.lexsort((sources, targets))
        arrays = sources[order], targets[order], weights[order]
        for array in arrays:
            array.setflags(write=False)
        return cls(*arrays)

    @classmethod
    def from_matrix(cls, matrix: npt.NDArray[np.float64]) -> "Edges":
        """The non-zero entries of a dense mixing matrix of shape [M, M]."""
        target, source = np.nonzero(matrix)
        return cls.build(source, target, matrix[target, source])

    def to_matrix(self, num_nodes: int) -> npt.NDArray[np.float64]:
        """The dense mixing matrix, shape [M, M]; for small graphs, analysis and tests."""
        matrix = np.zeros((num_nodes, num_nodes))
        matrix[self.target, self.source] = self.weight
        return matrix


class Graph(ABC):
    """A graph schedule: W_t as a pure function of (seed, t), the same on every process.

    Class attributes declare what every W_t of the schedule is; the tests hold each graph to it.

    Attributes:
        directed: whether some W_t has a support that is not symmetric.
        stochasticity: "double", "column" (columns sum to 1: push-sum) or "row" (rows sum to 1).
        mixes: False only for schedules that never connect all nodes on purpose (isolated nodes).
    """

    directed: ClassVar[bool]
    stochasticity: Stochasticity
    mixes: ClassVar[bool] = True

    def __init__(self, *, num_nodes: int, seed: int = 0) -> None:
        if num_nodes < 1:
            raise ValueError(f"graph.num_nodes={num_nodes}: at least one node is needed")
        self.num_nodes = num_nodes
        self.seed = seed

    @property
    def period(self) -> int | None:
        """Number of rounds after which the schedule repeats: 1 for a static graph, None for a random one."""
        return 1

    @abstractmethod
    def edges(self, step: int) -> Edges:
        """The entries of W_step. Pure in ``step``; a periodic schedule returns the same object every period."""
