"""The tree of five nodes from the study of data exchange between neighbours.

Definition: the edges 0-1, 0-2, 0-3 and 2-4, degrees 3, 1, 2, 1, 1. Metropolis weights. Doubly stochastic, undirected,
static.
Sends: 8 messages per round.
Source: the only topology of a course project on decentralized learning with data exchange, which averages on it with
weights of its own (see algorithms/exchange/mixers.py).
Departures: none.
"""

import numpy as np

from simulator.graphs.support import Support, undirected_support
from simulator.graphs.undirected import UndirectedGraph

_EDGES = np.array([(0, 1), (0, 2), (0, 3), (2, 4)], dtype=np.int64)
_NUM_NODES = 5


class ExchangeTree(UndirectedGraph):
    """Five nodes; see the base class for the arguments.

    Raises:
        ValueError: when ``num_nodes`` is not 5, or an argument is out of range.
    """

    def __init__(self, *, num_nodes: int, weights: str = "metropolis", gamma: float = 0.95, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        if num_nodes != _NUM_NODES:
            raise ValueError(
                f"graph.num_nodes={num_nodes}: the exchange tree has {_NUM_NODES} nodes; set num_nodes={_NUM_NODES}, "
                "or use for example graph=binary_tree"
            )

    def support(self) -> Support:
        """Makes the 5 + 2 * 4 pairs."""
        return undirected_support(_EDGES[:, 0], _EDGES[:, 1], _NUM_NODES)
