"""SGP: stochastic gradient push, on directed and time-varying graphs.

Update equations, with P_t column-stochastic, push-sum weights w_i (1 at the start) and debiased z_i = x_i / w_i:
    adapt-then-mix:  x <- P_t (x - a_t grad f(z)),    w <- P_t w
    mix-then-adapt:  x <- P_t x - a_t grad f(z),      w <- P_t w
With messages that are late (faults=message_delay), P_t (...) takes in the shares that arrive in round t.
State: ``params`` [N, D], ``push_sum_weight`` [N]; with delays of up to L rounds also ``in_flight/params`` [N, L, D],
``in_flight/push_sum_weight`` [N, L].
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
from simulator.algorithms.push_sum import debias, push, with_mailboxes
from simulator.algorithms.weights import Weights
from simulator.checks import require_one_of, require_positive
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.schedules import Schedule

Order = Literal["adapt_then_mix", "mix_then_adapt"]


PUSHED = ("params", "push_sum_weight")
"""The entries of a state that SGP mixes."""


def init_push(problem: Problem, network: Network) -> State:
    """The state before the first step: the starting parameters, weights of 1, and nothing in flight."""
    params = problem.init_params()
    return with_mailboxes({"params": params, "push_sum_weight": params.new_ones(len(params))}, PUSHED, network)


def push_gradient_step(
    state: State,
    hparams: Tensor,
    problem: Problem,
    network: Network,
    *,
    order: Order,
    lr: float,
    batch_step: int,
    round_index: int,
) -> State:
    """``state`` (biased parameters and push-sum weights) after one SGP step; consumes it."""
    debiased = debias(state["params"], state["push_sum_weight"])
    if order == "adapt_then_mix":
        problem.add_grad_(state["params"], debiased, hparams, batch_step, -lr)
        return push(state, PUSHED, network, round_index)
    state = push(state, PUSHED, network, round_index)
    problem.add_grad_(state["params"], debiased, hparams, batch_step, -lr)
    return state


def check_order(order: str) -> None:
    """Raises ValueError unless ``order`` is one of the two forms."""
    require_one_of("algorithm.order", order, ("adapt_then_mix", "mix_then_adapt"))


@dataclass(frozen=True, kw_only=True)
class SGP(Algorithm):
    """Stochastic gradient push.

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
        order: ``adapt_then_mix`` or ``mix_then_adapt``.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC
    takes_late_messages: ClassVar[bool] = True
    survives_churn: ClassVar[bool] = True

    lr: float
    lr_schedule: Schedule
    order: Order

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        check_order(self.order)

    def init(self, problem: Problem, network: Network) -> State:
        return init_push(problem, network)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        return push_gradient_step(
            state,
            problem.init_hparams(),
            problem,
            network,
            order=self.order,
            lr=self.lr * self.lr_schedule.factor(step),
            batch_step=step,
            round_index=step,
        )

    def estimate(self, state: State) -> Tensor:
        return debias(state["params"], state["push_sum_weight"])
