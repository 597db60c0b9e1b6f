"""DIGing: gradient tracking, which converges to the common minimiser at a constant learning rate for unlike nodes.

Update equations, with y_0 = grad f(x_0), g_t = grad f(x_t) (each on the minibatch of step t) and learning rate a_t:
    combine-and-adapt (DIGing):  x_{t+1} = W_t x_t - a_t y_t,      y_{t+1} = W_t y_t + g_{t+1} - g_t
    adapt-then-combine:          x_{t+1} = W_t (x_t - a_t y_t),    y_{t+1} = W_t (y_t + g_{t+1} - g_t)
The sum over nodes of y_t is that of g_t at every step, whatever the noise of the gradients.
Stability: for quadratics of curvature L and one symmetric W with smallest eigenvalue w, DIGing needs
a L < (1 + w)^2 / 2, which is small where w is negative, and adapt-then-combine a L < min(2, (1 + w)^2 / (2 w^2)). These
are Jury's conditions for the recursion of each eigenvector. Weights with larger w, such as ``graph.weights=lazy``,
bear larger rates.
State: ``params`` [N, D], ``gradient`` [N, D], ``tracker`` [N, D].
Needs: doubly stochastic W; any schedule.
Sends: 2 D numbers per edge and step, in one message for DIGing and in two, one after the other, for adapt-then-combine.
Source: Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017 (arXiv 1607.03218), algorithm 1; adapt-then-combine:
Xu, Zhu, Soh and Xie, CDC 2015.
Departures: learning rates may change over time.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.base import State
from simulator.algorithms.gossip.tracked_steps import TrackedSteps
from simulator.algorithms.weights import Weights
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class DIGing(TrackedSteps):
    """Gradient tracking.

    Args:
        lr, lr_schedule, order: as :class:`TrackedSteps`.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    push_sum_alternative: ClassVar[str] = "push_diging"

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, y, lr = state["params"], state["tracker"], self.rate(step)
        if self.order == "combine_and_adapt":
            mixed, tracker = network.mix((x, y), step)
            mixed.sub_(y, alpha=lr)
            gradient = problem.grad(mixed, problem.init_hparams(), step + 1)
            tracker.add_(gradient).sub_(state["gradient"])
        else:
            (mixed,) = network.mix((x.sub_(y, alpha=lr),), step)
            gradient = problem.grad(mixed, problem.init_hparams(), step + 1)
            (tracker,) = network.mix((y.add_(gradient).sub_(state["gradient"]),), step)
        return {"params": mixed, "gradient": gradient, "tracker": tracker}
