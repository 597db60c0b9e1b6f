"""A hierarchy of two levels, such as machines with several devices each.

Definition: M = G g; group a holds the nodes a g, ..., a g + g - 1. In even rounds 2j every group averages exactly,
weights 1/g. In odd rounds 2j + 1 node s of group a sends to node s of group a + 2^(j mod L) (mod G), L = ceil(log2
G), weights 1/2. Period 2L (1 for a single group), doubly stochastic, directed (from 3 groups on). The product over a
period is J exactly if and only if G is a power of two.
Sends: g - 1 messages per node within the group, then 1 to another group.
Source: the inner-outer schedules of Bluefog (Ying, Yuan, Hu, Chen and Yin, arXiv 2111.04287); between groups the
one-peer exponential schedule of Assran et al., ICML 2019.
Departures: inside all nodes of a group meet at once, in Bluefog one at a time.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.pairs import edges_of_pairs, within_groups


class Hierarchical(PeriodicGraph):
    """Inside groups and between groups in turn.

    Args:
        group_size: g, a divisor of the number of nodes.

    Raises:
        ValueError: when groups of this size do not fit.
    """

    stochasticity = "double"

    def __init__(self, *, num_nodes: int, group_size: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if group_size < 1 or num_nodes % group_size:
            raise ValueError(f"graph.group_size={group_size}: expected a divisor of num_nodes={num_nodes}")
        self.group_size = group_size
        self._between = OnePeerExponential(num_nodes=num_nodes // group_size)

    @property
    def directed(self) -> bool:
        """As the schedule between groups."""
        return self._between.directed

    @property
    def period(self) -> int:
        """Twice that of the schedule between groups; 1 for a single group."""
        return 2 * self._between.period if self._between.num_nodes > 1 else 1

    def build(self, phase: int) -> Edges:
        """Makes the M g entries of an even round, or the 2M of an odd one."""
        if phase % 2 == 0:
            return edges_of_pairs(within_groups(np.arange(self.num_nodes).reshape(-1, self.group_size)), self.num_nodes)
        groups = self._between.edges(phase // 2)
        places = np.arange(self.group_size)
        return Edges.build(
            np.add.outer(groups.source * self.group_size, places).ravel(),
            np.add.outer(groups.target * self.group_size, places).ravel(),
            np.repeat(groups.weight, self.group_size),
        )
