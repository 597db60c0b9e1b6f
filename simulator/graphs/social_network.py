"""A social network: 18 women and the 14 events that they attended, or a spanning tree of it.

Definition: SocialNetwork joins a woman and an event if she was there: 32 nodes, 89 edges, in the order of networkx.
SocialNetworkTree keeps of it a spanning tree, the union of one shortest path from node 0 to every node: of those, the
one whose list of nodes comes first in the dictionary. Metropolis weights. Doubly stochastic, undirected, static.
Sends: 5.6 messages per node and round on average; the tree 1.9.
Source: Davis, Gardner and Gardner, "Deep South", 1941; used by Vogels, Hendrikx and Jaggi, "Beyond spectral gap",
NeurIPS 2022.
Departures: none.
"""

from collections import deque

import numpy as np

from simulator.graphs.support import Support, numbered_pairs, undirected_support
from simulator.graphs.undirected import UndirectedGraph

_NUM_NODES = 32


class SocialNetwork(UndirectedGraph):
    """The whole network; see the base class for the arguments.

    Raises:
        ValueError: when ``num_nodes`` is not 32, or an argument is out of range.
    """

    def __init__(self, *, num_nodes: int, weights: str = "metropolis", gamma: float = 0.95, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, weights=weights, gamma=gamma, seed=seed)
        if num_nodes != _NUM_NODES:
            raise ValueError(
                f"graph.num_nodes={num_nodes}: the social network has {_NUM_NODES} nodes; set num_nodes=32"
            )

    def support(self) -> Support:
        """Makes the 32 + 2 * 89 pairs."""
        # Imported here: it takes a third of a second.
        import networkx

        return undirected_support(*numbered_pairs(networkx.davis_southern_women_graph()), _NUM_NODES)


class SocialNetworkTree(SocialNetwork):
    """The spanning tree; see the base class for the arguments."""

    def support(self) -> Support:
        """Makes the 32 + 2 * 31 pairs."""
        source, target = super().support()
        parents: dict[int, int] = {0: 0}
        queue = deque([0])
        # Ascending neighbours: nodes of one distance enter the queue in the order of their first shortest paths.
        while queue:
            node = queue.popleft()
            for neighbour in source[target == node].tolist():
                if neighbour not in parents:
                    parents[neighbour] = node
                    queue.append(neighbour)
        return undirected_support(np.array(list(parents.values())), np.array(list(parents)), _NUM_NODES)
