"""Local steps with a periodic exact average.

Definition: W_t = J = 11'/M if (t + 1) mod H = 0, else I. Period H, undirected, doubly stochastic; H = 1 is the complete
graph.
Sends: M - 1 messages per node in every H-th round.
Source: local SGD, Stich, ICLR 2019; as a schedule in Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022.
Departures: none.
"""

from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.self_loop import SelfLoop


class LocalSteps(PeriodicGraph):
    """An exact average in every H-th round.

    Args:
        every: H, at least 1.

    Raises:
        ValueError: when ``every`` is out of range.
    """

    directed = False
    stochasticity = "double"

    def __init__(self, *, num_nodes: int, every: int, seed: int = 0) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        if every < 1:
            raise ValueError(f"graph.every={every}: expected at least one round")
        self.every = every

    @property
    def period(self) -> int:
        """H."""
        return self.every

    def build(self, phase: int) -> Edges:
        """Makes M entries, or all M * M in the last round of a period."""
        kind = FullyConnected if phase == self.every - 1 else SelfLoop
        return kind(num_nodes=self.num_nodes).edges(0)
