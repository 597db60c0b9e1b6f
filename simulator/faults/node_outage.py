"""Random outages of nodes.

Definition: in round t node i is down if u < probability with a fresh u ~ U[0, 1) for (i, t). A node that is down
neither sends nor receives, keeps its values, and continues to compute. For the weights of its messages, and the
stochasticity of the schedule, see :mod:`simulator.faults.lossy`.
Sends: the messages between nodes that are up; others are not counted.
Source: standard.
Departures: none.
"""

import numpy as np

from simulator.arrays import BoolArray
from simulator.faults.lossy import LossesAtRandom
from simulator.graphs.base import Edges
from simulator.randomness import uniforms


class NodeOutage(LossesAtRandom):
    """Takes nodes down for a round. Both directions of a pair fail together, so the schedule stays directed or not.

    See the base class for the arguments.
    """

    def is_down(self, edges: Edges, step: int) -> BoolArray:
        """One draw for every node; an edge needs both of its ends."""
        draws = uniforms(self.seed, "fault/node", np.arange(self.num_nodes), step, 1)
        down = draws[:, 0] < self.probability
        either: BoolArray = down[edges.source] | down[edges.target]
        return either
