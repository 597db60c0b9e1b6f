"""What an algorithm needs of the mixing matrices W_t.

Every concrete algorithm declares one of :class:`Weights` as its class attribute ``weights``.
"""

from enum import Enum


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
