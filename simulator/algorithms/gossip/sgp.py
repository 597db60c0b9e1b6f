"""SGP: stochastic gradient push, on directed and time-varying graphs.

Update equations, with P_t column-stochastic, push-sum weights w_i (1 at the start) and debiased z_i = x_i / w_i:
    adapt-then-mix:  x <- P_t (x - a_t grad f(z)),    w <- P_t w
    mix-then-adapt:  x <- P_t x - a_t grad f(z),      w <- P_t w
State: ``params`` [N, D], ``push_sum_weight`` [N].
Needs: column-stochastic P (doubly stochastic is a special case: all weights stay 1).
Sends: D + 1 numbers per edge and step, in one buffer.
Source: Assran et al., ICML 2019 (arXiv 1811.10792), algorithm 1, and Nedic and Olshevsky, IEEE TAC 2016
(arXiv 1406.2075) for mix-then-adapt.
Departures: none.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.schedules import Schedule

Order = Literal["adapt_then_mix", "mix_then_adapt"]


def push_gradient_step(
    params: Tensor,
    push_sum_weight: Tensor,
    hparams: Tensor,
    problem: Problem,
    network: Network,
    *,
    order: Order,
    lr: float,
    batch_step: int,
    round_index: int,
) -> tuple[Tensor, Tensor]:
    """One SGP step; returns the new biased parameters [N, D] and push-sum weights [N]. Overwrites ``params``."""
    debiased = params / push_sum_weight[:, None]
    if order == "adapt_then_mix":
        problem.add_grad_(params, debiased, hparams, batch_step, -lr)
        mixed, weight = network.mix((params, push_sum_weight), round_index)
    else:
        mixed, weight = network.mix((params, push_sum_weight), round_index)
        problem.add_grad_(mixed, debiased, hparams, batch_step, -lr)
    return mixed, weight


def check_order(order: str) -> None:
    """Raises ValueError unless ``order`` is one of the two forms."""
    if order not in ("adapt_then_mix", "mix_then_adapt"):
        raise ValueError(f"algorithm.order={order!r}: expected adapt_then_mix or mix_then_adapt")


@dataclass(frozen=True, kw_only=True)
class SGP(Algorithm):
    """Stochastic gradient push.

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
        order: ``adapt_then_mix`` or ``mix_then_adapt``.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC

    lr: float
    lr_schedule: Schedule
    order: Order

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        check_order(self.order)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "push_sum_weight": params.new_ones(len(params))}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params, weight = push_gradient_step(
            state["params"],
            state["push_sum_weight"],
            problem.init_hparams(),
            problem,
            network,
            order=self.order,
            lr=self.lr * self.lr_schedule.factor(step),
            batch_step=step,
            round_index=step,
        )
        return {"params": params, "push_sum_weight": weight}

    def estimate(self, state: State) -> Tensor:
        return state["params"] / state["push_sum_weight"][:, None]
