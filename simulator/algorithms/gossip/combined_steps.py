"""What gossip algorithms share whose nodes take local steps and then combine, in either order.

Update equations of one step, with u_i what h local steps make of x_i:
    adapt-then-combine:  x_i <- what takes the place of u_i once all u have been sent
    combine-and-adapt:   x_i <- what takes the place of x_i once all x have been sent, plus u_i - x_i
    with ema > 0 what is evaluated is e_i <- ema e_i + (1 - ema) x_i, which starts at the initial parameters and never
    enters the training.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.checks import require_at_least, require_one_of, require_positive, require_within
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class CombinedSteps(Algorithm):
    """Local steps and, at every step, a combination with what other nodes have.

    The state holds ``params`` [N, D] and, with ema, ``average`` [N, D].

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
        order: ``adapt_then_combine`` or ``combine_and_adapt``.
        local_steps: gradient steps of a node between two rounds of mixing, at least 1; each has a minibatch of its own.
        ema: decay of the moving average that is evaluated in place of the parameters, in [0, 1); 0 for none.
    """

    lr: float
    lr_schedule: Schedule
    order: Literal["adapt_then_combine", "combine_and_adapt"]
    local_steps: int = 1
    ema: float = 0.0

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        require_within("algorithm.ema", self.ema, "[0, 1)")
        require_one_of("algorithm.order", self.order, ("adapt_then_combine", "combine_and_adapt"))
        require_at_least("algorithm.local_steps", self.local_steps, 1)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "average": copy_as(params)} if self.ema else {"params": params}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state, x = dict(state), state["params"]
        if self.order == "combine_and_adapt":
            mixed = self.combine(x, state, step, network)
            mixed.sub_(x)
            self.adapt_(x, state, step, problem, network)
            mixed.add_(x)
        else:
            self.adapt_(x, state, step, problem, network)
            mixed = self.combine(x, state, step, network)
        if self.ema:
            state["average"].lerp_(mixed, 1.0 - self.ema)
        state["params"] = mixed
        return state

    @abstractmethod
    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        """What takes the place of ``rows`` [N, D] once they have been sent, [N, D]; may put things into ``state``."""

    @abstractmethod
    def adapt_(self, x: Tensor, state: State, step: int, problem: Problem, network: Network) -> None:
        """Takes the local steps of one step, in place."""

    def rate(self, step: int) -> float:
        """The learning rate of ``step``."""
        return self.lr * self.lr_schedule.factor(step)

    def batches(self, step: int) -> range:
        """The numbers of the local steps of ``step`` among all local steps, from 0 on: those of their minibatches."""
        return range(step * self.local_steps, (step + 1) * self.local_steps)

    def estimate(self, state: State) -> Tensor:
        return state["average"] if self.ema else state["params"]
