"""D-SGD: decentralized stochastic gradient descent.

Update equations, with W doubly stochastic and learning rate a_t (heavy-ball momentum m optional and never mixed):
    m_i <- momentum m_i + grad f_i(x_i)
    adapt-then-combine:  x_i <- sum_j W_t[i, j] (x_j - a_t m_j)
    combine-and-adapt:   x_i <- sum_j W_t[i, j] x_j - a_t m_i      with the gradient at the old x_i
Needs: doubly stochastic W. With row-stochastic W it runs to a weighted consensus, which is refused.
Sends: D numbers per edge and step.
Source: Lian et al., NeurIPS 2017 (arXiv 1705.09056), algorithm 1; both orders in Sayed, Foundations and Trends 2014.
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
    """

    lr: float
    lr_schedule: Schedule
    momentum: float
    order: Literal["adapt_then_combine", "combine_and_adapt"]

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"algorithm.momentum={self.momentum}: expected a number in [0, 1)")
        if self.order not in ("adapt_then_combine", "combine_and_adapt"):
            raise ValueError(f"algorithm.order={self.order!r}: expected adapt_then_combine or combine_and_adapt")

    def check_graph(self, graph: Graph) -> None:
        require_stochasticity("dsgd", graph, ("double",), "use algorithm=sgp there")

    def init(self, problem: Problem) -> State:
        params = problem.init_params()
        state = {"params": params}
        if self.momentum:
            state["momentum"] = params.new_zeros(params.shape)
        return state

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, hparams = state["params"], problem.init_hparams()
        lr = self.lr * self.lr_schedule.factor(step)
        if self.order == "combine_and_adapt":
            (mixed,) = network.mix((x,), step)
            self._adapt_(mixed, x, hparams, state, step, problem, lr)
            return {**state, "params": mixed}
        self._adapt_(x, x, hparams, state, step, problem, lr)
        (mixed,) = network.mix((x,), step)
        return {**state, "params": mixed}

    def _adapt_(
        self, out: Tensor, x: Tensor, hparams: Tensor, state: State, step: int, problem: Problem, lr: float
    ) -> None:
        """Adds the local step, taken at ``x``, to ``out``."""
        if not self.momentum:
            problem.add_grad_(out, x, hparams, step, -lr)
            return
        momentum = state["momentum"].mul_(self.momentum)
        problem.add_grad_(momentum, x, hparams, step, 1.0)
        out.add_(momentum, alpha=-lr)

    def estimate(self, state: State) -> Tensor:
        return state["params"]
