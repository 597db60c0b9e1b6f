"""A round of a hub with some of the nodes, over the edges of an undirected graph that joins it with all of them.

In round 2 t of the graph schedule the hub, node 0, sends to the nodes that take part in step t, a message of its own to
each; in round 2 t + 1 those that heard it send to the hub. Other edges carry nothing. A hub that takes part itself
(because it has data of its own) sends nothing to itself.

Shapes: m nodes that take part, n of them local.
"""

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.algorithms.federated.local_training import HUB
from simulator.arrays import BoolArray, IntArray
from simulator.faults.base import beneath_faults
from simulator.graphs.base import Edges, Graph
from simulator.graphs.star import Star
from simulator.network.network import Network
from simulator.uploads import upload


def require_star(algorithm: str, graph: Graph) -> None:
    """Raises ValueError unless the schedule, or the one beneath its faults, is a star."""
    if not isinstance(beneath_faults(graph), Star):
        raise ValueError(f"algorithm={algorithm} needs graph=star, and this graph is {graph.description}")


def choose_nodes(members: IntArray, count: int, seed: int, step: int) -> IntArray:
    """``count`` different ones of ``members``, uniformly and independently of other steps, ascending."""
    rng = randomness.generator(seed, "hub_round", step=step)
    chosen: IntArray = np.sort(rng.choice(members, size=count, replace=False))
    return chosen


class HubRound:
    """One round.

    Args:
        nodes: who takes part, ascending, [m].
        step: t.
        network: of this process.
    """

    def __init__(self, nodes: IntArray, step: int, network: Network) -> None:
        self._nodes = nodes
        self._network = network
        self._rounds = (2 * step, 2 * step + 1)
        down, up = (network.graph.edges(index) for index in self._rounds)
        self._heard = np.unique(np.append(down.target[self._is_down(down)], nodes[nodes == HUB]))
        self._sends = np.unique(np.append(up.source[self._is_up(up)], nodes[nodes == HUB]))

    @property
    def local_nodes(self) -> IntArray:
        """The local nodes that hear the hub, ascending, [n]."""
        local = self._network.nodes
        return self._heard[(self._heard >= local.start) & (self._heard < local.stop)]

    @property
    def local_positions(self) -> IntArray:
        """The places of :attr:`local_nodes` among the nodes of this process, [n]."""
        return self.local_nodes - self._network.nodes.start

    @property
    def senders(self) -> IntArray:
        """The nodes that the hub hears, ascending; the same on every process."""
        return self._sends

    def down(self, rows: Tensor) -> Tensor:
        """Sends the hub's rows, [m, ...] and [0, ...] on other processes; returns the local ones [n, ...]."""
        network, index = self._network, self._rounds[0]
        plan = network.links_among(index, self._is_down)
        arrived = network.deliver(rows[_places(self._nodes, plan.out_target, rows)], index, plan)
        return torch.cat([rows[_places(self._nodes, self._own, rows)], arrived])

    def up(self, rows: Tensor) -> Tensor:
        """Sends the local nodes' rows [n, ...] to the hub; returns those of :attr:`senders` there, none elsewhere."""
        network, index = self._network, self._rounds[1]
        plan = network.links_among(index, self._is_up)
        arrived = network.deliver(rows[_places(self.local_nodes, plan.out_source, rows)], index, plan)
        return torch.cat([rows[_places(self.local_nodes, self._own, rows)], arrived])

    @property
    def _own(self) -> IntArray:
        """[HUB] where the hub takes part and is local, else empty; as node 0 the hub is first in every list."""
        return self._nodes[: int(HUB in self._nodes and HUB in self._network.nodes)]

    def _is_down(self, edges: Edges) -> BoolArray:
        chosen: BoolArray = (edges.source == HUB) & np.isin(edges.target, self._nodes[self._nodes != HUB])
        return chosen

    def _is_up(self, edges: Edges) -> BoolArray:
        chosen: BoolArray = (edges.target == HUB) & np.isin(edges.source, self._heard[self._heard != HUB])
        return chosen


def _places(nodes: IntArray, wanted: IntArray, rows: Tensor) -> Tensor:
    """Where each of ``wanted`` stands among the ascending ``nodes``, on the device of ``rows``."""
    return upload(np.searchsorted(nodes, wanted), rows.device)
