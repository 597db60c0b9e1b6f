"""The contract of a graph schedule: a sparse, weighted, directed edge list for every round.

``weight[e]`` is W_t[target, source]: what node ``target`` multiplies the message of node ``source`` with, so one
gossip round is x_i <- sum_j W_t[i, j] x_j. Self-loops are part of the list, with source equal to target; they
carry the node's own share and send nothing.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from simulator.arrays import FloatArray, IntArray

Stochasticity = Literal["double", "column", "row"]


@dataclass(frozen=True)
class Edges:
    """The non-zero entries of one W_t, sorted by (target, source).

    Attributes:
        source: sending node of each entry, shape [E], int64.
        target: receiving node of each entry, shape [E], int64.
        weight: W_t[target, source], shape [E], float64.
    """

    source: IntArray
    target: IntArray
    weight: FloatArray

    @classmethod
    def build(cls, source: npt.ArrayLike, target: npt.ArrayLike, weight: npt.ArrayLike) -> "Edges":
        """Sorts the entries and makes the arrays read-only. Entries must be distinct (source, target) pairs."""
        sources = np.asarray(source, dtype=np.int64)
        targets = np.asarray(target, dtype=np.int64)
        weights = np.broadcast_to(np.asarray(weight, dtype=np.float64), sources.shape)
        order = np.lexsort((sources, targets))
        return cls.from_sorted(sources[order], targets[order], weights[order])

    @classmethod
    def from_sorted(cls, source: IntArray, target: IntArray, weight: FloatArray) -> "Edges":
        """Takes over arrays that are distinct and sorted by (target, source) already, and makes them read-only."""
        for array in (source, target, weight):
            array.setflags(write=False)
        return cls(source, target, weight)

    @classmethod
    def from_matrix(cls, matrix: FloatArray) -> "Edges":
        """The non-zero entries of a dense mixing matrix of shape [M, M]."""
        target, source = np.nonzero(matrix)
        return cls.from_sorted(source, target, np.asarray(matrix[target, source], dtype=np.float64))

    def to_matrix(self, num_nodes: int) -> FloatArray:
        """The dense mixing matrix, shape [M, M]; for small graphs, analysis and tests."""
        matrix = np.zeros((num_nodes, num_nodes))
        matrix[self.target, self.source] = self.weight
        return matrix


class Graph(ABC):
    """A graph schedule: W_t as a pure function of (seed, t), the same on every process.

    A graph declares what every W_t of its schedule is, and the tests hold it to that. A declaration is a class
    attribute where it is a constant, and a property where it depends on the arguments.

    Attributes:
        mixes: False only for schedules that are meant never to connect all nodes (isolated nodes).
        parts: the schedules that this one is made of.
        connected_by: a schedule of fewer nodes, on which alone it depends whether all nodes are connected in the long
            run; None where the edges themselves say it.
        max_delay: the most rounds that a message is late, see :meth:`delays`.
    """

    mixes: bool = True
    max_delay: int = 0
    parts: "tuple[Graph, ...]" = ()
    connected_by: "Graph | None" = None

    def __init__(self, *, num_nodes: int, seed: int = 0) -> None:
        if num_nodes < 1:
            raise ValueError(f"graph.num_nodes={num_nodes}: at least one node is needed")
        self.num_nodes = num_nodes
        self.seed = seed

    @property
    def description(self) -> str:
        """The name of the schedule in messages and figures."""
        return type(self).__name__

    @property
    @abstractmethod
    def directed(self) -> bool:
        """Whether some W_t has a support that is not symmetric, or is doubly stochastic and differs from its transpose.

        So a schedule that is undirected and doubly stochastic has symmetric matrices W_t. Push-sum weights on a
        symmetric support may differ by direction.
        """

    @property
    @abstractmethod
    def stochasticity(self) -> Stochasticity:
        """What sums to 1 in every W_t: "column" (push-sum), "row", or "double" for both."""

    @property
    def period(self) -> int | None:
        """Number of rounds after which the schedule repeats: 1 for a static graph, None for a random one."""
        return 1

    @property
    def needs_label_counts(self) -> bool:
        """Whether the edges depend on the nodes' data; then :meth:`use_label_counts` must be called first."""
        return any(part.needs_label_counts for part in self.parts)

    def use_label_counts(self, label_counts: IntArray) -> None:
        """Takes the label counts of the nodes, the same on every process.

        Args:
            label_counts: training samples of every node by class, shape [M, C].
        """
        for part in self.parts:
            part.use_label_counts(label_counts)

    @abstractmethod
    def edges(self, step: int) -> Edges:
        """The entries of W_step. Pure in ``step``; a periodic schedule returns the same object every period."""

    def delays(self, source: IntArray, target: IntArray, steps: npt.ArrayLike) -> IntArray:
        """How many rounds after the one in which it is sent every message arrives, int64, shape [E].

        Args:
            source, target: the ends of every message, different nodes, shape [E].
            steps: the round in which it is sent, shape [E] or a scalar.
        """
        return np.zeros(source.shape, dtype=np.int64)

    def side_by_side(self, steps: IntArray) -> Edges:
        """Several rounds as one: copy k of the nodes follows W_steps[k]; node i of copy k has index i * K + k.

        Args:
            steps: the round of every copy, shape [K].
        """
        copies = len(steps)
        rounds = {step: self.edges(step) for step in set(steps.tolist())}
        parts = [rounds[step] for step in steps.tolist()]
        return Edges.build(
            np.concatenate([part.source * copies + k for k, part in enumerate(parts)]),
            np.concatenate([part.target * copies + k for k, part in enumerate(parts)]),
            np.concatenate([part.weight for part in parts]),
        )


class PeriodicGraph(Graph):
    """A schedule that repeats: each W_t of the period is built on first use and kept. Static when the period is 1."""

    def __init__(self, *, num_nodes: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        self._built: dict[int, Edges] = {}

    @property
    def period(self) -> int:
        """Number of rounds after which the schedule repeats."""
        return 1

    @abstractmethod
    def build(self, phase: int) -> Edges:
        """Makes the entries of W_t for t mod period = ``phase``."""

    def edges(self, step: int) -> Edges:
        """The entries of W_step; the same object every period."""
        phase = step % self.period
        if phase not in self._built:
            self._built[phase] = self.build(phase)
        return self._built[phase]


def one_label_each(num_nodes: int, num_classes: int = 10) -> IntArray:
    """Label counts [M, C] of nodes that hold one label each, in turn; they stand in for data where there are none."""
    return np.eye(num_classes, dtype=np.int64)[np.arange(num_nodes) % num_classes]
