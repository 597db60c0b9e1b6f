"""The one-peer exponential schedule: one neighbour of the exponential graph per round.

Definition: with L = ceil(log2 M), in round t node i sends to i + 2^(t mod L) (mod M); W_t[i, i] = 1/2, and 1/2 for the
message. Period L. Doubly stochastic, directed (from 3 nodes on). The product over a period is J exactly if and only if
M is a power of two; for other M the schedule mixes geometrically.
Sends: 1 message per node and round.
Source: Assran et al., "Stochastic gradient push", ICML 2019; Ying et al., NeurIPS 2021, eq. (6).
Departures: none.
"""

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.support import circulant_support
from simulator.graphs.weights import in_degree


class OnePeerExponential(PeriodicGraph):
    """In round t node i sends to the node 2^(t mod L) places ahead."""

    stochasticity = "double"

    @property
    def directed(self) -> bool:
        """False for up to two nodes, which hear each other."""
        return self.num_nodes > 2

    @property
    def period(self) -> int:
        """L = ceil(log2 M), and 1 for a single node."""
        return max(1, (self.num_nodes - 1).bit_length())

    def build(self, phase: int) -> Edges:
        """Makes the 2M entries of one round."""
        source, target = circulant_support(self.num_nodes, [2**phase])
        return Edges.from_sorted(source, target, in_degree(source, target, self.num_nodes))
