"""Random directed graphs whose union over any B consecutive rounds is strongly connected.

Definition: a random cycle through all nodes is drawn once, and each of its edges belongs to one of the B residues of
t mod B, shared out evenly at random; round t has the edges of its residue, and every other ordered pair with the
given probability, drawn anew. W_t[i, j] = 1 / (number of nodes that hear j, itself included). Column-stochastic
(push-sum), directed; the union over any B consecutive rounds is strongly connected, and with probability 0 over no
fewer.
Sends: 1/B + probability (M - 1) messages per node and round on average.
Source: the assumption of Nedic and Olshevsky, "Distributed optimization over time-varying directed graphs", IEEE TAC
2015, and of Push-DIGing (Nedic, Olshevsky and Shi, SIAM J. Optim. 2017); the construction is ours.
Departures: none.
"""

from functools import cached_property

import numpy as np

from simulator.arrays import IntArray
from simulator.checks import require_within
from simulator.graphs.base import Edges, Graph
from simulator.graphs.support import directed_support
from simulator.graphs.weights import out_degree
from simulator.randomness import generator


class BConnectedDirected(Graph):
    """A cycle spread over ``window`` rounds, and random edges.

    Args:
        window: B, rounds in a row that are strongly connected together, at least 1.
        probability: of any other edge in a round, in [0, 1).

    Raises:
        ValueError: when an argument is out of range.
    """

    stochasticity = "column"

    def __init__(self, *, num_nodes: int, window: int, probability: float = 0.0, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if window < 1:
            raise ValueError(f"graph.window={window}: expected at least one round")
        require_within("graph.probability", probability, "[0, 1)")
        self.window = window
        self.probability = probability

    @property
    def directed(self) -> bool:
        """Two nodes that send in every round hear each other."""
        return self.num_nodes > 2 or (self.num_nodes == 2 and self.window > 1)

    @property
    def period(self) -> None:
        """Rounds are drawn anew: there is no period."""
        return None

    @cached_property
    def _cycle(self) -> tuple[IntArray, IntArray, IntArray]:
        """Sender, receiver and residue of every edge of the cycle, shapes [M]."""
        rng = generator(self.seed, "graph/cycle")
        order = rng.permutation(self.num_nodes)
        return order, np.roll(order, -1), rng.permutation(np.arange(self.num_nodes) % self.window)

    def edges(self, step: int) -> Edges:
        """The edges of the cycle whose turn it is, and the random ones."""
        sender, receiver, residue = self._cycle
        turn = residue == step % self.window
        rng = generator(self.seed, "graph/b_connected_directed", step=step)
        num_pairs = self.num_nodes * (self.num_nodes - 1)
        count = int(rng.binomial(num_pairs, self.probability))
        ranks = rng.choice(num_pairs, size=count, replace=False, shuffle=False) if count else np.empty(0, np.int64)
        drawn, other = np.divmod(ranks, max(1, self.num_nodes - 1))
        source, target = directed_support(
            np.concatenate([sender[turn], drawn]),
            np.concatenate([receiver[turn], other + (other >= drawn)]),
            self.num_nodes,
        )
        return Edges.from_sorted(source, target, out_degree(source, target, self.num_nodes))
