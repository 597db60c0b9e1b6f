"""DAdamW: decentralized AdamW, whose moments stay at their node while the parameters are mixed.

Update equations, with W doubly stochastic, learning rate a_t and h local steps (1 unless asked otherwise):
    local steps at node i, starting from u = x_i, h times; k = 1, 2, ... counts them over the whole run:
        g <- grad f_i(u),    m_i <- beta_1 m_i + (1 - beta_1) g,    s_i <- beta_2 s_i + (1 - beta_2) g^2
        u <- (1 - a_t weight_decay) u - a_t (m_i / (1 - beta_1^k)) / (sqrt(s_i / (1 - beta_2^k)) + epsilon)
    adapt-then-combine:  x_i <- sum_j W_t[i, j] u_j
    combine-and-adapt:   x_i <- sum_j W_t[i, j] x_j + (u_i - x_i)
    with ema > 0 what is evaluated is e_i <- ema e_i + (1 - ema) x_i.
The weight decay of the problem is part of grad f_i; that of the algorithm is not.
Every node divides by the root of its own s_i. So nodes whose gradients differ do not meet at the minimiser of the mean
objective, however small the rate: the fixed point has sum_i m_i / sqrt(s_i) = 0 in place of sum_i grad f_i = 0.
State: ``params`` [N, D], ``mean`` [N, D], ``mean_square`` [N, D]; with ema also ``average`` [N, D].
Needs: doubly stochastic W.
Sends: D numbers per edge and step.
Source: combine-and-adapt is DADAM of Nazari, Tarzanagh and Michailidis, IEEE TSP 2022 (arXiv 1901.09109), where the
moments are local too; the local update is AdamW, Loshchilov and Hutter, ICLR 2019 (arXiv 1711.05101). That local second
moments may keep it from a stationary point: Chen, Karimi, Zhao and Li, ACML 2022 (arXiv 2109.03194).
Departures: a re-implementation of the published idea. s_i has no maximum over time as in DADAM; both moments are
corrected for their start at 0, and the weights decay, as in AdamW; there is no projection. adapt-then-combine sends the
new parameters, as D-SGD does.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.adam import AdamSettings, adam_
from simulator.algorithms.base import State
from simulator.algorithms.gossip.combined_steps import CombinedSteps
from simulator.algorithms.weights import Weights
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class DAdamW(AdamSettings, CombinedSteps):
    """Decentralized AdamW.

    Args:
        lr, lr_schedule, order, local_steps, ema: as :class:`CombinedSteps`.
        beta_1, beta_2, epsilon, weight_decay: as :class:`AdamSettings`.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_adam()

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return {**state, "mean": zeros_as(state["params"]), "mean_square": zeros_as(state["params"])}

    def adapt_(self, x: Tensor, state: State, step: int, problem: Problem, network: Network) -> None:
        for batch in self.batches(step):
            gradient = problem.grad(x, problem.init_hparams(), batch)
            adam_(
                x,
                gradient,
                state["mean"],
                state["mean_square"],
                lr=self.rate(step),
                count=batch + 1,
                settings=self,
            )

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        (mixed,) = network.mix((rows,), step)
        return mixed
