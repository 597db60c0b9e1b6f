"""The complete graph: all nodes average exactly in every round.

Definition: every ordered pair is an edge; W = J = 11'/M. Doubly stochastic, undirected, static.
Sends: M - 1 messages per node and round.
Source: the usual reference topology; Metropolis weights on the complete graph.
Departures: none.
"""

from simulator.graphs.support import Support, complete_support
from simulator.graphs.undirected import UndirectedGraph


class FullyConnected(UndirectedGraph):
    """The complete graph, W = 11'/M; see the base class for the arguments."""

    def support(self) -> Support:
        """Makes all M * M pairs."""
        return complete_support(self.num_nodes)
