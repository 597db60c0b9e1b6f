"""The network between nodes: rounds of messages over a graph schedule, and collectives.

A round follows the edges of W_t. Rows that stay in this process are multiplied where they are. Rows that cross go as
one contiguous byte buffer per pair of processes, and are weighted where they arrive. With one process nothing is sent,
and the same code runs with plans that send and receive nothing.

Every process makes the same calls in the same order.

Shapes: N local nodes, M all nodes, D columns.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from simulator.graphs.base import Graph
from simulator.graphs.replicated import Replicated
from simulator.network.collective_calls import CollectiveCalls
from simulator.network.edge_messages import EdgeMessages
from simulator.network.event_messages import EventMessages
from simulator.network.row_rounds import RowRounds
from simulator.placement import Placement


class Network(RowRounds, EdgeMessages, EventMessages, CollectiveCalls):
    """Sends rows along a graph schedule, and gives access to collectives over the processes.

    Its arguments and attributes are those of :class:`simulator.network.connected_nodes.ConnectedNodes`.
    """

    @contextmanager
    def replicate(self, first_rounds: Sequence[int]) -> Iterator["Network"]:
        """A network with K copies of every node, side by side on the process of the node.

        Copies k of all nodes are connected as the nodes are, from round ``first_rounds[k]`` of the schedule on. What
        they send is added to this network's ledger when the block ends. It takes no time on the local clocks, because
        copies are runs beside each other, not parts of one run.
        """
        placement = self.placement
        copies = len(first_rounds)
        replicas = Network(
            Replicated(self.graph, first_rounds),
            Placement(placement.num_nodes * copies, placement.world_size, placement.rank, copies),
            self.device,
            timeout_s=self._waits.timeout_s,
            watchdog=self._waits.watchdog,
            link_model=self.ledger.link_model,
        )
        yield replicas
        self.ledger.absorb(replicas.ledger)

    def over(self, graph: Graph) -> "Network":
        """The same nodes joined by another schedule, with the same ledger, clocks, phase, transport and collectives."""
        other = copy.copy(self)
        other.graph = graph
        other._plans, other._link_plans, other._kept = {}, {}, {}
        return other
