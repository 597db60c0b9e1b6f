"""What gradient tracking with one tracker per node shares: settings, and the state before the first step.

Symbols: y_i is the tracker, which starts at grad f_i(x_i), as what the tracker has taken in last does.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.checks import require_one_of, require_positive
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class TrackedSteps(Algorithm):
    """Gradient tracking.

    The state holds ``params`` [N, D], ``gradient`` [N, D] and ``tracker`` [N, D].

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
        order: ``adapt_then_combine`` or ``combine_and_adapt``.
    """

    lr: float
    lr_schedule: Schedule
    order: Literal["adapt_then_combine", "combine_and_adapt"]

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        require_one_of("algorithm.order", self.order, ("adapt_then_combine", "combine_and_adapt"))

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        gradient = problem.grad(params, problem.init_hparams(), 0)
        return {"params": params, "gradient": gradient, "tracker": copy_as(gradient)}

    def rate(self, step: int) -> float:
        """The learning rate of ``step``."""
        return self.lr * self.lr_schedule.factor(step)

    def estimate(self, state: State) -> Tensor:
        return state["params"]
