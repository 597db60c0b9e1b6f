"""Messages that come some rounds late.

Definition: the message j -> i of round t arrives in round t + d, with d uniform on 0, ..., max_delay for (j, i, t). W_t
is that of the schedule beneath; what a node keeps for itself is never late. Messages may overtake each other.
Push-sum survives it. A share that is d rounds late passes through d virtual nodes of its receiver, so a round is
    X <- A_t X,    A_t [n (max_delay + 1), n (max_delay + 1)] column-stochastic,
where A_t takes P_t[i, j] x_j from node j to virtual node (i, d), and moves (i, d) on to (i, d - 1), the last one to
node i. The sums over nodes and messages in flight are kept, those of the weights too, and x_i / w_i tends to the mean.
Nodes must keep a share of their own, or else one could have no weight at all while its messages are under way.
Sends: the messages of the schedule, counted in the round in which they are sent. They wait at the receiver.
Source: Hadjicostis and Charalambous, "Average consensus in the presence of delays in directed graph topologies", IEEE
TAC 2014; Nedic and Ozdaglar, "Convergence rate for consensus with delays", Journal of Global Optimization 2010.
Departures: delays are drawn for every message; the bound is the same for all links.
"""

import numpy as np
import numpy.typing as npt

from simulator.arrays import IntArray
from simulator.checks import require_at_least
from simulator.faults.base import FaultyGraph
from simulator.graphs.base import Edges, Graph
from simulator.randomness import uniforms

_NUM_ROUNDS = 100


class MessageDelay(FaultyGraph):
    """Delays messages.

    Args:
        max_delay: the most rounds that a message is late, at least 0.
        graph, seed: see the base class.

    Raises:
        ValueError: when ``max_delay`` is negative.
    """

    def __init__(self, *, graph: Graph, max_delay: int, seed: int = 0) -> None:
        super().__init__(graph=graph, seed=seed)
        require_at_least("faults.max_delay", max_delay, 0)
        self.max_delay = max_delay

    @property
    def period(self) -> int | None:
        """Without delays that of the schedule beneath; otherwise none."""
        return None if self.max_delay else self.graph.period

    def edges(self, step: int) -> Edges:
        """Those of the schedule beneath."""
        return self.graph.edges(step)

    def delays(self, source: IntArray, target: IntArray, steps: npt.ArrayLike) -> IntArray:
        """Rounds that every message is late, int64, shape [E]."""
        draws = uniforms(self.seed, "fault/delay", source * self.num_nodes + target, steps, 1)[:, 0]
        late: IntArray = (draws * (self.max_delay + 1)).astype(np.int64)
        return late

    def check_shares(self) -> None:
        """Checks that every node keeps a share of its own and that none is negative, in a period or 100 rounds.

        Raises:
            ValueError: naming the node and the round.
        """
        if not self.max_delay:
            return
        for step in range(self.graph.period or _NUM_ROUNDS):
            edges = self.graph.edges(step)
            own = np.zeros(self.num_nodes)
            loops = edges.source == edges.target
            own[edges.source[loops]] = edges.weight[loops]
            if own.min() > 0 and edges.weight.min() >= 0:
                continue
            what = (
                f"node {int(np.argmin(own))} keeps no share of its own"
                if own.min() <= 0
                else "there is a negative weight"
            )
            raise ValueError(
                f"faults.max_delay={self.max_delay}: in round {step} of graph {self.graph.description} {what}, and "
                "push-sum needs positive weights while messages are late; use another graph or graph.weights"
            )
