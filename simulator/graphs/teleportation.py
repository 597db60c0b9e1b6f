"""Teleportation: k of M nodes are active in a round, and models move from them to the next active ones as they mix.

Definition: in round t the nodes A_t[0], ..., A_t[k - 1], drawn uniformly without replacement, hold the tokens 0, ...,
k - 1. With B_t the base's matrix over the tokens,
    W_t[A_{t+1}[r], A_t[s]] = B_t[r, s]    for all tokens r and s, and
    W_t[i, i] = 1                          for every node i that is not active in round t + 1.
So node A_{t+1}[r] takes over token r as round t has mixed it. Everybody else keeps what it has, which nobody reads.
Over the tokens one round is B_t, whatever M is. Directed; row-stochastic, and doubly stochastic where k = M.
Sends: a message per entry of B_t, the diagonal included, unless both of its ends are one node: up to one more per
active node than the base, and none by the others.
Source: Takezawa and Stich, "Scalable decentralized learning with teleportation", ICLR 2025 (arXiv 2501.15259): active
nodes fetch the models of those before them, take a step, and average over a small topology of their own.
Departures: a re-implementation of the published idea. A model that has mixed is not sent on to the next active node by
a message of its own: nodes send to those that hold the neighbouring tokens next, which average what arrives.
"""

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Edges, Graph, Stochasticity
from simulator.randomness import generator


class Teleportation(Graph):
    """Random active nodes that hand their models on; algorithm=teleportation trains on it.

    Args:
        num_active: k, the nodes that are active in a round, at least 1 and at most num_nodes.
        base: the doubly stochastic schedule of these k nodes.

    Raises:
        ValueError: when ``num_active`` is out of range, or the base has other nodes or weights.
    """

    def __init__(self, *, num_nodes: int, num_active: int, base: Graph, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if not 1 <= num_active <= num_nodes:
            raise ValueError(f"graph.num_active={num_active}: expected an integer in [1, num_nodes] = [1, {num_nodes}]")
        if base.num_nodes != num_active:
            raise ValueError(f"graph.base.num_nodes={base.num_nodes}: expected graph.num_active={num_active}")
        if base.stochasticity != "double":
            raise ValueError(
                f"graph.base: {base.description} is {base.stochasticity}-stochastic, and the active nodes need doubly "
                "stochastic weights; use for example graph@graph.base=base_k"
            )
        self.num_active = num_active
        self.base = base
        self.parts = (base,)
        self.connected_by = base

    @property
    def description(self) -> str:
        """The schedule and its base."""
        return f"Teleportation over {self.base.description}"

    @property
    def directed(self) -> bool:
        """A single node has no edge."""
        return self.num_nodes > 1

    @property
    def stochasticity(self) -> Stochasticity:
        """Columns sum to 1 only where all nodes are active."""
        return "double" if self.num_active == self.num_nodes else "row"

    @property
    def period(self) -> None:
        """Active nodes are drawn anew in every round."""
        return None

    def active(self, step: int) -> IntArray:
        """The nodes that are active in round ``step``, in the order of their tokens, [k]."""
        order = generator(self.seed, "graph/teleportation", step=step).permutation(self.num_nodes)
        return order[: self.num_active]

    def edges(self, step: int) -> Edges:
        """The base's entries, from the active nodes to the next ones."""
        between, holders, following = self.base.edges(step), self.active(step), self.active(step + 1)
        others = np.setdiff1d(np.arange(self.num_nodes), following)
        return Edges.build(
            np.concatenate([holders[between.source], others]),
            np.concatenate([following[between.target], others]),
            np.concatenate([between.weight, np.ones(len(others))]),
        )
