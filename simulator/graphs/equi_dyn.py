"""OD-EquiDyn and OU-EquiDyn: one-peer schedules whose consensus rate does not depend on the number of nodes.

Definition: every round draws an offset u, uniform on 1, ..., M - 1, and W_t = (1 - eta) I + eta A_t. directed=true
(OD-EquiDyn): A_t = (1/M) I + ((M - 1)/M) P^u, where P^u brings the message of node i to i + u (mod M). directed=false
(OU-EquiDyn): the nodes s, s + 1, ..., s + M - 1 (mod M) from a random start s on are looked at in turn; node i is
matched with i + u (mod M) if both are still free; matched nodes give each other (M - 1)/M and keep 1/M in A_t, others
keep everything. Doubly stochastic. For directed=true E W_t = (1 - eta) I + eta J.
Sends: 1 message per node and round; with directed=false at most that.
Source: Song, Li, Jin, Shi, Yan, Yin and Yuan, "Communication-efficient topologies for decentralized learning with O(1)
consensus rate", NeurIPS 2022.
Departures: offsets are drawn from all M - 1, not from those of an EquiStatic graph.
"""

import numpy as np

from simulator.checks import require_within
from simulator.graphs.base import Edges, Graph
from simulator.graphs.pairs import edges_of_pairs
from simulator.graphs.support import circulant_support
from simulator.randomness import generator


class EquiDyn(Graph):
    """A random offset in every round.

    Args:
        eta: weight of the exchange, in (0, 1]; near 1 the schedule almost permutes the nodes.
        directed: OD-EquiDyn, or OU-EquiDyn where false.

    Raises:
        ValueError: when ``eta`` is out of range.
    """

    stochasticity = "double"

    def __init__(self, *, num_nodes: int, eta: float = 0.5, directed: bool = True, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        require_within("graph.eta", eta, "(0, 1]")
        self.eta = eta
        self._directed = directed

    @property
    def directed(self) -> bool:
        """False for up to two nodes, which hear each other."""
        return self._directed and self.num_nodes > 2

    @property
    def period(self) -> None:
        """Rounds are independent: there is no period."""
        return None

    def edges(self, step: int) -> Edges:
        """Draws the offset, and the start where pairs are matched."""
        if self.num_nodes == 1:
            return Edges.build([0], [0], 1.0)
        rng = generator(self.seed, "graph/equi_dyn", step=step)
        offset = int(rng.integers(1, self.num_nodes))
        given = self.eta * (self.num_nodes - 1) / self.num_nodes
        if self._directed:
            source, target = circulant_support(self.num_nodes, offset)
            return Edges.from_sorted(source, target, np.where(source == target, 1.0 - given, given))
        first, second = self._match(offset, int(rng.integers(self.num_nodes)))
        pairs = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64), np.full(len(first), given)
        return edges_of_pairs(pairs, self.num_nodes)

    def _match(self, offset: int, start: int) -> tuple[list[int], list[int]]:
        is_free = [True] * self.num_nodes
        first, second = [], []
        for place in range(start, start + self.num_nodes):
            node, other = place % self.num_nodes, (place + offset) % self.num_nodes
            if is_free[node] and is_free[other]:
                is_free[node] = is_free[other] = False
                first.append(node)
                second.append(other)
        return first, second
