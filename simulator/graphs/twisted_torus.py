"""The twisted torus of the study "Beyond spectral gap": the end of a row is joined to the start of the next.

Definition: of r rows and c columns; node i is joined to i - 1, i + 1, i - c and i + c (mod M). Metropolis weights that
count four neighbours always: 1/5 on every edge, and what is left of 1 for the node itself. That is 1/5 if r > 2; with
r = 2 the nodes i - c and i + c coincide, and the node keeps 2/5. The other weight rules count coinciding neighbours
once. Doubly stochastic, undirected, static.
Sends: 4 messages per node and round, 3 if r = 2.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, as its published code does it.
Departures: none.
"""

from collections.abc import Sequence

import numpy as np

from simulator.graphs.base import Edges
from simulator.graphs.lattice import resolve_shape
from simulator.graphs.support import Support, circulant_support
from simulator.graphs.undirected import UndirectedGraph
from simulator.graphs.weights import with_remainders

_EDGE_WEIGHT = 1 / 5


class TwistedTorus(UndirectedGraph):
    """The circulant graph of the offsets 1 and c.

    Args:
        shape: [r, c], multiplying to ``num_nodes``; None: as square as possible.
        weights, gamma: as in the base class.

    Raises:
        ValueError: when the shape does not fit, or an argument is out of range.
    """

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
        if len(self.shape) != 2:
            raise ValueError(f"graph.shape={list(self.shape)}: a twisted torus has rows and columns, such as [4, 8]")

    def support(self) -> Support:
        """Makes the at most 5M pairs."""
        columns = self.shape[1]
        return circulant_support(self.num_nodes, [-1, 1, -columns, columns])

    def weigh(self, support: Support) -> Edges:
        """Metropolis weights as in the definition above; other rules as in the base class."""
        if self.weights != "metropolis":
            return super().weigh(support)
        source, target = support
        weight = with_remainders(source, target, np.full(len(source), _EDGE_WEIGHT), self.num_nodes)
        return Edges.from_sorted(source, target, weight)
