"""A static undirected graph with random further edges, such as a ring with random chords.

Definition: round t has the edges of the base and k further pairs of nodes, uniformly random among all sets of k pairs
that the base does not join; Metropolis weights of the result. Doubly stochastic, undirected.
Sends: as the base, and 2k messages more.
Source: the changing ring and the changing star in published code that studies time-varying graphs after Vogels,
Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: any undirected base.
"""

import numpy as np

from simulator.graphs.base import Edges, Graph
from simulator.graphs.support import undirected_support
from simulator.graphs.weights import metropolis
from simulator.randomness import generator


class RandomChords(Graph):
    """An undirected base and random edges.

    Args:
        base: whose edges are always there; its weights are not used.
        num_chords: k, at least 1.

    Raises:
        ValueError: when ``num_chords`` is below 1; from ``edges``, when the base is directed or leaves fewer pairs.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, base: Graph, num_chords: int, seed: int = 0) -> None:
        super().__init__(num_nodes=base.num_nodes, seed=seed)
        if num_chords < 1:
            raise ValueError(f"graph.num_chords={num_chords}: expected at least one")
        self.base = base
        self.num_chords = num_chords
        self.parts = (base,)

    @property
    def description(self) -> str:
        """The schedule and its base."""
        return f"RandomChords over {self.base.description}"

    @property
    def period(self) -> None:
        """Rounds are independent: there is no period."""
        return None

    def edges(self, step: int) -> Edges:
        """The base's edges and the chords of round ``step``."""
        if self.base.directed:
            raise ValueError(f"graph.base: random chords need an undirected graph, and {self.base.description} is not")
        base = self.base.edges(step)
        upper = base.source < base.target
        joined = base.source[upper] * self.num_nodes + base.target[upper]
        left = self.num_nodes * (self.num_nodes - 1) // 2 - len(joined)
        if left < self.num_chords:
            raise ValueError(
                f"graph.num_chords={self.num_chords}: {self.base.description} leaves only {left} pairs of its "
                f"{self.num_nodes} nodes unjoined"
            )
        rng = generator(self.seed, "graph/random_chords", step=step)
        chords = np.empty(0, dtype=np.int64)
        while len(chords) < self.num_chords:
            first, second = rng.integers(self.num_nodes, size=(2, 2 * self.num_chords))
            drawn = np.minimum(first, second) * self.num_nodes + np.maximum(first, second)
            drawn = np.concatenate([chords, drawn[(first != second) & ~np.isin(drawn, joined)]])
            _, places = np.unique(drawn, return_index=True)
            chords = drawn[np.sort(places)]
        low, high = np.divmod(np.concatenate([joined, chords[: self.num_chords]]), self.num_nodes)
        source, target = undirected_support(low, high, self.num_nodes)
        return Edges.from_sorted(source, target, metropolis(source, target, self.num_nodes))
