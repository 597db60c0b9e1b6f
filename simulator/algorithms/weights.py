"""What an algorithm needs of the mixing matrices W_t, and the one check of it.

Every concrete algorithm declares one of :class:`Weights` as its class attribute ``weights``.
"""

from enum import Enum
from typing import ClassVar, Protocol

from simulator.graphs.base import Graph
from simulator.graphs.symmetry import has_symmetric_weights


class Weights(Enum):
    """What the mixing matrix W_t of every round must be."""

    ANY = "any"
    """Nothing: the algorithm does not multiply with W_t, or checks what it needs in ``check_graph``."""

    COLUMN_STOCHASTIC = "column-stochastic"
    """The columns of W_t sum to 1, as push-sum needs it. Doubly stochastic W_t is a special case."""

    DOUBLY_STOCHASTIC = "doubly stochastic"
    """Rows and columns of W_t sum to 1; the graph may be directed."""

    SYMMETRIC = "symmetric"
    """W_t is doubly stochastic and equal to its transpose, so the graph is undirected."""


class DeclaresWeights(Protocol):
    """The part of an algorithm that the check reads."""

    weights: ClassVar[Weights]
    push_sum_alternative: ClassVar[str]

    @property
    def name(self) -> str:
        """The algorithm's name in the configuration."""
        ...


_UNDIRECTED = "an undirected graph with metropolis weights, for example graph=ring"


def check_weights(algorithm: DeclaresWeights, graph: Graph) -> None:
    """Checks that the weights of ``graph`` are what ``algorithm`` declares to need.

    ``SYMMETRIC`` compares W_t with its transpose, see :func:`simulator.graphs.symmetry.has_symmetric_weights`.

    Raises:
        ValueError: naming the algorithm, the graph and alternatives.
    """
    needs = algorithm.weights
    if needs is Weights.ANY:
        return
    if needs is Weights.COLUMN_STOCHASTIC:
        if graph.stochasticity not in ("column", "double"):
            raise ValueError(
                f"algorithm={algorithm.name} needs column-stochastic or doubly stochastic weights, and graph "
                f"{graph.description} is {graph.stochasticity}-stochastic; "
                f"use a graph with out-degree weights, or {_UNDIRECTED}"
            )
        return
    push_sum = f"algorithm={algorithm.push_sum_alternative}" if algorithm.push_sum_alternative else ""
    if graph.stochasticity != "double":
        # Push-sum needs column-stochastic weights: it is no remedy for a row-stochastic graph.
        there = f"{push_sum} there, or " if push_sum and graph.stochasticity == "column" else ""
        raise ValueError(
            f"algorithm={algorithm.name} needs doubly stochastic weights, and graph {graph.description} is "
            f"{graph.stochasticity}-stochastic; use {there}{_UNDIRECTED}"
        )
    if needs is Weights.SYMMETRIC and not has_symmetric_weights(graph):
        raise ValueError(
            f"algorithm={algorithm.name} needs symmetric weights, and graph {graph.description} "
            f"{'is directed' if graph.directed else 'has weights that differ by direction'}; use {_UNDIRECTED}"
            f"{f', or {push_sum}' if push_sum else ''}"
        )
