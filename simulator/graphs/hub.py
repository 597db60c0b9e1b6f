"""A server that is a node: node 0 collects in one round and sends to all nodes in the next.

Definition: in even rounds every node sends to node 0, in odd rounds node 0 sends to every node; row-stochastic weights:
1/M of each in the hub's row of even rounds, 1/2 of the hub and 1/2 of the node itself in odd rounds, and 1 on the
diagonal of the rows of nodes that receive nothing. Directed, of period 2.
Sends: M - 1 messages per round.
Source: McMahan et al., AISTATS 2017 (arXiv 1602.05629), whose server is here a node with data of its own.
Departures: algorithms for this schedule read who hears whom and average with weights of their own (the nodes' numbers
of samples), for which see :func:`simulator.algorithms.federated.local_training.average`.
"""

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph


class Hub(PeriodicGraph):
    """Up in even rounds, down in odd rounds."""

    stochasticity = "row"

    @property
    def directed(self) -> bool:
        """False for a single node, which has no edge."""
        return self.num_nodes > 1

    @property
    def period(self) -> int:
        """Up and down."""
        return 2

    def build(self, phase: int) -> Edges:
        """Makes the 2M - 1 entries."""
        nodes = np.arange(self.num_nodes, dtype=np.int64)
        leaves, hub = nodes[1:], np.zeros(self.num_nodes - 1, dtype=np.int64)
        own = np.ones(self.num_nodes)
        if phase == 0:
            own[0] = 1.0 / self.num_nodes
            source, target, weight = leaves, hub, 1.0 / self.num_nodes
        else:
            own[1:] = 0.5
            source, target, weight = hub, leaves, 0.5
        return Edges.build(
            np.concatenate([nodes, source]),
            np.concatenate([nodes, target]),
            np.concatenate([own, np.full(len(leaves), weight)]),
        )
