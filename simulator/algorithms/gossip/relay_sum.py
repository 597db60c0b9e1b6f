"""RelaySum: on a tree, every node averages the values of all nodes, each delayed by its distance.

Update equations of one round, with own value v_i (a count of 1 travels with it as a further column), on a tree whose
root is node 0; m[j -> i] is the message of this round, m'[j -> i] that of the round before (0 before the first):
    m[j -> i] = v_j + sum over neighbours k of j other than i of m'[k -> j]
    s_i = v_i + sum over neighbours j of i of m[j -> i],    c_i: the same sum of counts
    normalize=count:  x_i <- s_i / c_i,        normalize=nodes:  x_i <- (s_i + (n - c_i) x_0) / n
After as many rounds as the tree is wide, s_i holds each node's value once, and c_i = n. Gradient steps, momentum,
order, local steps and the average for evaluation are those of D-SGD (see dsgd.py); this takes the place of its W_t @ X.
State: ``params`` [N, D], ``relay_up`` [N, D + 1], ``relay_down`` [N, D + 1], ``relay_children`` [N, D + 1]; with
normalize=nodes also ``start`` [N, D]; with momentum also ``momentum`` [N, D]; with ema also ``average`` [N, D].
Needs: a static tree; its weights are not used. A message that is lost takes its counts along.
Sends: D + 1 numbers per edge and step.
Source: Vogels, He, Koloskova, Lin, Karimireddy, Stich and Jaggi, NeurIPS 2021 (arXiv 2110.04175), algorithm 1.
Departures: a parent sends v_j + sum of all m'[k -> j] to its children, and child i takes off the m'[i -> j] that it
sent itself. The numbers and the bytes are the same, and three rows per node stand for one row per edge.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.gossip.dsgd import CombinedDescent
from simulator.algorithms.weights import Weights
from simulator.arrays import IntArray
from simulator.checks import require_one_of
from simulator.faults.base import beneath_faults
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.network.row_sums import add_rows
from simulator.padding import copy_as, zeros_as
from simulator.problems.base import Problem
from simulator.uploads import upload

ROOT = 0


@dataclass(frozen=True, kw_only=True)
class RelaySum(CombinedDescent):
    """RelaySum in place of mixing.

    Args:
        normalize: ``count``, by the number of values that have arrived, or ``nodes``, by all of them, the missing ones
            being replaced by the starting point.
        lr, lr_schedule, momentum, order, local_steps, ema: as ``CombinedDescent`` in gossip/dsgd.py.
    """

    weights: ClassVar[Weights] = Weights.ANY

    normalize: Literal["count", "nodes"]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("algorithm.normalize", self.normalize, ("count", "nodes"))

    def check_graph(self, graph: Graph) -> None:
        tree = beneath_faults(graph)
        is_tree = tree.period == 1 and not tree.directed
        if is_tree:
            edges = tree.edges(0)
            num_links = np.count_nonzero(edges.source != edges.target)
            is_tree = num_links == 2 * (tree.num_nodes - 1) and bool((parents(tree)[1:] >= 0).all())
        if not is_tree:
            raise ValueError(
                f"algorithm={self.name} needs a static tree, and graph {graph.description} is none; use for example "
                "graph=star, or algorithm=dsgd here"
            )

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        params = state["params"]
        for name in ("relay_up", "relay_down", "relay_children"):
            state[name] = params.new_zeros(len(params), params.shape[1] + 1)
        if self.normalize == "nodes":
            state["start"] = copy_as(params)
        return state

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        values = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        total = relay(values, state, step, network)
        sums, counts = total[:, :-1], total[:, -1:]
        if self.normalize == "count":
            return sums / counts
        return sums.addcmul(network.num_nodes - counts, state["start"]).div_(network.num_nodes)


def relay(values: Tensor, state: State, step: int, network: Network) -> Tensor:
    """Sends the messages of round ``step`` and returns the sums s_i [N, C] of ``values`` [N, C].

    Args:
        values: own values of the local nodes.
        state: holds, and gets anew, ``relay_up`` (what each node sent to its parent), ``relay_down`` (what it got from
            there) and ``relay_children`` (the sum of what it got from its children), [N, C] each.
    """
    parent, plan, first = parents(beneath_faults(network.graph)), network.link_plan(step), network.nodes.start
    up = values + state["relay_children"]
    down = up + state["relay_down"]
    goes_up = parent[plan.out_source] == plan.out_target
    choice = _index(plan.out_source - first + np.where(goes_up, 0, len(values)), values)
    received = network.deliver(torch.cat([up, down])[choice], step)

    sent = _index(plan.out_source[goes_up] - first, values)
    comes_up = parent[plan.in_source] == plan.in_target
    from_child, from_parent = _index(np.flatnonzero(comes_up), values), _index(np.flatnonzero(~comes_up), values)
    at_child = _index(plan.in_target[~comes_up] - first, values)
    relay_up, relay_down, children = (zeros_as(values) for _ in range(3))
    relay_up[sent] = up[sent]
    relay_down[at_child] = received[from_parent] - state["relay_up"][at_child]
    children.copy_(add_rows(children, (plan.in_target[comes_up] - first, received[from_child])))
    state |= {"relay_up": relay_up, "relay_down": relay_down, "relay_children": children}
    return values + children + relay_down


def _index(positions: IntArray, like: Tensor) -> Tensor:
    return upload(positions, like.device)


def parents(tree: Graph) -> IntArray:
    """The parent of every node when node 0 is the root, [M]; negative for the root and for nodes out of its reach."""
    edges = tree.edges(0)
    matrix = csr_array((np.ones(len(edges.source)), (edges.source, edges.target)), shape=(tree.num_nodes,) * 2)
    _, found = breadth_first_order(matrix, ROOT)
    return np.asarray(found, dtype=np.int64)
