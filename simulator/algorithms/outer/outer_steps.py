"""What algorithms share that take an outer step after every H inner steps.

Update equations. Step t of the run is one inner step of every node, on its minibatch t; it belongs to outer step
r = t div H, whose rate is a_r = lr times the schedule's factor at step r H:
    inner step, with g = grad f_i(x_i):
        sgd:    m_i <- momentum m_i + g,    x_i <- x_i - a_r m_i
        adamw:  AdamW's update of x_i with rate a_r, see algorithms/adam.py
    unless (t + 1) mod H = 0: what the algorithm does between outer steps, which is nothing unless it says so
    if (t + 1) mod H = 0: the algorithm's outer step, which moves z_i and u_i by what the x have become; x_i <- z_i
z_i starts at x_i, u_i at 0. The moments of the inner optimizer stay at their node and go on, unless the algorithm says
otherwise. The weight decay of the problem is part of grad f_i; that of adamw is not.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from simulator.algorithms.adam import AdamSettings, adam_
from simulator.algorithms.base import Algorithm, State
from simulator.checks import require_at_least, require_one_of, require_positive, require_within
from simulator.network.network import Network
from simulator.padding import copy_as, zeros_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class OuterSteps(AdamSettings, Algorithm):
    """Inner steps at the nodes, and an outer step after every H of them.

    Args:
        inner_optimizer: ``sgd`` or ``adamw``.
        lr: its learning rate; lr_schedule: the factor at the step at which the H inner steps begin.
        momentum: heavy-ball coefficient of sgd in [0, 1).
        beta_1, beta_2, epsilon, weight_decay: of adamw, as :class:`AdamSettings`.
        inner_steps: H, at least 1.
        outer_lr: learning rate of the outer step.
        outer_momentum: its momentum coefficient in [0, 1).
    """

    inner_optimizer: Literal["sgd", "adamw"]
    lr: float
    lr_schedule: Schedule
    momentum: float
    inner_steps: int
    outer_lr: float
    outer_momentum: float

    SLOTS: ClassVar[dict[str, tuple[str, ...]]] = {"sgd": ("momentum",), "adamw": ("mean", "mean_square")}

    def __post_init__(self) -> None:
        require_one_of("algorithm.inner_optimizer", self.inner_optimizer, self.SLOTS)
        for name in ("lr", "outer_lr"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        for name in ("momentum", "outer_momentum"):
            require_within(f"algorithm.{name}", getattr(self, name), "[0, 1)")
        require_at_least("algorithm.inner_steps", self.inner_steps, 1)
        self.require_adam()

    def remark(self, num_steps: int) -> str:
        if num_steps >= self.inner_steps:
            return ""
        return (
            f"num_steps={num_steps} is less than algorithm.inner_steps={self.inner_steps}: the run ends before its "
            "first outer step, whose messages are never sent"
        )

    @property
    def slots(self) -> tuple[str, ...]:
        """The entries of the state that the inner optimizer keeps, [N, D] each."""
        has_none = self.inner_optimizer == "sgd" and not self.momentum
        return () if has_none else self.SLOTS[self.inner_optimizer]

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        state = {"params": params, "outer_params": copy_as(params), "outer_momentum": zeros_as(params)}
        return state | {slot: zeros_as(params) for slot in self.slots}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state = dict(state)
        self._inner_step_(state, step, problem)
        outer_step, position = divmod(step, self.inner_steps)
        if position < self.inner_steps - 1:
            self.between_(state, step, network)
        else:
            self.outer_step_(state, outer_step, problem, network)
            state["params"] = copy_as(state["outer_params"])
        return state

    def between_(self, state: State, step: int, network: Network) -> None:
        """Called after the inner steps that no outer step follows; may put new rows into ``state``."""

    @abstractmethod
    def outer_step_(self, state: State, outer_step: int, problem: Problem, network: Network) -> None:
        """Moves ``outer_params`` and ``outer_momentum`` by what ``params`` have become.

        Args:
            outer_step: r, which counts from 0.
        """

    def rate(self, outer_step: int) -> float:
        """a_r."""
        return self.lr * self.lr_schedule.factor(outer_step * self.inner_steps)

    def count(self, step: int) -> int:
        """How many updates the moments of the inner optimizer have got, the one of ``step`` included."""
        return step + 1

    def _inner_step_(self, state: State, step: int, problem: Problem) -> None:
        x, hparams, lr = state["params"], problem.init_hparams(), self.rate(step // self.inner_steps)
        if self.inner_optimizer == "adamw":
            gradient = problem.grad(x, hparams, step)
            count = self.count(step)
            adam_(x, gradient, state["mean"], state["mean_square"], lr=lr, count=count, settings=self)
        elif self.momentum:
            momentum = state["momentum"].mul_(self.momentum)
            problem.add_grad_(momentum, x, hparams, step, 1.0)
            x.add_(momentum, alpha=-lr)
        else:
            problem.add_grad_(x, x, hparams, step, -lr)

    def estimate(self, state: State) -> Tensor:
        return state["params"]
