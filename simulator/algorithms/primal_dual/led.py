"""LED: exact diffusion with local steps between its rounds.

Update equations of one step, with K local steps of learning rate a (each with a minibatch of its own) and c = 0 at the
start:
    u <- u - a (grad f_i(u) + c_i), K times, starting from u = x_i
    x_i <- u_i - r (u_i - sum_j W[i, j] u_j),    c_i <- c_i + (u_i - x_i) / (K a)
The sum over nodes of c stays 0. With K = 1 this is exact diffusion.
Needs: symmetric, doubly stochastic W; a static graph; (1 - r) I + r W with eigenvalues above -1/3, as r = 1/2 has
everywhere.
Sends: D numbers per edge and step.
Source: Alghunaim, IEEE TAC 2024 (arXiv 2302.00620), algorithm 1 with beta = 1 / K; c is its dual variable y / (K a). A
re-implementation of the published idea: the equations are those of a public implementation, in decent-bench.
Departures: W there is (1 - r) I + r W here; learning rates may change over time, and c keeps its value then.
"""

from dataclasses import dataclass

from simulator.algorithms.base import State
from simulator.algorithms.primal_dual.base import RelaxedMixing
from simulator.algorithms.primal_dual.local_correction import LocalCorrection, descend_, relax_
from simulator.checks import require_at_least
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class LED(RelaxedMixing, LocalCorrection):
    """Local exact diffusion.

    Args:
        lr, lr_schedule, relaxation: as :class:`RelaxedMixing`.
        local_steps: K, at least 1.
    """

    local_steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("algorithm.local_steps", self.local_steps, 1)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        lr, count = self.rate(step), self.local_steps
        descend_(state, problem, range(step * count, (step + 1) * count), lr)
        relax_(state, network, step, self.relaxation, 1 / (count * lr))
        return state
