"""QG-DSGDm: decentralized SGD whose momentum follows what mixing has done to the model, not the node's own gradients.

Update equations, with W doubly stochastic, learning rate a_t, momentum b and decay c; g_i is the gradient at x_i:
    m_i <- b q_i + g_i                    (what is applied; q_i is 0 at the start)
    x_i' <- sum_j W_t[i, j] (x_j - a_t m_j)
    q_i <- c q_i + (1 - c) (x_i - x_i') / a_t,    x_i <- x_i'
With nesterov, g_i + b m_i is applied in place of m_i. With b = 0 this is adapt-then-combine D-SGD.
State: ``params`` [N, D], ``momentum`` [N, D].
Needs: doubly stochastic W; any schedule. In the source W is symmetric: where W has complex eigenvalues near 1, as a
directed ring of 8 nodes or more has, the disagreement between nodes grows by itself, at every rate and most momenta.
Sends: D numbers per edge and step.
Source: Lin, Karimireddy, Stich and Jaggi, ICML 2021 (arXiv 2102.04761), algorithm 1; nesterov as in its experiments.
Departures: q_i is updated at every step.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive, require_within
from simulator.network.network import Network
from simulator.padding import copy_as, zeros_as
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class QuasiGlobalMomentum(Algorithm):
    """A gradient step with momentum, a round of mixing, and momentum from how far the two together have moved.

    Args:
        lr: learning rate; lr_schedule: its factor at each step.
        momentum: b in [0, 1).
        decay: c in [0, 1), or None for that of ``momentum``.
        nesterov: whether g + b m is applied instead of m.
    """

    survives_churn: ClassVar[bool] = True

    lr: float
    lr_schedule: Schedule
    momentum: float
    decay: float | None = None
    nesterov: bool = False

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        require_within("algorithm.momentum", self.momentum, "[0, 1)")
        if self.decay is not None:
            require_within("algorithm.decay", self.decay, "[0, 1)")

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "momentum": zeros_as(params)}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        before, q = self.estimate(state), state["momentum"]
        lr, b = self.lr * self.lr_schedule.factor(step), self.momentum
        c = b if self.decay is None else self.decay
        of_gradient, of_q = (1.0 + b, b * b) if self.nesterov else (1.0, b)
        half = copy_as(state["params"]).add_(q, alpha=-lr * of_q)
        problem.add_grad_(half, before, problem.init_hparams(), step, -lr * of_gradient)
        state = self.combine({**state, "params": half}, step, network)
        q.mul_(c).add_(before.sub_(self.estimate(state)), alpha=(1.0 - c) / lr)
        return state

    @abstractmethod
    def combine(self, state: State, step: int, network: Network) -> State:
        """``state`` after a round of mixing of its parameters."""


@dataclass(frozen=True, kw_only=True)
class QGDSGDm(QuasiGlobalMomentum):
    """Quasi-global momentum; see :class:`QuasiGlobalMomentum` for the arguments."""

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    push_sum_alternative: ClassVar[str] = "qg_sgp"
    admits_attackers: ClassVar[bool] = True

    def combine(self, state: State, step: int, network: Network) -> State:
        (mixed,) = network.mix((state["params"],), step)
        return {**state, "params": mixed}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
