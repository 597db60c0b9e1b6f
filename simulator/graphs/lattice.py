"""What grids and tori share: nodes in a box of any number of dimensions."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from simulator.graphs.support import Support, undirected_support
from simulator.graphs.undirected import UndirectedGraph


def resolve_shape(shape: Sequence[int] | None, num_nodes: int) -> tuple[int, ...]:
    """The lengths of a box with ``num_nodes`` places.

    Args:
        shape: the lengths, or None for the rectangle that is nearest to a square (a prime number gives one row).
        num_nodes: number of nodes M.

    Raises:
        ValueError: when a length is not a positive integer, or the lengths do not multiply to ``num_nodes``.
    """
    if shape is None:
        rows = next(rows for rows in range(math.isqrt(num_nodes), 0, -1) if num_nodes % rows == 0)
        return rows, num_nodes // rows
    lengths = tuple(shape)
    shown = f"graph.shape=[{', '.join(map(str, lengths))}]"
    if not lengths or any(type(length) is not int or length < 1 for length in lengths):
        raise ValueError(f"{shown}: a list of lengths of 1 or more is needed, such as [4, 8]")
    if math.prod(lengths) != num_nodes:
        raise ValueError(f"{shown}: the lengths multiply to {math.prod(lengths)}, but num_nodes={num_nodes}")
    return lengths


class Lattice(UndirectedGraph):
    """Nodes in a box, numbered row by row (the last coordinate runs fastest), joined to the next of every dimension.

    Args:
        shape: the length of every dimension, multiplying to ``num_nodes``; None: as square as possible, 2 dimensions.
        weights, gamma: as in the base class.

    Raises:
        ValueError: when the shape does not fit, or an argument is out of range.

    Attributes:
        wraps: whether the last place of a dimension is joined to the first.
    """

    wraps: ClassVar[bool]

    def __init__(
        self,
        *,
        num_nodes: int,
        shape: Sequence[int] | None = None,
        weights: str = "metropolis",
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        self.shape = resolve_shape(shape, num_nodes)

    def support(self) -> Support:
        """Makes the pairs, dimension by dimension."""
        places = np.arange(self.num_nodes, dtype=np.int64).reshape(self.shape)
        sources, targets = [], []
        for axis, length in enumerate(self.shape):
            count = length if self.wraps else length - 1
            sources.append(places.take(range(count), axis=axis).ravel())
            targets.append(np.roll(places, -1, axis=axis).take(range(count), axis=axis).ravel())
        return undirected_support(np.concatenate(sources), np.concatenate(targets), self.num_nodes)
