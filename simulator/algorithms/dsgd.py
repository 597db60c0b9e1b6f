"""D-SGD: decentralized stochastic gradient descent.

Update equations, with W doubly stochastic, learning rate a_t and h local steps (1 unless asked otherwise):
    local steps at node i, starting from u = x_i, h times (m_i is heavy-ball momentum; it stays at its node):
        m_i <- momentum m_i + grad f_i(u),    u <- u - a_t m_i
    adapt-then-combine:  x_i <- sum_j W_t[i, j] u_j
    combine-and-adapt:   x_i <- sum_j W_t[i, j] x_j + (u_i - x_i)
    with ema > 0 what is evaluated is e_i <- ema e_i + (1 - ema) x_i, which starts at the initial parameters and never
    enters the training.
The weight decay of the problem is part of grad f_i, and so goes through the momentum.
Needs: doubly stochastic W. With row-stochastic W it runs to a weighted consensus, which is refused.
Sends: D numbers per edge and step.
Source: Lian et al., NeurIPS 2017 (arXiv 1705.09056), algorithm 1; both orders in Sayed, Foundations and Trends 2014;
local steps and the average for evaluation as in Vogels, Hendrikx and Jaggi, NeurIPS 2022 (arXiv 2206.03093).
Departures: none.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from simulator.algorithms.base import Algorithm, State, require_positive, require_stochasticity
from simulator.graphs.base import Graph
from simulator.network import Network
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class DSGD(Algorithm):
    """Decentralized SGD.

    Args:
        lr: learning rate; lr_schedule: what it is multiplied with at each step.
        momentum: heavy-ball coefficient in [0, 1).
        order: ``adapt_then_combine`` or ``combine_and_adapt``.
        local_steps: gradient steps of a node between two rounds of mixing, at least 1; each has a minibatch of its own.
        ema: decay of the moving average that is evaluated in place of the parameters, in [0, 1); 0 for none.
    """

    lr: float
    lr_schedule: Schedule
    momentum: float
    order: Literal["adapt_then_combine", "combine_and_adapt"]
    local_steps: int = 1
    ema: float = 0.0

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        for name in ("momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"algorithm.{name}={getattr(self, name)}: expected a number in [0, 1)")
        if self.order not in ("adapt_then_combine", "combine_and_adapt"):
            raise ValueError(f"algorithm.order={self.order!r}: expected adapt_then_combine or combine_and_adapt")
        if self.local_steps < 1:
            raise ValueError(f"algorithm.local_steps={self.local_steps}: expected at least 1")

    def check_graph(self, graph: Graph) -> None:
        require_stochasticity("dsgd", graph, ("double",), "use algorithm=sgp there")

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        state = {"params": params}
        if self.momentum:
            state["momentum"] = params.new_zeros(params.shape)
        if self.ema:
            state["average"] = params.clone()
        return state

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        state, x = dict(state), state["params"]
        if self.order == "combine_and_adapt":
            mixed = self.combine(x, state, step, network)
            mixed.sub_(x)
            self._adapt_(x, state, step, problem)
            mixed.add_(x)
        else:
            self._adapt_(x, state, step, problem)
            mixed = self.combine(x, state, step, network)
        if self.ema:
            state["average"].lerp_(mixed, 1.0 - self.ema)
        state["params"] = mixed
        return state

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        """The averages [N, D] of ``rows`` [N, D] over the neighbours of every node; may put things into ``state``."""
        (mixed,) = network.mix((rows,), step)
        return mixed

    def _adapt_(self, x: Tensor, state: State, step: int, problem: Problem) -> None:
        """Takes the local steps of one step, in place."""
        hparams, lr = problem.init_hparams(), self.lr * self.lr_schedule.factor(step)
        for batch in range(step * self.local_steps, (step + 1) * self.local_steps):
            if not self.momentum:
                problem.add_grad_(x, x, hparams, batch, -lr)
                continue
            momentum = state["momentum"].mul_(self.momentum)
            problem.add_grad_(momentum, x, hparams, batch, 1.0)
            x.add_(momentum, alpha=-lr)

    def estimate(self, state: State) -> Tensor:
        return state["average"] if self.ema else state["params"]
