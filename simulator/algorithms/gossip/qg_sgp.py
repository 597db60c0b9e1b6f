"""QG-SGP: quasi-global momentum on directed and time-varying graphs, by push-sum.

Update equations, with P_t column-stochastic, push-sum weights w_i (1 at the start), debiased z_i = x_i / w_i, learning
rate a_t, momentum b and decay c; g_i is the gradient at z_i:
    m_i <- b q_i + g_i                    (what is applied; q_i is 0 at the start)
    x <- P_t (x - a_t m),    w <- P_t w,    z_i' = x_i / w_i
    q_i <- c q_i + (1 - c) (z_i - z_i') / a_t
With nesterov, g_i + b m_i is applied in place of m_i. With doubly stochastic P_t all weights stay 1, and this is
QG-DSGDm (see qg_dsgdm.py); with b = 0 it is adapt-then-mix SGP. With messages that are late (faults=message_delay),
P_t (...) takes in the shares that arrive in round t.
State: ``params`` [N, D], ``push_sum_weight`` [N], ``momentum`` [N, D]; with delays of up to L rounds also
``in_flight/params`` [N, L, D], ``in_flight/push_sum_weight`` [N, L].
Needs: column-stochastic P (doubly stochastic is a special case) that mixes well; see qg_dsgdm.py for where it diverges.
Sends: D + 1 numbers per edge and step, in one buffer.
Source: the momentum of Lin, Karimireddy, Stich and Jaggi, ICML 2021 (arXiv 2102.04761) on the iterates of Assran et
al., ICML 2019 (arXiv 1811.10792). This is a re-implementation of the published idea; that q follows the debiased
models, not the biased ones, is our reading.
Departures: q_i is updated at every step.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.gossip.qg_dsgdm import QuasiGlobalMomentum
from simulator.algorithms.gossip.sgp import PUSHED, init_push
from simulator.algorithms.push_sum import debias, push
from simulator.algorithms.weights import Weights
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class QGSGP(QuasiGlobalMomentum):
    """Quasi-global momentum by push-sum; see :class:`QuasiGlobalMomentum` for the arguments."""

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC
    takes_late_messages: ClassVar[bool] = True

    def init(self, problem: Problem, network: Network) -> State:
        state = init_push(problem, network)
        return {**state, "momentum": zeros_as(state["params"])}

    def combine(self, state: State, step: int, network: Network) -> State:
        return push(state, PUSHED, network, step)

    def estimate(self, state: State) -> Tensor:
        return debias(state["params"], state["push_sum_weight"])
