"""K-GT: gradient tracking with local steps, which tracks how far the nodes get in them.

Update equations of one step, with K local steps of learning rate a (each with a minibatch of its own) and c = 0 at the
start:
    u <- u - a (grad f_i(u) + c_i), K times, starting from u = x_i;    z_i = (x_i - u) / (K a)
    x_i <- sum_j W_t[i, j] (x_j - b K a z_j),    c_i <- c_i - z_i + sum_j W_t[i, j] z_j
The sum over nodes of c stays 0. With K = 1 and b = 1 this is gradient tracking with the tracker T = grad f(x) + c:
    x <- W_t (x - a T),    T <- W_t T + grad f(x_new) - grad f(x)
Needs: doubly stochastic W; any schedule.
Sends: 2 D numbers per edge and step, in one message.
Source: Liu, Lin, Koloskova and Stich, Optimization Methods and Software 2024 (arXiv 2301.01313), algorithm K-GT; a is
eta_c there and b is eta_s. A re-implementation of the published idea, with the equations of a public implementation.
Departures: c starts at 0, as in that implementation, not at the difference from the mean gradient, which nobody knows;
learning rates may change over time.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.base import State
from simulator.algorithms.primal_dual.local_correction import LocalCorrection, descend_
from simulator.algorithms.weights import Weights
from simulator.checks import require_at_least, require_positive
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class KGT(LocalCorrection):
    """K-GT.

    Args:
        lr, lr_schedule: as :class:`PrimalDual`.
        local_steps: K, at least 1.
        communication_lr: b, positive.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC

    local_steps: int
    communication_lr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("algorithm.local_steps", self.local_steps, 1)
        require_positive("algorithm.communication_lr", self.communication_lr)

    def check_graph(self, graph: Graph) -> None:
        """Graphs may change."""

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        lr, count = self.rate(step), self.local_steps
        params, correction = state["params"], state["correction"]
        sent = copy_as(params)
        descend_(state, problem, range(step * count, (step + 1) * count), lr)
        moved = params.neg_().add_(sent)
        sent.sub_(moved, alpha=self.communication_lr)
        moved.div_(count * lr)
        mixed, arrived = network.mix((sent, moved), step)
        correction.sub_(moved).add_(arrived)
        return {"params": mixed, "correction": correction}
