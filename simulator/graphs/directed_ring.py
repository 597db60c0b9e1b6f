"""The directed ring.

Definition: node i sends to i + 1 (mod M); W[i, i] = W[i, i - 1] = 1/2. Doubly stochastic, directed (from 3 nodes on),
static; spectral gap 1 - |cos(pi / M)|.
Sends: 1 message per node and round.
Source: the "uni-ring" of Vogels, Hendrikx and Jaggi, NeurIPS 2022.
Departures: messages run from i to i + 1; there from i + 1 to i. The two are mirror images.
"""

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import circulant_support
from simulator.graphs.weights import in_degree


class DirectedRing(PeriodicGraph):
    """Node i hears i - 1 only."""

    stochasticity = "double"

    @property
    def directed(self) -> bool:
        """False for up to two nodes, which hear each other."""
        return self.num_nodes > 2

    def build(self, phase: int) -> Edges:
        """Makes the 2M entries."""
        source, target = circulant_support(self.num_nodes, [1])
        return Edges.from_sorted(source, target, in_degree(source, target, self.num_nodes))
