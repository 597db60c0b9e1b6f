"""Gossip with periodic global averaging (Gossip-PGA).

Definition: W_t = J = 11'/M if (t + 1) mod H = 0, else the base's W_t. Stochastic and directed as the base is; of period
lcm(H, period of the base), and None if the base is random. Mixes, even if the base does not. With a base of self-loops
these are local steps.
Sends: as the base, and M - 1 messages per node in every H-th round.
Source: Chen, Yuan, Zhang, Pan, Xu and Yin, "Accelerating gossip SGD with periodic global averaging", ICML 2021,
Algorithm 1.
Departures: the base may vary with time; rounds of exact averages count as rounds of the base.
"""

import math

from simulator.graphs.base import Edges, Graph, Stochasticity
from simulator.graphs.fully_connected import FullyConnected


class GossipPGA(Graph):
    """A schedule with an exact average in every H-th round.

    Args:
        base: the schedule of the other rounds.
        every: H, at least 1.

    Raises:
        ValueError: when ``every`` is out of range.
    """

    def __init__(self, *, base: Graph, every: int) -> None:
        super().__init__(num_nodes=base.num_nodes, seed=base.seed)
        if every < 1:
            raise ValueError(f"graph.every={every}: expected at least one round")
        self.base = base
        self.every = every
        self.parts = (base,)
        self._average = FullyConnected(num_nodes=base.num_nodes)

    @property
    def description(self) -> str:
        """The schedule and its base."""
        return f"GossipPGA over {self.base.description}"

    @property
    def directed(self) -> bool:
        """As the base, which is never used where H is 1."""
        return self.base.directed and self.every > 1

    @property
    def stochasticity(self) -> Stochasticity:
        """As the base: J has whatever the base has."""
        return self.base.stochasticity

    @property
    def period(self) -> int | None:
        """Until both repeat."""
        return None if self.base.period is None else math.lcm(self.base.period, self.every)

    def edges(self, step: int) -> Edges:
        """The average, or the base's entries."""
        return (self._average if (step + 1) % self.every == 0 else self.base).edges(step)
