"""DIGing: gradient tracking, which converges to the common minimiser at a constant learning rate for unlike nodes.

Update equations, with y_0 = grad f(x_0), g_t = grad f(x_t) (each on the minibatch of step t) and learning rate a_t:
    combine-and-adapt (DIGing):  x_{t+1} = W_t x_t - a_t y_t,      y_{t+1} = W_t y_t + g_{t+1} - g_t
    adapt-then-combine:          x_{t+1} = W_t (x_t - a_t y_t),    y_{t+1} = W_t (y_t + g_{t+1} - g_t)
The sum over nodes of y_t is that of g_t at every step, whatever the noise of the gradients.
State: ``params`` [N, D], ``gradient`` [N, D], ``tracker`` [N, D].
Needs: doubly stochastic W; any schedule.
Sends: 2 D numbers per edge and step, in one message for DIGing and in two, one after the other, for adapt-then-combine.
Source: Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017 (arXiv 1607.03218), algorithm 1; adapt-then-combine:
Xu, Zhu, Soh and Xie, CDC 2015.
Departures: learning rates may change over time.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class DIGing(Algorithm):
    """Gradient tracking.

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
        order: ``combine_and_adapt`` or ``adapt_then_combine``.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    push_sum_alternative: ClassVar[str] = "push_diging"

    lr: float
    lr_schedule: Schedule
    order: Literal["combine_and_adapt", "adapt_then_combine"]

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        if self.order not in ("adapt_then_combine", "combine_and_adapt"):
            raise ValueError(f"algorithm.order={self.order!r}: expected combine_and_adapt or adapt_then_combine")

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        gradient = problem.grad(params, problem.init_hparams(), 0)
        return {"params": params, "gradient": gradient, "tracker": copy_as(gradient)}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, y, lr = state["params"], state["tracker"], self.lr * self.lr_schedule.factor(step)
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

    def estimate(self, state: State) -> Tensor:
        return state["params"]
