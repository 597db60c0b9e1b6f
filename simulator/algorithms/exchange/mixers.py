"""Ways to average the models of neighbours that do not take the weights of the graph.

Update equations, with N_i the nodes that node i hears in round t and d_i how many they are:
    uniform       x_i <- (x_i + sum_{j in N_i} x_j) / (1 + d_i)
    metropolis    x_i <- x_i + sum_{j in N_i} (x_j - x_i) / (1 + max(d_i, d_j))
    legacy_sweep  for i = 0, ..., M - 1 and, for each, j in N_i ascending, one after the other: x_i <- (x_i + x_j) / 2
    ps            x_i <- (1 / M) sum_j x_j, by way of node 0, whatever the graph (a parameter server)
legacy_sweep works on the models where they are: later nodes hear neighbours that have averaged already, and weights
depend on the order of the nodes. On graph=exchange_tree it is x <- W x with 64 W = [8 8 16 32 0; 4 36 8 16 0;
2 2 20 8 32; 4 4 8 48 0; 1 1 10 4 48], whose stationary weights are (.0435, .0870, .1739, .3478, .3478).
Needs: metropolis an undirected graph, the others nothing.
Sends: D numbers per edge; ps D numbers from every node but 0 to node 0 and as many back.
Source: uniform and metropolis: L. Xiao, S. Boyd and S. Lall, "A scheme for robust distributed sensor fusion based on
average consensus", IPSN 2005; legacy_sweep: what a course project on data exchange does, whose divisor 2 stands where
degree + 1 was meant; ps: federated averaging with equal weights.
Departures: the server of ps is node 0, whose own model is not sent: 2 (M - 1) models per round and not 2 M.

Shapes: N local nodes, M all nodes, D parameters.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.federated.local_training import HUB, from_hub, weighted_sum
from simulator.arrays import FloatArray, IntArray
from simulator.graphs.hub import Hub
from simulator.network.network import Network
from simulator.network.weight_matrix import WeightMatrix
from simulator.padding import copy_as


def neighborhood_average(
    weight: Callable[[IntArray, IntArray], FloatArray], params: Tensor, step: int, network: Network
) -> Tensor:
    """Every node's average over itself and those that it hears, [N, D].

    Args:
        weight: from the numbers of neighbours of target and source to the weight of an edge; what is missing to 1 is
            that of the node's own row.
        params: [N, D].
        step: index of the round in the graph schedule.
    """
    inbox = network.exchange((params,), step)
    edges = network.graph.edges(step)
    num_heard = np.bincount(edges.target[edges.source != edges.target], minlength=network.num_nodes)
    heard = inbox.source != inbox.target
    weights = weight(num_heard[inbox.target[heard]], num_heard[inbox.source[heard]])
    target, own = inbox.target[heard] - network.nodes.start, np.arange(len(params))
    rest = 1.0 - np.bincount(target, weights, minlength=len(params))
    row, column = np.concatenate([own, target]), np.concatenate([own, inbox.row[heard]])
    order = np.lexsort((column, row))
    values = np.concatenate([rest, weights])[order]
    return WeightMatrix(row[order], column[order], values, (len(params), len(inbox.rows[0]))).multiply(inbox.rows[0])


def sweep(params: Tensor, step: int, network: Network) -> Tensor:
    """One node after the other halves the distance to each of its neighbours, [N, D]."""
    params = copy_as(params)
    for node in range(network.num_nodes):
        plan = network.links_among(step, lambda edges, node=node: edges.target == node)  # type: ignore[misc]
        leaving = torch.from_numpy(plan.out_source - network.nodes.start).to(params.device)
        for model in network.deliver(params[leaving], step, plan):
            params[node - network.nodes.start].add_(model).mul_(0.5)
    return params


def average_at_server(params: Tensor, step: int, network: Network) -> Tensor:
    """The plain mean of all models, at every node, [N, D]."""
    star = network.over(Hub(num_nodes=network.num_nodes))
    inbox = star.exchange((params,), 2 * step)
    arriving = inbox.row[inbox.target == HUB]
    averaged = copy_as(params)
    if arriving.size:
        averaged[HUB] = weighted_sum(inbox.rows[0], arriving, np.full(arriving.size, 1.0 / network.num_nodes))
    return from_hub((averaged,), step, star)[0]


MIXERS: Mapping[str, Callable[[Tensor, int, Network], Tensor]] = MappingProxyType(
    {
        "uniform": partial(neighborhood_average, lambda target, source: 1.0 / (1 + target)),
        "metropolis": partial(neighborhood_average, lambda target, source: 1.0 / (1 + np.maximum(target, source))),
        "legacy_sweep": sweep,
        "ps": average_at_server,
    }
)
"""From the models [N, D] before round ``step`` to those after it, by name."""
