"""EquiStatic: a sparse graph whose consensus rate does not depend on the number of nodes.

Definition: offsets u_1, ..., u_L, uniform in 1, ..., M - 1, and P the shift by one place:
W = (1/L) sum_l ((1/M) I + (1 - 1/M) P^(u_l)), so node i hears i - u_l; weights of equal offsets add up. directed=false
takes (W + W') / 2. Offsets are drawn anew, at most 1000 times, until together with M they have no common divisor, that
is, until the graph is connected. The default L is ceil(log2 M). Doubly stochastic, static; directed unless asked
otherwise (or unless every offset is drawn as often as its opposite).
Sends: at most L messages per node and round, 2L if undirected.
Source: Song, Li, Jin, Shi, Yan, Yin and Yuan, "Communication-efficient topologies for decentralized learning with O(1)
consensus rate", NeurIPS 2022: D-EquiStatic and U-EquiStatic.
Departures: draws that are not connected are dropped; there their probability is small for L of the order ln(M).
"""

from functools import cached_property

import numpy as np

from simulator.arrays import IntArray
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.randomness import generator

_MAX_DRAWS = 1000


class EquiStatic(PeriodicGraph):
    """A mean of shifts by random offsets.

    Args:
        num_offsets: L, at least 1; None: ceil(log2 M).
        directed: false: messages run both ways.

    Raises:
        ValueError: when an argument is out of range; from the first use, when no draw is connected.
    """

    stochasticity = "double"

    def __init__(self, *, num_nodes: int, num_offsets: int | None = None, directed: bool = True, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if num_offsets is not None and num_offsets < 1:
            raise ValueError(f"graph.num_offsets={num_offsets}: at least 1 offset is needed")
        self.num_offsets = max(1, (num_nodes - 1).bit_length()) if num_offsets is None else num_offsets
        self._one_way = directed

    @property
    def directed(self) -> bool:
        """Whether some offset was drawn more often than its opposite."""
        return self._one_way and not np.array_equal(np.sort(self.offsets), np.sort(-self.offsets % self.num_nodes))

    @cached_property
    def offsets(self) -> IntArray:
        """The drawn offsets, shape [L]; of a single node all 0."""
        if self.num_nodes == 1:
            return np.zeros(self.num_offsets, dtype=np.int64)
        for attempt in range(_MAX_DRAWS):
            rng = generator(self.seed, "graph/equi_static", step=attempt)
            offsets = rng.integers(1, self.num_nodes, self.num_offsets)
            if np.gcd.reduce(np.append(offsets, self.num_nodes)) == 1:
                return offsets
        raise ValueError(
            f"graph of {self.num_nodes} nodes: none of {_MAX_DRAWS} draws of {self.num_offsets} offsets is connected; "
            "raise graph.num_offsets"
        )

    def build(self, phase: int) -> Edges:
        """Makes the at most M (L + 1) entries, or M (2L + 1)."""
        offsets = self.offsets if self._one_way else np.concatenate([self.offsets, -self.offsets])
        distinct, counts = np.unique(np.append(offsets % self.num_nodes, 0), return_counts=True)
        share = counts * (1.0 - 1.0 / self.num_nodes) / len(offsets)
        share[0] = 1.0 / self.num_nodes if self.num_nodes > 1 else 1.0
        nodes = np.arange(self.num_nodes, dtype=np.int64)
        return Edges.build(
            ((nodes[:, None] - distinct) % self.num_nodes).ravel(),
            np.repeat(nodes, len(distinct)),
            np.tile(share, self.num_nodes),
        )
