"""Push-DIGing: gradient tracking on directed and time-varying graphs, by push-sum.

Update equations, with P_t column-stochastic, push-sum weights w_i (1 at the start), biased parameters u_i (x_i at the
start), y_0 = grad f(x_0) and g_t = grad f(x_t) on the minibatch of step t:
    u <- P_t (u - a_t y),    w <- P_t w,    x = u / w,    y <- P_t y + g_{t+1} - g_t
The sum over nodes of y is that of g at every step. With messages that are late (faults=message_delay), P_t (...) takes
in the shares that arrive in round t, and the sum of y counts what is in flight.
State: ``params`` [N, D], ``push_sum_weight`` [N], ``gradient`` [N, D], ``tracker`` [N, D]; with delays of up to L
rounds also ``in_flight/params`` [N, L, D], ``in_flight/push_sum_weight`` [N, L], ``in_flight/tracker`` [N, L, D].
Needs: column-stochastic P (doubly stochastic is a special case: all weights stay 1).
Sends: 2 D + 1 numbers per edge and step, in one message.
Source: Nedic, Olshevsky and Shi, SIAM Journal on Optimization 2017 (arXiv 1607.03218), algorithm 2.
Departures: learning rates may change over time.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.push_sum import debias, push, with_mailboxes
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule

_PUSHED = ("params", "push_sum_weight", "tracker")


@dataclass(frozen=True, kw_only=True)
class PushDIGing(Algorithm):
    """Gradient tracking by push-sum.

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC
    takes_late_messages: ClassVar[bool] = True

    lr: float
    lr_schedule: Schedule

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        gradient = problem.grad(params, problem.init_hparams(), 0)
        state = {
            "params": params,
            "push_sum_weight": params.new_ones(len(params)),
            "gradient": gradient,
            "tracker": copy_as(gradient),
        }
        return with_mailboxes(state, _PUSHED, network)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state["params"].sub_(state["tracker"], alpha=self.lr * self.lr_schedule.factor(step))
        state = push(state, _PUSHED, network, step)
        gradient = problem.grad(self.estimate(state), problem.init_hparams(), step + 1)
        state["tracker"].add_(gradient).sub_(state["gradient"])
        return {**state, "gradient": gradient}

    def estimate(self, state: State) -> Tensor:
        return debias(state["params"], state["push_sum_weight"])
