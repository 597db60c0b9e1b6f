"""The static exponential graph.

Definition: with L = ceil(log2 M), node i sends to i + 2^j (mod M) for j = 0, ..., L - 1; all weights 1/(L + 1). Any M;
for even M the spectral gap is 2/(1 + L). Doubly stochastic, directed (from 4 nodes on), static.
Sends: L messages per node and round.
Source: Ying et al., "Exponential graph is provably efficient for decentralized deep training", NeurIPS 2021, eq. (4).
Departures: none.
"""

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import circulant_support
from simulator.graphs.weights import in_degree


class Exponential(PeriodicGraph):
    """Node i sends to the nodes 1, 2, 4, 8, ... places ahead."""

    stochasticity = "double"

    @property
    def directed(self) -> bool:
        """False for up to three nodes, where every node sends to all others."""
        return self.num_nodes > 3

    def build(self, phase: int) -> Edges:
        """Makes the M (L + 1) entries."""
        num_offsets = (self.num_nodes - 1).bit_length()
        source, target = circulant_support(self.num_nodes, [2**j for j in range(num_offsets)])
        return Edges.from_sorted(source, target, in_degree(source, target, self.num_nodes))
